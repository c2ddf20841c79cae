//! Replay returns the records of a key in the order in which one thread appended them.
//! Positions rise without holes.
//!
//! Holds Q2 ORDER (ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::thread;

use crate::support::{config, open, payload, replayed};
use shardwal::ShardedWal;
use shardwal::fs::sim::SimFileSystem;

const THREADS: u64 = 4;
const KEYS: u64 = 3;
const RECORDS: u64 = 200;

/// Each thread appends to its own keys without waiting, one by one and in batches.
fn append_from_threads(log: &ShardedWal) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for index in 0..RECORDS {
                    let keys = (0..KEYS).map(|key| thread * KEYS + key);
                    let records = keys.map(|key| (key, payload(key, index, 20)));
                    if index % 5 == 0 {
                        drop(log.append_batch(records));
                    } else {
                        records.for_each(|(key, payload)| drop(log.append(key, payload)));
                    }
                }
            });
        }
    });
    log.flush().wait().expect("a sound disk");
}

#[test]
fn each_key_keeps_its_order_with_many_threads() {
    let fs = SimFileSystem::new();
    let small = |fs: &SimFileSystem| config(fs).shards(3).queue_capacity(16).max_commit_records(7);
    let log = open(small(&fs));
    append_from_threads(&log);
    let live = replayed(&log);
    log.close().unwrap();
    let log = open(small(&fs));
    let found = replayed(&log);
    for (key, indices) in found.by_key() {
        assert!(indices.into_iter().eq(0..RECORDS), "key {key}");
    }
    assert_eq!(found.by_key().len() as u64, THREADS * KEYS);
    assert_eq!(live.by_key(), found.by_key(), "before and after reopening");
}

#[test]
fn positions_are_dense_and_rise_across_reopening() {
    let fs = SimFileSystem::new();
    for _ in 0..3 {
        let log = open(config(&fs).shards(3));
        append_from_threads(&log);
    }
    let log = open(config(&fs).shards(3));
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for (position, ..) in replayed(&log).records {
        let expected = next.entry(position.shard).or_default();
        assert_eq!(position.sequence, *expected, "{position}");
        *expected += 1;
    }
    let total: u64 = next.values().sum();
    assert_eq!(total, 3 * THREADS * KEYS * RECORDS);
}

#[test]
fn a_completion_returns_the_position_that_replay_finds() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(3));
    let mut positions = BTreeMap::new();
    for key in 0..30 {
        let completion = log.append(key, payload(key, 0, 10));
        let queued = completion.position();
        let acknowledged = completion.wait().unwrap();
        assert_eq!(queued, Some(acknowledged));
        assert_eq!(acknowledged.shard as usize, log.shard_of(key));
        positions.insert(key, acknowledged);
    }
    for (position, key, _) in replayed(&log).records {
        assert_eq!(positions[&key], position);
    }
}
