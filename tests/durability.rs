//! What was acknowledged is there after whatever the mode says it survives.

mod support;

use std::time::Duration;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Durability, ShardedWal};
use support::ledger::Ledger;
use support::{Random, config, open, replayed, seed};

/// A process killed while it created the log leaves names that are shown and
/// not durable; the next process must not build on them.
#[test]
fn a_log_whose_creation_was_killed_loses_nothing_that_is_appended_later() {
    for n in 1.. {
        let disk = SimDisk::new();
        let config = |disk: &SimDisk| shardwal::Config::new("/var/lib/log").disk(
            std::sync::Arc::new(disk.clone()),
        );
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

/// A seal is written without a sync. The next process may find it in the cache
/// alone, and must not say that the segment goes so far.
#[test]
fn a_seal_that_only_the_cache_knew_is_not_missed_after_a_power_loss() {
    let disk = SimDisk::new();
    let log = open(config(&disk));
    let mut ledger = Ledger::default();
    (0..3).for_each(|_| ledger.append(&log, 1, 100).unwrap());
    // Close has synced, writes its seal, and dies at the seal's sync.
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
