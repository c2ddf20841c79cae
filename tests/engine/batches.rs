//! A batch: each shard's part whole or absent, and refused before anything is
//! queued where it could never fit.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by a panic and prints its seed"
)]

use crate::support::ledger::Ledger;
use crate::support::{EIO, Random, config, open, payload, replayed, seed};
use bytes::Bytes;
use futures_executor::block_on;
use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{BATCH_BYTES_MAX, Cause, Durability, ShardedWal};

/// Larger than a frame's target, and over two segments.
fn batches(log: &ShardedWal, ledger: &mut Ledger) {
    ledger.append_batch(log, &[0, 1, 2, 3, 0, 1, 2, 3], 700);
    ledger.append_batch(log, &[0; 20], 50);
    ledger.append_batch(log, &[3, 2, 1, 0], 2500);
}

#[test]
fn a_part_is_whole_or_absent_whenever_the_power_goes() {
    let mut random = Random::new(seed());
    for durability in [Durability::Sync, Durability::Os] {
        for n in 1.. {
            let disk = SimDisk::new();
            let config = |disk: &SimDisk| config(disk).shards(2).durability(durability);
            let log = open(config(&disk));
            disk.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
            let syncs = durability == Durability::Sync;
            let mut ledger = if syncs { Ledger::default() } else { Ledger::unsynced() };
            batches(&log, &mut ledger);
            let fired = disk.fired() > 0;
            ledger.clone().check(&replayed(&open(config(&disk.kill()))));
            drop(log);
            ledger.lose_power();
            for _ in 0..10 {
                let after = disk.crash(&mut || random.coin());
                ledger.clone().check(&replayed(&open(config(&after))));
            }
            if !fired {
                break;
            }
        }
    }
}

#[test]
fn a_batch_with_an_oversized_part_queues_nothing() {
    let disk = SimDisk::new();
    let log = open(config(&disk).shards(2).queue_records(4));
    let small = (0..).find(|key| log.shard_of(*key) == 0).unwrap();
    let large = (0..).find(|key| log.shard_of(*key) == 1).unwrap();
    let records = [small, large, large, large, large, large];
    let batch = records.map(|key| (key, Bytes::from_static(b"x")));
    let error = log.append_batch(batch).wait().unwrap_err();
    assert_eq!(error.failed.len(), 2, "both parts are refused: {error}");
    assert_eq!(error.failed[0].records, [0]);
    assert_eq!(error.failed[1].records, [1, 2, 3, 4, 5]);
    for part in &error.failed {
        assert!(part.error.is_not_written());
        let cause = part.error.cause();
        assert!(matches!(cause, Cause::TooLarge { found: 5, max: 4, .. }), "{cause}");
    }
    assert_eq!(log.checkpoint().sequences(), [0, 0]);

    let heavy = Bytes::from(vec![0; BATCH_BYTES_MAX / 2 + 1]);
    let error = log.append_batch([(large, heavy.clone()), (large, heavy)]).wait().unwrap_err();
    assert!(matches!(error.failed[0].error.cause(), Cause::TooLarge { .. }), "{error}");
    log.flush().wait().unwrap();
    assert_eq!(replayed(&log).records, []);
}

#[test]
fn an_empty_batch_is_acknowledged_at_once() {
    let log = open(config(&SimDisk::new()));
    let batch = log.append_batch([] as [(u64, &[u8]); 0]);
    assert!(batch.is_done());
    batch.wait().unwrap();
    block_on(log.append_batch([] as [(u64, &[u8]); 0])).unwrap();
}

#[test]
fn a_batch_can_be_awaited() {
    let disk = SimDisk::new();
    let log = open(config(&disk).shards(3));
    let batch = |index| (0..12).map(move |key| (key, payload(key, index, 30)));
    block_on(async {
        let first = log.append_batch(batch(0));
        let second = log.append_batch(batch(1));
        second.await.unwrap();
        assert!(first.is_done(), "what comes before is acknowledged before");
        first.await.unwrap();
    });
    assert!((0..12).all(|key| replayed(&log).of(key) == [0, 1]));
}

#[test]
fn the_parts_that_are_not_named_by_the_error_were_acknowledged() {
    let disk = SimDisk::new();
    let log = open(config(&disk).shards(2));
    let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
    disk.fail(Fault { path_contains: Some("shard-0001".into()), ..fault });
    let keys: Vec<u64> = (0..10).collect();
    let batch: Vec<_> = keys.iter().map(|key| (*key, payload(*key, 0, 10))).collect();
    let error = block_on(log.append_batch(batch)).unwrap_err();
    let of_shard_1: Vec<usize> = (0..10).filter(|key| log.shard_of(*key as u64) == 1).collect();
    assert_eq!(error.failed.len(), 1);
    assert_eq!((error.failed[0].shard, &error.failed[0].records), (1, &of_shard_1));
    assert!(!error.failed[0].error.is_not_written());
    let after = disk.crash(&mut || false);
    drop(log);
    let found = replayed(&open(config(&after).shards(2)));
    let acknowledged = keys.iter().filter(|key| !of_shard_1.contains(&(**key as usize)));
    acknowledged.for_each(|key| assert_eq!(found.of(*key), [0]));
}
