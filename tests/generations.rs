//! Changing the number of shards: all is kept, in order, whenever the machine
//! dies meanwhile.

mod support;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Durability, ReplayOptions, ShardedWal};
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

mod after_a_power_loss {
    use super::*;

    /// The first segment begins sealed; of what follows in it and in the next
    /// two a power loss leaves what it likes. What is cut off must go
    /// together, whatever a second power loss brings back of it.
    #[test]
    fn what_was_cut_off_an_old_shard_does_not_come_back_in_part() {
        let mut ledger = Ledger::default();
        let disk = closed_log(&mut ledger, 1);
        let log = open(config(&disk).durability(Durability::Os));
        ledger.acknowledges_unsynced();
        (0..3).for_each(|_| ledger.append(&log, 1, 9000).unwrap());
        let mut random = Random::new(seed());
        ledger.lose_power();
        for _ in 0..200 {
            let (mut ledger, after) = (ledger.clone(), disk.crash(&mut || random.coin()));
            let log = open(config(&after).shards(2));
            ledger.check(&replayed(&log));
            let after = after.crash(&mut || random.coin());
            drop(log);
            ledger.check(&replayed(&open(config(&after).shards(2))));
        }
    }
}
