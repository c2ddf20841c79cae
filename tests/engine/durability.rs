//! Each acknowledged record survives the events that its durability mode covers.
//!
//! Holds C2 DURABLE (ARCHITECTURE.md).

use std::time::Duration;

use crate::support::ledger::Ledger;
use crate::support::{self, Random, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Durability, ShardedWal};

/// A process killed during creation leaves names that are visible but not durable. The
/// next process must not rely on them.
#[test]
fn a_log_killed_during_creation_loses_no_later_record() {
    for n in 1.. {
        let disk = SimDisk::new();
        let config = |disk: &SimDisk| {
            shardwal::Config::new("/var/lib/log").disk(std::sync::Arc::new(disk.clone()))
        };
        disk.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
        let opened = ShardedWal::open(config(&disk));
        let done = opened.is_ok() && disk.fired() == 0;
        let disk = disk.kill();
        drop(opened);

        let mut ledger = Ledger::default();
        let log = open(config(&disk));
        (0..3).for_each(|_| ledger.append(&log, 1, 100).unwrap());
        let disk = disk.crash(&mut || false);
        drop(log);
        ledger.check(&replayed(&open(config(&disk))));
        if done {
            break;
        }
    }
}

/// A seal is written without a sync. The next process may find it only in the cache,
/// and must not record that the segment reaches that far.
#[test]
fn a_seal_lost_with_the_cache_is_not_reported_missing() {
    let disk = SimDisk::new();
    let log = open(config(&disk));
    let mut ledger = Ledger::default();
    (0..3).for_each(|_| ledger.append(&log, 1, 100).unwrap());
    // Close syncs, writes its seal and loses power at the sync of the seal.
    disk.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
    log.close().unwrap_err();
    let disk = disk.kill();
    drop(log);
    let log = open(config(&disk));
    ledger.check(&replayed(&log));
    ledger.append(&log, 1, 100).unwrap();
    let disk = disk.crash(&mut || false);
    drop(log);
    ledger.check(&replayed(&open(config(&disk))));
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
    let config = |disk: &SimDisk| config(disk).shards(2).durability(durability);
    for n in 1.. {
        let disk = SimDisk::new();
        disk.fail(Fault::new(Call::Any, n, kind));
        let syncs = durability == Durability::Sync;
        let mut ledger = if syncs { Ledger::default() } else { Ledger::unsynced() };
        let opened = ShardedWal::open(config(&disk));
        if let Ok(log) = &opened {
            workload(log, &mut ledger);
        }
        let fired = disk.fired() > 0;
        ledger.clone().check(&replayed(&open(config(&disk.kill()))));
        drop(opened);
        ledger.lose_power();
        for attempt in 0..6 {
            let after = disk.crash(&mut || attempt == 1 || (attempt > 1 && random.coin()));
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
    at_each_cut_point(Durability::Os, FaultKind::PowerCut);
}

#[test]
fn interval_records_survive_a_kill_and_flushed_records_a_power_loss() {
    at_each_cut_point(Durability::Interval(Duration::from_secs(3600)), FaultKind::PowerCut);
}

#[test]
fn interval_mode_syncs_by_itself() {
    let disk = SimDisk::new();
    let log = open(config(&disk).durability(Durability::Interval(Duration::from_millis(1))));
    let mut ledger = Ledger::default();
    let before = disk.calls(Call::Sync);
    ledger.append(&log, 1, 100).unwrap();
    support::must_end("a sync without a request", {
        let disk = disk.clone();
        move || {
            // This little needs no next segment, whose zeros would be synced.
            while disk.calls(Call::Sync) == before {
                std::thread::yield_now();
            }
        }
    });
    let after = disk.crash(&mut || false);
    drop(log);
    ledger.check(&replayed(&open(config(&after))));
}

#[test]
fn an_open_log_is_durable_before_its_first_append() {
    for durability in [Durability::Sync, Durability::Os] {
        let disk = SimDisk::new();
        let log = open(config(&disk).durability(durability));
        assert_eq!(disk.files().len(), 6, "{:?}", disk.files());
        let after = disk.crash(&mut || false);
        drop(log);
        let kept: Vec<_> = disk.files().into_iter().filter(|f| !f.ends_with("LOCK")).collect();
        let found: Vec<_> = after.files().into_iter().filter(|f| !f.ends_with("LOCK")).collect();
        assert_eq!(found, kept);
        let log = open(config(&after));
        assert_eq!((log.recovery().shards.len(), log.recovery().records()), (1, 0));
    }
}

#[test]
fn close_makes_every_record_durable_and_seals_the_log() {
    let disk = SimDisk::new();
    let log = open(config(&disk).durability(Durability::Os));
    let mut ledger = Ledger::default();
    (0..10).for_each(|_| ledger.append(&log, 1, 700).unwrap());
    log.close().unwrap();
    let after = disk.crash(&mut || false);
    let log = open(config(&after));
    let shard = &log.recovery().shards[0];
    assert_eq!((shard.next_sequence, shard.durable_below), (10, 10));
    assert_eq!((shard.torn_bytes, shard.copied_records), (0, 0));
    ledger.check(&replayed(&log));
}

#[test]
fn opening_and_closing_many_times_changes_nothing() {
    let disk = SimDisk::new();
    let mut ledger = Ledger::default();
    let log = open(config(&disk));
    (0..3).for_each(|_| ledger.append(&log, 1, 2000).unwrap());
    log.close().unwrap();
    let mut sizes = Vec::new();
    for _ in 0..8 {
        let log = open(config(&disk));
        ledger.check(&replayed(&log));
        log.close().unwrap();
        sizes.push(disk.files().len());
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?} files");
}
