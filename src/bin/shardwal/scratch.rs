//! The folder in which a command makes logs of its own to measure, within a
//! directory that is empty or not there before. The directory is given back as
//! it was, also where the command fails; what somebody else has put there
//! meanwhile stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Failed;

/// See the file's words.
pub(crate) struct Scratch<'a> {
    dir: &'a Path,
    existed: bool,
    folder: PathBuf,
    removed: bool,
}

impl<'a> Scratch<'a> {
    /// Refuses a directory that holds anything, a log in particular.
    pub(crate) fn claim(dir: &'a Path) -> Result<Self, Failed> {
        let in_words = |error: io::Error| format!("{}: {error}", dir.display());
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
        let folder = dir.join("measured");
        let scratch = Self { dir, existed, folder, removed: false };
        fs::create_dir(&scratch.folder).map_err(in_words)?;
        Ok(scratch)
    }

    /// Where the logs go; empty at first.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the directory back, and says what keeps it from that.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.clear()
    }

    fn clear(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)?;
        if self.existed { Ok(()) } else { fs::remove_dir(self.dir) }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if !self.removed {
            // The error that has ended the command is the one to tell.
            drop(self.clear());
        }
    }
}
