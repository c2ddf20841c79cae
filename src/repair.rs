//! Repair: copies what cannot be read out of the way, then writes the damaged
//! segments anew, with gaps where records are lost.
//!
//! R4 REPAIR: nothing of the log changes before the copies and the report stand
//! on the disk. What can be saved is for [`crate::recovery`] to say.

use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::directory::{create_dirs, sync_the_way_to, take_lock};
use crate::disk::{Disk, OpenMode, RealDisk, Unreadable, open_dir, read_around, write_full};
use crate::error::OpenError;
use crate::found::{Found, check_manifest_is_latest, find_manifest, read_shard, read_shards};
use crate::recovery::{Purpose, RepairReport, Salvage};
use crate::sync::Arc;
use crate::trace;

/// Where an open under [`crate::OnDamage::Quarantine`] puts the copies, in the
/// log's directory.
pub(crate) const QUARANTINE: &str = "quarantine";
const REPORT: &str = "report.txt";
const COPY_BYTES: usize = 1 << 20;

/// Repairs a log that open refuses because durable records cannot be read.
///
/// What a checksum vouches for, and of what the log itself says where it
/// belongs, is kept; the rest is lost, and the report says which sequences.
/// Every segment that is written anew is copied first. The log opens
/// afterwards, and tells [`crate::ShardRecovery::gap_sequences`] from then on.
///
/// Restoring from a copy of the log loses nothing: try that first. A missing
/// or rotten manifest or purge mark is not repaired.
#[derive(Clone, Debug)]
pub struct Repair {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Repair {
    /// A repair of the log in `dir`, which nothing has been done of yet.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { disk: Arc::new(RealDisk), dir: dir.as_ref().to_path_buf() }
    }

    /// The file system to use, instead of the operating system's.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Says what [`Repair::run`] would do. Takes no lock and changes nothing;
    /// beside a writer it may call damage what is being written.
    ///
    /// # Errors
    /// `NotALog`, a manifest or purge mark that cannot be read, a format of
    /// another version, or what the operating system answers.
    pub fn plan(&self) -> Result<RepairReport, OpenError> {
        Ok(Plan::of(&read(&self.open_dir()?, &self.dir)?)?.report)
    }

    /// Repairs. The copies, and the report as `report.txt`, go into a new
    /// folder of `quarantine`, which is created if need be. A log without
    /// damage is left as it is. May be run again after an error.
    ///
    /// # Errors
    /// As for [`Repair::plan`]; `Locked` where somebody has the log open; what
    /// the operating system answers to the copying and writing. The log is then
    /// as damaged as before, or less.
    pub fn run(&self, quarantine: impl AsRef<Path>) -> Result<RepairReport, OpenError> {
        let disk = self.open_dir()?;
        // Nothing is created where there is no log.
        read(&disk, &self.dir)?;
        let _lock = take_lock(disk.as_ref(), &self.dir)?;
        let mut found = read(&disk, &self.dir)?;
        let quarantine = (self.disk.as_ref(), quarantine.as_ref());
        repair((&disk, &self.dir), quarantine, &mut found).map(Option::unwrap_or_default)
    }

    fn open_dir(&self) -> Result<Arc<dyn Disk>, OpenError> {
        match open_dir(&self.disk, &self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::NotALog { dir: self.dir.clone() })
            }
            opened => opened.map_err(OpenError::io("opening the directory", &self.dir)),
        }
    }
}

fn read(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<Found>, OpenError> {
    let manifest = find_manifest(disk.as_ref(), dir)?;
    let manifest = manifest.ok_or_else(|| OpenError::NotALog { dir: dir.to_path_buf() })?;
    let found = read_shards(disk, dir, &manifest, Purpose::Look)?;
    check_manifest_is_latest(disk.as_ref(), dir, &manifest, &found)?;
    Ok(found)
}

/// Repairs the damaged ones of a log's shards, and reads these again. `None`
/// where none is. The log and the quarantine are each a path, and the disk that
/// reaches it.
pub(crate) fn repair(
    (log, dir): (&Arc<dyn Disk>, &Path),
    (disk, quarantine): (&dyn Disk, &Path),
    found: &mut [Found],
) -> Result<Option<RepairReport>, OpenError> {
    let plan = Plan::of(found)?;
    if plan.shards.is_empty() {
        return Ok(None);
    }
    let mut report = plan.report;
    let folder = new_folder(disk, quarantine)?;
    let mut notes = String::new();
    for file in &report.files {
        let copied = folder.join(file.strip_prefix(dir).unwrap_or(file));
        let unreadable = copy((log.as_ref(), file), (disk, &copied))?;
        for Range { start, end } in unreadable.ranges() {
            // Writing to a String cannot fail.
            let _ok = writeln!(
                notes,
                "the disk cannot read bytes {start}..{end} of {}; its copy has zeros there",
                file.display()
            );
        }
    }
    report.quarantine = Some(folder.clone());
    store(disk, &folder.join(REPORT), format!("{report}{notes}").as_bytes())?;
    sync_the_way_to(disk, &folder.join(REPORT))?;
    for (index, salvage) in plan.shards {
        let shard = &found[index].folder;
        salvage.write(shard.disk.as_ref(), shard)?;
        found[index] = read_shard(&shard.disk, &shard.dir, &shard.identity, 1, Purpose::GoOn)?;
        refuse_damage(&found[index..=index])?;
    }
    trace::repaired(&report);
    Ok(Some(report))
}

/// What open answers to damage, unless it may repair it.
pub(crate) fn refuse_damage(found: &[Found]) -> Result<(), OpenError> {
    match found.iter().find_map(|found| found.survey.damage.clone()) {
        Some(damage) => Err(OpenError::Damaged(Box::new(damage))),
        None => Ok(()),
    }
}

/// What is to be done of a log's damaged shards.
struct Plan {
    /// By their index among the log's shards.
    shards: Vec<(usize, Salvage)>,
    report: RepairReport,
}

impl Plan {
    fn of(found: &[Found]) -> Result<Self, OpenError> {
        let mut plan = Self { shards: Vec::new(), report: RepairReport::default() };
        for (index, found) in found.iter().enumerate() {
            if found.survey.damage.is_none() {
                continue;
            }
            let mut salvage = Salvage::plan(found.folder.disk.as_ref(), &found.folder)?;
            let files = salvage.numbers().map(|number| found.folder.path(number));
            plan.report.files.extend(files);
            plan.report.lost.append(&mut salvage.lost);
            plan.shards.push((index, salvage));
        }
        Ok(plan)
    }
}

/// A folder of its own for each repair: nothing in quarantine is ever replaced.
fn new_folder(disk: &dyn Disk, quarantine: &Path) -> Result<PathBuf, OpenError> {
    create_dirs(disk, quarantine)?;
    for number in 1_u64.. {
        let folder = quarantine.join(format!("{number:04}"));
        match disk.create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(OpenError::io("creating the directory", &folder)(error)),
        }
    }
    unreachable!("a directory has fewer names than there are numbers")
}

/// Copies a file as it reads past the cache, durably but for its name. One that
/// is missing has no copy. Returns what cannot be read: the copy has zeros there.
fn copy(
    (log, from): (&dyn Disk, &Path),
    (disk, to): (&dyn Disk, &Path),
) -> Result<Unreadable, OpenError> {
    let mut unreadable = Unreadable::default();
    let file = match log.open(from, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(unreadable),
        opened => opened.map_err(OpenError::io("opening", from))?,
    };
    file.drop_cache();
    create_dirs(disk, to.parent().unwrap_or(to))?;
    let writing = || OpenError::io("writing", to);
    let mut copy = disk.open(to, OpenMode::CreateNew).map_err(writing())?;
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
    sync_the_way_to(disk, to)?;
    Ok(unreadable)
}

fn store(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let mut file = disk.open(path, OpenMode::CreateNew).map_err(OpenError::io("creating", path))?;
    let written = write_full(file.as_mut(), bytes, 0).and_then(|()| file.sync_data());
    written.map_err(OpenError::io("writing", path))
}
