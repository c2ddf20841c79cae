//! The one facade over std, loom and shuttle: atomics, cells, locks, channels,
//! parking, threads, the clock that deadlines go by.
//!
//! Nothing else in the crate names `std::sync::atomic`, `std::thread`, `loom`
//! or `shuttle`. It knows no policy: what is stored with which ordering is
//! said where it is stored.

pub(crate) use imp::*;

#[cfg(shuttle)]
#[path = "sync/shuttle.rs"]
mod imp;

/// Channels for what is seldom: the lane to the housekeeping thread. Neither
/// loom nor shuttle can look into crossbeam's; loom's models use none.
#[cfg(not(shuttle))]
pub(crate) mod channel {
    pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
}

/// `Arc` is std's under loom too: loom's models our use of an `Arc`, not
/// `Arc` itself, and `Waker::from` takes std's.
pub(crate) use std::sync::{Arc, Weak};

/// A number that no model follows: of each thread's nothing but its own matters to it.
pub(crate) use std::sync::atomic::AtomicUsize as UnmodelledAtomicUsize;

/// What a `try_lock` found: `None` where somebody has it.
fn unless_taken<G>(tried: std::sync::TryLockResult<G>) -> Option<G> {
    match tried {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}

/// Without loom nobody follows what is done to a cell.
#[cfg(not(loom))]
mod cell {
    /// An `UnsafeCell` whose accesses loom can follow.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Hands out the pointer for writing; the caller vouches that nobody
        /// else has access meanwhile.
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use std::io;
    use std::num::NonZero;
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

    /// The clock that deadlines go by.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// How many threads run at once. Asked for once: on Linux the answer is
    /// read from files of the control group, which takes longer than a small
    /// log.
    pub(crate) fn cores() -> usize {
        static CORES: OnceLock<usize> = OnceLock::new();
        *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// A mutex that a panic elsewhere does not spoil: each critical section
    /// in this crate is a few assignments.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// `None` where somebody has it.
        pub(crate) fn try_lock(&self) -> Option<std::sync::MutexGuard<'_, T>> {
            super::unless_taken(self.0.try_lock())
        }
    }

    /// Lets one thread sleep until another unparks it. An unpark that comes
    /// first is remembered; sleeping may end for no reason.
    #[derive(Debug)]
    pub(crate) struct Parker(Thread);

    impl Parker {
        pub(crate) fn for_this_thread() -> Self {
            Self(std::thread::current())
        }

        /// Only the thread that made the parker may call this.
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

    /// The system's, counted.
    #[cfg(test)]
    pub(crate) fn yield_now() {
        TURNS.set(TURNS.get() + 1);
        std::thread::yield_now();
    }

    /// How often the calling thread has given its core away.
    #[cfg(test)]
    pub(crate) fn turns_given_away() -> u32 {
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
    pub(crate) use loom::thread::JoinHandle;
    use std::cell::Cell;
    use std::io;
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    /// A clock of each thread's own that goes on by a nanosecond as it is looked
    /// at: in all executions a deadline passes at the same look.
    pub(crate) fn now() -> Instant {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        per_thread! {
            static LOOKS: Cell<u64> = const { Cell::new(0) };
        }
        let looks = LOOKS.with(|looks| looks.replace(looks.get() + 1));
        *BEGAN + Duration::from_nanos(looks)
    }

    /// Threads that the facade does not start are none of a model's.
    pub(crate) fn cores() -> usize {
        1
    }

    /// A turn for the others is no event: loom plays every order as it is.
    pub(crate) fn yield_now() {}

    /// loom's takes no `const` block.
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

        /// `None` where somebody has it.
        pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            super::unless_taken(self.0.try_lock())
        }
    }

    /// loom's `unpark` panics when its target is blocked in something else
    /// than `park`. A channel is the cheapest to explore of what can stand in
    /// for it: one step a call. Unparks add up in it, where std keeps but one,
    /// so that parks may end for no reason.
    #[derive(Debug)]
    pub(crate) struct Parker {
        unpark: mpsc::Sender<()>,
        /// Locked by the one thread that may park, for `Sync`.
        park: std::sync::Mutex<mpsc::Receiver<()>>,
    }

    impl Parker {
        pub(crate) fn for_this_thread() -> Self {
            let (unpark, park) = mpsc::channel();
            Self { unpark, park: std::sync::Mutex::new(park) }
        }

        /// No deadline passes here. All threads of a model are one to std, so that
        /// another's panic may have poisoned the lock.
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
