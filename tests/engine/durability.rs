//! Each acknowledged record survives the events that its durability mode covers.
//!
//! Holds C2 DURABLE (ARCHITECTURE.md).

use std::time::Duration;

use crate::support::ledger::Ledger;
use crate::support::{self, Random, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Durability, ShardedWal};

/// A process killed during creation leaves names that are visible but not durable. The
/// next process must not rely on them.
#[test]
fn a_log_killed_during_creation_loses_no_later_record() {
    for n in 1.. {
        let fs = SimFileSystem::new();
        let config = |fs: &SimFileSystem| {
            shardwal::Config::new("/var/lib/log").file_system(std::sync::Arc::new(fs.clone()))
        };
        fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
        let opened = ShardedWal::open(config(&fs));
        let done = opened.is_ok() && fs.fired() == 0;
        let fs = fs.kill();
        drop(opened);

        let mut ledger = Ledger::default();
        let log = open(config(&fs));
        (0..3).for_each(|_| ledger.append(&log, 1, 100).unwrap());
        let fs = fs.crash(&mut || false);
        drop(log);
        ledger.check(&replayed(&open(config(&fs))));
        if done {
            break;
        }
    }
}

/// A seal is written without a sync. The next process may find it only in the cache,
/// and must not record that the segment reaches that far.
#[test]
fn a_seal_lost_with_the_cache_is_not_reported_missing() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let mut ledger = Ledger::default();
    (0..3).for_each(|_| ledger.append(&log, 1, 100).unwrap());
    // Close syncs, writes its seal and loses power at the sync of the seal.
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
    log.close().unwrap_err();
    let fs = fs.kill();
    drop(log);
    let log = open(config(&fs));
    ledger.check(&replayed(&log));
    ledger.append(&log, 1, 100).unwrap();
    let fs = fs.crash(&mut || false);
    drop(log);
    ledger.check(&replayed(&open(config(&fs))));
}

/// Appends over several segments, with a batch and a flush in between.
fn workload(log: &ShardedWal, ledger: &mut Ledger) {
    for key in [1, 2, 1, 3] {
        ledger.append(log, key, 1200).ok();
    }
    ledger.append_batch(log, &[1, 2, 3, 4, 1], 500);
    if log.flush().wait().is_ok() {
        ledger.flushed();
    }
    for key in [4, 1] {
        ledger.append(log, key, 1500).ok();
    }
}

/// Cuts the power at each call of open and the workload in turn. Checks a kill of the
/// process and several power losses at that moment.
fn at_each_cut_point(durability: Durability, kind: FaultKind) {
    let mut random = Random::new(seed());
    let config = |fs: &SimFileSystem| config(fs).shards(2).durability(durability);
    for n in 1.. {
        let fs = SimFileSystem::new();
        fs.fail(Fault::new(Call::Any, n, kind));
        let syncs = durability == Durability::Sync;
        let mut ledger = if syncs { Ledger::default() } else { Ledger::unsynced() };
        let opened = ShardedWal::open(config(&fs));
        if let Ok(log) = &opened {
            workload(log, &mut ledger);
        }
        let fired = fs.fired() > 0;
        ledger.clone().check(&replayed(&open(config(&fs.kill()))));
        drop(opened);
        ledger.lose_power();
        for attempt in 0..6 {
            let after = fs.crash(&mut || attempt == 1 || (attempt > 1 && random.flip()));
            ledger.clone().check(&replayed(&open(config(&after))));
        }
        if !fired {
            return;
        }
    }
}

#[test]
fn an_acknowledged_record_survives_power_loss_at_any_call() {
    at_each_cut_point(Durability::Sync, FaultKind::PowerCut);
}

#[test]
fn an_acknowledged_record_survives_power_loss_within_any_write() {
    at_each_cut_point(Durability::Sync, FaultKind::TornPowerCut);
}

#[test]
fn buffered_records_survive_a_kill_and_flushed_records_a_power_loss() {
    at_each_cut_point(Durability::Buffered, FaultKind::PowerCut);
}

#[test]
fn interval_records_survive_a_kill_and_flushed_records_a_power_loss() {
    at_each_cut_point(Durability::Interval(Duration::from_secs(3600)), FaultKind::PowerCut);
}

/// The time keeper looks every second, also if the interval is longer.
#[test]
fn a_long_interval_is_not_cut_short() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).durability(Durability::Interval(Duration::from_secs(3600))));
    log.append_wait(1, vec![1; 100]).unwrap();
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(log.stats().total.syncs, 0);
    log.flush().wait().unwrap();
    assert_eq!(log.stats().total.syncs, 1);
}

#[test]
fn interval_mode_syncs_by_itself() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).durability(Durability::Interval(Duration::from_millis(1))));
    let mut ledger = Ledger::default();
    let before = fs.calls(Call::Sync);
    ledger.append(&log, 1, 100).unwrap();
    support::must_end("a sync without a request", {
        let fs = fs.clone();
        move || {
            // This little needs no next segment, whose zeros would be synced.
            while fs.calls(Call::Sync) == before {
                std::thread::yield_now();
            }
        }
    });
    let after = fs.crash(&mut || false);
    drop(log);
    ledger.check(&replayed(&open(config(&after))));
}

#[test]
fn an_open_log_is_durable_before_its_first_append() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).durability(durability));
        assert_eq!(fs.files().len(), 6, "{:?}", fs.files());
        let after = fs.crash(&mut || false);
        drop(log);
        let kept: Vec<_> = fs.files().into_iter().filter(|f| !f.ends_with("LOCK")).collect();
        let found: Vec<_> = after.files().into_iter().filter(|f| !f.ends_with("LOCK")).collect();
        assert_eq!(found, kept);
        let log = open(config(&after));
        assert_eq!((log.recovery().shards.len(), log.recovery().records()), (1, 0));
    }
}

#[test]
fn close_makes_every_record_durable_and_seals_the_log() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).durability(Durability::Buffered));
    let mut ledger = Ledger::default();
    (0..10).for_each(|_| ledger.append(&log, 1, 700).unwrap());
    log.close().unwrap();
    let after = fs.crash(&mut || false);
    let log = open(config(&after));
    let shard = &log.recovery().shards[0];
    assert_eq!((shard.next_sequence, shard.durable_below), (10, 10));
    assert_eq!((shard.torn_bytes, shard.copied_records), (0, 0));
    ledger.check(&replayed(&log));
}

#[test]
fn opening_and_closing_many_times_changes_nothing() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = open(config(&fs));
    (0..3).for_each(|_| ledger.append(&log, 1, 2000).unwrap());
    log.close().unwrap();
    let mut sizes = Vec::new();
    for _ in 0..8 {
        let log = open(config(&fs));
        ledger.check(&replayed(&log));
        log.close().unwrap();
        sizes.push(fs.files().len());
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?} files");
}
