//! The scratch directory: where `bench` and `tune` make logs to measure.
//!
//! The directory lies in a directory that is empty or does not exist. The command
//! leaves that directory as it was, also after an error. Files that another
//! program created there meanwhile stay.
//!
//! A killed command leaves its directory. The next command deletes it under three
//! conditions: the directory has a mark file, no running command has the mark locked,
//! and the directory holds nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Failed;

/// The scratch directory's name, the names in it, and the mark's text.
const SCRATCH_NAME: &str = "measured";
const MARK: &str = "OWNER";
const LOGS: &str = "logs";
const WORDS: &str =
    "made by `shardwal bench` or `shardwal tune` to measure, and removed by it or the next\n";

/// A scratch directory. A drop deletes it.
pub(crate) struct Scratch<'a> {
    dir: &'a Path,
    existed: bool,
    scratch_dir: PathBuf,
    /// The mark, locked until the drop.
    _mark: File,
    removed: bool,
}

impl<'a> Scratch<'a> {
    /// Creates the scratch directory. Refuses a directory that holds anything.
    pub(crate) fn claim(dir: &'a Path) -> Result<Self, Failed> {
        let with_dir = |error: io::Error| format!("{}: {error}", dir.display());
        let scratch_dir = dir.join(SCRATCH_NAME);
        if holds_only(dir, SCRATCH_NAME) {
            remove_dead_directory(&scratch_dir)?;
        }
        let existed = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => true,
            Ok(false) if dir.join("MANIFEST").exists() => {
                let words = "holds a log; use a new directory on the same disk";
                return Err(format!("{} {words}", dir.display()).into());
            }
            Ok(false) => {
                let words = "is not empty; use an empty or a new directory";
                return Err(format!("{} {words}", dir.display()).into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(with_dir(error).into()),
        };
        if !existed {
            fs::create_dir(dir).map_err(with_dir)?;
        }
        if let Err(error) = fs::create_dir(&scratch_dir) {
            if !existed {
                // Deletes the directory only if it is empty: another program may
                // have put files there.
                drop(fs::remove_dir(dir));
            }
            return Err(with_dir(error).into());
        }
        let made = put_mark(&scratch_dir)
            .and_then(|mark| fs::create_dir(scratch_dir.join(LOGS)).map(|()| mark));
        match made {
            Ok(mark) => Ok(Self { dir, existed, scratch_dir, _mark: mark, removed: false }),
            Err(error) => {
                // Report the error that ends the command, not this one.
                drop(clear(dir, existed, &scratch_dir));
                Err(with_dir(error).into())
            }
        }
    }

    /// The directory for the logs. It is empty at first.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.scratch_dir.join(LOGS)
    }

    /// Deletes the scratch directory, and the directory if this created it.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        clear(self.dir, self.existed, &self.scratch_dir)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if !self.removed {
            // Report the error that ended the command, not this one.
            drop(clear(self.dir, self.existed, &self.scratch_dir));
        }
    }
}

fn clear(dir: &Path, existed: bool, scratch_dir: &Path) -> io::Result<()> {
    remove(scratch_dir)?;
    if existed { Ok(()) } else { fs::remove_dir(dir) }
}

/// Deletes the directory, and the mark last: if the command is killed here, the next
/// one still finds the mark.
fn remove(scratch_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(scratch_dir.join(LOGS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(scratch_dir),
    }
}

/// Creates the mark. Locks it before it writes the text: so an unlocked mark with
/// the text belongs to a dead command.
fn put_mark(scratch_dir: &Path) -> io::Result<File> {
    let mut mark = File::create_new(scratch_dir.join(MARK))?;
    mark.lock()?;
    mark.write_all(WORDS.as_bytes())?;
    Ok(mark)
}

fn holds_only(dir: &Path, name: &str) -> bool {
    let Ok(mut entries) = fs::read_dir(dir) else { return false };
    let first = entries.next().and_then(Result::ok);
    first.is_some_and(|first| first.file_name() == name) && entries.next().is_none()
}

/// Deletes the directory of a killed command. Refuses any other directory.
fn remove_dead_directory(scratch_dir: &Path) -> Result<(), Failed> {
    let with_dir = |error: io::Error| format!("{}: {error}", scratch_dir.display());
    // The command was killed before it made the mark.
    if fs::remove_dir(scratch_dir).is_ok() {
        return Ok(());
    }
    let path = scratch_dir.join(MARK);
    if !fs::read(&path).is_ok_and(|words| words == WORDS.as_bytes()) {
        let words = "exists, and has no mark of a killed command; delete it if it is not needed";
        return Err(format!("{} {words}", scratch_dir.display()).into());
    }
    let mark = File::open(&path).map_err(with_dir)?;
    if mark.try_lock().is_err() {
        return Err(format!(
            "{} is in use by another command; wait for it to end",
            scratch_dir.display()
        )
        .into());
    }
    Ok(remove(scratch_dir).map_err(with_dir)?)
}
