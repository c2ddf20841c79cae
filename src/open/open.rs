//! Opening a log: takes the lock, reads the manifest, scans all shards, and only
//! then writes.
//!
//! Knows in which order the parts of a log are made; it does not know how a shard
//! is scanned, resumed or written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::commit::committer::Lane;
use crate::commit::state_machine::{Driven, StateMachine};
use crate::commit::writer::{CACHED_COMMIT_BYTES_MAX, CommitPolicy, Writer};
use crate::config::{Config, Durability, OnDamage};
use crate::error::OpenError;
use crate::fs::Disk;
use crate::layout::dir_lock::{
    Lock, create_dir, create_dirs, open_log_dir, sync_the_way_to, take_lock,
};
use crate::layout::generation::{Generations, without_retired};
use crate::layout::manifest::{Generation, Manifest};
use crate::layout::orphans;
use crate::layout::truncation_mark::{self, PurgeMark};
use crate::recovery::inspect::{
    Found, check_manifest_is_latest, durability_warnings, find_manifest, open_shard_dir,
    read_shards, reports,
};
use crate::recovery::repair::{QUARANTINE, refuse_damage, repair};
use crate::recovery::{
    Folder, Purpose, RecoveryReport, Settled, Start, Survey, remove_spares, settle, tidy,
};
use crate::segment::header::SegmentIdentity;
use crate::segment::writer::{CACHE_WINDOW_BYTES, SegmentPolicy, SegmentWriter, ZERO_WINDOW_BYTES};
use crate::shard::housekeeping::Housekeeping;
use crate::shard::shard::WalShard;
use crate::shard::truncate::{OldShard, is_empty};
use crate::space::free_space::Space;
use crate::space::recycle::{Spares, SparesPolicy};
use crate::stats::Recorder;
use crate::trace;
use crate::util::parallel::in_parallel;
use crate::util::sync::{Arc, JoinHandle, Mutex, spawn};

/// Makes the state machine of a shard. `None` for a shard without one.
pub(crate) type Machines<'a> = &'a mut dyn FnMut(usize) -> Option<Box<dyn StateMachine>>;

/// The parts of an open log, for [`crate::ShardedWal`].
pub(crate) struct Opened {
    pub(crate) space: Arc<Space>,
    pub(crate) shards: Vec<WalShard>,
    pub(crate) old: Vec<OldShard>,
    pub(crate) generations: Generations,
    pub(crate) recovery: RecoveryReport,
    pub(crate) housekeeping: JoinHandle<()>,
    pub(crate) lock: Lock,
}

/// See [`crate::ShardedWal::open`].
pub(crate) fn open(config: Config, machines: Machines<'_>) -> Result<Opened, OpenError> {
    config.validate()?;
    let _span = trace::opening(&config.dir);
    let outside = config.disk.clone();
    if config.keep_shards && find_manifest(outside.as_ref(), &config.dir)?.is_none() {
        return Err(OpenError::NotALog { dir: config.dir });
    }
    create_dirs(outside.as_ref(), &config.dir)?;
    // From here on the path serves for messages only. Files are reached through
    // the directory's descriptor.
    let config = Config { disk: open_log_dir(&outside, &config.dir)?, ..config };
    let (disk, dir) = (&config.disk, &config.dir);
    let lock = Arc::new(Mutex::new(take_lock(disk.as_ref(), dir)?));
    let space = Arc::new(Space::open(&config)?);
    let manifest = load_manifest(disk.as_ref(), outside.as_ref(), dir)?;
    let mut found = read_shards(disk, dir, &manifest, Purpose::GoOn)?;
    if config.on_damage == OnDamage::Refuse {
        refuse_damage(&found)?;
    }
    check_manifest_is_latest(disk.as_ref(), dir, &manifest, &found)?;
    // From here on the disk is written to.
    let repair = repair((disk, dir), (disk.as_ref(), &dir.join(QUARANTINE)), &mut found)?;
    let report = RecoveryReport {
        shards: reports(&found),
        repair,
        durability_warnings: durability_warnings(disk.as_ref(), dir),
    };
    let kept = manifest.current().filter(|_| config.keep_shards);
    let shards = kept.map_or(config.shards, |generation| generation.shards as usize);
    let config = Config { shards, ..config };
    start(&config, space, manifest, found, report, lock, machines)
}

fn start(
    config: &Config,
    space: Arc<Space>,
    mut manifest: Manifest,
    found: Vec<Found>,
    mut report: RecoveryReport,
    lock: Lock,
    machines: Machines<'_>,
) -> Result<Opened, OpenError> {
    let disk = &config.disk;
    let shards = u32::try_from(config.shards).expect("the config bounds the shards");
    let goes_on = manifest.current().filter(|generation| generation.shards == shards);
    let is_current = |found: &Found| {
        goes_on.is_some_and(|generation| generation.number == found.folder.identity.generation)
    };
    // A process that was killed may have left the manifest's name in the cache
    // only. Without this sync a power loss could take the manifest, and with it
    // all records that are appended from now on.
    disk.sync_dir(&config.dir).map_err(OpenError::io("syncing", &config.dir))?;
    let settled = in_parallel(&found, |found| settle_found(found, is_current(found)))?;
    for (shard, (_, settled)) in report.shards.iter_mut().zip(&settled) {
        if let Some(settled) = settled {
            shard.copied_records = settled.copied;
            shard.next_sequence = settled.next_sequence;
        }
    }
    let (mut old, mut current) = (Vec::new(), Vec::new());
    for (found, (purge, settled)) in found.into_iter().zip(settled) {
        let found = Found { purge, ..found };
        match settled {
            Some(settled) if is_current(&found) => {
                let Found { mut folder, purge, .. } = found;
                folder.spares = open_spares(config, &space, &folder, &settled.spares)?;
                current.push((folder, purge, settled));
            }
            settled => old.push(old_shard(found, settled)),
        }
    }
    let is_empty = |number| is_empty(&old, number);
    if goes_on.is_none() {
        manifest = without_retired(&manifest, is_empty).unwrap_or(manifest);
        current = create_generation(config, &mut manifest, shards)?;
        for (folder, ..) in &mut current {
            folder.spares = open_spares(config, &space, folder, &[])?;
        }
    }
    let generations = Generations::new(disk.clone(), &config.dir, manifest);
    generations.retire(is_empty);
    // Generations that an earlier process could not delete. They do no harm, so
    // an error does not matter.
    drop(generations.sweep());
    let folders: Vec<_> = current.iter().map(|(folder, ..)| folder.clone()).collect();
    in_parallel(&folders, |folder| {
        folder.spares.make_ready(config.ready_segments);
        Ok::<_, OpenError>(())
    })?;
    let (shards, housekeeping) = start_shards(config, &space, current, &lock, machines)?;
    trace::opened(&report);
    Ok(Opened { space, shards, old, generations, recovery: report, housekeeping, lock })
}

/// Resumes a scanned shard. A shard of an earlier generation, which takes no
/// appends, is resumed only if it is not settled already.
fn settle_found(
    found: &Found,
    is_current: bool,
) -> Result<(PurgeMark, Option<Settled>), OpenError> {
    let Folder { disk, dir, identity, .. } = &found.folder;
    let disk = disk.as_ref();
    let purge = truncation_mark::settle(disk, dir, identity, found.purge)?;
    if !is_current {
        remove_spares(disk, &found.folder, &found.survey)?;
    }
    if is_current || !found.is_settled() {
        let settled = settle(disk, &found.folder, &found.survey)?;
        return Ok((purge, Some(settled)));
    }
    tidy(disk, &found.folder, &found.survey)?;
    Ok((purge, None))
}

/// Opens a shard's recycled segments. Keeps none if recycling gains nothing.
fn open_spares(
    config: &Config,
    space: &Arc<Space>,
    folder: &Folder,
    found: &[u64],
) -> Result<Spares, OpenError> {
    let policy = SparesPolicy {
        spares_max: if has_zeros_ahead(config) { config.spare_segments } else { 0 },
        segment_bytes: config.segment_bytes,
        // One segment per shard must stay free. Otherwise one shard could keep
        // the space that another shard needs.
        free_bytes_min: config.segment_bytes.saturating_mul(config.shards as u64),
    };
    let (disk, dir) = (&folder.disk, &folder.dir);
    Spares::open(disk, dir, policy, space.clone(), found).map_err(OpenError::io("tidying", dir))
}

/// Whether segments are filled with zeros ahead. Only `Sync` mode syncs often
/// enough for the cost of a file's growth to matter.
fn has_zeros_ahead(config: &Config) -> bool {
    config.durability == Durability::Sync && !config.disk.copy_on_write(&config.dir)
}

fn old_shard(found: Found, settled: Option<Settled>) -> OldShard {
    let (next_sequence, segments) = match settled {
        None => (found.end(), found.survey.segments),
        Some(mut settled) => {
            if let (Start::Segment { position, .. }, Some(last)) =
                (&settled.start, settled.segments.last_mut())
            {
                last.next_sequence = Some(settled.next_sequence);
                last.end = *position;
            }
            (settled.next_sequence, settled.segments)
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

/// Loads the manifest, or creates one in a directory that holds no log.
fn load_manifest(disk: &dyn Disk, outside: &dyn Disk, dir: &Path) -> Result<Manifest, OpenError> {
    if let Some(manifest) = find_manifest(disk, dir)? {
        return Ok(manifest);
    }
    sync_the_way_to(outside, dir)?;
    let manifest = Manifest::new();
    manifest.store(disk, dir)?;
    Ok(manifest)
}

type Fresh = (Folder, PurgeMark, Settled);

/// Creates the next generation: its shard directories and their first segments,
/// then its line in the manifest. The generation exists once the manifest names
/// it.
fn create_generation(
    config: &Config,
    manifest: &mut Manifest,
    shards: u32,
) -> Result<Vec<Fresh>, OpenError> {
    let (disk, log) = (config.disk.as_ref(), config.dir.as_path());
    let number = manifest.current().map_or(1, |generation| generation.number + 1);
    let generation = Generation { number, shards };
    let dir = generation.dir(log);
    orphans::remove(disk, &dir)?;
    create_dir(disk, &dir)?;
    let id = manifest.log;
    let shard_numbers: Vec<_> = (0..shards).collect();
    let fresh = in_parallel(&shard_numbers, |shard| {
        let identity = SegmentIdentity { log: id, generation: number, shard: *shard, number: 0 };
        create_shard(&config.disk, generation.shard_dir(log, *shard), identity)
    });
    if fresh.is_err() {
        // The log is unchanged. The next attempt deletes what stays here.
        drop(orphans::remove(disk, &dir));
    }
    let fresh = fresh?;
    disk.sync_dir(&dir).map_err(OpenError::io("syncing", &dir))?;
    disk.sync_dir(log).map_err(OpenError::io("syncing", log))?;
    manifest.generations.push(generation);
    manifest.store(disk, log)?;
    Ok(fresh)
}

fn create_shard(
    log: &Arc<dyn Disk>,
    dir: PathBuf,
    identity: SegmentIdentity,
) -> Result<Fresh, OpenError> {
    create_dir(log.as_ref(), &dir)?;
    let disk = open_shard_dir(log, &dir)?;
    let folder = Folder { disk, dir, identity, purged_below: 0, spares: Spares::default() };
    let (disk, dir) = (folder.disk.as_ref(), &folder.dir);
    let purge = truncation_mark::create(disk, dir, &identity)
        .map_err(OpenError::io("creating the truncation mark of", dir))?;
    // `settle` also syncs the directory.
    let settled = settle(disk, &folder, &Survey::default())?;
    Ok((folder, purge, settled))
}

/// A shard that is complete except for its writer thread.
struct Ready {
    folder: Folder,
    purge: PurgeMark,
    lane: Arc<Lane>,
    recorder: Arc<Recorder>,
    catalogue: crate::segment::writer::Catalogue,
    base: u64,
    writer: Writer,
}

fn start_shards(
    config: &Config,
    space: &Arc<Space>,
    current: Vec<Fresh>,
    lock: &Lock,
    machines: Machines<'_>,
) -> Result<(Vec<WalShard>, JoinHandle<()>), OpenError> {
    let housekeeping = Housekeeping::new();
    let make_ready = |(shard, fresh)| make_ready(config, fresh, &housekeeping, machines(shard));
    let ready: Vec<_> = current.into_iter().enumerate().map(make_ready).collect();
    let interval = match config.durability {
        Durability::Interval(interval) => Some(interval),
        Durability::Sync | Durability::Os => None,
    };
    let kept = |it: &Ready| (it.folder.clone(), it.lane.clone(), it.catalogue.clone());
    let kept = ready.iter().map(kept).collect();
    let started = |what| OpenError::io(what, &config.dir);
    let housekeeping = housekeeping
        .start(space.clone(), lock.clone(), kept, interval.map(sync_tick))
        .map_err(started("starting the housekeeping thread of"))?;
    let mut shards = Vec::new();
    for ready in ready {
        let Ready { folder, purge, lane, recorder, catalogue, base, writer } = ready;
        let name = format!("shardwal-{}", folder.identity.shard);
        let serving = lane.clone();
        // If a thread cannot be started, the drop of the writers and shards made
        // so far ends them cleanly.
        let writer = spawn(name, move || serving.serve(writer))
            .map_err(started("starting a writer thread of"))?;
        shards.push(WalShard::new(folder, base, lane, recorder, catalogue, purge, writer));
    }
    Ok((shards, housekeeping))
}

/// How often to start a sync. A sync must *complete* within the interval, so half
/// of the interval is left for the sync itself.
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
    let sync = config.durability == Durability::Sync;
    let (lane, receiver) = Lane::new(config.queue_records, config.queue_bytes as u64, sync);
    let shard = folder.identity.shard as usize;
    let log_name = config.dir.display().to_string();
    let recorder = Arc::new(Recorder::new(&log_name, shard));
    let catalogue = Arc::new(Mutex::new(settled.segments));
    let zeros_ahead = has_zeros_ahead(config);
    let window_bytes = match (sync, zeros_ahead) {
        (true, true) => ZERO_WINDOW_BYTES,
        // On a copy-on-write file system, an overwrite of zeros is a copy.
        (true, false) => 0,
        (false, _) => CACHE_WINDOW_BYTES,
    };
    let policy = SegmentPolicy {
        segment_bytes: config.segment_bytes,
        zeros_ahead,
        window_bytes,
        header_last: config.disk.copy_on_write(&config.dir),
    };
    let base = settled.next_sequence;
    let source = housekeeping.source(shard, folder.clone());
    let segments = match settled.start {
        Start::Segment { header, file, position } => {
            let catalogue = catalogue.clone();
            SegmentWriter::new(policy, &header, file, position, base, source, catalogue)
        }
        Start::Between { last, predecessor } => {
            trace::without_room(&last);
            SegmentWriter::between(policy, last, predecessor, base, source, catalogue.clone())
        }
    };
    let cached = config.commit_bytes.min(CACHED_COMMIT_BYTES_MAX);
    let policy = CommitPolicy {
        records_max: config.commit_records as u64,
        bytes_max: if sync { config.commit_bytes } else { cached },
        sync,
    };
    let machine = machine.map(Driven::new);
    let queue = (lane.mailbox.clone(), lane.progress.clone(), receiver);
    let writer = Writer::new(queue, segments, policy, recorder.clone(), base, machine);
    Ready { folder, purge, lane, recorder, catalogue, base, writer }
}
