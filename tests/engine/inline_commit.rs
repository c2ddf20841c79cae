//! `append_wait`: if the shard's thread is idle, the calling thread commits its own
//! record inline. Callers notice only the shorter latency.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::machine::reporting;
use crate::support::{EIO, config, must_end, open, payload, replayed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{AppendError, Cause, CloseError, Durability, ShardedWal};

/// A log of one shard whose state machine panics at a key, and the threads that applied
/// records.
fn driven(
    durability: Durability,
    panics_at: Option<u64>,
) -> (ShardedWal, Arc<Mutex<Vec<ThreadId>>>) {
    let applied_by = Arc::new(Mutex::new(Vec::new()));
    let config = config(&SimFileSystem::new()).shards(1).durability(durability);
    let log = ShardedWal::open_with_state_machine(config, |_| {
        let applied_by = applied_by.clone();
        reporting(
            move |key| assert_ne!(Some(key), panics_at, "a planned panic"),
            move || applied_by.lock().unwrap().push(thread::current().id()),
        )
    });
    (log.unwrap(), applied_by)
}

#[test]
fn append_wait_on_an_idle_shard_commits_inline() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let (log, applied_by) = driven(durability, None);
        // The shard's thread parks after its first check. Until then it may commit
        // itself.
        while applied_by.lock().unwrap().last() != Some(&thread::current().id()) {
            log.append_wait(1, "inline").unwrap();
        }
        log.append(1, "queued").wait().unwrap();
        assert_ne!(applied_by.lock().unwrap().last(), Some(&thread::current().id()));
    }
}

#[test]
fn records_of_a_key_keep_their_order_with_inline_commits() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2).queue_capacity(4).durability(durability));
        thread::scope(|scope| {
            for key in 0..8 {
                let log = &log;
                scope.spawn(move || {
                    for index in 0..200 {
                        let payload = payload(key, index, 20);
                        match index % 4 {
                            0 => drop(log.append(key, payload)),
                            1 => drop(log.append_wait(key, &payload[..]).unwrap()),
                            2 => log.append_batch_wait([(key, &payload)]).unwrap(),
                            _ => drop(log.append(key, payload).wait().unwrap()),
                        }
                    }
                });
            }
        });
        log.close().unwrap();
        let found = replayed(&open(config(&fs).shards(2)));
        for (_, indices) in found.by_key() {
            assert!(indices.iter().copied().eq(0..200), "{indices:?}");
        }
    }
}

#[test]
fn a_panic_in_an_inline_commit_poisons_the_shard_not_the_caller() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let (log, _) = driven(durability, Some(7));
        log.append_wait(1, "before").unwrap();
        let error = log.append_wait(7, "amid").unwrap_err();
        let panicked =
            matches!(error, AppendError::Indeterminate { cause: Cause::WriterPanicked, .. });
        assert!(panicked, "{error}");
        let error = log.append_wait(1, "after").unwrap_err();
        assert!(error.is_not_written(), "{error}");
        let closed = log.close();
        let reported = matches!(closed, Err(CloseError { cause: Cause::WriterPanicked, .. }));
        assert!(reported, "{closed:?}");
    }
}

#[test]
fn a_failed_sync_in_an_inline_commit_is_not_retried() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(1));
    let mut ledger = Ledger::default();
    (0..4).for_each(|_| ledger.append(&log, 0, 100).unwrap());
    let before = fs.calls(Call::Sync);
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
    let error = log.append_wait(0, ledger.next(0, 100)).unwrap_err();
    assert!(
        matches!(error, AppendError::Indeterminate { cause: Cause::Poisoned(_), .. }),
        "{error}"
    );
    let error = log.append_wait(0, "never").unwrap_err();
    assert!(error.is_not_written(), "{error}");
    log.close().unwrap_err();
    assert_eq!(fs.calls(Call::Sync), before + 1, "W2 STICKY: never synced again");
    ledger.lose_power();
    ledger.check(&replayed(&open(config(&fs.crash(&mut || false)))));
}

/// Q5 TURN: no caller is left waiting if many commit inline on few shards.
#[test]
fn every_caller_that_commits_inline_is_answered() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let log = open(config(&SimFileSystem::new()).shards(3).durability(durability));
        thread::scope(|scope| {
            for key in 0..32_u64 {
                let log = &log;
                scope.spawn(move || {
                    for index in 0..100_u64 {
                        log.append_wait(key * 1000 + index, &index.to_le_bytes()).unwrap();
                    }
                });
            }
        });
        let records: u64 = log.stats().shards.iter().map(|shard| shard.records).sum();
        assert_eq!(records, 3200);
    }
}

/// `Buffered`: a flush is requested while the caller commits, and its sync is blocked.
/// The caller returns, because its own record is acknowledged.
#[test]
fn an_answered_caller_does_not_run_the_sync_of_a_flush() {
    must_end("a caller that runs the sync of a flush", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let ((stepped, steps), (on, let_on)) = (channel(), channel());
        let machine = reporting(
            |_| {},
            move || {
                if stepped.send(thread::current().id()).is_ok() {
                    let_on.recv().ok();
                }
            },
        );
        let machine = Mutex::new(Some(machine));
        let config = config(&fs).segment_bytes(1 << 20).durability(Durability::Buffered);
        let config = config.file_system(gate.before(&fs));
        let log = ShardedWal::open_with_state_machine(config, |_| {
            machine.lock().unwrap().take().unwrap()
        });
        let log = Arc::new(log.unwrap());
        let caller = loop {
            let its_log = log.clone();
            let caller = thread::spawn(move || its_log.append_wait(1, "inline").unwrap());
            if steps.recv().unwrap() == caller.thread().id() {
                break caller;
            }
            // The shard's thread was not parked yet.
            on.send(()).unwrap();
            caller.join().unwrap();
        };
        // The caller is blocked before its acknowledgement.
        let flush = log.flush();
        gate.shut();
        drop((steps, on));
        caller.join().unwrap();
        gate.wait_for_writer();
        gate.open();
        flush.wait().unwrap();
    });
}

/// Requests are served although callers commit without a pause.
#[test]
fn requests_are_served_beside_endless_inline_commits() {
    for durability in [Durability::Sync, Durability::Buffered] {
        must_end("a request beside callers that commit", move || {
            let log =
                open(config(&SimFileSystem::new()).segment_bytes(1 << 20).durability(durability));
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            log.append_wait(1, "inline").unwrap();
                        }
                    });
                }
                for _ in 0..200 {
                    log.request_snapshot();
                    log.flush().wait().unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
        });
    }
}
