//! Opening: lock, manifest, survey, and only then the first write.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, Durability};
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_full};
use crate::error::OpenError;
use crate::housekeeping::Housekeeping;
use crate::leftovers;
use crate::manifest::{Generation, Manifest, is_generation};
use crate::parallel::in_parallel;
use crate::purge::{self, PurgeMark};
use crate::recovery::{
    Folder, RecoveryReport, Settled, ShardRecovery, Survey, settle, survey, tidy,
};
use crate::segment::SegmentIdentity;
use crate::segment_writer::{SegmentPolicy, SegmentWriter};
use crate::shard::WalShard;
use crate::space::Space;
use crate::state_machine::{Driven, StateMachine};
use crate::stats::Recorder;
use crate::sync::{Arc, JoinHandle, Mutex, spawn};
use crate::trace;
use crate::truncate::OldShard;
use crate::writer::{CommitPolicy, Lane, Writer};

const LOCK: &str = "LOCK";

/// Makes the state machine of a shard, if there is to be one.
pub(crate) type Machines<'a> = &'a mut dyn FnMut(usize) -> Option<Box<dyn StateMachine>>;

/// A log that is open: what [`crate::ShardedWal`] is made of.
pub(crate) struct Opened {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) space: Arc<Space>,
    pub(crate) shards: Vec<WalShard>,
    pub(crate) old: Vec<OldShard>,
    pub(crate) recovery: RecoveryReport,
    pub(crate) housekeeping: JoinHandle<()>,
    pub(crate) lock: Box<dyn DiskFile>,
}

/// A shard that was read, before anything is written.
pub(crate) struct Found {
    pub(crate) folder: Folder,
    pub(crate) purge: PurgeMark,
    pub(crate) survey: Survey,
}

impl Found {
    pub(crate) fn report(&self) -> ShardRecovery {
        let identity = &self.folder.identity;
        let below = self.folder.purged_below;
        ShardRecovery::of(identity.generation, identity.shard, below, &self.survey)
    }

    /// Whether it can be left as it is: nothing has to be copied or superseded.
    fn is_settled(&self) -> bool {
        let survey = &self.survey;
        let is_whole = survey.durable_below >= survey.next_sequence && survey.torn_bytes == 0;
        is_whole || survey.segments.is_empty()
    }
}

/// See [`crate::ShardedWal::open`].
pub(crate) fn open(config: Config, machines: Machines<'_>) -> Result<Opened, OpenError> {
    config.validate()?;
    let _span = trace::opening(&config.dir);
    let disk = config.disk.clone();
    let dir = &config.dir;
    create_dirs(disk.as_ref(), dir)?;
    let lock = take_lock(disk.as_ref(), dir)?;
    let space = Arc::new(Space::open(&config)?);
    let manifest = load_manifest(disk.as_ref(), dir)?;
    let found = in_parallel(&shards_of(dir, &manifest), |(dir, identity)| {
        read_shard(disk.as_ref(), dir, identity)
    })?;
    let report = RecoveryReport { shards: found.iter().map(Found::report).collect() };
    if let Some(damage) = report.damage().next() {
        return Err(OpenError::Damaged(Box::new(damage.clone())));
    }
    check_manifest_is_latest(disk.as_ref(), dir, &manifest, &found)?;
    // From here on the disk is written to.
    start(&config, space, manifest, found, report, lock, machines)
}

fn start(
    config: &Config,
    space: Arc<Space>,
    mut manifest: Manifest,
    found: Vec<Found>,
    mut report: RecoveryReport,
    lock: Box<dyn DiskFile>,
    machines: Machines<'_>,
) -> Result<Opened, OpenError> {
    let disk = &config.disk;
    let shards = u32::try_from(config.shards).expect("the config bounds the shards");
    let goes_on = manifest.current().filter(|generation| generation.shards == shards);
    let is_current = |found: &Found| {
        goes_on.is_some_and(|generation| generation.number == found.folder.identity.generation)
    };
    // A process that was killed may have left the manifest's name in the cache
    // alone, and with it all that is appended from now on.
    disk.sync_dir(&config.dir).map_err(OpenError::io("syncing", &config.dir))?;
    let settled = in_parallel(&found, |found| {
        purge::settle(disk.as_ref(), &found.folder.dir, found.purge)?;
        if is_current(found) || !found.is_settled() {
            return settle(disk.as_ref(), &found.folder, &found.survey).map(Some);
        }
        tidy(disk.as_ref(), &found.folder, &found.survey)?;
        Ok(None)
    })?;
    for (shard, settled) in report.shards.iter_mut().zip(&settled) {
        shard.copied_records = settled.as_ref().map_or(0, |settled| settled.copied);
    }
    let (mut old, mut current) = (Vec::new(), Vec::new());
    for (found, settled) in found.into_iter().zip(settled) {
        match settled {
            Some(settled) if is_current(&found) => {
                current.push((found.folder, found.purge, settled))
            }
            settled => old.push(old_shard(found, settled)),
        }
    }
    if goes_on.is_none() {
        current = create_generation(config, &mut manifest, shards)?;
    }
    let (shards, housekeeping) = start_shards(config, &space, current, machines)?;
    trace::opened(&report);
    let (disk, recovery) = (disk.clone(), report);
    Ok(Opened { disk, space, shards, old, recovery, housekeeping, lock })
}

fn old_shard(found: Found, settled: Option<Settled>) -> OldShard {
    let next_sequence = found.survey.next_sequence;
    let segments = match settled {
        None => found.survey.segments,
        Some(mut settled) => {
            if let Some(last) = settled.segments.last_mut() {
                last.next_sequence = Some(next_sequence);
                last.end = settled.position;
            }
            settled.segments
        }
    };
    OldShard {
        purged_below: Mutex::new(found.purge.below),
        folder: found.folder,
        segments: Mutex::new(segments),
        next_sequence,
        purge: Mutex::new(Some(found.purge)),
    }
}

/// Creates the directories on the way that are missing. Their names are made
/// durable before the manifest is written, which is before the log exists.
/// Creates a directory and those above it that are missing.
pub(crate) fn create_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    match disk.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("opening the directory", dir)(error)),
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dirs(disk, parent)?;
    create_dir(disk, dir)
}

fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    disk.create_dir(dir).map_err(OpenError::io("creating the directory", dir))
}

/// Takes the exclusive lock on a directory.
pub(crate) fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = dir.join(LOCK);
    match disk.lock(&path) {
        Ok(mut file) => {
            // For the message of the next opener only: the lock holds without.
            let pid = format!("{:<10}\n", std::process::id());
            drop(write_full(file.as_mut(), pid.as_bytes(), 0));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::Locked { dir: dir.to_path_buf(), pid: lock_holder(disk, &path) })
        }
        Err(error) => Err(OpenError::io("locking", &path)(error)),
    }
}

fn lock_holder(disk: &dyn Disk, path: &Path) -> Option<u32> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = [0; 16];
    let read = read_full(file.as_ref(), &mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..read]).ok()?.trim().parse().ok()
}

/// Refuses a manifest that is older than the files beside it: going on from it
/// would lose what the later generations hold.
pub(crate) fn check_manifest_is_latest(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
    found: &[Found],
) -> Result<(), OpenError> {
    let stale = |what: String| {
        let what = format!("it is older than the log: {what}");
        Err(OpenError::Manifest { file: dir.join("MANIFEST"), what })
    };
    let current = manifest.current().map_or(0, |generation| generation.number);
    let is_given_up =
        |found: &Found| found.folder.identity.generation == current && found.folder.is_given_up();
    if found.iter().any(is_given_up) {
        return stale(format!("its last generation, {current}, was given up for a later one"));
    }
    let next = Generation { number: current + 1, shards: 0 }.dir(dir);
    if leftovers::hold_records(disk, &next)? {
        return stale(format!("{} holds records, and it does not name it", next.display()));
    }
    Ok(())
}

/// The manifest; `None` for a directory that holds no log, or is none.
pub(crate) fn find_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, OpenError> {
    if let Some(manifest) = Manifest::load(disk, dir)? {
        return Ok(Some(manifest));
    }
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(OpenError::io("listing", dir))?,
    };
    if names.iter().any(|name| is_generation(name)) {
        let what = "it is missing, though generations stand beside it".into();
        return Err(OpenError::Manifest { file: dir.join("MANIFEST"), what });
    }
    Ok(None)
}

/// The manifest, or a new one for a directory that holds no log.
fn load_manifest(disk: &dyn Disk, dir: &Path) -> Result<Manifest, OpenError> {
    if let Some(manifest) = find_manifest(disk, dir)? {
        return Ok(manifest);
    }
    sync_the_way_to(disk, dir)?;
    let manifest = Manifest::new();
    manifest.store(disk, dir)?;
    Ok(manifest)
}

/// Makes the names of the directory, and of those above it, durable: whoever
/// created them may have been killed before doing so. A directory that may not
/// be read cannot be synced either, and was not created by us.
pub(crate) fn sync_the_way_to(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(OpenError::io("syncing", parent)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every shard of every generation: its folder, and who it is.
pub(crate) fn shards_of(dir: &Path, manifest: &Manifest) -> Vec<(PathBuf, SegmentIdentity)> {
    let of = |generation: &Generation| {
        let (generation, log) = (*generation, manifest.log);
        (0..generation.shards).map(move |shard| {
            let identity = SegmentIdentity { log, generation: generation.number, shard, number: 0 };
            (generation.shard_dir(dir, shard), identity)
        })
    };
    manifest.generations.iter().flat_map(of).collect()
}

/// Reads a shard. Changes nothing.
pub(crate) fn read_shard(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<Found, OpenError> {
    let purge = purge::load(disk, dir, identity)?;
    let folder = Folder { dir: dir.to_path_buf(), identity: *identity, purged_below: purge.below };
    let survey = survey(disk, &folder)?;
    Ok(Found { folder, purge, survey })
}

type Fresh = (Folder, PurgeMark, Settled);

/// Makes the folders and first segments of the next generation, then names it
/// in the manifest: only from then on it exists.
fn create_generation(
    config: &Config,
    manifest: &mut Manifest,
    shards: u32,
) -> Result<Vec<Fresh>, OpenError> {
    let (disk, log) = (config.disk.as_ref(), config.dir.as_path());
    let number = manifest.current().map_or(1, |generation| generation.number + 1);
    let generation = Generation { number, shards };
    let dir = generation.dir(log);
    let folders: Vec<_> = (0..shards)
        .map(|shard| Folder {
            dir: generation.shard_dir(log, shard),
            identity: SegmentIdentity { log: manifest.log, generation: number, shard, number: 0 },
            purged_below: 0,
        })
        .collect();
    leftovers::remove(disk, &dir)?;
    create_dir(disk, &dir)?;
    let fresh = in_parallel(&folders, |folder| {
        create_dir(disk, &folder.dir)?;
        purge::create(disk, &folder.dir)
            .map_err(OpenError::io("creating the purge mark of", &folder.dir))?;
        // Its last act is to sync the folder.
        let settled = settle(disk, folder, &Survey::default())?;
        Ok((folder.clone(), PurgeMark::default(), settled))
    })?;
    disk.sync_dir(&dir).map_err(OpenError::io("syncing", &dir))?;
    disk.sync_dir(log).map_err(OpenError::io("syncing", log))?;
    manifest.generations.push(generation);
    manifest.store(disk, log)?;
    Ok(fresh)
}

/// A shard with all but its thread.
struct Ready {
    folder: Folder,
    purge: PurgeMark,
    lane: Arc<Lane>,
    recorder: Arc<Recorder>,
    catalogue: crate::segment_writer::Catalogue,
    base: u64,
    writer: Writer,
}

fn start_shards(
    config: &Config,
    space: &Arc<Space>,
    current: Vec<Fresh>,
    machines: Machines<'_>,
) -> Result<(Vec<WalShard>, JoinHandle<()>), OpenError> {
    let housekeeping = Housekeeping::new();
    let make_ready = |(shard, fresh)| make_ready(config, fresh, &housekeeping, machines(shard));
    let ready: Vec<_> = current.into_iter().enumerate().map(make_ready).collect();
    let interval = match config.durability {
        Durability::Interval(interval) => Some(interval),
        Durability::Sync | Durability::Os => None,
    };
    let lanes = ready.iter().map(|ready| ready.lane.clone()).collect();
    let started = |what| OpenError::io(what, &config.dir);
    let housekeeping = housekeeping
        .start(config.disk.clone(), space.clone(), lanes, interval.map(sync_tick))
        .map_err(started("starting the housekeeping thread of"))?;
    let mut shards = Vec::new();
    for ready in ready {
        let Ready { folder, purge, lane, recorder, catalogue, base, writer } = ready;
        let name = format!("shardwal-{}", folder.identity.shard);
        // Where a thread cannot be started, dropping the writers and shards
        // made so far ends them in order.
        let writer =
            spawn(name, move || writer.run()).map_err(started("starting a writer thread of"))?;
        shards.push(WalShard::new(folder, base, lane, recorder, catalogue, purge, writer));
    }
    Ok((shards, housekeeping))
}

/// The promise is that a sync *follows within* the interval: looking twice as
/// often leaves half of it for the sync itself.
fn sync_tick(interval: Duration) -> Duration {
    interval / 2
}

fn make_ready(
    config: &Config,
    fresh: Fresh,
    housekeeping: &Housekeeping,
    machine: Option<Box<dyn StateMachine>>,
) -> Ready {
    let (folder, purge, settled) = fresh;
    let (lane, receiver) = Lane::new(config.queue_records, config.queue_bytes as u64);
    let shard = folder.identity.shard as usize;
    let log_name = config.dir.display().to_string();
    let recorder = Arc::new(Recorder::new(&log_name, shard));
    let catalogue = Arc::new(Mutex::new(settled.segments));
    let policy = SegmentPolicy {
        segment_bytes: config.segment_bytes,
        // The other modes sync too seldom for the file's growth to matter.
        zeros_ahead: config.durability == Durability::Sync
            && !config.disk.copy_on_write(&config.dir),
    };
    let base = settled.next_sequence;
    let source = housekeeping.source(PathBuf::from(&folder.dir));
    let segments = SegmentWriter::new(
        policy,
        &settled.header,
        settled.file,
        settled.position,
        base,
        source,
        catalogue.clone(),
    );
    let policy = CommitPolicy {
        records_max: config.commit_records as u64,
        bytes_max: config.commit_bytes,
        sync: config.durability == Durability::Sync,
    };
    let machine = machine.map(Driven::new);
    let observer = recorder.clone();
    let writer = Writer::new(lane.clone(), receiver, segments, policy, observer, base, machine);
    Ready { folder, purge, lane, recorder, catalogue, base, writer }
}
