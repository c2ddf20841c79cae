//! A log with more unsynced segments than the newest. Open syncs the older ones in
//! place, and copies at most a part of the newest.
//!
//! Holds R1 REPLAY, R3 FRESH (ARCHITECTURE.md).

use std::sync::Arc;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{DIR, EIO, Random, assert_is, config, fault_at, open, replayed, seed};
use shardwal::fs::sim::{Call, FaultKind, SimFileSystem};
use shardwal::{Config, Durability, LogReader, OpenError, ShardedWal};

const RECORDS: u64 = 40;
/// More records than a segment of [`config`] holds, with one commit per record.
const SEGMENT_RECORDS: u64 = 9;

fn os(fs: &SimFileSystem) -> Config {
    config(fs).durability(Durability::Buffered)
}

/// A killed process that leaves many segments in the cache.
fn killed() -> (SimFileSystem, Ledger) {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log = open(os(&fs).file_system(gate.before(&fs)));
    // Blocks background syncs too.
    gate.shut();
    let mut ledger = Ledger::unsynced();
    (0..RECORDS).for_each(|_| ledger.append(&log, 1, 1000).expect("nothing fails"));
    let after = fs.kill();
    gate.open();
    drop(log);
    (after, ledger)
}

#[test]
fn open_copies_at_most_the_newest_segment_and_replayed_records_are_durable() {
    let (fs, mut ledger) = killed();
    let log = open(os(&fs));
    let shard = &log.recovery().shards[0];
    assert_eq!(shard.records, RECORDS);
    assert!(shard.copied_records <= SEGMENT_RECORDS, "{shard:?}");
    // The log acknowledged no sync, but it has replayed the records.
    ledger.flushed();
    ledger.check(&replayed(&log));
    let after = fs.crash(&mut || false);
    drop(log);
    ledger.check(&replayed(&open(os(&after))));
}

#[test]
fn segments_covered_by_a_durable_mark_are_not_synced_again() {
    let fs = SimFileSystem::new();
    let log = open(os(&fs));
    let mut ledger = Ledger::unsynced();
    (0..RECORDS).for_each(|_| ledger.append(&log, 1, 1000).expect("nothing fails"));
    log.flush().wait().expect("nothing fails");
    ledger.flushed();
    ledger.append(&log, 1, 10).expect("nothing fails");
    let fs = fs.kill();
    drop(log);
    let before = fs.calls(Call::Sync);
    let log = open(os(&fs));
    assert!(fs.calls(Call::Sync) - before <= 2, "the new segment's, and no more");
    ledger.check(&replayed(&log));
}

#[test]
fn a_failed_sync_fails_the_open_and_the_next_open_replays_what_is_on_the_disk() {
    let mut failed = 0;
    for nth in 1..SEGMENT_RECORDS {
        let (fs, mut ledger) = killed();
        fs.fail(shardwal::fs::sim::Fault {
            nth,
            ..fault_at(".wal", Call::Sync, FaultKind::Error(EIO))
        });
        match ShardedWal::open(os(&fs)) {
            Err(OpenError::Io { source, .. }) => assert_is(&source, EIO),
            Err(error) => panic!("{error}"),
            Ok(log) => {
                assert_eq!(fs.fired(), 0);
                ledger.check(&replayed(&log));
                continue;
            }
        }
        failed += 1;
        // The cache still shows the lost segment as clean.
        ledger.lose_power();
        let fs = fs.kill();
        let log = open(os(&fs));
        ledger.check(&replayed(&log));
        let after = fs.crash(&mut || false);
        drop(log);
        ledger.check(&replayed(&open(os(&after))));
    }
    assert!(failed >= 4, "{failed}");
}

/// The system chooses the order in which segments reach the disk. One may be torn
/// although its successor is intact. The log ends there, permanently.
#[test]
fn a_torn_segment_before_a_whole_one_ends_the_log_and_the_next_open_agrees() {
    let mut random = Random::new(seed());
    let mut torn = 0;
    for _ in 0..60 {
        let (fs, mut ledger) = killed();
        let percent = random.below(101);
        let fs = fs.crash(&mut || random.below(100) < percent);
        ledger.lose_power();
        let log = open(os(&fs));
        torn += u64::from(log.recovery().shards[0].torn_bytes > 0);
        ledger.check(&replayed(&log));
        (0..3).for_each(|_| ledger.append(&log, 1, 1000).expect("nothing fails"));
        log.flush().wait().expect("nothing fails");
        ledger.flushed();
        let after = fs.crash(&mut || false);
        drop(log);
        ledger.check(&replayed(&open(os(&after))));
    }
    assert!(torn >= 10, "{torn}");
}

#[test]
fn a_power_loss_at_any_call_of_an_open_that_syncs_loses_nothing() {
    for n in 1.. {
        let (fs, mut ledger) = killed();
        fs.fail(shardwal::fs::sim::Fault::new(Call::Any, n, FaultKind::PowerCut));
        let opened = ShardedWal::open(os(&fs));
        let fired = fs.fired() > 0;
        if opened.is_ok() {
            ledger.flushed();
        }
        ledger.lose_power();
        for choice in [false, true] {
            let after = fs.crash(&mut || choice);
            let mut ledger = ledger.clone();
            ledger.check(&replayed(&open(os(&after))));
            let after = after.crash(&mut || false);
            ledger.check(&replayed(&open(os(&after))));
        }
        drop(opened);
        if !fired {
            return;
        }
    }
}

#[test]
fn a_reader_syncs_and_writes_nothing() {
    let (fs, _) = killed();
    let count = |call| fs.calls(call);
    let changes = [Call::Sync, Call::SyncDir, Call::Write, Call::SetLen, Call::Unlink];
    let before = changes.map(count);
    let reader = LogReader::open_in(Arc::new(fs.clone()), DIR).expect("it reads");
    assert_eq!(reader.report().records(), RECORDS);
    assert_eq!(changes.map(count), before);
}
