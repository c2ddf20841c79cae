//! Snapshot requests, the tracker of what is applied outside the log, and the checkpoint
//! before the first record.
//!
//! Holds S2 APPLY, C3 ANSWER (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{
    EIO, ENOSPC, append_all, assert_poisoned, config, fault_at, must_end, open, replayed,
};
use shardwal::fs::sim::{Call, FaultKind, SimFileSystem};
use shardwal::{
    Applied, Cause, Checkpoint, CheckpointError, Config, Durability, ReplayError, ReplayOptions,
    ShardedWal, StateMachine, TruncateError,
};

/// Counts records. Stores each snapshot as the `next` that it got and the records applied.
struct Counter {
    encoded: u64,
    applied: u64,
    snapshots: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl StateMachine for Counter {
    fn encode(&mut self, _reset: bool, _key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        stored.extend_from_slice(payload);
        self.encoded += 1;
    }
    fn apply(&mut self) {
        self.applied += std::mem::take(&mut self.encoded);
    }
    fn rollback(&mut self) {
        self.encoded = 0;
    }
    fn snapshot(&mut self, next: u64) {
        self.snapshots.lock().unwrap().push((next, self.applied));
    }
}

type Taken = Vec<Arc<Mutex<Vec<(u64, u64)>>>>;

fn counting(config: Config, shards: usize) -> (ShardedWal, Taken) {
    let taken: Taken = (0..shards).map(|_| Arc::default()).collect();
    let log = ShardedWal::open_with_state_machine(config.shards(shards), |shard| {
        let snapshots = taken[shard].clone();
        Box::new(Counter { encoded: 0, applied: 0, snapshots })
    });
    (log.unwrap(), taken)
}

/// S2 APPLY: beside appends, a request resolves to what each state machine held.
#[test]
fn a_snapshot_holds_each_record_below_its_checkpoint_and_no_other() {
    let fs = SimFileSystem::new();
    let (log, taken) = counting(config(&fs), 3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for key in 0..6_u64 {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    log.append_wait(key, "event").unwrap();
                }
            });
        }
        for round in 0..60 {
            let request = log.request_snapshot();
            let checkpoint = match round % 2 {
                0 => request.wait().unwrap(),
                _ => futures_executor::block_on(request).unwrap(),
            };
            for (shard, next) in checkpoint.sequences().iter().enumerate() {
                let snapshots = taken[shard].lock().unwrap();
                assert_eq!(snapshots.last(), Some(&(*next, *next)), "round {round}, shard {shard}");
            }
            log.truncate_before(&checkpoint).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    log.close().unwrap();
}

/// A request that is dropped leaves its snapshots to the next ones, and each request keeps
/// its own answer.
#[test]
fn requests_keep_their_answers_in_any_order() {
    let fs = SimFileSystem::new();
    let (log, taken) = counting(config(&fs), 1);
    append_all(&log, 0, 0..3, 10);
    let first = log.request_snapshot();
    drop(log.request_snapshot());
    while taken[0].lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    append_all(&log, 0, 3..5, 10);
    let second = log.request_snapshot().wait().unwrap();
    let first = first.wait().unwrap();
    assert_eq!([first.sequences(), second.sequences()], [[3], [5]]);
}

/// A snapshot that is stored must not cover a record that a power loss takes.
#[test]
fn a_snapshot_covers_only_what_is_on_stable_storage_in_every_mode() {
    let interval = Durability::Interval(Duration::from_secs(3600));
    for durability in [Durability::Sync, interval, Durability::Buffered] {
        let fs = SimFileSystem::new();
        let (log, _taken) = counting(config(&fs).durability(durability), 2);
        (0..20).for_each(|key| append_all(&log, key, 0..1, 10));
        let checkpoint = log.request_snapshot().wait().unwrap();
        assert_eq!(checkpoint.sequences().iter().sum::<u64>(), 20);
        let after = fs.crash(&mut || false);
        let log = open(config(&after).shards(3));
        let each = |_: &shardwal::Record<'_>| Ok::<_, Infallible>(());
        let report = log.replay_from(&checkpoint, ReplayOptions::default(), each);
        assert_eq!(report.unwrap().records, 0, "{durability}");
    }
}

/// C3 ANSWER: a shard that fails or closes answers the requests before and after.
#[test]
fn a_shard_that_has_ended_answers_a_request() {
    let fs = SimFileSystem::new();
    let (log, _taken) = counting(config(&fs), 2);
    fs.fail(fault_at("shard-0001", Call::Sync, FaultKind::Error(EIO)));
    let key = (0..).find(|key| log.shard_of(*key) == 1).unwrap();
    log.append_wait(key, "lost").unwrap_err();
    let log = Arc::new(log);
    let beside = log.clone();
    let error = must_end("a request", move || beside.request_snapshot().wait().unwrap_err());
    assert_eq!(error.shard, 1);
    assert_poisoned(&error.cause, EIO);

    let fs = SimFileSystem::new();
    let log = Arc::new(open(config(&fs)));
    assert_eq!(log.request_snapshot().wait().unwrap().sequences(), [0], "without a machine too");
    log.close().unwrap();
    let beside = log.clone();
    let error = must_end("a request", move || beside.request_snapshot().wait().unwrap_err());
    assert!(matches!(error.cause, Cause::Closed), "{error}");
}

#[test]
fn the_start_replays_everything_and_truncates_nothing() {
    let fs = SimFileSystem::new();
    let replay = |log: &ShardedWal, from: &Checkpoint| {
        let count = AtomicU64::new(0);
        let each = |_: &shardwal::Record<'_>| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        };
        log.replay_from(from, ReplayOptions::default(), each).map(|report| {
            assert_eq!(report.records, count.into_inner());
            report.records
        })
    };
    for shards in [2, 3] {
        let log = open(config(&fs).shards(shards));
        (0..30).for_each(|key| append_all(&log, key, 0..1, 400));
        log.close().unwrap();
    }
    let log = open(config(&fs).shards(3));
    let start: Checkpoint = Checkpoint::start().to_string().parse().unwrap();
    assert_eq!(start, Checkpoint::start());
    for start in [start.clone(), start.clone().of_log(log.id())] {
        assert_eq!(log.truncate_before(&start).unwrap().segments, 0);
        assert_eq!(replay(&log, &start).unwrap(), 60);
    }
    let other = start.clone().of_log([7; 16].into());
    let refused = log.truncate_before(&other);
    assert!(matches!(refused, Err(TruncateError::Checkpoint(CheckpointError::AnotherLog { .. }))));
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    let refused = replay(&log, &start);
    assert!(
        matches!(refused, Err(ReplayError::Checkpoint(CheckpointError::Truncated { .. }))),
        "an empty state misses truncated records: {refused:?}"
    );
}

/// Records are applied out of order, left out, or come from an earlier open.
#[test]
fn applied_is_the_contiguous_part_since_open() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 0, 0..4, 10);
    log.close().unwrap();
    let log = open(config(&fs));
    let applied = Applied::new(&log);
    assert_eq!(applied.checkpoint(), log.durable_checkpoint(), "what was replayed");
    let positions: Vec<_> =
        (0..5).map(|number| log.append_wait(0, &[number; 9]).unwrap()).collect();
    for (report, below) in [(1, 4), (0, 6), (4, 6), (2, 7), (2, 7), (3, 9)] {
        applied.done(positions[report]);
        assert_eq!(applied.checkpoint().sequences(), [below]);
    }
    let mut foreign = positions[4];
    foreign.sequence += 1;
    applied.done(foreign);
    assert_eq!(applied.checkpoint().sequences(), [9], "no such record is durable");
    (foreign.generation, foreign.shard) = (2, 7);
    applied.done(foreign);
    log.truncate_before(&applied.checkpoint()).unwrap();
}

/// Refused sequences need no report. At the end of the log they may be given again, so a
/// checkpoint above them would hide the records that get them.
#[test]
fn applied_passes_refused_records_but_not_those_at_the_end() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let applied = Applied::new(&log);
    applied.done(log.append_wait(0, "kept").unwrap());
    let refuse = || {
        fs.fail(fault_at(".wal", Call::Write, FaultKind::Error(ENOSPC)));
        let error = log.append_wait(0, "refused").unwrap_err();
        applied.done(error.position().unwrap());
    };
    refuse();
    assert_eq!(applied.checkpoint().sequences(), [1], "a refused record at the end");
    applied.done(log.append_wait(0, "kept").unwrap());
    assert_eq!(applied.checkpoint().sequences(), [3]);
    fs.fail(fault_at(".wal", Call::Write, FaultKind::Error(ENOSPC)));
    log.append_wait(0, "refused and not reported").unwrap_err();
    applied.done(log.append_wait(0, "kept").unwrap());
    assert_eq!(applied.checkpoint().sequences(), [5]);
    refuse();
    let checkpoint = applied.checkpoint();
    drop(log);

    let log = open(config(&fs));
    log.append_wait(0, "new").unwrap();
    let found = replayed(&log).records.len();
    let each = |_: &shardwal::Record<'_>| Ok::<_, Infallible>(());
    let report = log.replay_from(&checkpoint, ReplayOptions::default(), each).unwrap();
    assert_eq!((found, report.records), (4, 1), "the new record is above the checkpoint");
}

/// An applied record that a power loss may take is above the checkpoint.
#[test]
fn applied_covers_only_what_is_on_stable_storage() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).durability(Durability::Buffered));
    let applied = Applied::new(&log);
    (0..5_u8).for_each(|number| applied.done(log.append_wait(0, &[number; 9]).unwrap()));
    assert_eq!(applied.checkpoint().sequences(), [0]);
    log.flush().wait().unwrap();
    assert_eq!(applied.checkpoint().sequences(), [5]);
}
