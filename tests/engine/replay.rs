//! Replay: every record once, in order, on several threads. It stops when its callback
//! fails.
//!
//! Holds R1 REPLAY (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::{self, append_all, config, must_end, open, payload, replayed};
use bytes::Bytes;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{
    AppendError, LogReader, ReplayError, ReplayOptions, ReplayProgress, ShardId, ShardedWal,
};

const KEYS: u64 = 12;
const RECORDS: u64 = 20;

fn log_with_records(fs: &SimFileSystem) -> ShardedWal {
    let log = open(config(fs).shards(4));
    for index in 0..RECORDS {
        log.append_batch((0..KEYS).map(|key| (key, payload(key, index, 200)))).wait().unwrap();
    }
    log
}

#[test]
fn every_record_comes_once_and_in_order_on_any_number_of_threads() {
    let fs = SimFileSystem::new();
    log_with_records(&fs).close().unwrap();
    let log = open(config(&fs).shards(4));
    for threads in [0, 1, 2, 4, 9] {
        let next: Mutex<BTreeMap<u64, u64>> = Mutex::default();
        let report = log.replay(ReplayOptions::default().threads(threads), |record| {
            let mut next = next.lock().unwrap();
            let index = next.entry(record.key()).or_default();
            assert_eq!(record.payload(), payload(record.key(), *index, 200));
            *index += 1;
            Ok::<_, Infallible>(())
        });
        let report = report.unwrap();
        assert_eq!(report.records, KEYS * RECORDS);
        assert_eq!(report.payload_bytes, KEYS * RECORDS * 200);
        assert!(next.into_inner().unwrap().into_values().eq((0..KEYS).map(|_| RECORDS)));
    }
}

#[test]
fn shards_are_replayed_at_the_same_time() {
    must_end("a replay whose threads wait for each other", || {
        let fs = SimFileSystem::new();
        let log = log_with_records(&fs);
        let (shards, met) = (Mutex::new(std::collections::BTreeSet::new()), Condvar::new());
        let options = ReplayOptions::default().threads(2);
        log.replay(options, |record| {
            let mut shards = shards.lock().unwrap();
            shards.insert(record.position().shard);
            met.notify_all();
            while shards.len() < 2 {
                shards = met.wait(shards).unwrap();
            }
            Ok::<_, Infallible>(())
        })
        .unwrap();
    });
}

#[test]
fn records_appended_since_open_are_replayed() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..10, 900);
    assert_eq!(replayed(&log).of(1), (0..10).collect::<Vec<_>>());
    append_all(&log, 1, 10..11, 900);
    assert_eq!(replayed(&log).of(1), (0..11).collect::<Vec<_>>());
}

#[test]
fn a_replay_beside_appends_returns_every_record_acknowledged_before_it() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            for index in 0..300 {
                append_all(&log, 1, index..index + 1, 300);
                acknowledged.store(index + 1, Ordering::SeqCst);
            }
        });
        while !appending.is_finished() {
            let least = acknowledged.load(Ordering::SeqCst);
            let found = replayed(&log).of(1);
            assert!(found.len() as u64 >= least, "{} of {least}", found.len());
            assert!(found.iter().copied().eq(0..found.len() as u64), "a gapless prefix");
        }
    });
}

#[test]
fn the_callbacks_error_stops_the_replay_and_is_returned() {
    let fs = SimFileSystem::new();
    let log = log_with_records(&fs);
    for threads in [1, 4] {
        let calls = AtomicU64::new(0);
        let options = ReplayOptions::default().threads(threads);
        let error = log.replay(options, |_record| match calls.fetch_add(1, Ordering::SeqCst) {
            10 => Err(io::Error::other("enough")),
            _ => Ok(()),
        });
        match error {
            Err(ReplayError::Callback(error)) => assert_eq!(error.to_string(), "enough"),
            other => panic!("{other:?}"),
        }
        if threads == 1 {
            assert_eq!(calls.into_inner(), 11, "no record follows the error");
        }
    }
    assert_eq!(replayed(&log).records.len() as u64, KEYS * RECORDS);
}

#[test]
fn a_panic_in_the_callback_reaches_the_caller_and_the_log_keeps_working() {
    let fs = SimFileSystem::new();
    let log = log_with_records(&fs);
    for threads in [1, 4] {
        let options = ReplayOptions::default().threads(threads);
        let replay = || log.replay::<Infallible>(options, |_record| panic!("a callback's own"));
        let panic = catch_unwind(AssertUnwindSafe(replay)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a callback's own"));
    }
    append_all(&log, 99, 0..1, 10);
    assert_eq!(replayed(&log).records.len() as u64, KEYS * RECORDS + 1);
    log.close().unwrap();
}

#[test]
fn a_replay_from_a_checkpoint_returns_the_later_records() {
    let fs = SimFileSystem::new();
    let log = log_with_records(&fs);
    let checkpoint = log.durable_checkpoint();
    (0..KEYS).for_each(|key| append_all(&log, key, RECORDS..RECORDS + 2, 200));
    let indices = |log: &ShardedWal| {
        let found: Mutex<BTreeMap<u64, Vec<u64>>> = Mutex::default();
        let report = log.replay_from(&checkpoint, ReplayOptions::default(), |record| {
            let (key, index) = support::key_and_index(record.payload());
            found.lock().unwrap().entry(key).or_default().push(index);
            Ok::<_, Infallible>(())
        });
        assert_eq!(report.unwrap().records, KEYS * 2);
        found.into_inner().unwrap()
    };
    let expected: BTreeMap<_, _> = (0..KEYS).map(|key| (key, vec![RECORDS, RECORDS + 1])).collect();
    assert_eq!(indices(&log), expected);
    log.close().unwrap();
    assert_eq!(indices(&open(config(&fs).shards(4))), expected);
}

#[test]
fn progress_rises_to_the_total() {
    let fs = SimFileSystem::new();
    log_with_records(&fs).close().unwrap();
    let log = open(config(&fs).shards(4));
    let seen: Arc<Mutex<Vec<ReplayProgress>>> = Arc::default();
    let progress = {
        let seen = seen.clone();
        Arc::new(move |progress| seen.lock().unwrap().push(progress))
    };
    let options = ReplayOptions::default().threads(1).progress(progress);
    log.replay(options, |_record| Ok::<_, Infallible>(())).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by_key(|progress| progress.bytes_done));
    assert!(seen.iter().all(|progress| progress.bytes_total == seen[0].bytes_total));
    let last = seen.last().expect("some progress");
    assert_eq!(last.bytes_done, last.bytes_total);
    assert!(last.bytes_total >= KEYS * RECORDS * 200);
}

#[test]
fn a_kept_payload_is_a_slice_of_the_read_buffer() {
    let fs = SimFileSystem::new();
    let log = log_with_records(&fs);
    let kept: Mutex<Vec<(u64, Bytes)>> = Mutex::default();
    log.replay(ReplayOptions::default(), |record| {
        let bytes = record.to_bytes();
        assert_eq!(bytes.as_ptr(), record.payload().as_ptr(), "no copy was made");
        kept.lock().unwrap().push((record.key(), bytes));
        Ok::<_, Infallible>(())
    })
    .unwrap();
    drop(log);
    for (key, bytes) in kept.into_inner().unwrap() {
        let (said, index) = support::key_and_index(&bytes);
        assert_eq!((said, &bytes), (key, &payload(key, index, 200)));
    }
}

#[test]
fn a_memory_limit_does_not_change_the_replayed_records() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    // One batch, and so one frame, larger than any thread's share of the memory limit.
    log.append_batch((0..3).map(|index| (1, payload(1, index, 100_000)))).wait().unwrap();
    append_all(&log, 1, 3..30, 1000);
    for memory in [0, 1 << 20, usize::MAX] {
        let next = Mutex::new(0);
        let options = ReplayOptions::default().memory_bytes(memory);
        log.replay(options, |record| {
            let mut next = next.lock().unwrap();
            assert_eq!(support::key_and_index(record.payload()), (1, *next));
            *next += 1;
            Ok::<_, Infallible>(())
        })
        .unwrap();
        assert_eq!(next.into_inner().unwrap(), 30);
    }
}

#[test]
fn an_empty_log_replays_nothing() {
    let log = open(config(&SimFileSystem::new()).shards(4));
    assert_eq!(replayed(&log).records, []);
    let mut late = log.append(1, payload(1, 0, 10));
    assert!(late.wait_timeout(Duration::from_secs(3600)).expect("in an hour").is_ok());
}

/// Each shard of each generation has a state, built in order without locks.
#[test]
fn a_replay_builds_a_state_per_shard_without_locks() {
    let fs = SimFileSystem::new();
    for (generation, shards) in [(0, 4), (1, 3)] {
        let log = open(config(&fs).shards(shards));
        for key in 0..KEYS {
            append_all(&log, key, generation * RECORDS..(generation + 1) * RECORDS, 50);
        }
        log.close().unwrap();
    }
    let log = open(config(&fs).shards(3));
    let new = |shard: ShardId| (shard, BTreeMap::<u64, Vec<u64>>::new());
    let apply = |state: &mut (ShardId, BTreeMap<u64, Vec<u64>>), record: &shardwal::Record<'_>| {
        let position = record.position();
        let shard = ShardId { generation: position.generation, shard: position.shard };
        assert_eq!(shard, state.0, "a record of another shard");
        let (key, index) = support::key_and_index(record.payload());
        state.1.entry(key).or_default().push(index);
        Ok::<_, Infallible>(())
    };
    let replayed = log.replay_into(None, ReplayOptions::default(), new, apply).unwrap();
    assert_eq!(replayed.report.records, 2 * KEYS * RECORDS);
    let shards: Vec<_> = replayed.shards.iter().map(|part| part.shard).collect();
    let shard_ids =
        |generation, shards| (0..shards).map(move |shard| ShardId { generation, shard });
    assert!(shards.iter().copied().eq(shard_ids(1, 4).chain(shard_ids(2, 3))), "{shards:?}");
    let mut merged: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for part in replayed.shards {
        for (key, indices) in part.state.1 {
            merged.entry(key).or_default().extend(indices);
        }
    }
    assert!(merged.into_values().all(|indices| indices.into_iter().eq(0..2 * RECORDS)));
    let reader = LogReader::open_in(Arc::new(fs.clone()), support::DIR).unwrap();
    let from = log.durable_checkpoint();
    let replayed = reader.replay_into(Some(&from), ReplayOptions::default(), new, apply).unwrap();
    assert_eq!((replayed.report.records, replayed.shards.len()), (0, 7));
}

/// An error that is no `Error`, as that of `anyhow`.
#[derive(Debug)]
struct Opaque;

impl std::fmt::Display for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if f.alternate() { "opaque: its cause" } else { "opaque" })
    }
}

#[test]
fn a_question_mark_takes_the_error_of_any_callback() {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    let fs = SimFileSystem::new();
    let log = log_with_records(&fs);
    let opaque = || -> Result<(), Boxed> {
        log.replay(ReplayOptions::default(), |_| Err(Opaque))?;
        Ok(())
    };
    let error = opaque().unwrap_err();
    assert_eq!(error.to_string(), "the replay's callback failed: opaque: its cause");
    let boxed = || -> Result<(), Boxed> {
        log.replay(ReplayOptions::default(), |_| {
            Err::<(), Boxed>(io::Error::other("from the callback").into())
        })?;
        Ok(())
    };
    let error = boxed().unwrap_err();
    let source = error.source().expect("the callback's error");
    assert!(source.downcast_ref::<io::Error>().is_some(), "{source}");
    let failed = log.replay(ReplayOptions::default(), |_| Err(Opaque)).unwrap_err();
    assert!(failed.into_callback().is_ok_and(|Opaque| true));

    log.close().unwrap();
    let append = || -> Result<(), AppendError> { log.try_append(1, "refused")?.wait().map(drop) };
    let error = append().unwrap_err();
    assert!(error.was_refused(), "{error}");
    let cause: Boxed = error.cause().clone().into();
    assert_eq!(cause.to_string(), "the log is closed; open it again to append");
}
