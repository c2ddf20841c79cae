//! The end of a log: every waiter is answered, and every caller gets an equal result.
//!
//! Holds Q3 CLOSE, C3 ANSWER (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{EIO, config, must_end, open, payload, replayed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{AppendError, Cause, OpenError, ShardedWal, TruncateError};

#[test]
fn two_concurrent_closes_return_equal_results() {
    must_end("closing twice", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).file_system(gate.before(&fs)));
        gate.shut();
        drop(log.append(1, "in flight"));
        gate.wait_for_writer();
        thread::scope(|scope| {
            let both = [scope.spawn(|| log.close()), scope.spawn(|| log.close())];
            // Once appends are refused, both calls have begun. The second must not
            // return before the writer has ended.
            while !matches!(log.try_append(1, "x"), Err(refused) if matches!(refused.cause, Cause::Closed))
            {
                thread::yield_now();
            }
            (0..1000).for_each(|_| thread::yield_now());
            gate.open_with_error(EIO);
            for closed in both {
                let error = closed.join().unwrap().unwrap_err();
                assert!(matches!(error.cause, Cause::Poisoned(_)), "{error}");
            }
        });
    });
}

/// A log whose writer is blocked at the gate with record 0 of key 1.
fn held_up(fs: &SimFileSystem, gate: &Gate) -> ShardedWal {
    let log = open(config(fs).queue_capacity(4).file_system(gate.before(fs)));
    gate.shut();
    drop(log.append(1, payload(1, 0, 10)));
    gate.wait_for_writer();
    log
}

#[test]
fn close_writes_queued_records_and_resolves_every_completion() {
    must_end("close", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = held_up(&fs, &gate);
        let queued: Vec<_> = (1..5).map(|index| log.append(1, payload(1, index, 10))).collect();
        thread::scope(|scope| {
            let closing = scope.spawn(|| log.close());
            gate.open();
            closing.join().unwrap().unwrap();
        });
        assert!(queued.iter().all(|completion| completion.is_done()));
        queued.into_iter().for_each(|completion| {
            completion.wait().unwrap();
        });
        let after = fs.crash(&mut || false);
        assert_eq!(replayed(&open(config(&after))).of(1), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_closed_log_refuses_appends_and_still_answers() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    let checkpoint = log.durable_checkpoint();
    log.append(1, payload(1, 0, 10)).wait().unwrap();
    log.close().unwrap();
    log.close().unwrap();
    let refused = log.try_append(1, "back").unwrap_err();
    assert!(matches!(refused.cause, Cause::Closed), "{refused}");
    assert_eq!(refused.payload, "back");
    let error = log.append(1, "x").wait().unwrap_err();
    assert!(matches!(error, AppendError::NotWritten { cause: Cause::Closed, .. }), "{error}");
    let error = log.append_batch([(1, "x")]).wait().unwrap_err();
    assert!(matches!(error.failed[0].error.cause(), Cause::Closed), "{error}");
    let error = futures_executor::block_on(log.append_async(1, "x")).unwrap_err();
    assert!(matches!(error, AppendError::NotWritten { cause: Cause::Closed, .. }), "{error}");
    let error = futures_executor::block_on(log.reserve(1, 9)).unwrap_err();
    assert!(matches!(error, AppendError::NotWritten { cause: Cause::Closed, .. }), "{error}");
    log.flush().wait().unwrap();
    assert!(matches!(log.truncate_before(&checkpoint), Err(TruncateError::Closed)));
    assert_eq!(replayed(&log).of(1), [0]);
}

#[test]
fn closing_the_log_wakes_producers_that_wait_for_room() {
    must_end("producers of a closed log", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = held_up(&fs, &gate);
        (1..5).for_each(|index| drop(log.append(1, payload(1, index, 10))));
        thread::scope(|scope| {
            let blocked: Vec<_> =
                (0..4).map(|_| scope.spawn(|| log.append(2, "late").wait())).collect();
            let closing = scope.spawn(|| log.close());
            // The gate is shut, so only the close can have woken them.
            for producer in blocked {
                let error = producer.join().unwrap().unwrap_err();
                assert!(matches!(error.cause(), Cause::Closed), "{error}");
            }
            gate.open();
            closing.join().unwrap().unwrap();
        });
        drop(log);
        let found = replayed(&open(config(&fs)));
        assert_eq!((found.of(1), found.of(2)), (vec![0, 1, 2, 3, 4], vec![]));
    });
}

#[test]
fn dropping_the_log_writes_queued_records() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    (0..500).for_each(|index| drop(log.append(1, payload(1, index, 50))));
    drop(log);
    let after = fs.crash(&mut || false);
    assert!(replayed(&open(config(&after))).of(1).into_iter().eq(0..500));
}

#[test]
fn a_failed_close_returns_its_error_every_time() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    let mut ledger = Ledger::default();
    let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
    fs.fail(Fault { path_contains: Some("shard-0001".into()), ..fault });
    let key = (0..).find(|key| log.shard_of(*key) == 1).unwrap();
    ledger.append(&log, key, 10).unwrap_err();
    for _ in 0..2 {
        let error = log.close().unwrap_err();
        assert_eq!(error.shard, 1);
        assert!(matches!(error.cause, Cause::Poisoned(_)), "{error}");
    }
}

mod the_lock {
    use super::*;

    fn assert_locked(opened: Result<ShardedWal, OpenError>) {
        match opened {
            Err(error @ OpenError::Locked { pid, .. }) => {
                assert_eq!(pid, Some(std::process::id()));
                if cfg!(target_os = "linux") {
                    let message = error.to_string();
                    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
                    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
                    let digits = |c: &char| c.is_ascii_digit();
                    let number: String =
                        namespace.to_str().unwrap().chars().filter(digits).collect();
                    assert!(message.contains(&format!("on host {}", host.trim())), "{message}");
                    assert!(message.contains(&format!("namespace {number}")), "{message}");
                }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_a_second_opener_out_until_the_log_is_closed() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        assert_locked(ShardedWal::open(config(&fs)));
        assert_locked(ShardedWal::open(config(&fs).shards(3)));
        log.close().unwrap();
        let again = open(config(&fs));
        assert_locked(ShardedWal::open(config(&fs)));
        drop(log);
        assert_locked(ShardedWal::open(config(&fs)));
        drop(again);
        open(config(&fs));
    }

    #[test]
    fn is_released_by_a_failed_open_and_by_a_failed_log() {
        let fs = SimFileSystem::new();
        fs.fail(Fault::new(Call::Rename, 2, FaultKind::Error(EIO)));
        assert!(matches!(ShardedWal::open(config(&fs)), Err(OpenError::Io { .. })));
        let log = open(config(&fs));
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        log.append(1, "x").wait().unwrap_err();
        assert_locked(ShardedWal::open(config(&fs)));
        log.close().unwrap_err();
        open(config(&fs));
    }
}

/// The call returns while the writer is blocked. The last handle is dropped on the thread that
/// closes, before the task is answered.
#[test]
fn a_task_closes_without_blocking_its_thread() {
    must_end("a close by a task", || {
        for errno in [None, Some(EIO)] {
            let (fs, gate) = (SimFileSystem::new(), Gate::default());
            let log = Arc::new(held_up(&fs, &gate));
            let handles = Arc::downgrade(&log);
            let mut closing = log.close_async();
            let mut context = Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut closing).poll(&mut context).is_pending());
            drop(log);
            errno.map_or_else(|| gate.open(), |errno| gate.open_with_error(errno));
            let closed = futures_executor::block_on(&mut closing);
            match errno {
                None => closed.unwrap(),
                Some(_) => assert!(matches!(closed.unwrap_err().cause, Cause::Poisoned(_))),
            }
            assert!(handles.upgrade().is_none(), "a handle is left");
            assert_eq!(replayed(&open(config(&fs))).of(1), [0]);
        }
    });
}
