//! Each kind of I/O call fails, once or for good, the first time, the second
//! time, and so on until the workload makes no further such call. Whatever
//! happens: no hang, no panic, no false alarm, and after the next open without
//! faults nothing acknowledged is lost and nothing is there that should not be.
//!
//! Holds W1 PREFIX, C3 ANSWER (ARCHITECTURE.md).

mod support;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{AppendError, Cause, Config, OpenError, ShardedWal};
use support::ledger::Ledger;
use support::{EINTR, EIO, ENOSPC, Random, must_end, open, replayed, seed, try_replayed};

fn config(disk: &SimDisk) -> Config {
    support::config(disk).shards(2)
}

/// Opens, unless the fault forbids it; and it must not be called damage.
fn open_or_not(disk: &SimDisk) -> Option<ShardedWal> {
    match ShardedWal::open(config(disk)) {
        Ok(log) => Some(log),
        Err(OpenError::Io { .. }) => None,
        Err(other) => panic!("a fault was taken for something else: {other}"),
    }
}

fn append(log: &ShardedWal, ledger: &mut Ledger, key: u64, length: usize) {
    if let Err(AppendError::Indeterminate { cause, .. } | AppendError::NotWritten { cause, .. }) =
        ledger.append(log, key, length)
    {
        assert!(!matches!(cause, Cause::WriterPanicked), "{cause}");
    }
}

/// Over several segments, and a truncation that deletes some.
fn first_life(disk: &SimDisk, ledger: &mut Ledger) {
    let Some(log) = open_or_not(disk) else { return };
    (0..5).for_each(|_| append(&log, ledger, 0, 1500));
    ledger.append_batch(&log, &[0, 1, 2, 3, 1, 2], 300);
    // A failed flush says nothing that the ledger does not know.
    log.flush().wait().ok();
    if let Ok(found) = try_replayed(&log) {
        let checkpoint = log.checkpoint();
        match log.truncate_before(&checkpoint) {
            Ok(_) => ledger.give_up(&found.below(&checkpoint)),
            Err(_) => ledger.perhaps_give_up(&found.below(&checkpoint)),
        }
    }
    (0..4).for_each(|_| append(&log, ledger, 0, 1500));
    log.close().ok();
}

fn second_life(disk: &SimDisk, ledger: &mut Ledger) {
    let Some(log) = open_or_not(disk) else { return };
    if let Ok(found) = try_replayed(&log) {
        ledger.check(&found);
    }
    (0..2).for_each(|key| append(&log, ledger, key, 1500));
}

/// Runs the workload with the fault; returns whether it fired.
fn survives(fault: &Fault, seed: u64) -> bool {
    let disk = SimDisk::with_dir(support::DIR);
    disk.fail(fault.clone());
    let mut ledger = Ledger::default();
    first_life(&disk, &mut ledger);
    second_life(&disk, &mut ledger);
    let mut random = Random::new(seed);
    for after in [disk.kill(), disk.crash(&mut || false), disk.crash(&mut || random.coin())] {
        let log = open(config(&after));
        let mut ledger = ledger.clone();
        ledger.check(&replayed(&log));
        ledger.append(&log, 0, 10).expect("a sound disk");
        ledger.check(&replayed(&log));
    }
    disk.fired() > 0
}

fn at_every_call(call: Call) {
    let seed = seed();
    must_end("a failing disk", move || {
        let kinds = [EIO, ENOSPC, EINTR].map(FaultKind::Error);
        for kind in kinds.into_iter().chain([FaultKind::Short]) {
            for sticky in [false, true] {
                for nth in 1.. {
                    let fault = Fault { sticky, ..Fault::new(call, nth, kind) };
                    let what = format!("{fault:?}");
                    let survived = std::panic::catch_unwind(|| survives(&fault, seed));
                    if !survived.unwrap_or_else(|_| panic!("after {what}")) {
                        break;
                    }
                }
            }
        }
    });
}

#[test]
fn opening_may_fail_at_every_call() {
    at_every_call(Call::Open);
}

#[test]
fn creating_a_directory_may_fail_at_every_call() {
    at_every_call(Call::CreateDir);
}

#[test]
fn listing_may_fail_at_every_call() {
    at_every_call(Call::List);
}

#[test]
fn syncing_a_directory_may_fail_at_every_call() {
    at_every_call(Call::SyncDir);
}

#[test]
fn renaming_may_fail_at_every_call() {
    at_every_call(Call::Rename);
}

#[test]
fn unlinking_may_fail_at_every_call() {
    at_every_call(Call::Unlink);
}

#[test]
fn locking_may_fail_at_every_call() {
    at_every_call(Call::Lock);
}

#[test]
fn reading_may_fail_at_every_call() {
    at_every_call(Call::Read);
}

#[test]
fn writing_may_fail_at_every_call() {
    at_every_call(Call::Write);
}

#[test]
fn syncing_may_fail_at_every_call() {
    at_every_call(Call::Sync);
}

#[test]
fn cutting_may_fail_at_every_call() {
    at_every_call(Call::SetLen);
}

#[test]
fn asking_for_the_length_may_fail_at_every_call() {
    at_every_call(Call::Len);
}
