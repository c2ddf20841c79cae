//! Opening a log: takes the lock, reads the manifest, scans all shards, and only
//! then writes.
//!
//! Knows in which order the parts of a log are made; it does not know how a shard
//! is scanned, resumed or written.

use std::path::{Path, PathBuf};

use crate::checkpoint::LogId;
use crate::commit::commit_mode::{CommitMode, sync_tick};
use crate::commit::committer::Committer;
use crate::commit::snapshots::Snapshots;
use crate::commit::state_machine::{Driven, StateMachine};
use crate::commit::writer::{CommitPolicy, Writer};
use crate::config::{Config, OnCorruption};
use crate::error::OpenError;
use crate::fs::FileSystem;
use crate::layout::dir_lock::{
    Lock, create_dir, create_dirs, open_log_dir, sync_the_way_to, take_lock,
};
use crate::layout::generation::{Generations, without_retired};
use crate::layout::hold_file::{self, HoldFile};
use crate::layout::manifest::{Generation, Manifest};
use crate::layout::orphans;
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::{self, TruncationMark};
use crate::recovery::inspect::{
    Inspected, check_manifest_is_latest, durability_warnings, find_manifest, open_shard_dir,
    read_shards, reports,
};
use crate::recovery::repair::{QUARANTINE, refuse_corruption, repair};
use crate::recovery::{
    RecoveryReport, Resumed, ScanPurpose, ShardScan, Start, remove_recycled, resume, tidy,
};
use crate::segment::catalogue::Catalogue;
use crate::segment::header::SegmentIdentity;
use crate::segment::writer::{SegmentPolicy, SegmentWriter};
use crate::shard::holds::{HeldShard, HoldParts, Holds};
use crate::shard::housekeeping::Housekeeping;
use crate::shard::shard::{ShardParts, WalShard};
use crate::shard::truncate::{OldShard, is_empty};
use crate::space::free_space::FreeSpaceMonitor;
use crate::space::recycle::{RecyclePolicy, Recycler};
use crate::stats::Recorder;
use crate::trace;
use crate::util::parallel::in_parallel;
use crate::util::sync::{Arc, JoinHandle, Mutex, spawn};

/// Makes the state machine of a shard. `None` for a shard without one.
pub(crate) type Machines<'a> = &'a mut dyn FnMut(usize) -> Option<Box<dyn StateMachine>>;

/// The parts of an open log, for [`crate::ShardedWal`].
pub(crate) struct Opened {
    pub(crate) space: Arc<FreeSpaceMonitor>,
    pub(crate) shards: Vec<Arc<WalShard>>,
    pub(crate) old: Vec<Arc<OldShard>>,
    pub(crate) generations: Generations,
    pub(crate) holds: Arc<Holds>,
    pub(crate) recovery: RecoveryReport,
    pub(crate) housekeeping: JoinHandle<()>,
    pub(crate) lock: Lock,
}

/// See [`crate::ShardedWal::open`].
pub(crate) fn open(config: Config, machines: Machines<'_>) -> Result<Opened, OpenError> {
    config.validate()?;
    let _span = trace::opening(&config.dir);
    let outside = config.fs.clone();
    if config.keep_shards && find_manifest(outside.as_ref(), &config.dir)?.is_none() {
        return Err(OpenError::NotALog { dir: config.dir });
    }
    create_dirs(outside.as_ref(), &config.dir)?;
    // From here on the path serves for messages only. Files are reached through
    // the directory's descriptor.
    let config = Config { fs: open_log_dir(&outside, &config.dir)?, ..config };
    let (fs, dir) = (&config.fs, &config.dir);
    let lock = Arc::new(Mutex::new(take_lock(fs.as_ref(), dir)?));
    let space = Arc::new(FreeSpaceMonitor::open(&config)?);
    let manifest = load_manifest(fs.as_ref(), outside.as_ref(), dir)?;
    let holds = hold_file::load_all(fs.as_ref(), dir, LogId::from(manifest.log))?;
    let mut found = read_shards(fs, dir, &manifest, ScanPurpose::Resume)?;
    if config.on_corruption == OnCorruption::Refuse {
        refuse_corruption(&found)?;
    }
    check_manifest_is_latest(fs.as_ref(), dir, &manifest, &found)?;
    // From here on the disk is written to.
    let repair = repair((fs, dir), (fs.as_ref(), &dir.join(QUARANTINE)), &mut found)?;
    let report = RecoveryReport {
        shards: reports(&found),
        repair,
        durability_warnings: durability_warnings(fs.as_ref(), dir),
    };
    let kept = manifest.current().filter(|_| config.keep_shards);
    let shards = kept.map_or(config.shards, |generation| generation.shards as usize);
    let config = Config { shards, ..config };
    let found = Found { shards: found, holds };
    start(&config, space, manifest, found, report, lock, machines)
}

/// What an open has read before it writes.
struct Found {
    shards: Vec<Inspected>,
    holds: Vec<HoldFile>,
}

fn start(
    config: &Config,
    space: Arc<FreeSpaceMonitor>,
    mut manifest: Manifest,
    found: Found,
    mut report: RecoveryReport,
    lock: Lock,
    machines: Machines<'_>,
) -> Result<Opened, OpenError> {
    let fs = &config.fs;
    let shards = u32::try_from(config.shards).expect("the config bounds the shards");
    let goes_on = manifest.current().filter(|generation| generation.shards == shards);
    // A process that was killed may have left the names of the manifest and of holds in the
    // cache only. Without this sync a power loss could take the manifest, and with it
    // all records that are appended from now on.
    fs.sync_dir(&config.dir).map_err(OpenError::io("syncing", &config.dir))?;
    let (old, mut current) = resume_all(config, &space, found.shards, goes_on, &mut report)?;
    let is_empty = |number| is_empty(&old, number);
    if goes_on.is_none() {
        manifest = without_retired(&manifest, is_empty).unwrap_or(manifest);
        current = create_generation(config, &mut manifest, shards)?;
        for (shard_dir, ..) in &mut current {
            shard_dir.recycler = open_recycler(config, &space, shard_dir, &[])?;
        }
    }
    let generations = Generations::new(fs.clone(), &config.dir, manifest);
    generations.retire(is_empty);
    // Generations that an earlier process could not delete. They do no harm, so
    // an error does not matter.
    drop(generations.sweep());
    let shard_dirs: Vec<_> = current.iter().map(|(shard_dir, ..)| shard_dir.clone()).collect();
    in_parallel(&shard_dirs, |shard_dir| {
        shard_dir.recycler.preallocate(config.preallocated_segments);
        Ok::<_, OpenError>(())
    })?;
    let (shards, housekeeping, holds) =
        start_shards(config, &space, current, &lock, machines, (found.holds, &old))?;
    report.trace();
    Ok(Opened { space, shards, old, generations, holds, recovery: report, housekeeping, lock })
}

/// Resumes the scanned shards: those of earlier generations, and those of `current`.
fn resume_all(
    config: &Config,
    space: &Arc<FreeSpaceMonitor>,
    found: Vec<Inspected>,
    current: Option<Generation>,
    report: &mut RecoveryReport,
) -> Result<(Vec<Arc<OldShard>>, Vec<Fresh>), OpenError> {
    let is_current = |found: &Inspected| {
        current.is_some_and(|generation| generation.number == found.shard_dir.identity.generation)
    };
    let resumed = in_parallel(&found, |found| resume_found(found, is_current(found)))?;
    for (shard, (_, resumed)) in report.shards.iter_mut().zip(&resumed) {
        if let Some(resumed) = resumed {
            shard.copied_records = resumed.copied;
            shard.next_sequence = resumed.next_sequence;
        }
    }
    let (mut old, mut fresh) = (Vec::new(), Vec::new());
    for (found, (mark, resumed)) in found.into_iter().zip(resumed) {
        let found = Inspected { mark, ..found };
        match resumed {
            Some(resumed) if is_current(&found) => {
                let Inspected { mut shard_dir, mark, .. } = found;
                shard_dir.recycler = open_recycler(config, space, &shard_dir, &resumed.recycled)?;
                fresh.push((shard_dir, mark, resumed));
            }
            resumed => old.push(Arc::new(old_shard(found, resumed))),
        }
    }
    Ok((old, fresh))
}

/// Resumes a scanned shard. A shard of an earlier generation, which takes no
/// appends, is resumed only if it is not resumed already.
fn resume_found(
    found: &Inspected,
    is_current: bool,
) -> Result<(TruncationMark, Option<Resumed>), OpenError> {
    let ShardDir { fs, dir, identity, .. } = &found.shard_dir;
    let fs = fs.as_ref();
    let mark = truncation_mark::make_durable(fs, dir, identity, found.mark)?;
    if !is_current {
        remove_recycled(fs, &found.shard_dir, &found.scan)?;
    }
    if is_current || !found.is_resumable() {
        let resumed = resume(fs, &found.shard_dir, &found.scan)?;
        return Ok((mark, Some(resumed)));
    }
    tidy(fs, &found.shard_dir, &found.scan)?;
    Ok((mark, None))
}

/// Opens a shard's recycled segments. Keeps none if recycling gains nothing, or might
/// overwrite a backup's file.
fn open_recycler(
    config: &Config,
    space: &Arc<FreeSpaceMonitor>,
    shard_dir: &ShardDir,
    found: &[u64],
) -> Result<Recycler, OpenError> {
    let recycles = has_zeros_ahead(config) && shard_dir.fs.counts_links();
    let policy = RecyclePolicy {
        recycled_max: if recycles { config.recycled_segments_max } else { 0 },
        segment_bytes: config.segment_bytes,
        // One segment per shard must stay free. Otherwise one shard could keep
        // the space that another shard needs.
        free_bytes_min: config.segment_bytes.saturating_mul(config.shards as u64),
    };
    let (fs, dir) = (&shard_dir.fs, &shard_dir.dir);
    Recycler::open(fs, dir, policy, space.clone(), found).map_err(OpenError::io("tidying", dir))
}

fn has_zeros_ahead(config: &Config) -> bool {
    let is_copy_on_write = config.fs.copy_on_write(&config.dir);
    CommitMode::of(config.durability).has_zeros_ahead(is_copy_on_write)
}

fn old_shard(found: Inspected, resumed: Option<Resumed>) -> OldShard {
    let (next_sequence, segments) = match resumed {
        None => (found.end(), found.scan.segments),
        Some(mut resumed) => {
            if let (Start::Segment { position, .. }, Some(last)) =
                (&resumed.start, resumed.segments.last_mut())
            {
                last.next_sequence = Some(resumed.next_sequence);
                last.end = *position;
            }
            (resumed.next_sequence, resumed.segments)
        }
    };
    OldShard {
        truncated_below: Mutex::new(found.mark.below),
        shard_dir: found.shard_dir,
        segments: Arc::new(Mutex::new(segments.into())),
        next_sequence,
        mark: Mutex::new(Some(found.mark)),
    }
}

/// Loads the manifest, or creates one in a directory that holds no log.
fn load_manifest(
    fs: &dyn FileSystem,
    outside: &dyn FileSystem,
    dir: &Path,
) -> Result<Manifest, OpenError> {
    if let Some(manifest) = find_manifest(fs, dir)? {
        return Ok(manifest);
    }
    sync_the_way_to(outside, dir)?;
    let manifest = Manifest::new();
    manifest.store(fs, dir)?;
    Ok(manifest)
}

type Fresh = (ShardDir, TruncationMark, Resumed);

/// Creates the next generation: its shard directories and their first segments,
/// then its line in the manifest. The generation exists once the manifest names
/// it.
fn create_generation(
    config: &Config,
    manifest: &mut Manifest,
    shards: u32,
) -> Result<Vec<Fresh>, OpenError> {
    let (fs, log) = (config.fs.as_ref(), config.dir.as_path());
    let number = manifest.current().map_or(1, |generation| generation.number + 1);
    let generation = Generation { number, shards };
    let dir = generation.dir(log);
    orphans::remove(fs, &dir)?;
    create_dir(fs, &dir)?;
    let id = manifest.log;
    let shard_numbers: Vec<_> = (0..shards).collect();
    let fresh = in_parallel(&shard_numbers, |shard| {
        let identity = SegmentIdentity { log: id, generation: number, shard: *shard, number: 0 };
        create_shard(&config.fs, generation.shard_dir(log, *shard), identity)
    });
    if fresh.is_err() {
        // The log is unchanged. The next attempt deletes what stays here.
        drop(orphans::remove(fs, &dir));
    }
    let fresh = fresh?;
    fs.sync_dir(&dir).map_err(OpenError::io("syncing", &dir))?;
    fs.sync_dir(log).map_err(OpenError::io("syncing", log))?;
    manifest.generations.push(generation);
    manifest.store(fs, log)?;
    Ok(fresh)
}

fn create_shard(
    log: &Arc<dyn FileSystem>,
    dir: PathBuf,
    identity: SegmentIdentity,
) -> Result<Fresh, OpenError> {
    create_dir(log.as_ref(), &dir)?;
    let fs = open_shard_dir(log, &dir)?;
    let shard_dir =
        ShardDir { fs, dir, identity, truncated_below: 0, recycler: Recycler::default() };
    let (fs, dir) = (shard_dir.fs.as_ref(), &shard_dir.dir);
    let mark = truncation_mark::create(fs, dir, &identity)
        .map_err(OpenError::io("creating the truncation mark of", dir))?;
    // `resume` also syncs the directory.
    let resumed = resume(fs, &shard_dir, &ShardScan::default())?;
    Ok((shard_dir, mark, resumed))
}

/// A shard that is complete except for its writer thread.
struct Ready {
    parts: ShardParts,
    writer: Writer,
}

/// The running shards, the housekeeping thread, and the holds that it checks.
type Started = (Vec<Arc<WalShard>>, JoinHandle<()>, Arc<Holds>);

fn start_shards(
    config: &Config,
    space: &Arc<FreeSpaceMonitor>,
    current: Vec<Fresh>,
    lock: &Lock,
    machines: Machines<'_>,
    (holds, old): (Vec<HoldFile>, &[Arc<OldShard>]),
) -> Result<Started, OpenError> {
    let housekeeping = Housekeeping::new();
    let make_ready =
        |(shard, fresh)| make_ready(config, space, fresh, &housekeeping, machines(shard));
    let ready: Vec<_> = current.into_iter().enumerate().map(make_ready).collect();
    let holds = Arc::new(open_holds(config, space, lock, holds, old, &ready));
    let kept = |Ready { parts, .. }: &Ready| {
        (parts.shard_dir.clone(), parts.committer.clone(), parts.catalogue.clone())
    };
    let kept = ready.iter().map(kept).collect();
    let started = |what| OpenError::io(what, &config.dir);
    let housekeeping = housekeeping
        .start(space.clone(), holds.clone(), lock.clone(), kept, sync_tick(config.durability))
        .map_err(started("starting the housekeeping thread of"))?;
    let mut shards = Vec::new();
    for Ready { parts, writer } in ready {
        let name = format!("shardwal-{}", parts.shard_dir.identity.shard);
        let serving = parts.committer.clone();
        // If a thread cannot be started, the drop of the writers and shards made
        // so far ends them cleanly.
        let writer = spawn(name, move || serving.run_thread(writer))
            .map_err(started("starting a writer thread of"))?;
        shards.push(Arc::new(WalShard::new(parts, writer)));
    }
    Ok((shards, housekeeping, holds))
}

/// The holds of the log, and the segments that they may keep.
fn open_holds(
    config: &Config,
    space: &Arc<FreeSpaceMonitor>,
    lock: &Lock,
    holds: Vec<HoldFile>,
    old: &[Arc<OldShard>],
    current: &[Ready],
) -> Holds {
    let old = old.iter().map(|shard| (&shard.shard_dir, &shard.segments));
    let current = current.iter().map(|Ready { parts, .. }| (&parts.shard_dir, &parts.catalogue));
    let of = |(shard_dir, segments): (&ShardDir, &Catalogue)| HeldShard {
        shard_dir: shard_dir.clone(),
        segments: segments.clone(),
    };
    let log = current.clone().next().map_or([0; 16], |(shard_dir, _)| shard_dir.identity.log);
    Holds::new(HoldParts {
        fs: config.fs.clone(),
        dir: config.dir.clone(),
        log: LogId::from(log),
        holds,
        shards: old.chain(current).map(of).collect(),
        space: space.clone(),
        lock: lock.clone(),
    })
}

fn make_ready(
    config: &Config,
    space: &Arc<FreeSpaceMonitor>,
    fresh: Fresh,
    housekeeping: &Housekeeping,
    machine: Option<Box<dyn StateMachine>>,
) -> Ready {
    let (shard_dir, mark, resumed) = fresh;
    let mode = CommitMode::of(config.durability);
    let (committer, receiver) =
        Committer::new(config.queue_capacity, config.queue_bytes as u64, mode);
    let shard = shard_dir.identity.shard as usize;
    let log_name = config.dir.display().to_string();
    let recorder = Arc::new(Recorder::new(&log_name, shard));
    let catalogue = Arc::new(Mutex::new(resumed.segments.into()));
    let is_copy_on_write = config.fs.copy_on_write(&config.dir);
    let policy = SegmentPolicy {
        segment_bytes: config.segment_bytes,
        zeros_ahead: mode.has_zeros_ahead(is_copy_on_write),
        window_bytes: mode.window_bytes(is_copy_on_write),
        header_last: is_copy_on_write,
    };
    let base = resumed.next_sequence;
    let source = housekeeping.source(shard, shard_dir.clone());
    let segments = match resumed.start {
        Start::Segment { header, file, position } => {
            let catalogue = catalogue.clone();
            SegmentWriter::new(policy, &header, file, position, base, source, catalogue)
        }
        Start::Between { last, predecessor } => {
            trace::without_room(&last);
            SegmentWriter::between(policy, last, predecessor, base, source, catalogue.clone())
        }
    };
    let policy = CommitPolicy {
        records_max: config.max_commit_records as u64,
        bytes_max: mode.commit_bytes_max(config.max_commit_bytes),
        mode,
    };
    let machine = machine.map(Driven::new);
    let queue = (committer.queue.clone(), committer.progress.clone(), receiver);
    let snapshots = Arc::new(Snapshots::default());
    let writer = Writer::new(queue, segments, policy, recorder.clone(), base, machine)
        .with_snapshots(snapshots.clone());
    let space = space.clone();
    let parts =
        ShardParts { shard_dir, base, committer, snapshots, space, recorder, catalogue, mark };
    Ready { parts, writer }
}
