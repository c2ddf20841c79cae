//! Histories with which an independent reviewer broke the promise, and that no other
//! test covers. Each comment says what went wrong.
//!
//! Holds C2 DURABLE, R1 REPLAY (ARCHITECTURE.md).

use crate::support::ledger::Ledger;
use crate::support::{self, EIO, config, fault_at, must_end, open, replayed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Durability, LogReader};

fn lose_all(fs: &SimFileSystem) -> SimFileSystem {
    fs.crash(&mut || false)
}

/// The manifest was only in the cache, and the next open relied on it.
#[test]
fn an_unsynced_manifest_is_not_trusted() {
    for kind in [FaultKind::PowerCut, FaultKind::Error(EIO)] {
        for nth in 1..=5 {
            let fs = SimFileSystem::with_dir(support::DIR);
            fs.fail(Fault::new(Call::SyncDir, nth, kind));
            drop(shardwal::ShardedWal::open(config(&fs)));
            let fs = fs.kill();
            let mut ledger = Ledger::default();
            let log = open(config(&fs));
            ledger.append(&log, 1, 10).expect("a sound disk");
            let after = lose_all(&fs);
            drop(log);
            ledger.check(&replayed(&open(config(&after))));
        }
    }
}

/// Segments were deleted before their successor was on the disk. After a power loss
/// recovery reported corruption.
#[test]
fn a_truncation_without_syncs_leaves_a_log_that_opens() {
    let fs = SimFileSystem::new();
    let config = |fs: &SimFileSystem| config(fs).durability(Durability::Buffered);
    let mut ledger = Ledger::unsynced();
    let log = open(config(&fs));
    (0..20).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    let (found, checkpoint) = (replayed(&log), log.durable_checkpoint());
    log.truncate_before(&checkpoint).expect("a sound disk");
    ledger.truncated(&found.below(&checkpoint));
    let after = lose_all(&fs);
    drop(log);
    ledger.lose_power();
    ledger.check(&replayed(&open(config(&after))));
}

/// A variant in which the first sync of the successor had failed.
#[test]
fn a_truncation_after_a_failed_sync_leaves_a_log_that_opens() {
    for nth in 1..=3 {
        let fs = SimFileSystem::new();
        fs.fail(Fault { nth, ..fault_at("0000000002.wal", Call::Sync, FaultKind::Error(EIO)) });
        let mut ledger = Ledger::default();
        let log = open(config(&fs));
        (0..20).for_each(|_| drop(ledger.append(&log, 1, 1000)));
        let (found, checkpoint) = (replayed(&log), log.durable_checkpoint());
        ledger.maybe_truncated(&found.below(&checkpoint));
        drop(log.truncate_before(&checkpoint));
        drop(log);
        ledger.check(&replayed(&open(config(&fs))));
    }
}

/// The truncation mark was only in the cache, and open deleted segments because of it.
/// After a power loss the mark was gone and the segments were missing.
#[test]
fn an_unsynced_truncation_mark_is_not_acted_on() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = open(config(&fs));
    (0..20).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    ledger.maybe_truncated(&replayed(&log));
    fs.fail(fault_at("shard-0000", Call::SyncDir, FaultKind::PowerCut));
    log.truncate_before(&log.durable_checkpoint()).expect_err("the power is gone");
    let fs = fs.kill();
    drop(log);
    let log = open(config(&fs));
    ledger.check(&replayed(&log));
    ledger.append(&log, 1, 10).expect("a sound disk");
    // `crash` asks about names before sectors: removals survive, the mark does not.
    for names in 0..=fs.unsynced() {
        let mut asked = 0;
        let after = fs.crash(&mut || {
            asked += 1;
            asked <= names
        });
        ledger.clone().check(&replayed(&open(config(&after))));
    }
}

/// Any of an old generation's segments may survive. Recovery walked from one to a
/// predecessor that was deleted.
#[test]
fn an_old_generation_may_be_deleted_in_any_order() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = open(config(&fs));
    (0..15).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    log.close().expect("a sound disk");
    let log = open(config(&fs).shards(2));
    ledger.check(&replayed(&log));
    ledger.maybe_truncated(&replayed(&log));
    // Two marks are made durable before the segments are deleted.
    let fault = fault_at("generation-00001", Call::SyncDir, FaultKind::PowerCut);
    fs.fail(shardwal::fs::sim::Fault { nth: 3, ..fault });
    log.truncate_before(&log.durable_checkpoint()).expect_err("the power is gone");
    drop(log);
    for lost in 0..fs.unsynced() {
        let mut asked = 0;
        let after = fs.crash(&mut || {
            asked += 1;
            asked - 1 != lost
        });
        ledger.clone().check(&replayed(&open(config(&after).shards(2))));
    }
}

/// Open reported an old generation's last segment as missing. It had been prepared and
/// never written to. No crash was needed.
#[test]
fn a_resharded_log_opens_after_a_truncation() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = open(config(&fs));
    (0..3).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    log.close().expect("a sound disk");
    let log = open(config(&fs).shards(2));
    ledger.append(&log, 1, 10).expect("a sound disk");
    let (found, checkpoint) = (replayed(&log), log.durable_checkpoint());
    log.truncate_before(&checkpoint).expect("a sound disk");
    ledger.truncated(&found.below(&checkpoint));
    log.close().expect("a sound disk");
    ledger.check(&replayed(&open(config(&fs).shards(2))));
}

/// A reader reported corruption in frames that were written while it read.
#[test]
fn a_reader_beside_a_writer_reports_no_corruption() {
    must_end("a reader beside a writer", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).segment_bytes(1 << 20));
        std::thread::scope(|scope| {
            let (read, done) = std::sync::mpsc::channel::<()>();
            let log = &log;
            scope.spawn(move || {
                let mut ledger = Ledger::default();
                // Each read reads the whole log. Without a bound, the writer outruns a reader
                // that is slow, as under ThreadSanitizer, and the reads never end.
                for _ in 0..50_000 {
                    if done.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                        break;
                    }
                    ledger.append(log, 1, 10).expect("a sound disk");
                }
            });
            for _ in 0..200 {
                let reader = LogReader::open_in(std::sync::Arc::new(fs.clone()), support::DIR);
                let reader = reader.expect("a log");
                assert_eq!(reader.report().corruption().next(), None);
            }
            drop(read);
        });
    });
}
