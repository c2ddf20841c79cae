//! Repair: copies corrupted segments to quarantine, then rewrites them with gap
//! frames in place of lost records.
//!
//! R4 REPAIR: the log does not change before the copies and the report are durable.
//! [`crate::recovery`] decides what can be kept; this file does not know frames.

use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{
    FileSystem, OpenMode, OsFileSystem, Unreadable, open_dir, read_around, write_full,
};
use crate::layout::dir_lock::{create_dirs, sync_the_way_to, take_lock};
use crate::recovery::inspect::{
    Inspected, check_manifest_is_latest, find_manifest, read_shard, read_shards,
};
use crate::recovery::{RepairReport, Salvage, ScanPurpose};
use crate::trace;
use crate::util::sync::Arc;

/// The directory, within the log's, for the copies of an open under
/// [`crate::OnCorruption::Quarantine`].
pub(crate) const QUARANTINE: &str = "quarantine";
const REPORT: &str = "report.txt";
const COPY_BYTES: usize = 1 << 20;

/// Repairs a log that an open refuses with [`OpenError::Corrupted`], so that it opens
/// again without the lost records.
///
/// First try to restore the log from a copy: that loses nothing.
///
/// A repair keeps each record with a valid checksum whose position the log itself
/// confirms. It loses the others, and [`RepairReport::lost`] lists their ranges.
/// Before it rewrites a segment, it copies the old one to quarantine. From then on
/// the log reports the loss in [`crate::ShardRecovery::lost_sequences`].
///
/// A repair does not replace a missing or unreadable manifest or truncation mark.
#[derive(Clone, Debug)]
pub struct Repair {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
}

impl Repair {
    /// A repair of the log in `dir`. Does nothing until [`Repair::plan`] or
    /// [`Repair::run`].
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { fs: Arc::new(OsFileSystem), dir: dir.as_ref().to_path_buf() }
    }

    /// The file system to use. The default is the operating system's.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.fs = fs;
        self
    }

    /// Reports what [`Repair::run`] would do. Takes no lock and changes nothing.
    /// Beside a live writer it may report a commit in progress as corruption.
    ///
    /// # Errors
    /// [`OpenError::NotALog`] if there is no log. [`OpenError::Manifest`] if the
    /// manifest or a truncation mark cannot be read. [`OpenError::NewerFormat`] or
    /// [`OpenError::OlderFormat`] for a log of another version. [`OpenError::Io`]
    /// for an error of the system.
    pub fn plan(&self) -> Result<RepairReport, OpenError> {
        Ok(Plan::of(&read(&self.open_dir()?, &self.dir)?)?.report)
    }

    /// Repairs the log. Blocks until the repaired log is durable.
    ///
    /// It creates `quarantine` if it is missing, and in it a new directory for the
    /// copies and the report, `report.txt`. It does not change a log without
    /// corruption. After an error it may run again.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if the log is open. Otherwise as for [`Repair::plan`].
    /// After an error the log is not more corrupted than before.
    pub fn run(&self, quarantine: impl AsRef<Path>) -> Result<RepairReport, OpenError> {
        let fs = self.open_dir()?;
        // Read the log first: without a log, not even a lock file is created.
        read(&fs, &self.dir)?;
        let _lock = take_lock(fs.as_ref(), &self.dir)?;
        let mut inspected = read(&fs, &self.dir)?;
        let quarantine = (self.fs.as_ref(), quarantine.as_ref());
        repair((&fs, &self.dir), quarantine, &mut inspected).map(Option::unwrap_or_default)
    }

    fn open_dir(&self) -> Result<Arc<dyn FileSystem>, OpenError> {
        match open_dir(&self.fs, &self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::NotALog { dir: self.dir.clone() })
            }
            opened => opened.map_err(OpenError::io("opening the directory", &self.dir)),
        }
    }
}

fn read(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<Vec<Inspected>, OpenError> {
    let manifest = find_manifest(fs.as_ref(), dir)?;
    let manifest = manifest.ok_or_else(|| OpenError::NotALog { dir: dir.to_path_buf() })?;
    let inspected = read_shards(fs, dir, &manifest, ScanPurpose::Inspect)?;
    check_manifest_is_latest(fs.as_ref(), dir, &manifest, &inspected)?;
    Ok(inspected)
}

/// Repairs the corrupted shards of a log and scans them again. Returns `None` if no
/// shard is corrupted. The log and the quarantine are each a path, with the file
/// system to reach it.
pub(crate) fn repair(
    (log, dir): (&Arc<dyn FileSystem>, &Path),
    (fs, quarantine): (&dyn FileSystem, &Path),
    inspected: &mut [Inspected],
) -> Result<Option<RepairReport>, OpenError> {
    let plan = Plan::of(inspected)?;
    if plan.shards.is_empty() {
        return Ok(None);
    }
    let mut report = plan.report;
    let copies = new_directory(fs, quarantine)?;
    let mut notes = String::new();
    for file in &report.files {
        let copied = copies.join(file.strip_prefix(dir).unwrap_or(file));
        let unreadable = copy((log.as_ref(), file), (fs, &copied))?;
        for Range { start, end } in unreadable.ranges() {
            // Writing to a String cannot fail.
            let _ok = writeln!(
                notes,
                "the disk cannot read bytes {start}..{end} of {}; its copy has zeros there",
                file.display()
            );
        }
    }
    report.quarantine = Some(copies.clone());
    store(fs, &copies.join(REPORT), format!("{report}{notes}").as_bytes())?;
    sync_the_way_to(fs, &copies.join(REPORT))?;
    for (index, salvage) in plan.shards {
        let shard = &inspected[index].shard_dir;
        salvage.write(shard.fs.as_ref(), shard)?;
        inspected[index] =
            read_shard(&shard.fs, &shard.dir, &shard.identity, 1, ScanPurpose::Resume)?;
        refuse_corruption(&inspected[index..=index])?;
    }
    report.lost.iter().for_each(|lost| trace::quarantined(lost));
    Ok(Some(report))
}

/// Fails with the first corruption that a scan found.
pub(crate) fn refuse_corruption(inspected: &[Inspected]) -> Result<(), OpenError> {
    match inspected.iter().find_map(|inspected| inspected.scan.corruption.clone()) {
        Some(corruption) => Err(OpenError::Corrupted(Box::new(corruption))),
        None => Ok(()),
    }
}

/// The repair of a log's corrupted shards.
struct Plan {
    /// Each with its index in the log's shards.
    shards: Vec<(usize, Salvage)>,
    report: RepairReport,
}

impl Plan {
    fn of(inspected: &[Inspected]) -> Result<Self, OpenError> {
        let mut plan = Self { shards: Vec::new(), report: RepairReport::default() };
        for (index, inspected) in inspected.iter().enumerate() {
            if inspected.scan.corruption.is_none() {
                continue;
            }
            let mut salvage = Salvage::plan(inspected.shard_dir.fs.as_ref(), &inspected.shard_dir)?;
            let files = salvage.numbers().map(|number| inspected.shard_dir.path(number));
            plan.report.files.extend(files);
            plan.report.lost.append(&mut salvage.lost);
            plan.shards.push((index, salvage));
        }
        Ok(plan)
    }
}

/// Creates a new directory in quarantine. Each repair has its own, so that no
/// repair replaces the copies of another.
fn new_directory(fs: &dyn FileSystem, quarantine: &Path) -> Result<PathBuf, OpenError> {
    create_dirs(fs, quarantine)?;
    for number in 1_u64.. {
        let copies = quarantine.join(format!("{number:04}"));
        match fs.create_dir(&copies) {
            Ok(()) => return Ok(copies),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(OpenError::io("creating the directory", &copies)(error)),
        }
    }
    unreachable!("a directory has fewer names than there are numbers")
}

/// Copies a file durably, as read from the disk and not from the cache. Does nothing
/// if the file is missing. Returns the ranges that cannot be read: the copy has
/// zeros there.
fn copy(
    (log, from): (&dyn FileSystem, &Path),
    (fs, to): (&dyn FileSystem, &Path),
) -> Result<Unreadable, OpenError> {
    let mut unreadable = Unreadable::default();
    let file = match log.open(from, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unreadable),
        opened => opened.map_err(OpenError::io("opening", from))?,
    };
    file.drop_cache();
    create_dirs(fs, to.parent().unwrap_or(to))?;
    let writing = || OpenError::io("writing", to);
    let mut copy = fs.open(to, OpenMode::CreateNew).map_err(writing())?;
    let (mut at, mut piece) = (0, vec![0; COPY_BYTES]);
    loop {
        let read = read_around(file.as_ref(), &mut piece, at, &mut unreadable);
        let read = read.map_err(OpenError::io("reading", from))?;
        if read == 0 {
            break;
        }
        write_full(copy.as_mut(), &piece[..read], at).map_err(writing())?;
        at += read as u64;
    }
    copy.sync_data().map_err(writing())?;
    sync_the_way_to(fs, to)?;
    Ok(unreadable)
}

fn store(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let mut file = fs.open(path, OpenMode::CreateNew).map_err(OpenError::io("creating", path))?;
    let written = write_full(file.as_mut(), bytes, 0).and_then(|()| file.sync_data());
    written.map_err(OpenError::io("writing", path))
}
