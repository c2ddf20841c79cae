//! The facade over std, loom and shuttle: atomics, cells, locks, channels, parking,
//! threads, and the clock for deadlines.
//!
//! Nothing else in the crate names `std::sync::atomic`, `std::thread`, `loom` or
//! `shuttle`. This file has no policy. Each store says its ordering in its own file.

pub(crate) use imp::*;

#[cfg(shuttle)]
#[path = "shuttle.rs"]
mod imp;

/// Channels for rare messages, to and from the housekeeping threads. Neither loom nor
/// shuttle can model crossbeam's.
#[cfg(any(loom, shuttle))]
pub(crate) mod channel;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod channel {
    pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
}

/// `Arc` is std's under loom too. Loom checks our use of an `Arc`, not `Arc` itself,
/// and `Waker::from` takes std's.
pub(crate) use std::sync::{Arc, Weak};

/// An atomic that no model follows: no protocol between threads depends on it.
pub(crate) use std::sync::atomic::AtomicUsize as UnmodelledAtomicUsize;

/// The guard of a `try_lock`, poisoned or not; `None` if the lock is held.
fn unless_taken<G>(tried: std::sync::TryLockResult<G>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// The cell of std and shuttle builds, where no tool checks accesses.
#[cfg(not(loom))]
mod cell {
    /// An `UnsafeCell` with the interface of loom's, which checks accesses.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Calls `access` with the pointer. The caller must ensure that no other thread
        /// accesses the cell during the call.
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use std::io;
    use std::num::NonZero;
    pub(crate) use std::sync::MutexGuard;
    use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::thread::JoinHandle;
    use std::thread::Thread;
    #[cfg(not(test))]
    pub(crate) use std::thread::yield_now;
    pub(crate) use std::thread_local as per_thread;
    use std::time::Instant;

    pub(crate) use super::cell::UnsafeCell;

    /// The clock for deadlines.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// Blocks the calling thread until `deadline`.
    pub(crate) fn wait_until(deadline: Instant) {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    }

    /// The number of threads that can run at once. Computed once: on Linux it is read
    /// from files of the control group, which takes longer than opening a small log.
    pub(crate) fn cores() -> usize {
        static CORES: OnceLock<usize> = OnceLock::new();
        *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// A mutex that ignores poisoning: each critical section in this crate is a few
    /// assignments.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// Returns `None` if the lock is held. Does not block.
        pub(crate) fn try_lock(&self) -> Option<std::sync::MutexGuard<'_, T>> {
            super::unless_taken(self.0.try_lock())
        }
    }

    /// Lets one thread sleep until another unparks it. An earlier unpark is remembered.
    /// A park may return spuriously.
    #[derive(Debug)]
    pub(crate) struct Parker(Thread);

    impl Parker {
        pub(crate) fn for_this_thread() -> Self {
            Self(std::thread::current())
        }

        /// Blocks until an unpark or the deadline. Only the thread that made the parker
        /// may call this.
        pub(crate) fn park(&self, deadline: Option<Instant>) {
            match deadline {
                None => std::thread::park(),
                Some(deadline) => {
                    std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            }
        }

        pub(crate) fn unpark(&self) {
            self.0.unpark();
        }
    }

    #[cfg(test)]
    std::thread_local! {
        static TURNS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Yields like std, and counts the calls.
    #[cfg(test)]
    pub(crate) fn yield_now() {
        TURNS.set(TURNS.get() + 1);
        std::thread::yield_now();
    }

    /// How often the calling thread has yielded.
    #[cfg(test)]
    pub(crate) fn yields() -> u32 {
        TURNS.get()
    }

    pub(crate) fn spawn<R: Send + 'static>(
        name: String,
        run: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        std::thread::Builder::new().name(name).spawn(run)
    }
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
    };
    use loom::sync::mpsc;
    pub(crate) use loom::sync::{Condvar, MutexGuard};
    pub(crate) use loom::thread::JoinHandle;
    use std::cell::Cell;
    use std::io;
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    /// A clock per thread that advances by one nanosecond per call. So a deadline
    /// passes at the same call in all executions.
    pub(crate) fn now() -> Instant {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        per_thread! {
            static CALLS: Cell<u64> = const { Cell::new(0) };
        }
        let calls = CALLS.with(|calls| calls.replace(calls.get() + 1));
        *BEGAN + Duration::from_nanos(calls)
    }

    /// No deadline of a channel or a park passes in a model.
    pub(crate) fn deadline_passes() -> bool {
        false
    }

    pub(crate) fn wait_until(_deadline: Instant) {}

    /// Whether a panic unwinds. Loom's objects are gone by then: a `drop` that uses one
    /// would panic again and abort the test program.
    pub(crate) fn is_unwinding() -> bool {
        std::thread::panicking()
    }

    /// A model has no threads that the facade does not start.
    pub(crate) fn cores() -> usize {
        1
    }

    /// A yield does nothing: loom tries every order anyway.
    pub(crate) fn yield_now() {}

    /// Loom's `thread_local!` takes no `const` block.
    macro_rules! per_thread {
        (static $name:ident: $type:ty = const { $init:expr };) => {
            loom::thread_local! { static $name: $type = $init; }
        };
    }
    pub(crate) use per_thread;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// Returns `None` if the lock is held. Does not block.
        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            super::unless_taken(self.0.try_lock())
        }
    }

    /// A channel in place of loom's `park` and `unpark`: that `unpark` panics if its
    /// target blocks in anything but `park`. A channel is the cheapest replacement to
    /// explore, with one step per call. It counts unparks, where std keeps only one, so
    /// a park may return spuriously.
    #[derive(Debug)]
    pub(crate) struct Parker {
        unpark: mpsc::Sender<()>,
        /// Only the parking thread locks it. The lock makes the parker `Sync`.
        park: std::sync::Mutex<mpsc::Receiver<()>>,
    }

    impl Parker {
        pub(crate) fn for_this_thread() -> Self {
            let (unpark, park) = mpsc::channel();
            Self { unpark, park: std::sync::Mutex::new(park) }
        }

        /// Blocks until an unpark. No deadline passes. std sees all threads of a model
        /// as one, so a panic of another may have poisoned the lock.
        pub(crate) fn park(&self, _deadline: Option<Instant>) {
            let park = self.park.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            park.recv().unwrap();
        }

        pub(crate) fn unpark(&self) {
            self.unpark.send(()).unwrap();
        }
    }

    pub(crate) fn spawn<R: Send + 'static>(
        _name: String,
        run: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        Ok(loom::thread::spawn(run))
    }
}
