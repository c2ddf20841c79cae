//! The facade under shuttle, which runs all threads of a test as coroutines on one
//! thread. At each of these calls it chooses which one runs next.
//!
//! A thread that blocks in anything else blocks them all. Time stands still, except for
//! a thread that waits for a deadline. Shuttle chooses at random whether that deadline
//! passes.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant};

use shuttle::rand::{RngCore, thread_rng};
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
};
use shuttle::sync::{Condvar, MutexGuard};
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

fn wait_until(deadline: Instant) {
    let ahead = deadline.saturating_duration_since(now());
    // A thread that is ending does not wait.
    WAITED.try_with(|waited| waited.set(waited.get() + ahead)).unwrap_or_default();
}

fn deadline_passes() -> bool {
    thread_rng().next_u64().is_multiple_of(PASSES_ONE_IN)
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

/// The part of crossbeam's channels that the crate uses.
pub(crate) mod channel {
    use std::collections::VecDeque;
    use std::sync::PoisonError;
    use std::time::Instant;

    pub(crate) use crossbeam_channel::RecvTimeoutError;
    use crossbeam_channel::{RecvError, SendError, TryRecvError, TrySendError};
    use shuttle::sync::Condvar;

    use super::{Mutex, deadline_passes, wait_until, yield_now};
    use crate::sync::Arc;

    /// How often a receiver's deadline may pass per channel: an execution must end.
    const DEADLINES_MAX: u32 = 4;

    struct Channel<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
        capacity: usize,
    }

    struct State<T> {
        queue: VecDeque<T>,
        senders: usize,
        receives: bool,
        deadlines: u32,
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let state = State { queue: VecDeque::new(), senders: 1, receives: true, deadlines: 0 };
        let changed = Condvar::new();
        let channel = Arc::new(Channel { state: Mutex::new(state), changed, capacity });
        (Sender(channel.clone()), Receiver(channel))
    }

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        bounded(usize::MAX)
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, mut value: T) -> Result<(), SendError<T>> {
            loop {
                value = match self.try_send(value) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Disconnected(value)) => return Err(SendError(value)),
                    Err(TrySendError::Full(value)) => value,
                };
                let state = self.0.state.lock();
                if state.receives && state.queue.len() >= self.0.capacity {
                    drop(self.0.changed.wait(state));
                }
            }
        }

        pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut state = self.0.state.lock();
            if !state.receives {
                return Err(TrySendError::Disconnected(value));
            }
            if state.queue.len() >= self.0.capacity {
                return Err(TrySendError::Full(value));
            }
            state.queue.push_back(value);
            drop(state);
            self.0.changed.notify_all();
            Ok(())
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            self.0.state.lock().senders += 1;
            Self(self.0.clone())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.state.lock().senders -= 1;
            self.0.changed.notify_all();
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            let mut state = self.0.state.lock();
            loop {
                if let Some(value) = state.queue.pop_front() {
                    drop(state);
                    self.0.changed.notify_all();
                    return Ok(value);
                }
                if state.senders == 0 {
                    return Err(RecvError);
                }
                state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }

        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            let value = self.0.state.lock().queue.pop_front();
            self.0.changed.notify_all();
            value.ok_or(TryRecvError::Empty)
        }

        pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
            let mut state = self.0.state.lock();
            if state.queue.is_empty() && state.senders > 0 && state.deadlines < DEADLINES_MAX {
                state.deadlines += 1;
                drop(state);
                // Other threads may send before the time is up.
                yield_now();
                state = self.0.state.lock();
                if state.queue.is_empty() && deadline_passes() {
                    drop(state);
                    wait_until(deadline);
                    return Err(RecvTimeoutError::Timeout);
                }
            }
            drop(state);
            self.recv().map_err(|RecvError| RecvTimeoutError::Disconnected)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.state.lock().queue.is_empty()
        }
    }

    impl<T> Drop for Receiver<T> {
        /// Drops the unreceived values, as crossbeam does: a chore answers in its
        /// `drop`.
        fn drop(&mut self) {
            let mut state = self.0.state.lock();
            state.receives = false;
            let unreceived = std::mem::take(&mut state.queue);
            drop(state);
            self.0.changed.notify_all();
            drop(unreceived);
        }
    }
}
