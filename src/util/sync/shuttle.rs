//! The facade under shuttle, which runs all threads of a test as coroutines on one
//! thread. At each of these calls it chooses which one runs next.
//!
//! A thread that blocks in anything else blocks them all. Time does not pass, except for
//! a thread that waits for a deadline. Shuttle chooses at random whether that deadline
//! passes.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant};

use shuttle::rand::{RngCore, thread_rng};
pub(crate) use shuttle::sync::Condvar;
pub(crate) use shuttle::sync::MutexGuard;
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use shuttle::thread::yield_now;
pub(crate) use shuttle::thread_local as per_thread;

pub(crate) use super::cell::UnsafeCell;

/// The probability, one in this number, that a deadline passes before the awaited
/// event.
const PASSES_ONE_IN: u64 = 4;

shuttle::thread_local! {
    /// The time that this thread has waited for.
    static WAITED: Cell<Duration> = Cell::new(Duration::ZERO);
}

/// The time of this thread, which advances only when it waits for a deadline.
pub(crate) fn now() -> Instant {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGAN + WAITED.try_with(Cell::get).unwrap_or_default()
}

pub(crate) fn wait_until(deadline: Instant) {
    let ahead = deadline.saturating_duration_since(now());
    // A thread that is ending does not wait.
    WAITED.try_with(|waited| waited.set(waited.get() + ahead)).unwrap_or_default();
}

pub(crate) fn deadline_passes() -> bool {
    thread_rng().next_u64().is_multiple_of(PASSES_ONE_IN)
}

/// Shuttle's objects can be used while a panic unwinds.
pub(crate) fn is_unwinding() -> bool {
    false
}

/// Code in tests runs on the calling thread, unless it uses this facade.
pub(crate) fn cores() -> usize {
    1
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `None` if the lock is held. Does not block.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        super::unless_taken(self.0.try_lock())
    }
}

/// Replaces shuttle's `park`, which may return spuriously and so hide a lost unpark.
/// This one does not.
#[derive(Debug)]
pub(crate) struct Parker {
    unparked: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub(crate) fn for_this_thread() -> Self {
        Self { unparked: Mutex::new(false), changed: Condvar::new() }
    }

    /// Blocks until an unpark or the deadline. Only the thread that made the parker may
    /// call this.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        let mut unparked = self.unparked.lock();
        while !*unparked {
            if let Some(deadline) = deadline {
                drop(unparked);
                if deadline_passes() {
                    wait_until(deadline);
                } else {
                    yield_now();
                }
                return;
            }
            unparked = self.changed.wait(unparked).unwrap_or_else(PoisonError::into_inner);
        }
        *unparked = false;
    }

    pub(crate) fn unpark(&self) {
        *self.unparked.lock() = true;
        self.changed.notify_one();
    }
}

/// Returns a thread's panic to the thread that joins it. Shuttle itself would fail the
/// test.
#[derive(Debug)]
pub(crate) struct JoinHandle<R>(shuttle::thread::JoinHandle<std::thread::Result<R>>);

impl<R> JoinHandle<R> {
    pub(crate) fn join(self) -> std::thread::Result<R> {
        self.0.join().and_then(|ended| ended)
    }

    pub(crate) fn thread(&self) -> &shuttle::thread::Thread {
        self.0.thread()
    }
}

pub(crate) fn spawn<R: Send + 'static>(
    name: String,
    run: impl FnOnce() -> R + Send + 'static,
) -> io::Result<JoinHandle<R>> {
    let caught = move || catch_unwind(AssertUnwindSafe(run));
    shuttle::thread::Builder::new().name(name).spawn(caught).map(JoinHandle)
}
