//! Truncated records never come back, all others stay, wherever a crash interrupts it.
//! Truncation needs no space.
//!
//! Holds R3 FRESH (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::path::PathBuf;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{EIO, Random, config, open, path_has, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, Durability, ShardedWal};

fn segments(fs: &SimFileSystem, shard_dir: &str) -> Vec<PathBuf> {
    let mut files = fs.files();
    files.retain(|path| path_has(path, shard_dir) && path.extension().is_some_and(|e| e == "wal"));
    files
}

/// A log of one shard with `records` records of 1,000 bytes, four per segment.
fn log_of(fs: &SimFileSystem, ledger: &mut Ledger, records: usize) -> ShardedWal {
    let log = open(config(fs));
    (0..records).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    log
}

#[test]
fn truncated_records_are_never_replayed() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    let checkpoint = log.durable_checkpoint();
    (0..3).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
    ledger.truncated(&replayed(&log).below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
    assert_eq!(replayed(&log).of(1), [10, 11, 12]);
    // An older checkpoint does not undo a later truncation.
    log.truncate_before(&Checkpoint::new(1, [4]).of_log(log.id())).unwrap();
    let after = fs.crash(&mut || false);
    drop(log);
    for _ in 0..3 {
        let log = open(config(&after));
        ledger.check(&replayed(&log));
        assert_eq!(replayed(&log).of(1), [10, 11, 12]);
        let of_what_is_left =
            log.replay_from(&checkpoint, shardwal::ReplayOptions::default(), |record| {
                assert!(record.position().sequence >= 10);
                Ok::<_, std::convert::Infallible>(())
            });
        assert_eq!(of_what_is_left.unwrap().records, 3);
    }
}

#[test]
fn sequences_continue_above_a_truncated_log() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    drop(log);
    for expected in 10..13 {
        let log = open(config(&fs));
        assert_eq!(log.append(1, "x").wait().unwrap().sequence, expected);
    }
}

#[test]
fn only_whole_segments_are_deleted_and_the_live_one_stays() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 30);
    let before = segments(&fs, "");
    let found = replayed(&log);
    // A position within a segment: this segment stays, and all later ones.
    let middle = found.records.len() as u64 / 2;
    let report = log.truncate_before(&Checkpoint::new(1, [middle]).of_log(log.id())).unwrap();
    let kept = segments(&fs, "");
    let deleted = before.len() - before.iter().filter(|path| kept.contains(path)).count();
    assert_eq!(report.segments, deleted as u64);
    assert!(deleted > 0 && report.bytes > 0, "{report:?}");
    assert!(before[deleted..].iter().all(|path| kept.contains(path)), "oldest first");
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    let live = segments(&fs, "");
    assert!((1..=2).contains(&live.len()), "the live one and perhaps the next: {live:?}");
    assert_eq!(log.truncate_before(&log.durable_checkpoint()).unwrap().segments, 0);
    ledger.append(&log, 1, 10).unwrap();
    assert_eq!(replayed(&log).of(1), [30]);
}

#[test]
fn a_truncation_needs_no_space() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    let checkpoint = log.durable_checkpoint();
    fs.set_capacity(Some(0));
    while ledger.append(&log, 1, 3000).is_ok() {}
    ledger.truncated(&replayed(&log).below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
    ledger.check(&replayed(&log));
    log.close().unwrap();
    fs.set_capacity(None);
    ledger.check(&replayed(&open(config(&fs))));
}

#[test]
fn a_truncation_makes_the_room_that_the_next_append_needs() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 30);
    let used: u64 = fs.files().iter().map(|f| fs.read_file(f).map_or(0, |b| b.len() as u64)).sum();
    fs.set_capacity(Some(used.next_multiple_of(4096)));
    while ledger.append(&log, 1, 3000).is_ok() {}
    ledger.truncated(&replayed(&log));
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    ledger.append(&log, 1, 3000).unwrap();
    ledger.check(&replayed(&log));
}

#[test]
fn a_power_loss_at_any_call_of_a_truncation_is_all_or_nothing_per_shard() {
    let mut random = Random::new(seed());
    let shards = |fs: &SimFileSystem| config(fs).shards(2);
    let (before, mut ledger) = (SimFileSystem::new(), Ledger::default());
    let log = open(shards(&before));
    // If the next truncation is interrupted, the mark before it must still hold.
    (0..12).for_each(|key| ledger.append(&log, key % 4, 1000).unwrap());
    ledger.truncated(&replayed(&log));
    let is_truncated = log.durable_checkpoint().sequences().to_vec();
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    (0..24).for_each(|key| ledger.append(&log, key % 4, 1000).unwrap());
    let checkpoint = log.durable_checkpoint();
    ledger.maybe_truncated(&replayed(&log));
    log.close().unwrap();
    for n in 1.. {
        let (fs, mut ledger) = (before.kill(), ledger.clone());
        let log = open(shards(&fs));
        ledger.append(&log, 0, 1000).unwrap();
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        let done = log.truncate_before(&checkpoint).is_ok();
        let afters: Vec<_> = (0..6)
            .map(|attempt| fs.crash(&mut || attempt == 0 || (attempt > 1 && random.flip())))
            .collect();
        drop(log);
        for after in afters.into_iter().chain([fs.kill()]) {
            let log = open(shards(&after));
            let found = replayed(&log);
            let left = found.below(&checkpoint);
            for shard in 0..2 {
                let of_shard =
                    left.records.iter().filter(|(p, ..)| p.shard == shard).count() as u64;
                let all = checkpoint.sequences()[shard as usize] - is_truncated[shard as usize];
                assert!(of_shard == 0 || (!done && of_shard == all), "{of_shard} of {all}");
            }
            ledger.clone().check(&found);
        }
        if done {
            return;
        }
    }
}

mod after_the_process_was_killed {
    use super::*;

    /// The cache shows the mark of the killed process. Open deletes segments because of
    /// it, so it must make the mark durable first.
    #[test]
    fn a_truncation_mark_that_open_acts_on_survives_the_next_power_loss() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let checkpoint = log.durable_checkpoint();
        ledger.maybe_truncated(&replayed(&log));
        let at_the_marks_sync = Fault {
            path_contains: Some("shard-0000".into()),
            ..Fault::new(Call::SyncDir, 1, FaultKind::PowerCut)
        };
        fs.fail(at_the_marks_sync);
        log.truncate_before(&checkpoint).unwrap_err();
        let fs = fs.kill();
        drop(log);

        let log = open(config(&fs));
        ledger.check(&replayed(&log));
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let fs = fs.crash(&mut || false);
        drop(log);
        let log = open(config(&fs));
        ledger.check(&replayed(&log));
    }
}

mod before_the_live_segment_was_synced {
    use super::*;

    /// Recovery begins at a segment's header. The last durable header must not be
    /// deleted while its successor's is only in the cache.
    #[test]
    fn a_power_loss_leaves_a_log_that_opens() {
        let fs = SimFileSystem::new();
        let config = |fs: &SimFileSystem| config(fs).durability(Durability::Buffered);
        let log = open(config(&fs));
        let mut ledger = Ledger::unsynced();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        ledger.truncated(&replayed(&log));
        let before = segments(&fs, "").len();
        // All acknowledged records. The log's own checkpoint reaches only as far as its
        // last sync.
        let checkpoint =
            Checkpoint::new(log.durable_checkpoint().generation(), [20]).of_log(log.id());
        log.truncate_before(&checkpoint).unwrap();
        assert!(segments(&fs, "").len() <= 2, "of {before}: the live one, and the next");
        let mut random = Random::new(seed());
        for _ in 0..20 {
            let after = fs.crash(&mut || random.flip());
            ledger.clone().check(&replayed(&open(config(&after))));
        }
        let after = fs.crash(&mut || false);
        ledger.check(&replayed(&open(config(&after))));
    }

    /// The writer syncs the live segment while the sealer still has older ones. The
    /// truncation must learn of that sync: else it keeps a segment that it could delete.
    #[test]
    fn a_truncation_deletes_all_older_segments_although_the_sealer_was_late() {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).durability(Durability::Buffered).file_system(gate.before(&fs)));
        gate.shut();
        let mut ledger = Ledger::unsynced();
        while log.stats().total.rolls < 3 {
            ledger.append(&log, 1, 1000).unwrap();
        }
        gate.wait_for(1);
        let all = Checkpoint::new(log.durable_checkpoint().generation(), [ledger.len(1)]);
        let all = all.of_log(log.id());
        let truncated = std::thread::scope(|scope| {
            let truncation = scope.spawn(|| log.truncate_before(&all));
            // The sealer at a full segment, and the writer at the live one.
            gate.wait_for(2);
            gate.open();
            truncation.join().unwrap().unwrap()
        });
        assert_eq!(truncated.segments, log.stats().total.rolls, "all but the live one");
    }

    #[test]
    fn a_shard_that_fails_to_sync_keeps_the_segment_that_recovery_needs() {
        let fs = SimFileSystem::new();
        // Without zeros ahead, the first sync of the next segment is that of its first
        // commit.
        fs.set_copy_on_write(true);
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        // So large that the next commit waits for the next segment.
        ledger.append(&log, 1, 9000).unwrap();
        let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
        fs.fail(Fault { path_contains: Some("0000000002.wal".into()), ..fault });
        ledger.append(&log, 1, 1000).unwrap_err();
        ledger.truncated(&replayed(&log));
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        drop(log);
        ledger.check(&replayed(&open(config(&fs))));
    }
}

mod of_an_older_generation {
    use super::*;

    /// A closed log of one shard, opened again with two.
    fn resharded(ledger: &mut Ledger, records: usize) -> (SimFileSystem, ShardedWal, Checkpoint) {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        (0..records).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
        let end = log.durable_checkpoint();
        log.close().expect("a sound disk");
        let log = open(config(&fs).shards(2));
        (fs, log, end)
    }

    /// The prepared segment must not outlive the segments with records, nor be found
    /// instead of them.
    #[test]
    fn every_segment_is_deleted_and_the_log_opens_without_them() {
        for own_checkpoint in [true, false] {
            let mut ledger = Ledger::default();
            let (fs, log, end) = resharded(&mut ledger, 3);
            let checkpoint = if own_checkpoint { end } else { log.durable_checkpoint() };
            ledger.truncated(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
            assert_eq!(segments(&fs, "generation-00001"), Vec::<PathBuf>::new());
            ledger.append(&log, 1, 10).unwrap();
            log.close().unwrap();
            let log = open(config(&fs).shards(2));
            ledger.check(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
        }
    }

    #[test]
    fn a_power_loss_between_the_mark_and_the_deletions_leaves_a_log_that_opens() {
        let mut ledger = Ledger::default();
        let (fs, log, _) = resharded(&mut ledger, 20);
        ledger.truncated(&replayed(&log));
        let while_deleting = Fault {
            path_contains: Some("generation-00001/shard-0000".into()),
            // Two marks are made durable first: the end of the older shard, and its
            // truncation.
            ..Fault::new(Call::SyncDir, 3, FaultKind::PowerCut)
        };
        fs.fail(while_deleting);
        log.truncate_before(&log.durable_checkpoint()).unwrap_err();
        drop(log);
        let mut random = Random::new(seed());
        for _ in 0..60 {
            let after = fs.crash(&mut || random.flip());
            let log = open(config(&after).shards(2));
            ledger.clone().check(&replayed(&log));
            assert_eq!(segments(&after, "generation-00001"), Vec::<PathBuf>::new());
        }
    }
}
