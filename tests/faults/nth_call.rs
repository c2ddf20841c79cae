//! Each kind of I/O call fails, once or permanently, at its first occurrence, its
//! second, and so on until the workload makes no further call. There must be no hang,
//! no panic and no false corruption report. After the next open without faults no
//! acknowledged record is missing, and no refused record is there.
//!
//! Holds W1 PREFIX, C3 ANSWER (ARCHITECTURE.md).

#![allow(clippy::print_stdout, reason = "the figures are printed")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::support::ledger::Ledger;
use crate::support::{
    self, EINTR, EIO, ENOSPC, Random, must_end, open, replayed, seed, try_replayed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{AppendError, Cause, Config, OpenError, ShardedWal};

const EMFILE: i32 = 24;
const EDQUOT: i32 = 122;
const KINDS: [FaultKind; 7] = [
    FaultKind::Error(EIO),
    FaultKind::Error(ENOSPC),
    FaultKind::Error(EDQUOT),
    FaultKind::Error(EINTR),
    FaultKind::Error(EMFILE),
    FaultKind::Short,
    FaultKind::Panic,
];

fn config(fs: &SimFileSystem) -> Config {
    support::config(fs).shards(2)
}

/// Opens the log, unless the fault prevents it. The error must not be corruption,
/// except for bytes that the disk can never read.
fn open_or_not(config: Config, fault: &Fault) -> Option<ShardedWal> {
    let is_unreadable = fault.sticky && fault.kind == FaultKind::Error(EIO);
    match ShardedWal::open(config) {
        Ok(log) => Some(log),
        Err(OpenError::Io { .. }) => None,
        Err(other @ (OpenError::Corrupted(_) | OpenError::Manifest { .. }))
            if is_unreadable && other.to_string().contains("the disk cannot read") =>
        {
            None
        }
        Err(other) => panic!("a fault was reported as another error: {other}"),
    }
}

fn append(log: &ShardedWal, ledger: &mut Ledger, key: u64, length: usize, fault: &Fault) {
    if let Err(AppendError::Indeterminate { cause, .. } | AppendError::NotWritten { cause, .. }) =
        ledger.append(log, key, length)
    {
        let planned = fault.kind == FaultKind::Panic;
        assert!(planned || !matches!(cause, Cause::WriterPanicked), "{cause}");
    }
}

/// Several segments, a truncation that recycles some files, segments in these files,
/// and a full disk.
fn first_life(fs: &SimFileSystem, ledger: &mut Ledger, fault: &Fault) {
    let Some(log) = open_or_not(config(fs), fault) else { return };
    // Enough records to fill two segments, however late the next ones are ready.
    (0..8).for_each(|_| append(&log, ledger, 0, 1500, fault));
    ledger.append_batch(&log, &[0, 1, 2, 3, 1, 2], 300);
    // A failed flush adds nothing to the ledger.
    log.flush().wait().ok();
    if let Ok(found) = try_replayed(&log) {
        let checkpoint = log.durable_checkpoint();
        ledger.maybe_truncated(&found.below(&checkpoint));
        if log.truncate_before(&checkpoint).is_ok() {
            ledger.truncated(&found.below(&checkpoint));
        }
    }
    (0..9).for_each(|_| append(&log, ledger, 0, 1500, fault));
    fs.set_capacity(Some(1));
    (0..4).for_each(|key| append(&log, ledger, key, 3000, fault));
    fs.set_capacity(None);
    (0..4).for_each(|_| append(&log, ledger, 0, 1500, fault));
    log.close().ok();
}

fn second_life(fs: &SimFileSystem, ledger: &mut Ledger, fault: &Fault) {
    let Some(log) = open_or_not(config(fs), fault) else { return };
    if let Ok(found) = try_replayed(&log) {
        ledger.check(&found);
    }
    (0..2).for_each(|key| append(&log, ledger, key, 1500, fault));
}

/// With more shards, after another reshard attempt was interrupted.
fn third_life(fs: &SimFileSystem, ledger: &mut Ledger, fault: &Fault) {
    let durable = fs.copy().crash(&mut || false).files();
    // Skipped if the fault kept even the first generation from the disk.
    if durable.iter().any(|path| path.ends_with("MANIFEST")) {
        fs.write_file("/wal/generation-00002/shard-0000/purge", b"");
    }
    let Some(log) = open_or_not(config(fs).shards(3), fault) else { return };
    append(&log, ledger, 1, 100, fault);
}

type Life = fn(&SimFileSystem, &mut Ledger, &Fault);

/// A life may end with a panic, if the fault is one.
fn live(fs: &SimFileSystem, ledger: &mut Ledger, fault: &Fault, life: Life) {
    let lived = catch_unwind(AssertUnwindSafe(|| life(fs, ledger, fault)));
    fs.set_capacity(None);
    if let Err(panic) = lived
        && fault.kind != FaultKind::Panic
    {
        resume_unwind(panic);
    }
}

/// Runs the workload with the fault; returns how often it fired.
fn survives(fault: &Fault, seed: u64) -> u64 {
    let fs = SimFileSystem::with_dir(support::DIR);
    fs.fail(fault.clone());
    let mut ledger = Ledger::default();
    for life in [first_life as Life, second_life, third_life] {
        live(&fs, &mut ledger, fault, life);
    }
    let mut random = Random::new(seed);
    for after in [fs.kill(), fs.crash(&mut || false), fs.crash(&mut || random.flip())] {
        let log = open(config(&after));
        let mut ledger = ledger.clone();
        ledger.check(&replayed(&log));
        ledger.append(&log, 0, 10).expect("a sound disk");
        ledger.check(&replayed(&log));
    }
    fs.fired()
}

/// Prints no message for planned panics.
fn silence_planned_panics() {
    static HUSHED: std::sync::Once = std::sync::Once::new();
    HUSHED.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload().downcast_ref::<String>();
            if !said.is_some_and(|said| said.starts_with("a planned panic")) {
                print(panic);
            }
        }));
    });
}

fn at_every_call(call: Call) {
    silence_planned_panics();
    let seed = seed();
    must_end("a failing disk", move || {
        let mut runs = 0;
        for kind in KINDS {
            for sticky in [false, true] {
                for nth in 1.. {
                    let fault = Fault { sticky, ..Fault::new(call, nth, kind) };
                    let what = format!("{fault:?}");
                    let fired = catch_unwind(|| survives(&fault, seed));
                    if fired.unwrap_or_else(|_| panic!("after {what}")) == 0 {
                        break;
                    }
                    runs += 1;
                }
            }
        }
        println!("FIGURE n-th {call:?} fails: {runs} runs");
        assert!(runs >= 2 * (KINDS.len() - 1), "the workload makes no such call");
    });
}

/// The call sites that a fault can hit: a call, and a part of its path.
const SITES: [(Call, &str); 33] = [
    (Call::Open, ".wal"),
    (Call::Open, ".wal.tmp"),
    (Call::Open, "purge"),
    (Call::Open, "MANIFEST"),
    (Call::CreateDir, "generation-00001"),
    (Call::CreateDir, "shard-0001"),
    (Call::List, "/wal"),
    (Call::List, "shard-0001"),
    (Call::SyncDir, "/wal"),
    (Call::SyncDir, "generation-00001"),
    (Call::SyncDir, "shard-0001"),
    (Call::Rename, ".wal"),
    (Call::Rename, "MANIFEST"),
    (Call::Rename, "purge"),
    (Call::Unlink, ".wal"),
    (Call::Unlink, "generation-00002"),
    (Call::RemoveDir, "generation-00002"),
    (Call::Lock, "LOCK"),
    (Call::Read, ".wal"),
    (Call::Read, "purge"),
    (Call::Read, "MANIFEST"),
    (Call::Write, ".wal"),
    (Call::Write, "purge"),
    (Call::Write, "MANIFEST"),
    (Call::Sync, ".wal"),
    (Call::Sync, "purge"),
    (Call::Sync, "MANIFEST"),
    (Call::Len, ".wal"),
    (Call::Open, ".spare"),
    (Call::Len, ".spare"),
    (Call::Write, ".spare"),
    (Call::Sync, ".spare"),
    (Call::Rename, ".spare"),
];

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn the_workload_makes_every_kind_of_call_on_every_kind_of_file() {
    let seed = seed();
    for (call, path) in SITES.into_iter().chain([(Call::SetLen, ".wal")]) {
        // A fault that counts, but breaks nothing.
        let harmless = FaultKind::WriteBack;
        let path_contains = Some(path.into());
        let fault = Fault { path_contains, sticky: true, ..Fault::new(call, 1, harmless) };
        // Whether a recycled file is used in time depends on the threads' schedule.
        let hits = (0..10).map(|_| survives(&fault, seed)).find(|hits| *hits > 0).unwrap_or(0);
        println!("{call:>10?} {path:<18} {hits:>5}");
        assert!(hits > 0, "no {call:?} of {path}");
    }
    println!("FIGURE call sites that a fault met: {0} of {0}", SITES.len() + 1);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn opening_may_fail_at_every_call() {
    at_every_call(Call::Open);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn creating_a_directory_may_fail_at_every_call() {
    at_every_call(Call::CreateDir);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn listing_may_fail_at_every_call() {
    at_every_call(Call::List);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn syncing_a_directory_may_fail_at_every_call() {
    at_every_call(Call::SyncDir);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn renaming_may_fail_at_every_call() {
    at_every_call(Call::Rename);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn unlinking_may_fail_at_every_call() {
    at_every_call(Call::Unlink);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn removing_a_directory_may_fail_at_every_call() {
    at_every_call(Call::RemoveDir);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn locking_may_fail_at_every_call() {
    at_every_call(Call::Lock);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn reading_may_fail_at_every_call() {
    at_every_call(Call::Read);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn writing_may_fail_at_every_call() {
    at_every_call(Call::Write);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn syncing_may_fail_at_every_call() {
    at_every_call(Call::Sync);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn cutting_may_fail_at_every_call() {
    at_every_call(Call::SetLen);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn reading_the_length_may_fail_at_every_call() {
    at_every_call(Call::Len);
}
