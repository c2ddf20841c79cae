//! Caller's code that the log runs: wakers, the drop of payloads, a state machine. A
//! panic there reaches no other caller. It may block on a task that is woken with it.
//! It is dropped with the future or the log.
//!
//! Holds C3 ANSWER, Q4 WAKE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::gate::Gate;
use crate::support::machine::reporting;
use crate::support::{EIO, config, must_end, open, payload};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{AppendError, Cause, Durability, ShardedWal, StateMachine};

const LONG: Duration = Duration::from_secs(20);

struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(thread::panicking(), "a planned panic in the drop of a payload");
    }
}

/// The key at which a state machine panics.
const PANICS_AT: u64 = 7;

/// C3 ANSWER: on the shard's thread and in an inline commit.
#[test]
fn a_panic_whose_payload_panics_on_drop_reaches_no_caller() {
    must_end("a panic whose payload panics on drop", || {
        for inline in [false, true] {
            let applied_by = Arc::new(Mutex::new(None));
            let log = ShardedWal::open_with_state_machine(config(&SimFileSystem::new()), |_| {
                let applied_by = applied_by.clone();
                let stores = |key| {
                    if key == PANICS_AT {
                        panic_any(Fragile);
                    }
                };
                reporting(stores, move || {
                    *applied_by.lock().unwrap() = Some(thread::current().id())
                })
            });
            let log = log.unwrap();
            // The shard's thread may park late, and commits until then.
            while *applied_by.lock().unwrap() != Some(thread::current().id()) {
                log.append_wait(1, "before").unwrap();
            }
            let result = catch_unwind(AssertUnwindSafe(|| match inline {
                true => log.append_wait(PANICS_AT, "x"),
                false => log.append(PANICS_AT, "x").wait(),
            }));
            let error = result.expect("the panic must not reach the caller").unwrap_err();
            let panicked =
                matches!(error, AppendError::Indeterminate { cause: Cause::WriterPanicked, .. });
            assert!(panicked, "{error}");
            log.close().unwrap_err();
        }
    });
}

thread_local! {
    /// Runs while the waker below is cloned.
    static AMID: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A waker that panics when it is dropped.
static FRAGILE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        AMID.take().expect("it is cloned once")();
        RawWaker::new(data, &FRAGILE)
    },
    |_| {},
    |_| {},
    |_| panic!("a planned panic in the drop of a waker"),
);

/// The answer comes between the two checks of a poll, here while the waker is cloned.
/// So the waker stays on the wait list. It is dropped with its future, or with the log
/// if the future is forgotten.
#[test]
fn a_panic_in_a_wakers_drop_reaches_no_caller() {
    must_end("a waker that panics on drop", || {
        for forgets in [false, true] {
            let (fs, gate) = (SimFileSystem::new(), Gate::default());
            let log = Arc::new(open(config(&fs).file_system(gate.before(&fs))));
            gate.shut();
            let mut completion = log.append(1, "x");
            gate.wait_for_writer();
            let answering = log.clone();
            AMID.set(Some(Box::new(move || {
                gate.open();
                answering.append(1, "later").wait().unwrap();
            })));
            // SAFETY: the functions touch no data.
            let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &FRAGILE)) };
            let waker = std::mem::ManuallyDrop::new(waker);
            let polled = Pin::new(&mut completion).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_ready(), "it was answered meanwhile");
            if forgets {
                std::mem::forget(completion);
            } else {
                let dropped = catch_unwind(AssertUnwindSafe(move || drop(completion)));
                assert!(dropped.is_ok(), "the panic reaches the thread that drops the future");
            }
            let log = Arc::into_inner(log).expect("this test holds the only reference");
            log.close().unwrap();
            let dropped = catch_unwind(AssertUnwindSafe(move || drop(log)));
            assert!(dropped.is_ok(), "the panic reaches the thread that drops the log");
        }
    });
}

/// A payload that panics when it is dropped.
struct FragileOwner(Vec<u8>);

impl AsRef<[u8]> for FragileOwner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for FragileOwner {
    fn drop(&mut self) {
        panic!("a planned panic in the drop of a payload");
    }
}

/// C3 ANSWER: the writer drops the payload, or a caller in an inline commit. If the
/// record was never received, the thread that drops the log does.
#[test]
fn a_panic_in_a_payloads_drop_reaches_no_caller() {
    must_end("a payload that panics on drop", || {
        let fragile = || Bytes::from_owner(FragileOwner(vec![7; 2000]));
        for durability in [Durability::Sync, Durability::Buffered] {
            let (fs, gate) = (SimFileSystem::new(), Gate::default());
            let config = config(&fs).segment_bytes(1 << 20).durability(durability);
            let log = open(config.file_system(gate.before(&fs)));
            for _ in 0..20 {
                log.append(1, fragile()).wait().unwrap();
                log.append_wait(1, fragile()).unwrap();
                log.append_wait(2, "another caller's").unwrap();
            }
            if durability == Durability::Sync {
                gate.shut();
                let first = log.append(1, "fails");
                gate.wait_for_writer();
                let never_received = log.append(1, fragile());
                gate.open_with_error(EIO);
                first.wait().unwrap_err();
                assert!(never_received.wait().unwrap_err().is_not_written());
                log.close().unwrap_err();
            }
            let dropped = catch_unwind(AssertUnwindSafe(move || drop(log)));
            assert!(dropped.is_ok(), "the panic reaches the thread that drops the log");
        }
    });
}

/// A state machine that panics at a key, and again when it is dropped.
struct FragileMachine;

impl StateMachine for FragileMachine {
    fn encode(&mut self, _reset: bool, key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        assert_ne!(key, PANICS_AT, "a planned panic");
        stored.extend_from_slice(payload);
    }
    fn apply(&mut self) {}
    fn rollback(&mut self) {}
    fn snapshot(&mut self, _next: u64) {}
}

impl Drop for FragileMachine {
    fn drop(&mut self) {
        panic!("a planned panic in the drop of a state machine");
    }
}

/// C3 ANSWER: without `catch_panic` the second panic would abort the process.
#[test]
fn a_state_machine_that_panics_twice_poisons_only_its_shard() {
    for ends in [true, false] {
        let config = config(&SimFileSystem::new()).shards(2);
        let log =
            ShardedWal::open_with_state_machine(config, |_| Box::new(FragileMachine)).unwrap();
        let other = (0..).find(|key| log.shard_of(*key) != log.shard_of(PANICS_AT)).unwrap();
        if ends {
            let error = log.append(PANICS_AT, "x").wait().unwrap_err();
            assert!(matches!(error.cause(), Cause::WriterPanicked), "{error}");
        }
        log.append(other, "goes on").wait().unwrap();
        assert_eq!(log.close().is_err(), ends);
    }
}

struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

/// W3 SLOT: a dropped future, such as one under a timeout, leaves neither waker nor task behind.
#[test]
fn dropped_futures_leave_no_waker_behind() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log = open(config(&fs).queue_capacity(4).file_system(gate.before(&fs)));
    gate.shut();
    let first = log.append(1, payload(1, 0, 10));
    gate.wait_for_writer();
    (1..5).for_each(|index| drop(log.append(1, payload(1, index, 10))));
    let task = Arc::new(Idle);
    let waker = Waker::from(task.clone());
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(log.append_async(1, "waits"));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    for _ in 0..100 {
        assert!(pin!(log.append_async(1, "late")).poll(&mut context).is_pending());
        assert!(pin!(log.flush()).poll(&mut context).is_pending());
    }
    assert!(pin!(first).poll(&mut context).is_pending());
    let kept = Arc::strong_count(&task);
    // Opened first, because a failing test drops the log.
    gate.open();
    assert_eq!(kept, 3, "references: this test's, the waker's and the pending future's");
    while waiting.as_mut().poll(&mut context).is_pending() {
        thread::yield_now();
    }
    drop(log.flush().wait());
}

/// Blocks until another waiter is answered, up to a time limit.
struct Waits {
    other: AtomicBool,
    in_vain: AtomicBool,
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        let began = Instant::now();
        while !self.other.load(Ordering::Acquire) && began.elapsed() < LONG {
            thread::yield_now();
        }
        self.in_vain.store(began.elapsed() >= LONG, Ordering::Relaxed);
    }
}

/// Starts a caller that commits inline and blocks it at its first step. If the shard's
/// thread commits first, starts another caller.
fn inline_caller(
    log: &Arc<ShardedWal>,
    steps: &Receiver<ThreadId>,
    on: &Sender<()>,
) -> JoinHandle<()> {
    loop {
        let its_log = log.clone();
        let inline_caller = thread::spawn(move || {
            its_log.append_wait(1, "inline").unwrap();
        });
        if steps.recv().unwrap() == inline_caller.thread().id() {
            return inline_caller;
        }
        on.send(()).unwrap();
        inline_caller.join().unwrap();
    }
}

/// `Buffered`: a caller that commits inline releases the commit lock with a record left
/// in the queue, and wakes the waiters it has answered. One of their wakers waits for
/// that record. A concurrent flush changes nothing.
#[test]
fn records_left_by_an_inline_commit_are_handed_over_before_wakers_run() {
    for flushes in [false, true] {
        must_end("a record left over by an inline commit", move || leave_a_record_over(flushes));
    }
}

fn leave_a_record_over(flushes: bool) {
    let ((stepped, steps), (on, let_on)) = (channel(), channel());
    // Reports the thread that is about to acknowledge a commit. Then waits for
    // permission until the receiver is dropped.
    let machine = reporting(
        |_| {},
        move || {
            if stepped.send(thread::current().id()).is_ok() {
                let_on.recv().ok();
            }
        },
    );
    let machine = Mutex::new(Some(machine));
    let config = config(&SimFileSystem::new()).durability(Durability::Buffered);
    let log =
        ShardedWal::open_with_state_machine(config, |_| machine.lock().unwrap().take().unwrap());
    let log = Arc::new(log.unwrap());
    let inline_caller = inline_caller(&log, &steps, &on);
    let waits = Arc::new(Waits { other: AtomicBool::new(false), in_vain: AtomicBool::new(false) });
    let waker = Waker::from(waits.clone());
    let mut of_a_task = log.append(2, "of a task");
    assert!(Pin::new(&mut of_a_task).poll(&mut Context::from_waker(&waker)).is_pending());
    // Eight commits for others; the record queued during the last one is left over.
    for _ in 0..8 {
        on.send(()).unwrap();
        assert_eq!(steps.recv().unwrap(), inline_caller.thread().id());
        drop(log.append(3, "not waited for"));
    }
    if flushes {
        drop(log.flush());
    }
    let waiting = log.clone();
    let left_over = thread::spawn(move || {
        waiting.append(4, "left over").wait().unwrap();
        waits.other.store(true, Ordering::Release);
        assert!(!waits.in_vain.load(Ordering::Relaxed), "no thread has committed the record");
    });
    // The record is queued. The shard's thread finds the commit lock held, and parks.
    (0..10_000).for_each(|_| thread::yield_now());
    drop((steps, on));
    inline_caller.join().unwrap();
    left_over.join().unwrap();
}
