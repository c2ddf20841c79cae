//! A change of the number of shards keeps every record in order, wherever a crash
//! interrupts it.

use crate::support::ledger::Ledger;
use crate::support::{Random, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Durability, ReplayOptions, ShardedWal};

/// A closed log of one shard with these records.
fn closed_log(ledger: &mut Ledger, records: usize) -> SimFileSystem {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    (0..records).for_each(|_| ledger.append(&log, 1, 400).expect("a sound disk"));
    log.close().expect("a sound disk");
    fs
}

/// Opens the log with each of these numbers of shards in turn, and appends.
fn live_through(fs: &SimFileSystem, ledger: &mut Ledger, counts: &[usize]) -> ShardedWal {
    let mut log = None;
    for shards in counts {
        // Releases the lock before the next open.
        drop(log.take());
        let opened = open(config(fs).shards(*shards));
        assert_eq!(opened.shards(), *shards);
        (0..24).for_each(|key| ledger.append(&opened, key % 8, 300).expect("a sound disk"));
        log = Some(opened);
    }
    log.expect("at least one count")
}

#[test]
fn every_record_keeps_its_order_through_4_16_and_3_shards() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = live_through(&fs, &mut ledger, &[4, 16, 3, 3]);
    let found = replayed(&log);
    ledger.check(&found);
    // The order of the callbacks, across generations too.
    found.by_key().into_values().for_each(|indices| assert!(indices.into_iter().eq(0..12)));
    let generations: Vec<_> =
        found.records.iter().map(|(position, ..)| position.generation).collect();
    assert_eq!((generations.first(), generations.last()), (Some(&1), Some(&3)));
    log.close().unwrap();
    let log = open(config(&fs).shards(3));
    ledger.check(&replayed(&log));
    assert_eq!(log.recovery().shards.len(), 4 + 16 + 3);
}

#[test]
fn a_checkpoint_covers_the_generations_before_its_own_and_none_after() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = live_through(&fs, &mut ledger, &[4]);
    let first = log.durable_checkpoint();
    drop(log);
    let log = live_through(&fs, &mut ledger, &[16]);
    let second = log.durable_checkpoint();
    drop(log);
    let log = live_through(&fs, &mut ledger, &[3]);
    let count = |checkpoint| {
        let replay = log.replay_from(checkpoint, ReplayOptions::default(), |record| {
            assert!(record.position().generation > checkpoint.generation());
            Ok::<_, std::convert::Infallible>(())
        });
        replay.unwrap().records
    };
    assert_eq!((count(&first), count(&second), count(&log.durable_checkpoint())), (48, 24, 0));
    ledger.truncated(&replayed(&log).below(&second));
    log.truncate_before(&second).unwrap();
    ledger.check(&replayed(&log));
    drop(log);
    ledger.check(&replayed(&open(config(&fs).shards(3))));
}

#[test]
fn a_power_loss_at_any_call_of_a_reshard_loses_nothing() {
    let mut random = Random::new(seed());
    let mut ledger = Ledger::default();
    // Killed, not closed, so that the last commit has to be copied.
    let before = SimFileSystem::new();
    drop(live_through(&before, &mut ledger, &[2]));
    let log = open(config(&before).shards(2));
    ledger.append(&log, 1, 300).unwrap();
    let before = before.kill();
    drop(log);
    for n in 1.. {
        let fs = before.kill();
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        let opened = ShardedWal::open(config(&fs).shards(3));
        let fired = fs.fired() > 0;
        let mut afters = vec![fs.kill(), fs.crash(&mut || false), fs.crash(&mut || true)];
        afters.extend((0..3).map(|_| fs.crash(&mut || random.flip())));
        drop(opened);
        for (attempt, after) in afters.into_iter().enumerate() {
            let mut ledger = ledger.clone();
            // The next open may ask for another number of shards.
            let log = open(config(&after).shards(2 + attempt % 2));
            ledger.check(&replayed(&log));
            ledger.append(&log, 1, 10).unwrap();
            let after = after.crash(&mut || false);
            drop(log);
            ledger.check(&replayed(&open(config(&after).shards(3))));
        }
        if !fired {
            return;
        }
    }
}

mod after_the_process_was_killed {
    use super::*;

    /// The cache shows the manifest of the killed process. Records appended because of
    /// it must not be lost with it.
    #[test]
    fn a_generation_that_open_continues_survives_the_next_power_loss() {
        let mut ledger = Ledger::default();
        let before = closed_log(&mut ledger, 12);
        for n in 1.. {
            // One log for all n, so that the number of calls does not vary.
            let (fs, mut ledger) = (before.kill(), ledger.clone());
            fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
            let opened = ShardedWal::open(config(&fs).shards(2));
            let done = opened.is_ok() && fs.fired() == 0;
            let fs = fs.kill();
            drop(opened);

            let log = open(config(&fs).shards(2));
            ledger.append(&log, 1, 400).unwrap();
            let fs = fs.crash(&mut || false);
            drop(log);
            let log = open(config(&fs).shards(2));
            ledger.check(&replayed(&log));
            if done {
                break;
            }
        }
    }
}

mod after_a_power_loss {
    use super::*;

    /// The first segment was sealed at first. A power loss leaves any part of the later
    /// bytes in it and in the next two. Everything after the cut must go together,
    /// whatever a second power loss restores.
    #[test]
    fn records_cut_off_an_old_shard_do_not_come_back_in_part() {
        let mut ledger = Ledger::default();
        let fs = closed_log(&mut ledger, 1);
        let log = open(config(&fs).durability(Durability::Buffered));
        ledger.acknowledges_unsynced();
        (0..3).for_each(|_| ledger.append(&log, 1, 9000).unwrap());
        let mut random = Random::new(seed());
        ledger.lose_power();
        for _ in 0..200 {
            let (mut ledger, after) = (ledger.clone(), fs.crash(&mut || random.flip()));
            let log = open(config(&after).shards(2));
            ledger.check(&replayed(&log));
            let after = after.crash(&mut || random.flip());
            drop(log);
            ledger.check(&replayed(&open(config(&after).shards(2))));
        }
    }
}
