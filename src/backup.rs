//! Backup: a copy of a log that somebody may be writing to.
//!
//! It takes no lock. It reads the manifest, then each shard: the truncation
//! mark, the chain of segments, and the segments. What the writer does
//! meanwhile makes a copy that is longer, or one that is begun again. The copy
//! gets its name once it is whole, synced, and read back.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, LogId};
use crate::disk::{Disk, RealDisk};
use crate::error::OpenError;
use crate::found::find_manifest;
use crate::manifest::Manifest;
use crate::reader::LogReader;
use crate::segment::SegmentIdentity;
use crate::sync::Arc;

mod copy;
mod error;

use copy::{Copied, ShardCopy};
pub use error::BackupError;

/// Added to the name of a copy that is being made.
const UNFINISHED: &str = ".unfinished";
/// More than a writer can disturb in a row, unless it changes its shard count
/// all the time.
const ATTEMPTS_MAX: u32 = 16;

/// Copies a log while it is written to.
///
/// The copy holds every record that was durable when [`Backup::run`] was
/// called, and perhaps later ones. Each shard's part is a prefix of that shard.
/// It has the log's id, so that the log's checkpoints are good for it up to
/// [`BackupReport::checkpoint`]. To restore it, move or copy it to where the log
/// was, and open it.
#[derive(Clone, Debug)]
pub struct Backup {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    sharing: bool,
}

/// What a backup has copied, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupReport {
    /// The log, and the copy.
    pub log: LogId,
    /// Everything below is in the copy, except what was truncated.
    pub checkpoint: Checkpoint,
    /// Segments that share their blocks with the log's (reflinks).
    pub cloned: u64,
    /// Segments that are the log's own files under a second name (hard links).
    pub linked: u64,
    /// Segments whose bytes were copied.
    pub copied: u64,
    /// The number of those bytes.
    pub copied_bytes: u64,
    /// How often the copy was begun, because the log changed too much meanwhile.
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
    /// A backup of the log in `dir`, of which nothing has been done yet.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { disk: Arc::new(RealDisk), dir: dir.as_ref().to_path_buf(), sharing: true }
    }

    /// The file system to use, instead of the operating system's.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Whether full segments may share blocks or files with the log, where both
    /// are on one file system. That is the default. It is fast and takes no
    /// room, but a defect of the medium then hits the log and the copy.
    #[must_use]
    pub fn sharing(mut self, sharing: bool) -> Self {
        self.sharing = sharing;
        self
    }

    /// Copies the log to `to`, which must not be there yet; its parent must.
    /// Works in `to` with `.unfinished` added, and renames that at the end.
    /// Everything is synced and was read back when this returns. Blocks until
    /// then. The log is not changed.
    ///
    /// # Errors
    /// See [`BackupError`]. What was copied is removed then, as far as that
    /// goes.
    pub fn run(&self, to: impl AsRef<Path>) -> Result<BackupReport, BackupError> {
        let (disk, to) = (self.disk.as_ref(), to.as_ref());
        check_target(disk, &self.dir, to)?;
        // A copy ends where a frame cannot be read, and would hide what is damaged.
        refuse_damage(&LogReader::open_on(self.disk.clone(), &self.dir)?)?;
        let mut name = to.file_name().unwrap_or_default().to_os_string();
        name.push(UNFINISHED);
        let unfinished = to.with_file_name(name);
        create(disk, &unfinished)?;
        let done = self.fill(&unfinished).and_then(|report| {
            publish(disk, &unfinished, to)?;
            Ok(report)
        });
        if done.is_err() {
            drop(remove_tree(disk, &unfinished));
        }
        done
    }

    /// Fills the folder, from the beginning if the log changed meanwhile.
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
            empty(self.disk.as_ref(), to)?;
            attempts += 1;
        }
    }

    fn try_fill(&self, to: &Path) -> Result<BackupReport, BackupError> {
        let disk = self.disk.as_ref();
        let manifest = find_manifest(disk, &self.dir)?
            .ok_or_else(|| OpenError::NotALog { dir: self.dir.clone() })?;
        let mut copied = Copied { sharing: self.sharing, ..Copied::default() };
        for generation in &manifest.generations {
            create(disk, &generation.dir(to))?;
            for shard in 0..generation.shards {
                let identity = SegmentIdentity {
                    log: manifest.log,
                    generation: generation.number,
                    shard,
                    number: 0,
                };
                let from = generation.shard_dir(&self.dir, shard);
                let target = generation.shard_dir(to, shard);
                create(disk, &target)?;
                ShardCopy { disk: &self.disk, from: &from, to: &target, identity }
                    .run(&mut copied)?;
                sync_dir(disk, &target)?;
            }
            sync_dir(disk, &generation.dir(to))?;
        }
        manifest.store(disk, to)?;
        self.read_back(to, &manifest, &copied)
    }

    /// Reads the copy as an open would.
    fn read_back(
        &self,
        to: &Path,
        manifest: &Manifest,
        copied: &Copied,
    ) -> Result<BackupReport, BackupError> {
        let reader = LogReader::open_on(self.disk.clone(), to)?;
        refuse_damage(&reader)?;
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

fn refuse_damage(reader: &LogReader) -> Result<(), BackupError> {
    match reader.report().damage().next() {
        Some(damage) => Err(BackupError::Log(OpenError::Damaged(Box::new(damage.clone())))),
        None => Ok(()),
    }
}

/// Refuses a target that is there, or in the log: the next backup would copy it.
fn check_target(disk: &dyn Disk, dir: &Path, to: &Path) -> Result<(), BackupError> {
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(BackupError::io("finding", path));
    if absolute(to)?.starts_with(absolute(dir)?) {
        return Err(BackupError::Inside { dir: dir.to_path_buf(), to: to.to_path_buf() });
    }
    let is_there =
        |error: Option<io::Error>| error.is_none_or(|it| it.kind() != io::ErrorKind::NotFound);
    if is_there(disk.list(to).err()) || to.file_name().is_none() {
        return Err(BackupError::Exists { path: to.to_path_buf() });
    }
    Ok(())
}

fn create(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    disk.create_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists { path: dir.to_path_buf() },
        _ => BackupError::io("creating the directory", dir)(error),
    })
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    disk.sync_dir(dir).map_err(BackupError::io("syncing", dir))
}

/// Gives the copy its name, durably. A name that was taken meanwhile stays.
fn publish(disk: &dyn Disk, unfinished: &Path, to: &Path) -> Result<(), BackupError> {
    disk.rename_new(unfinished, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            BackupError::Exists { path: to.to_path_buf() }
        }
        _ => BackupError::io("renaming", unfinished)(error),
    })?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(disk, parent.unwrap_or(Path::new(".")))
}

/// Removes what this backup has put into its folder: it is nobody else's yet.
fn empty(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    for name in disk.list(dir).map_err(BackupError::io("listing", dir))? {
        let path = dir.join(name);
        if disk.unlink(&path).is_err() {
            remove_tree(disk, &path)?;
        }
    }
    Ok(())
}

fn remove_tree(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    empty(disk, dir)?;
    disk.remove_dir(dir).map_err(BackupError::io("removing", dir))
}
