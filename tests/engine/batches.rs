//! Each shard's part of a batch is whole or absent. A batch that can never fit is
//! refused before any of it is queued.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test fails by a panic and prints its seed"
)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{EIO, Random, config, fault_at, open, payload, replayed, seed};
use bytes::Bytes;
use futures_executor::block_on;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{BATCH_BYTES_MAX, Cause, Durability, ShardedWal};

/// Larger than the target size of a frame, and over two segments.
fn batches(log: &ShardedWal, ledger: &mut Ledger) {
    ledger.append_batch(log, &[0, 1, 2, 3, 0, 1, 2, 3], 700);
    ledger.append_batch(log, &[0; 20], 50);
    ledger.append_batch(log, &[3, 2, 1, 0], 2500);
}

#[test]
fn after_a_power_loss_each_part_of_a_batch_is_whole_or_absent() {
    let mut random = Random::new(seed());
    for durability in [Durability::Sync, Durability::Buffered] {
        for n in 1.. {
            let fs = SimFileSystem::new();
            let config = |fs: &SimFileSystem| config(fs).shards(2).durability(durability);
            let log = open(config(&fs));
            fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
            let syncs = durability == Durability::Sync;
            let mut ledger = if syncs { Ledger::default() } else { Ledger::unsynced() };
            batches(&log, &mut ledger);
            let fired = fs.fired() > 0;
            ledger.clone().check(&replayed(&open(config(&fs.kill()))));
            drop(log);
            ledger.lose_power();
            for _ in 0..10 {
                let after = fs.crash(&mut || random.flip());
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
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2).queue_capacity(4));
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
    assert_eq!(log.durable_checkpoint().sequences(), [0, 0]);

    let heavy = Bytes::from(vec![0; BATCH_BYTES_MAX / 2 + 1]);
    let error = log.append_batch([(large, heavy.clone()), (large, heavy)]).wait().unwrap_err();
    assert!(matches!(error.failed[0].error.cause(), Cause::TooLarge { .. }), "{error}");
    log.flush().wait().unwrap();
    assert_eq!(replayed(&log).records, []);
}

#[test]
fn an_empty_batch_is_acknowledged_at_once() {
    let log = open(config(&SimFileSystem::new()));
    let batch = log.append_batch([] as [(u64, &[u8]); 0]);
    assert!(batch.is_done());
    batch.wait().unwrap();
    block_on(log.append_batch([] as [(u64, &[u8]); 0])).unwrap();
}

#[test]
fn a_batch_can_be_awaited() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(3));
    let batch = |index| (0..12).map(move |key| (key, payload(key, index, 30)));
    block_on(async {
        let first = log.append_batch(batch(0));
        let second = log.append_batch(batch(1));
        second.await.unwrap();
        assert!(first.is_done(), "an earlier record is acknowledged earlier");
        first.await.unwrap();
    });
    assert!((0..12).all(|key| replayed(&log).of(key) == [0, 1]));
}

#[test]
fn parts_not_named_by_the_error_are_acknowledged() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
    fs.fail(Fault { path_contains: Some("shard-0001".into()), ..fault });
    let keys: Vec<u64> = (0..10).collect();
    let batch: Vec<_> = keys.iter().map(|key| (*key, payload(*key, 0, 10))).collect();
    let error = block_on(log.append_batch(batch)).unwrap_err();
    let of_shard_1: Vec<usize> = (0..10).filter(|key| log.shard_of(*key as u64) == 1).collect();
    assert_eq!(error.failed.len(), 1);
    assert_eq!((error.failed[0].shard, &error.failed[0].records), (1, &of_shard_1));
    assert!(!error.failed[0].error.is_not_written());
    let after = fs.crash(&mut || false);
    drop(log);
    let found = replayed(&open(config(&after).shards(2)));
    let acknowledged = keys.iter().filter(|key| !of_shard_1.contains(&(**key as usize)));
    acknowledged.for_each(|key| assert_eq!(found.of(*key), [0]));
}

/// C1 ONCE: every later poll of a batch returns its first answer.
#[test]
fn a_failed_batch_reports_its_error_at_every_poll() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
    let mut batch = log.append_batch([(1, "a"), (1, "b")]);
    let first = block_on(&mut batch).unwrap_err();
    let again = block_on(&mut batch).unwrap_err();
    let waited = batch.wait().unwrap_err();
    for answer in [&first, &again, &waited] {
        assert_eq!(answer.failed.len(), 1, "{answer:?}");
        assert_eq!(answer.failed[0].records, [0, 1]);
        assert_eq!(answer.to_string(), first.to_string());
    }
}

/// C1 ONCE: a poll answers the first part and a wait the second. Each part is reported
/// once, with its own position.
#[test]
fn a_batch_polled_then_waited_for_reports_each_part_once() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log = open(config(&fs).shards(2).segment_bytes(1 << 20).file_system(gate.before(&fs)));
    let key_of = |shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap();
    let (a, b) = (key_of(0), key_of(1));
    log.append(b, "before").wait().unwrap();
    fs.fail(fault_at("shard-0000", Call::Write, FaultKind::Error(EIO)));
    gate.shut();
    let mut batch = log.append_batch([(a, "a1"), (a, "a2"), (a, "a3"), (b, "b1")]);
    // The first part has failed once its shard refuses appends.
    while log.try_append(a, "x").is_ok() {
        std::thread::yield_now();
    }
    let mut context = Context::from_waker(Waker::noop());
    (0..3).for_each(|_| assert!(Pin::new(&mut batch).poll(&mut context).is_pending()));
    gate.open();
    let error = batch.wait().unwrap_err();
    assert_eq!(error.failed.len(), 1, "{error:?}");
    assert_eq!((error.failed[0].shard, &error.failed[0].records[..]), (0, &[0, 1, 2][..]));
    assert_eq!(error.failed[0].error.position().unwrap().sequence, 0);
}

/// C1 ONCE: a completion and a flush are polled again. A completion is waited for after
/// a poll.
#[test]
fn a_completed_answer_does_not_change() {
    for fails in [false, true] {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        if fails {
            fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        }
        let mut one = log.append(1, "a");
        let mut flush = log.flush();
        let position = one.position();
        let answers: Vec<_> = (0..3).map(|_| block_on(&mut one)).collect();
        let synced: Vec<_> = (0..3).map(|_| block_on(&mut flush)).collect();
        let timed = one.wait_timeout(Duration::ZERO).expect("it is answered");
        assert_eq!(one.position(), position, "the completion keeps its position");
        let waited = one.wait();
        for answer in answers.iter().chain([&timed, &waited]) {
            assert_eq!(answer.is_err(), fails, "{answer:?}");
        }
        assert!(synced.iter().all(|answer| answer.is_err() == fails), "{synced:?}");
    }
}
