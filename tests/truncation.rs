//! What a truncation gives up is gone for good, what it does not is all there,
//! whenever the machine dies; and it needs no space.

mod support;

use std::path::PathBuf;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Checkpoint, Config, Durability, ShardedWal, TruncateError};
use support::ledger::Ledger;
use support::{EIO, Found, Random, append_all, config, open, replayed, seed};

fn segments(disk: &SimDisk, folder: &str) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| {
        path.to_string_lossy().contains(folder) && path.extension().is_some_and(|e| e == "wal")
    });
    files
}

mod after_the_process_was_killed {
    use super::*;

    /// The mark of the dead process is shown by the cache; open deletes
    /// segments on its word, so it must put it on the disk first.
    #[test]
    fn a_purge_mark_that_open_acts_on_survives_the_next_power_loss() {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let checkpoint = log.checkpoint();
        ledger.perhaps_give_up(&replayed(&log));
        let at_the_marks_sync = Fault {
            path_contains: Some("purge".into()),
            ..Fault::new(Call::Sync, 1, FaultKind::PowerCut)
        };
        disk.fail(at_the_marks_sync);
        log.truncate_before(&checkpoint).unwrap_err();
        let disk = disk.kill();
        drop(log);

        let log = open(config(&disk));
        ledger.check(&replayed(&log));
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let disk = disk.crash(&mut || false);
        drop(log);
        let log = open(config(&disk));
        ledger.check(&replayed(&log));
    }
}

mod before_the_live_segment_was_synced {
    use super::*;

    /// Recovery begins at a segment's header: the last one on the disk must
    /// not be deleted while its successor's is in the cache alone.
    #[test]
    fn a_power_loss_leaves_a_log_that_opens() {
        let disk = SimDisk::new();
        let config = |disk: &SimDisk| config(disk).durability(Durability::Os);
        let log = open(config(&disk));
        let mut ledger = Ledger::unsynced();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        ledger.give_up(&replayed(&log));
        let before = segments(&disk, "").len();
        log.truncate_before(&log.checkpoint()).unwrap();
        assert!(segments(&disk, "").len() <= 2, "of {before}: the live one, and the next");
        let mut random = Random::new(seed());
        for _ in 0..20 {
            let after = disk.crash(&mut || random.coin());
            ledger.clone().check(&replayed(&open(config(&after))));
        }
        let after = disk.crash(&mut || false);
        ledger.check(&replayed(&open(config(&after))));
    }

    #[test]
    fn a_shard_that_cannot_be_synced_any_more_keeps_what_recovery_needs() {
        let disk = SimDisk::new();
        // No zeros ahead: the next segment's first sync is its first commit's.
        disk.set_copy_on_write(true);
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        // So large that the next commit waits for the next segment.
        ledger.append(&log, 1, 9000).unwrap();
        let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
        disk.fail(Fault { path_contains: Some("0000000002.wal".into()), ..fault });
        ledger.append(&log, 1, 1000).unwrap_err();
        ledger.give_up(&replayed(&log));
        log.truncate_before(&log.checkpoint()).unwrap();
        drop(log);
        ledger.check(&replayed(&open(config(&disk))));
    }
}

mod of_an_older_generation {
    use super::*;

    /// A closed log of one shard, opened again with two.
    fn resharded(ledger: &mut Ledger, records: usize) -> (SimDisk, ShardedWal, Checkpoint) {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        (0..records).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
        let end = log.checkpoint();
        log.close().expect("a sound disk");
        let log = open(config(&disk).shards(2));
        (disk, log, end)
    }

    /// The segment prepared for later must not outlive those with records, nor
    /// be found instead of them.
    #[test]
    fn no_segment_is_left_and_the_log_opens_without_them() {
        for own_checkpoint in [true, false] {
            let mut ledger = Ledger::default();
            let (disk, log, end) = resharded(&mut ledger, 3);
            let checkpoint = if own_checkpoint { end } else { log.checkpoint() };
            ledger.give_up(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
            assert_eq!(segments(&disk, "generation-00001"), [PathBuf::new(); 0]);
            ledger.append(&log, 1, 10).unwrap();
            log.close().unwrap();
            let log = open(config(&disk).shards(2));
            ledger.check(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
        }
    }

    #[test]
    fn a_power_loss_between_the_mark_and_the_deletions_leaves_a_log_that_opens() {
        let mut ledger = Ledger::default();
        let (disk, log, _) = resharded(&mut ledger, 20);
        ledger.give_up(&replayed(&log));
        let while_deleting = Fault {
            path_contains: Some("generation-00001/shard-0000".into()),
            ..Fault::new(Call::SyncDir, 1, FaultKind::PowerCut)
        };
        disk.fail(while_deleting);
        log.truncate_before(&log.checkpoint()).unwrap_err();
        drop(log);
        let mut random = Random::new(seed());
        for _ in 0..60 {
            let after = disk.crash(&mut || random.coin());
            let log = open(config(&after).shards(2));
            ledger.clone().check(&replayed(&log));
            assert_eq!(segments(&after, "generation-00001"), [PathBuf::new(); 0]);
        }
    }
}
