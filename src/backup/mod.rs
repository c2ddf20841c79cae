//! Backup: copies a log while a writer may append to it.
//!
//! It takes no lock. It reads the manifest, then each shard: the truncation mark,
//! the segment chain, and the segments. If the writer goes on meanwhile, the copy
//! gets longer, or the backup starts over. The copy gets its name once it is
//! complete, synced and read back. This file does not know frames.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, LogId};
use crate::error::OpenError;
use crate::fs::{FileSystem, OsFileSystem};
use crate::layout::manifest::Manifest;
use crate::open::log_reader::LogReader;
use crate::recovery::inspect::find_manifest;
use crate::segment::header::SegmentIdentity;
use crate::util::sync::Arc;

mod error;
mod shard_copy;

pub use error::BackupError;
use shard_copy::{Copied, ShardCopy};

/// The suffix of an unfinished copy's name.
const UNFINISHED: &str = ".unfinished";
/// Attempts at most. A writer cannot disturb all of them, unless it changes
/// its number of shards all the time.
const ATTEMPTS_MAX: u32 = 16;

/// Copies a log while a writer may append to it.
///
/// The copy has every record that was durable when [`Backup::run`] was called, and
/// may have later ones. It holds a prefix of each shard. It has the log's id, so
/// it accepts the log's checkpoints up to [`BackupReport::checkpoint`].
///
/// To restore a backup, move or copy it to the log's path, and open it.
#[derive(Clone, Debug)]
pub struct Backup {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    sharing: bool,
}

/// What a backup copied, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupReport {
    /// The id of the log and of the copy.
    pub log: LogId,
    /// The copy has every record below this, except those that were truncated.
    pub checkpoint: Checkpoint,
    /// The number of segments that share blocks with the log (reflinks).
    pub cloned: u64,
    /// The number of segments that are hard links to the log's files.
    pub linked: u64,
    /// The number of segments whose bytes were copied.
    pub copied: u64,
    /// The number of bytes copied in those segments.
    pub copied_bytes: u64,
    /// The number of attempts. It is above 1 if the log changed so much meanwhile
    /// that the backup started over.
    pub attempts: u32,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cloned, linked, copied, copied_bytes, .. } = self;
        writeln!(
            f,
            "segments: {cloned} cloned, {linked} linked, {copied} copied ({copied_bytes} bytes)"
        )?;
        writeln!(f, "checkpoint: {}", self.checkpoint)
    }
}

impl Backup {
    /// A backup of the log in `dir`. Does nothing until [`Backup::run`].
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { fs: Arc::new(OsFileSystem), dir: dir.as_ref().to_path_buf(), sharing: true }
    }

    /// The file system to use. The default is the operating system's.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.fs = fs;
        self
    }

    /// Whether full segments may share blocks or files with the log. The default is
    /// `true`. It works if both are on one file system, is fast, and takes no room.
    /// But then one defect of the disk corruptions both the log and the copy.
    #[must_use]
    pub fn sharing(mut self, sharing: bool) -> Self {
        self.sharing = sharing;
        self
    }

    /// Copies the log to the new directory `to`. Its parent must exist.
    ///
    /// Works in a directory with `.unfinished` added to the name, and renames it at
    /// the end. Blocks until the copy is synced and read back. Does not change the
    /// log.
    ///
    /// # Errors
    /// See [`BackupError`]. After an error the backup deletes the unfinished copy,
    /// if it can.
    pub fn run(&self, to: impl AsRef<Path>) -> Result<BackupReport, BackupError> {
        let (fs, to) = (self.fs.as_ref(), to.as_ref());
        check_target(fs, &self.dir, to)?;
        // Refuse a corrupted log: the copy would end before the corruption and hide it.
        refuse_corruption(&LogReader::open_in(self.fs.clone(), &self.dir)?)?;
        let mut name = to.file_name().unwrap_or_default().to_os_string();
        name.push(UNFINISHED);
        let unfinished = to.with_file_name(name);
        create(fs, &unfinished)?;
        let done = self.fill(&unfinished).and_then(|report| {
            publish(fs, &unfinished, to)?;
            Ok(report)
        });
        if done.is_err() {
            drop(remove_tree(fs, &unfinished));
        }
        done
    }

    /// Fills the directory `to`. Starts over if the log changed meanwhile.
    fn fill(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let mut attempts = 1;
        loop {
            let failed = match self.try_fill(to) {
                Ok(report) => return Ok(BackupReport { attempts, ..report }),
                Err(failed) => failed,
            };
            if !failed.may_pass() || attempts >= ATTEMPTS_MAX {
                return Err(failed);
            }
            empty(self.fs.as_ref(), to)?;
            attempts += 1;
        }
    }

    fn try_fill(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let fs = self.fs.as_ref();
        let manifest = find_manifest(fs, &self.dir)?
            .ok_or_else(|| OpenError::NotALog { dir: self.dir.clone() })?;
        let mut copied = Copied { sharing: self.sharing, ..Copied::default() };
        for generation in &manifest.generations {
            create(fs, &generation.dir(to))?;
            for shard in 0..generation.shards {
                let identity = SegmentIdentity {
                    log: manifest.log,
                    generation: generation.number,
                    shard,
                    number: 0,
                };
                let from = generation.shard_dir(&self.dir, shard);
                let target = generation.shard_dir(to, shard);
                create(fs, &target)?;
                ShardCopy { fs: &self.fs, from: &from, to: &target, identity }.run(&mut copied)?;
                sync_dir(fs, &target)?;
            }
            sync_dir(fs, &generation.dir(to))?;
        }
        manifest.store(fs, to)?;
        self.read_back(to, &manifest, &copied)
    }

    /// Reads and checks the copy as an open would.
    fn read_back(
        &self,
        to: &Path,
        manifest: &Manifest,
        copied: &Copied,
    ) -> Result<BackupReport, BackupError> {
        let reader = LogReader::open_in(self.fs.clone(), to)?;
        refuse_corruption(&reader)?;
        Ok(BackupReport {
            log: LogId::from(manifest.log),
            checkpoint: reader.checkpoint(),
            cloned: copied.cloned,
            linked: copied.linked,
            copied: copied.copied,
            copied_bytes: copied.bytes,
            attempts: 1,
        })
    }
}

fn refuse_corruption(reader: &LogReader) -> Result<(), BackupError> {
    match reader.report().corruption().next() {
        Some(corruption) => {
            Err(BackupError::Log(OpenError::Corrupted(Box::new(corruption.clone()))))
        }
        None => Ok(()),
    }
}

/// Refuses a target that exists, or that lies in the log's directory.
fn check_target(fs: &dyn FileSystem, dir: &Path, to: &Path) -> Result<(), BackupError> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(BackupError::io("finding", path));
    if absolute(to)?.starts_with(absolute(dir)?) {
        return Err(BackupError::Inside { dir: dir.to_path_buf(), to: to.to_path_buf() });
    }
    let is_there =
        |error: Option<io::Error>| error.is_none_or(|it| it.kind() != io::ErrorKind::NotFound);
    if is_there(fs.list(to).err()) || to.file_name().is_none() {
        return Err(BackupError::Exists { path: to.to_path_buf() });
    }
    Ok(())
}

fn create(fs: &dyn FileSystem, dir: &Path) -> Result<(), BackupError> {
    fs.create_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists { path: dir.to_path_buf() },
        _ => BackupError::io("creating the directory", dir)(error),
    })
}

fn sync_dir(fs: &dyn FileSystem, dir: &Path) -> Result<(), BackupError> {
    fs.sync_dir(dir).map_err(BackupError::io("syncing", dir))
}

/// Gives the copy its name durably. Never replaces a directory that was created
/// meanwhile.
fn publish(fs: &dyn FileSystem, unfinished: &Path, to: &Path) -> Result<(), BackupError> {
    fs.rename_new(unfinished, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            BackupError::Exists { path: to.to_path_buf() }
        }
        _ => BackupError::io("renaming", unfinished)(error),
    })?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(fs, parent.unwrap_or(Path::new(".")))
}

/// Deletes everything in the unfinished copy.
fn empty(fs: &dyn FileSystem, dir: &Path) -> Result<(), BackupError> {
    for name in fs.list(dir).map_err(BackupError::io("listing", dir))? {
        let path = dir.join(name);
        if fs.unlink(&path).is_err() {
            remove_tree(fs, &path)?;
        }
    }
    Ok(())
}

fn remove_tree(fs: &dyn FileSystem, dir: &Path) -> Result<(), BackupError> {
    empty(fs, dir)?;
    fs.remove_dir(dir).map_err(BackupError::io("removing", dir))
}
