//! Caller's code on a thread that commits: wakers, the `Drop` of a payload, a state
//! machine. A call that would block there fails with `Cause::WouldDeadlock`. All other
//! callers are answered.
//!
//! Holds C3 ANSWER, Q4 WAKE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::support::gate::Gate;
use crate::support::machine::reporting;
use crate::support::{config, must_end_within, open};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{
    AppendError, Cause, Config, Durability, HoldError, HoldLimits, ReplayError, ReplayOptions,
    Retention, ShardedWal, TruncateError,
};

const LIMIT: Duration = Duration::from_secs(20);

/// Caller's code, run once: in the drop of a payload, in a waker or in a state machine.
type Code = Box<dyn FnOnce() + Send>;

/// A payload that runs the code when it is dropped.
struct Owner(Vec<u8>, Option<Code>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.take().into_iter().for_each(|code| code());
    }
}

/// Large enough to be moved into the queue, so that the writer drops it.
fn payload_whose_end_runs(code: Code) -> Bytes {
    Bytes::from_owner(Owner(vec![7; 2000], Some(code)))
}

struct Runs(Mutex<Option<Code>>);

impl Wake for Runs {
    fn wake(self: Arc<Self>) {
        let code = self.0.lock().unwrap().take();
        code.into_iter().for_each(|code| code());
    }
}

fn waker_that_runs(code: Code) -> Waker {
    Waker::from(Arc::new(Runs(Mutex::new(Some(code)))))
}

/// A log of one shard with room for two records. Its commits block at the gate.
struct Stalled {
    log: Arc<ShardedWal>,
    gate: Gate,
}

fn stalled(durability: Durability) -> Stalled {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = config(&fs).segment_bytes(1 << 20).queue_capacity(2).durability(durability);
    let log = match durability {
        // No commit is synced in this mode, so the state machine waits at the gate.
        Durability::Buffered => ShardedWal::open_with_state_machine(config, |_| {
            let gate = gate.clone();
            reporting(|_| {}, move || gate.pass().unwrap())
        })
        .unwrap(),
        _ => open(config.file_system(gate.before(&fs))),
    };
    Stalled { log: Arc::new(log), gate }
}

fn would_deadlock(error: &AppendError) -> bool {
    matches!(error.cause(), Cause::WouldDeadlock)
}

/// Runs each blocking call, and reports whether it failed with `WouldDeadlock`. The
/// queue is full.
fn try_everything(log: &ShardedWal) -> Vec<(&'static str, bool)> {
    let not_written = |error: AppendError| would_deadlock(&error) && error.is_not_written();
    let timeout = log.append_timeout(1, "x", LIMIT * 10);
    vec![
        ("append", not_written(log.append(1, "x").wait().unwrap_err())),
        ("append_wait", not_written(log.append_wait(1, "x").unwrap_err())),
        ("append_timeout", matches!(timeout.unwrap_err().cause, Cause::WouldDeadlock)),
        ("append_batch", {
            let error = log.append_batch([(1, "x")]).wait().unwrap_err();
            not_written(error.failed[0].error.clone())
        }),
        ("append_batch_wait", {
            let error = log.append_batch_wait([(1, "x")]).unwrap_err();
            not_written(error.failed[0].error.clone())
        }),
        ("try_append", matches!(log.try_append(1, "x").unwrap_err().cause, Cause::QueueFull)),
        ("flush", would_deadlock(&log.flush().wait().unwrap_err())),
        ("truncate_before", {
            let result = log.truncate_before(&log.durable_checkpoint()).unwrap_err();
            matches!(result, TruncateError::NotHere(Cause::WouldDeadlock))
        }),
        ("hold", {
            let limits = HoldLimits::default();
            let result = log.hold("a", &log.durable_checkpoint(), limits).unwrap_err();
            matches!(result, HoldError::NotHere(Cause::WouldDeadlock))
        }),
        ("release_hold", {
            let result = log.release_hold("a").unwrap_err();
            matches!(result, HoldError::NotHere(Cause::WouldDeadlock))
        }),
        ("retain", {
            let result = log.retain(Retention::new()).unwrap_err();
            matches!(result, TruncateError::NotHere(Cause::WouldDeadlock))
        }),
        ("replay", {
            // The callback may wait on another thread for the commit of this one.
            let answer = log.replay(ReplayOptions::default(), |_| Ok::<_, AppendError>(()));
            matches!(answer, Err(ReplayError::NotHere(Cause::WouldDeadlock)))
        }),
        ("replay_from", {
            let (from, options) = (log.durable_checkpoint(), ReplayOptions::default());
            let answer = log.replay_from(&from, options, |_| Ok::<_, AppendError>(()));
            matches!(answer, Err(ReplayError::NotHere(Cause::WouldDeadlock)))
        }),
        ("close", log.close().is_ok()),
    ]
}

/// Runs every call on the writer thread, in the drop of a payload. The queue is full
/// and stays full, because a record is being received.
#[test]
fn a_blocking_call_in_a_payloads_drop_is_refused() {
    must_end_within(LIMIT, "a blocking call in a payload's drop", || {
        let Stalled { log, gate } = stalled(Durability::Sync);
        let (results, hear) = channel();
        gate.shut();
        let first = log.append(1, "first");
        gate.wait_for_writer();
        let weak: Weak<_> = Arc::downgrade(&log);
        let second = log.append(
            1,
            payload_whose_end_runs(Box::new(move || {
                let log = weak.upgrade().unwrap();
                results.send(try_everything(&log)).unwrap();
            })),
        );
        let third = log.append(1, "third");
        gate.open();
        let results = hear.recv().unwrap();
        assert!(results.iter().all(|(_, holds)| *holds), "{results:?}");
        for completion in [first, second, third] {
            completion.wait().unwrap();
        }
    });
}

/// Runs every call in a waker, on the shard's thread or on a caller's thread, in each
/// mode.
#[test]
fn a_blocking_call_in_a_waker_is_refused() {
    for durability in [Durability::Sync, Durability::Buffered] {
        must_end_within(LIMIT, "a blocking call in a waker", move || {
            let Stalled { log, gate } = stalled(durability);
            let (results, hear) = channel();
            gate.shut();
            let mut first = log.append(1, "first");
            gate.wait_for_writer();
            let its_log = log.clone();
            let waker = waker_that_runs(Box::new(move || {
                // Fills the queue again after the writer has made room.
                while its_log.try_append(1, "fills").is_ok() {}
                results.send(try_everything(&its_log)).unwrap();
            }));
            assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
            gate.open();
            let results = hear.recv().unwrap();
            assert!(results.iter().all(|(_, holds)| *holds), "{durability}: {results:?}");
            first.wait().unwrap();
            log.close().unwrap();
        });
    }
}

/// Waiting for a pending completion fails with `WouldDeadlock`. A completed one returns
/// its answer. With a timeout a pending one returns no answer.
#[test]
fn a_state_machine_that_waits_for_its_own_record_is_refused() {
    must_end_within(LIMIT, "a state machine that waits for its own commit", || {
        let slot: Arc<Mutex<Option<Arc<ShardedWal>>>> = Arc::default();
        let (results, hear) = channel();
        let its_log = slot.clone();
        let applies = move || {
            let Some(log) = its_log.lock().unwrap().take() else { return };
            let mut own = log.append(1, "own");
            let early = own.wait_timeout(LIMIT * 10);
            results.send((early.is_none(), own.wait().unwrap_err())).unwrap();
        };
        let machine = Mutex::new(Some(reporting(|_| {}, applies)));
        let config = config(&SimFileSystem::new()).segment_bytes(1 << 20);
        let log = ShardedWal::open_with_state_machine(config, |_| {
            machine.lock().unwrap().take().unwrap()
        });
        let log = Arc::new(log.unwrap());
        *slot.lock().unwrap() = Some(log.clone());
        log.append(1, "first").wait().unwrap();
        let (early, error) = hear.recv().unwrap();
        assert!(early, "there is no answer yet");
        let is_answered =
            matches!(error, AppendError::Indeterminate { .. }) && would_deadlock(&error);
        assert!(is_answered, "the record is queued and may be written: {error}");
        log.append(1, "later").wait().unwrap();
    });
}

/// Each log's writer would wait for room in the full queue of the other.
#[test]
fn two_logs_whose_writers_append_to_each_other_do_not_deadlock() {
    must_end_within(LIMIT, "two writers that wait for each other", || {
        let (a, b) = (stalled(Durability::Sync), stalled(Durability::Sync));
        let both = Arc::new(Barrier::new(2));
        let hears: Vec<Receiver<_>> = [(&a, &b), (&b, &a)]
            .into_iter()
            .map(|(own, other)| {
                let (results, hear) = channel();
                own.gate.shut();
                let first = own.log.append(1, "first");
                own.gate.wait_for_writer();
                let (other, both) = (Arc::downgrade(&other.log), both.clone());
                let end = Box::new(move || {
                    both.wait();
                    let refused = other.upgrade().unwrap().append(1, "x").wait();
                    both.wait();
                    results.send(would_deadlock(&refused.unwrap_err())).unwrap();
                });
                drop((first, own.log.append(1, payload_whose_end_runs(end))));
                drop(own.log.append(1, "fills"));
                hear
            })
            .collect();
        a.gate.open();
        b.gate.open();
        for hear in hears {
            assert!(hear.recv().unwrap(), "the append would have blocked");
        }
        a.log.close().unwrap();
        b.log.close().unwrap();
    });
}

/// The thread may block again after its commit.
#[test]
fn a_caller_may_block_again_after_an_inline_commit() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let log = open(
            Config::new("/wal").file_system(Arc::new(SimFileSystem::new())).durability(durability),
        );
        for _ in 0..100 {
            log.append_wait(1, "committed here").unwrap();
            log.append(1, "committed there").wait().unwrap();
            log.flush().wait().unwrap();
        }
        log.truncate_before(&log.durable_checkpoint()).unwrap();
    }
}
