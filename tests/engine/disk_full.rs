//! A disk that fills up. A refused record never appears, an acknowledged one stays, and
//! appends succeed again as soon as there is room.

use crate::support::ledger::Ledger;
use crate::support::{
    EIO, ENOSPC, Random, append_all, assert_poisoned, config, fault_at, open, replayed, seed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{AppendError, Cause, ReplayOptions, ShardedWal};

/// Appends records of a key until one finds no room; returns its error.
fn fill_the_disk(
    fs: &SimFileSystem,
    log: &ShardedWal,
    ledger: &mut Ledger,
    key: u64,
) -> AppendError {
    fs.set_capacity(Some(0));
    loop {
        if let Err(error) = ledger.append(log, key, 3000) {
            assert!(error.is_not_written(), "{error}");
            assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
            return error;
        }
    }
}

/// In every state of a segment, and however late the cut of a refused commit reaches
/// the disk.
#[test]
fn a_refused_record_never_appears_and_appends_work_again_once_there_is_room() {
    let mut random = Random::new(seed());
    for pages in 0..24 {
        for late in [None, Some(Call::SetLen), Some(Call::Sync)] {
            let fs = SimFileSystem::new();
            let log = open(config(&fs));
            let mut ledger = Ledger::default();
            ledger.append(&log, 1, 100).unwrap();
            for lap in 1..=3 {
                fs.set_capacity(Some((3 + pages * lap) * 4096));
                if let Some(call) = late {
                    fs.fail(Fault::new(call, 1, FaultKind::WriteBack));
                }
                for _ in 0..4 {
                    if let Err(error) = ledger.append(&log, 1, 1500) {
                        assert!(error.is_not_written(), "{error}");
                        assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
                    }
                }
                fs.set_capacity(None);
                ledger.append(&log, 1, 1500).expect("there is room again");
                ledger.check(&replayed(&log));
            }
            let afters = [fs.crash(&mut || random.flip()), fs.crash(&mut || false)];
            drop(log);
            for after in afters {
                ledger.clone().check(&replayed(&open(config(&after))));
            }
        }
    }
}

#[test]
fn quota_and_file_size_limits_count_as_disk_full_and_other_errors_do_not() {
    const EFBIG: i32 = 27;
    const EDQUOT: i32 = 122;
    const EROFS: i32 = 30;
    for (errno, is_full) in [(ENOSPC, true), (EFBIG, true), (EDQUOT, true), (EROFS, false)] {
        let fs = SimFileSystem::new();
        // Without zeros ahead, the first write is that of the record.
        fs.set_copy_on_write(true);
        let log = open(config(&fs));
        fs.fail(fault_at(".wal", Call::Write, FaultKind::Error(errno)));
        let error = log.append(1, "x").wait().unwrap_err();
        assert_eq!(matches!(error.cause(), Cause::DiskFull(_)), is_full, "{error}");
        assert_eq!(error.is_not_written(), is_full, "{error}");
        assert_eq!(log.append(1, "x").wait().is_ok(), is_full);
    }
}

#[test]
fn a_commit_that_cannot_be_cut_off_is_not_reported_as_not_written() {
    for call in [Call::SetLen, Call::Sync] {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        ledger.append(&log, 1, 100).unwrap();
        fs.fail(fault_at(".wal", call, FaultKind::Error(EIO)));
        fs.set_capacity(Some(0));
        let error = ledger.append(&log, 1, 9000).unwrap_err();
        assert!(matches!(error, AppendError::Indeterminate { .. }), "{error}");
        assert_poisoned(error.cause(), EIO);
        fs.set_capacity(None);
        drop(log);
        ledger.check(&replayed(&open(config(&fs))));
    }
}

#[test]
fn the_log_replays_while_the_disk_is_full() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let mut ledger = Ledger::default();
    fill_the_disk(&fs, &log, &mut ledger, 7);
    ledger.check(&replayed(&log));
    ledger.append(&log, 7, 3000).unwrap_err();
    ledger.check(&replayed(&log));
    fs.set_capacity(None);
    ledger.append(&log, 7, 3000).unwrap();
    ledger.check(&replayed(&log));
}

#[test]
fn a_checkpoint_of_a_full_disk_skips_no_record_appended_after_reopening() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let mut ledger = Ledger::default();
    fill_the_disk(&fs, &log, &mut ledger, 7);
    let checkpoint = log.durable_checkpoint();
    let known = ledger.len(7);
    let after = fs.crash(&mut || true);
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

/// Recovery reports corruption if a frame's durable mark is above the last readable
/// record. So a mark must not cover refused sequences.
#[test]
fn after_a_flush_over_refused_records_a_torn_write_is_no_corruption() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).segment_bytes(1 << 20));
    let mut ledger = Ledger::default();
    fill_the_disk(&fs, &log, &mut ledger, 7);
    log.flush().wait().unwrap();
    fs.set_capacity(None);
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
    ledger.append(&log, 7, 3000).unwrap_err();
    drop(log);
    let mut random = Random::new(seed());
    for _ in 0..60 {
        let after = fs.crash(&mut || random.flip());
        let log = open(config(&after));
        ledger.clone().check(&replayed(&log));
    }
}

#[test]
fn close_seals_the_log_after_a_refused_append() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let mut ledger = Ledger::default();
    fill_the_disk(&fs, &log, &mut ledger, 7);
    fs.set_capacity(None);
    log.close().unwrap();
    let log = open(config(&fs));
    let shard = &log.recovery().shards[0];
    assert_eq!(shard.durable_below, shard.next_sequence);
    assert_eq!(shard.copied_records, 0);
    ledger.check(&replayed(&log));
}
