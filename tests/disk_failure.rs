//! A disk that fails or fills up: what the callers are told is true, and what
//! was acknowledged is there after the next open, once.

mod support;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{AppendError, Cause, Config, Durability, ReplayOptions, ShardedWal};
use support::ledger::Ledger;
use support::{EINTR, EIO, ENOSPC, Random, append_all, config, must_end, open, replayed, seed};

/// Appends records of a key until one finds no room; returns its error.
fn fill_the_disk(disk: &SimDisk, log: &ShardedWal, ledger: &mut Ledger, key: u64) -> AppendError {
    disk.set_capacity(Some(0));
    loop {
        if let Err(error) = ledger.append(log, key, 3000) {
            assert!(error.is_not_written(), "{error}");
            assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
            return error;
        }
    }
}

mod full {
    use super::*;

    #[test]
    fn the_log_replays_while_the_disk_is_full() {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        fill_the_disk(&disk, &log, &mut ledger, 7);
        ledger.check(&replayed(&log));
        ledger.append(&log, 7, 3000).unwrap_err();
        ledger.check(&replayed(&log));
        disk.set_capacity(None);
        ledger.append(&log, 7, 3000).unwrap();
        ledger.check(&replayed(&log));
    }

    #[test]
    fn a_checkpoint_taken_on_a_full_disk_skips_nothing_that_comes_after_reopening() {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        fill_the_disk(&disk, &log, &mut ledger, 7);
        let checkpoint = log.checkpoint();
        let known = ledger.len(7);
        let after = disk.crash(&mut || true);
        drop(log);
        after.set_capacity(None);

        let log = open(config(&after));
        log.truncate_before(&checkpoint).unwrap();
        append_all(&log, 7, known..known + 3, 10);
        let seen = std::sync::Mutex::new(0);
        log.replay_from(&checkpoint, ReplayOptions::default(), |_record| {
            *seen.lock().unwrap() += 1;
            Ok::<_, std::io::Error>(())
        })
        .unwrap();
        assert_eq!(seen.into_inner().unwrap(), 3);
    }

    /// Recovery takes a frame's durable mark above what it can read for
    /// damage, so a mark must not cover sequences that were refused.
    #[test]
    fn a_flush_over_refused_records_does_not_make_the_next_torn_write_look_like_damage() {
        let disk = SimDisk::new();
        let log = open(config(&disk).segment_bytes(1 << 20));
        let mut ledger = Ledger::default();
        fill_the_disk(&disk, &log, &mut ledger, 7);
        log.flush().wait().unwrap();
        disk.set_capacity(None);
        disk.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
        ledger.append(&log, 7, 3000).unwrap_err();
        drop(log);
        let mut random = Random::new(seed());
        for _ in 0..60 {
            let after = disk.crash(&mut || random.coin());
            let log = open(config(&after));
            ledger.clone().check(&replayed(&log));
        }
    }

    #[test]
    fn close_seals_the_log_although_the_last_append_was_refused() {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        fill_the_disk(&disk, &log, &mut ledger, 7);
        disk.set_capacity(None);
        log.close().unwrap();
        let log = open(config(&disk));
        let shard = &log.recovery().shards[0];
        assert_eq!(shard.durable_below, shard.next_sequence);
        assert_eq!(shard.copied_records, 0);
        ledger.check(&replayed(&log));
    }
}

mod interrupted {
    use super::*;

    #[test]
    fn a_disk_that_does_nothing_but_interrupt_ends_in_an_error() {
        must_end("an append that is interrupted for ever", || {
            let disk = SimDisk::new();
            let log = open(config(&disk));
            let fault = Fault::new(Call::Write, 1, FaultKind::Error(EINTR));
            disk.fail(Fault { sticky: true, ..fault });
            let error = log.append(1, "x").wait().unwrap_err();
            assert!(matches!(error, AppendError::Indeterminate { cause: Cause::Poisoned(_), .. }));
        });
    }
}

mod preparing_the_next_segment {
    use super::*;

    /// At twice its size a segment waits for the next one; what it then gets
    /// may be an answer from long ago.
    #[test]
    fn a_failure_that_has_passed_does_not_poison_the_shard() {
        let disk = SimDisk::new();
        let log = open(config(&disk));
        let mut ledger = Ledger::default();
        let fault = Fault::new(Call::Open, 1, FaultKind::Error(EIO));
        disk.fail(Fault { path_contains: Some("0000000002.wal".into()), ..fault });
        ledger.append(&log, 1, 2500).unwrap();
        ledger.append(&log, 1, 6000).unwrap();
        ledger.append(&log, 1, 10).unwrap();
        assert_eq!(disk.fired(), 1);
        ledger.check(&replayed(&log));
    }
}
