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
        let config = |disk: &SimDisk| {
            shardwal::Config::new("/var/lib/wal").disk(std::sync::Arc::new(disk.clone()))
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
