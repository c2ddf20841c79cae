//! Each way to refuse an append is counted, under its cause.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::{EIO, config, fault_at, open};
use shardwal::fs::sim::{Call, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, ShardedWal};

/// The causes that occurred, with their counts.
fn refused(log: &ShardedWal) -> BTreeMap<&'static str, u64> {
    let stats = log.stats();
    let counts = stats.total.refused_appends;
    assert_eq!(counts.total(), counts.iter().map(|(_, count)| count).sum::<u64>());
    for (label, count) in counts.iter() {
        let by_shard = stats.shards.iter().map(|shard| shard.refused_appends.of(label));
        assert_eq!(by_shard.sum::<u64>(), count, "{label}");
    }
    counts.iter().filter(|(_, count)| *count > 0).collect()
}

/// Calls everything that appends. Ten records in all, and none may be queued.
fn append_in_every_way(log: &ShardedWal) {
    log.append(1, "a").wait().unwrap_err();
    log.append_wait(1, "a").unwrap_err();
    log.try_append(1, "a").unwrap_err();
    log.append_timeout(1, "a", Duration::ZERO).unwrap_err();
    futures_executor::block_on(log.append_async(1, "a")).unwrap_err();
    log.append_batch([(1, "a"), (2, "b"), (3, "c")]).wait().unwrap_err();
    log.append_batch_wait([(1, "a"), (2, "b")]).unwrap_err();
}

#[test]
fn every_call_counts_its_refused_records() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    log.append_wait(1, "kept").unwrap();
    assert_eq!(refused(&log), BTreeMap::new());
    log.close().unwrap();
    append_in_every_way(&log);
    assert_eq!(refused(&log), BTreeMap::from([("closed", 10)]));

    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    fs.fail(fault_at("shard-0000", Call::Sync, FaultKind::Error(EIO)));
    log.append_wait(1, "lost").unwrap_err();
    append_in_every_way(&log);
    assert_eq!(refused(&log), BTreeMap::from([("poisoned", 10)]));

    let fs = SimFileSystem::new();
    fs.set_capacity(Some(1 << 20));
    let log = open(config(&fs).free_space_min_bytes(1 << 30));
    append_in_every_way(&log);
    assert_eq!(refused(&log), BTreeMap::from([("below_free_space_min", 10)]));
}

#[test]
fn a_full_queue_and_a_large_batch_are_counted() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = Config::new("/wal").shards(1).queue_capacity(4).file_system(gate.before(&fs));
    let log = open(config);
    log.append_batch((0..5).map(|key| (key, "too many"))).wait().unwrap_err();
    assert_eq!(refused(&log), BTreeMap::from([("too_large", 5)]));
    gate.shut();
    let mut queued = vec![log.append(0, "in the writer's hands")];
    gate.wait_for_writer();
    let refusal = loop {
        match log.try_append(0, "queued") {
            Ok(completion) => queued.push(completion),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.cause.as_label(), "queue_full", "{refusal}");
    log.append_timeout(0, "late", Duration::from_millis(1)).unwrap_err();
    assert_eq!(refused(&log), BTreeMap::from([("too_large", 5), ("queue_full", 2)]));
    gate.open();
    for completion in queued {
        completion.wait().unwrap();
    }
    assert!(log.stats().to_string().contains("queue_full 2, too_large 5"), "{}", log.stats());
}

#[test]
fn each_cause_has_a_label_of_its_own() {
    let causes = [Cause::QueueFull, Cause::SegmentNotReady, Cause::WouldDeadlock, Cause::Closed];
    let labels = causes.map(|cause| cause.as_label());
    assert_eq!(labels, ["queue_full", "segment_not_ready", "would_deadlock", "closed"]);
    let unique: std::collections::BTreeSet<_> = Cause::LABELS.into_iter().collect();
    assert_eq!(unique.len(), Cause::LABELS.len());
}
