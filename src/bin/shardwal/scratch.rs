//! The folder in which a command makes logs of its own to measure, within a
//! directory that is empty or not there before. The directory is given back as
//! it was, also where the command fails; what somebody else has put there
//! meanwhile stays.
//!
//! A command that is killed leaves its folder. The next one removes it, if it is
//! a command's by its mark and no living one holds that locked, and the
//! directory has nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Failed;

/// The folder, and in it its mark, the logs, and what the mark says.
const FOLDER: &str = "measured";
const MARK: &str = "OWNER";
const LOGS: &str = "logs";
const WORDS: &str =
    "made by `shardwal bench` or `shardwal tune` to measure, and removed by it or the next\n";

/// See the file's words.
pub(crate) struct Scratch<'a> {
    dir: &'a Path,
    existed: bool,
    folder: PathBuf,
    /// Locked for as long as this lives.
    _mark: File,
    removed: bool,
}

impl<'a> Scratch<'a> {
    /// Refuses a directory that holds anything, a log in particular.
    pub(crate) fn claim(dir: &'a Path) -> Result<Self, Failed> {
        let in_words = |error: io::Error| format!("{}: {error}", dir.display());
        let folder = dir.join(FOLDER);
        if holds_only(dir, FOLDER) {
            remove_a_dead_ones(&folder)?;
        }
        let existed = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => true,
            Ok(false) if dir.join("MANIFEST").exists() => {
                let words = "holds a log; name a new directory on the same disk";
                return Err(format!("{} {words}", dir.display()).into());
            }
            Ok(false) => return Err(format!("{} is not empty", dir.display()).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(in_words(error).into()),
        };
        if !existed {
            fs::create_dir(dir).map_err(in_words)?;
        }
        if let Err(error) = fs::create_dir(&folder) {
            if !existed {
                // Somebody else's by now, or nobody's: it goes if it is empty.
                drop(fs::remove_dir(dir));
            }
            return Err(in_words(error).into());
        }
        let made =
            put_mark(&folder).and_then(|mark| fs::create_dir(folder.join(LOGS)).map(|()| mark));
        match made {
            Ok(mark) => Ok(Self { dir, existed, folder, _mark: mark, removed: false }),
            Err(error) => {
                // The error that ends the command is the one to tell.
                drop(clear(dir, existed, &folder));
                Err(in_words(error).into())
            }
        }
    }

    /// Where the logs go; empty at first.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join(LOGS)
    }

    /// Gives the directory back, and says what keeps it from that.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        clear(self.dir, self.existed, &self.folder)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if !self.removed {
            // The error that has ended the command is the one to tell.
            drop(clear(self.dir, self.existed, &self.folder));
        }
    }
}

fn clear(dir: &Path, existed: bool, folder: &Path) -> io::Result<()> {
    remove(folder)?;
    if existed { Ok(()) } else { fs::remove_dir(dir) }
}

/// The mark goes last: a command that is killed here leaves one, too.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder.join(LOGS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(folder),
    }
}

/// Locked before it says anything: whoever finds its words and it unlocked has
/// found a dead command's.
fn put_mark(folder: &Path) -> io::Result<File> {
    let mut mark = File::create_new(folder.join(MARK))?;
    mark.lock()?;
    mark.write_all(WORDS.as_bytes())?;
    Ok(mark)
}

fn holds_only(dir: &Path, name: &str) -> bool {
    let Ok(mut entries) = fs::read_dir(dir) else { return false };
    let first = entries.next().and_then(Result::ok);
    first.is_some_and(|first| first.file_name() == name) && entries.next().is_none()
}

/// Removes the folder of a command that was killed; refuses one that may be
/// anything else's.
fn remove_a_dead_ones(folder: &Path) -> Result<(), Failed> {
    let in_words = |error: io::Error| format!("{}: {error}", folder.display());
    // One that was killed before it had marked it.
    if fs::remove_dir(folder).is_ok() {
        return Ok(());
    }
    let path = folder.join(MARK);
    if !fs::read(&path).is_ok_and(|words| words == WORDS.as_bytes()) {
        let words =
            "is in the way, and not by its mark a killed command's; remove it if it is of no use";
        return Err(format!("{} {words}", folder.display()).into());
    }
    let mark = File::open(&path).map_err(in_words)?;
    if mark.try_lock().is_err() {
        return Err(format!("{} is in use by another command", folder.display()).into());
    }
    Ok(remove(folder).map_err(in_words)?)
}
