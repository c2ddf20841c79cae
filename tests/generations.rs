//! Changing the number of shards: all is kept, in order, whenever the machine
//! dies meanwhile.

mod support;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{ReplayOptions, ShardedWal};
use support::ledger::Ledger;
use support::{Random, append_all, config, open, replayed, seed};

/// A log of one shard with these records, closed.
fn closed_log(ledger: &mut Ledger, records: usize) -> SimDisk {
    let disk = SimDisk::new();
    let log = open(config(&disk));
    (0..records).for_each(|_| ledger.append(&log, 1, 400).expect("a sound disk"));
    log.close().expect("a sound disk");
    disk
}

mod after_the_process_was_killed {
    use super::*;

    /// The manifest of the dead process is shown by the cache: what is
    /// appended on its word must not be lost with it.
    #[test]
    fn a_new_generation_that_open_goes_on_in_survives_the_next_power_loss() {
        let mut ledger = Ledger::default();
        let before = closed_log(&mut ledger, 12);
        for n in 1.. {
            // One log for all n, lest its number of calls vary.
            let (disk, mut ledger) = (before.kill(), ledger.clone());
            disk.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
            let opened = ShardedWal::open(config(&disk).shards(2));
            let done = opened.is_ok() && disk.fired() == 0;
            let disk = disk.kill();
            drop(opened);

            let log = open(config(&disk).shards(2));
            ledger.append(&log, 1, 400).unwrap();
            let disk = disk.crash(&mut || false);
            drop(log);
            let log = open(config(&disk).shards(2));
            ledger.check(&replayed(&log));
            if done {
                break;
            }
        }
    }
}
