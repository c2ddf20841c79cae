//! A log that opens without a free byte. It replays, truncates and closes. It refuses
//! appends until there is room, and then accepts them without a reopen.
//!
//! Holds R1 REPLAY, R3 FRESH (ARCHITECTURE.md).

use std::sync::Arc;

use crate::support::ledger::Ledger;
use crate::support::{
    DIR, EIO, Random, assert_is, config, fault_at, open, replayed, seed, try_replayed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, Durability, LogReader, OpenError, ShardedWal};

/// How the log comes to a full disk.
#[derive(Clone, Copy, Debug)]
struct Case {
    durability: Durability,
    copy_on_write: bool,
    closes: bool,
    /// Records before the disk is full.
    records: u64,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for durability in [Durability::Sync, Durability::Buffered] {
        for copy_on_write in [false, true] {
            for closes in [false, true] {
                for records in [0, 1, 12] {
                    cases.push(Case { durability, copy_on_write, closes, records });
                }
            }
        }
    }
    cases
}

fn two_shards(fs: &SimFileSystem, case: Case) -> Config {
    config(fs).shards(2).durability(case.durability)
}

/// A disk without a free byte, and a log on it that is not open.
fn filled(case: Case) -> (SimFileSystem, Ledger) {
    let fs = SimFileSystem::new();
    fs.set_copy_on_write(case.copy_on_write);
    let is_synced = case.durability == Durability::Sync;
    let mut ledger = if is_synced { Ledger::default() } else { Ledger::unsynced() };
    let log = open(two_shards(&fs, case));
    for index in 0..case.records {
        ledger.append(&log, index % 4, 1000).expect("there is room");
    }
    fs.set_capacity(Some(0));
    while ledger.append(&log, 1, 1000).is_ok() || ledger.append(&log, 2, 1000).is_ok() {}
    if case.closes {
        log.close().expect("close needs no room");
    }
    let after = fs.kill();
    drop(log);
    (after, ledger)
}

/// A replayed record must be on the disk. So every written record counts as synced once
/// an open has replayed it.
fn check(log: &ShardedWal, ledger: &mut Ledger) {
    ledger.flushed();
    ledger.check(&replayed(log));
}

fn assert_refused(log: &ShardedWal, ledger: &mut Ledger) {
    for key in 0..4 {
        let error = ledger.append(log, key, 1000).expect_err("there is no room");
        assert!(error.is_not_written(), "{error}");
        assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
    }
}

#[test]
fn a_log_opened_on_a_full_disk_replays_and_accepts_appends_once_there_is_room() {
    let mut random = Random::new(seed());
    for case in cases() {
        let (fs, mut ledger) = filled(case);
        let log = open(two_shards(&fs, case));
        check(&log, &mut ledger);
        let copied: u64 = log.recovery().shards.iter().map(|shard| shard.copied_records).sum();
        assert_eq!(copied, 0, "{case:?}");
        assert_refused(&log, &mut ledger);
        check(&log, &mut ledger);
        let free = fs.copy();
        for fs in [&free, &fs] {
            fs.set_capacity(None);
        }
        for key in 0..4 {
            ledger.append(&log, key, 1000).expect("there is room again");
        }
        log.flush().wait().expect("nothing fails");
        check(&log, &mut ledger);
        let after = fs.crash(&mut || random.flip());
        drop(log);
        check(&open(two_shards(&after, case)), &mut ledger);
    }
}

#[test]
fn records_replayed_on_a_full_disk_are_durable() {
    for case in cases() {
        let (fs, mut ledger) = filled(case);
        let log = open(two_shards(&fs, case));
        check(&log, &mut ledger);
        let after = fs.crash(&mut || false);
        drop(log);
        // One open without room, then one with room.
        let log = open(two_shards(&after, case));
        check(&log, &mut ledger);
        let after = after.crash(&mut || false);
        drop(log);
        after.set_capacity(None);
        check(&open(two_shards(&after, case)), &mut ledger);
    }
}

#[test]
fn a_log_on_a_full_disk_verifies_closes_and_frees_room_by_truncation() {
    for case in cases() {
        let (fs, mut ledger) = filled(case);
        let log = open(two_shards(&fs, case));
        check(&log, &mut ledger);
        let reader = LogReader::open_in(Arc::new(fs.clone()), DIR).expect("it reads");
        assert!(reader.report().shards.iter().all(|shard| shard.corruption.is_none()), "{case:?}");
        let checkpoint = log.durable_checkpoint();
        ledger.truncated(&replayed(&log).below(&checkpoint));
        log.truncate_before(&checkpoint).expect("truncation needs no room");
        check(&log, &mut ledger);
        log.close().expect("close needs no room");
        drop(log);
        let log = open(two_shards(&fs, case));
        check(&log, &mut ledger);
        fs.set_capacity(None);
        ledger.append(&log, 1, 1000).expect("there is room again");
        ledger.append(&log, 2, 1000).expect("there is room again");
        log.close().expect("nothing fails");
        drop(log);
        check(&open(two_shards(&fs, case)), &mut ledger);
    }
}

/// Opens without room, truncates, gets room, appends.
fn come_back(fs: &SimFileSystem, case: Case, ledger: &mut Ledger) {
    let Ok(log) = ShardedWal::open(two_shards(fs, case)) else { return };
    let Ok(found) = try_replayed(&log) else { return };
    ledger.flushed();
    ledger.check(&found);
    let checkpoint = log.durable_checkpoint();
    let below = found.below(&checkpoint);
    match log.truncate_before(&checkpoint) {
        Ok(_) => ledger.truncated(&below),
        Err(_) => ledger.maybe_truncated(&below),
    }
    fs.set_capacity(None);
    for key in 0..4 {
        ledger.append(&log, key, 1000).ok();
    }
    if log.flush().wait().is_ok() {
        ledger.flushed();
    }
}

#[test]
fn a_power_loss_at_any_call_of_an_open_on_a_full_disk_loses_nothing() {
    let mut random = Random::new(seed());
    for case in cases() {
        for n in 1.. {
            let (fs, mut ledger) = filled(case);
            fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
            come_back(&fs, case, &mut ledger);
            let fired = fs.fired() > 0;
            ledger.lose_power();
            for attempt in 0..3 {
                let after = fs.crash(&mut || attempt == 1 || (attempt > 1 && random.flip()));
                after.set_capacity((attempt != 1).then_some(0));
                let mut ledger = ledger.clone();
                check(&open(two_shards(&after, case)), &mut ledger);
            }
            if !fired {
                break;
            }
        }
    }
}

/// The killed open may have left a segment name only in the cache.
#[test]
fn records_replayed_after_a_killed_open_are_durable() {
    let config = |fs: &SimFileSystem| config(fs).durability(Durability::Buffered);
    for n in 1.. {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        let mut ledger = Ledger::unsynced();
        (0..12).for_each(|_| ledger.append(&log, 1, 1000).expect("there is room"));
        let fs = fs.kill();
        drop(log);
        fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
        let is_done = ShardedWal::open(config(&fs)).is_ok() && fs.fired() == 0;
        let fs = fs.kill();
        fs.set_capacity(Some(0));
        let log = open(config(&fs));
        check(&log, &mut ledger);
        let after = fs.crash(&mut || false);
        drop(log);
        check(&open(config(&after)), &mut ledger);
        if is_done {
            return;
        }
    }
}

/// A failed sync proves nothing, whatever its errno.
#[test]
fn a_newest_segment_that_cannot_be_synced_fails_the_open() {
    const ENOSPC: i32 = 28;
    for errno in [EIO, ENOSPC] {
        let case = Case {
            durability: Durability::Buffered,
            copy_on_write: false,
            closes: false,
            records: 12,
        };
        let (fs, mut ledger) = filled(case);
        fs.fail(Fault { sticky: true, ..fault_at(".wal", Call::Sync, FaultKind::Error(errno)) });
        match ShardedWal::open(two_shards(&fs, case)) {
            Err(OpenError::Io { source, .. }) => {
                assert_is(&source, errno);
            }
            other => panic!("{:?}", other.map(drop)),
        }
        let after = fs.kill();
        ledger.lose_power();
        ledger.check(&replayed(&open(two_shards(&after, case))));
    }
}

#[test]
fn a_change_of_the_shard_count_on_a_full_disk_is_refused_and_changes_nothing() {
    for case in cases() {
        let (fs, mut ledger) = filled(case);
        let error = ShardedWal::open(config(&fs).shards(3)).expect_err("there is no room");
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        let log = open(two_shards(&fs, case));
        check(&log, &mut ledger);
        assert_eq!(log.durable_checkpoint().generation(), 1);
    }
}
