//! A waiter on a list: a thread, or a task and its waker.
//!
//! The list, or the thread that took the waiter off it, holds one reference to it. The
//! waiting thread or future holds another. This file does not know what the waiter waits
//! for, nor how a list stores it ([`crate::wait::wait_list`]).

use std::cell::RefCell;
use std::ptr;
use std::task::Waker;

use crate::util::catch_panic::catch_panic;
use crate::util::sync::{
    Arc, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, per_thread,
};
use crate::wait::sleeper::{Sleeper, TaskAddress, task_address};
use crate::wait::wake_chain::ParkState;

/// Waiters that a thread keeps for reuse, one per list on which a wait timed out. A
/// thread that has timed out on more lists than this leaves a new waiter behind with
/// each wait.
const KEPT_MAX: usize = 16;

/// One thread or task on one list. The list holds one reference to it.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// True while the waiter is on a list. The waiter sets it before the push. The
    /// thread that takes it off the list clears it, then wakes it.
    registration: AtomicBool,
    /// The address of the list that it is on, while it is registered.
    list: AtomicUsize,
    /// The number at which to wake it. Written before the push.
    target: AtomicU64,
    /// The next older waiter. Written before the push, read after the take.
    pub(crate) older: AtomicPtr<Waiter>,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Thread(Arc<ParkState>),
    Task(Task),
}

#[derive(Debug)]
struct Task {
    /// Identifies the task, as [`Waker::will_wake`] compares wakers.
    address: TaskAddress,
    /// Taken once: by the thread that wakes the task, or by the end of its future,
    /// whichever comes first. Neither waits for the lock. If it is held, the other
    /// side takes the waker.
    waker: Mutex<Option<Waker>>,
}

impl Task {
    fn new(waker: Waker) -> Self {
        Self { address: task_address(&waker), waker: Mutex::new(Some(waker)) }
    }

    fn take(&self) -> Option<Waker> {
        self.waker.try_lock().and_then(|mut waker| waker.take())
    }
}

impl Waiter {
    fn new(owner: Owner) -> Arc<Self> {
        Arc::new(Self {
            registration: AtomicBool::new(false),
            list: AtomicUsize::new(0),
            target: AtomicU64::new(0),
            older: AtomicPtr::new(ptr::null_mut()),
            owner,
        })
    }

    /// A waiter for one poll of a future.
    pub(crate) fn of_task(waker: Waker) -> Arc<Self> {
        Self::new(Owner::Task(Task::new(waker)))
    }

    /// The thread's sleep state, or `None` for a task.
    pub(crate) fn park_state(&self) -> Option<&ParkState> {
        match &self.owner {
            Owner::Thread(thread) => Some(thread),
            Owner::Task(_) => None,
        }
    }

    /// Prepares the waiter for a push. Only the waiter itself calls it.
    pub(crate) fn begin(&self, list: usize, target: u64) {
        // ORDERING: Relaxed; the push publishes all three.
        self.registration.store(true, Ordering::Relaxed);
        self.list.store(list, Ordering::Relaxed);
        self.target.store(target, Ordering::Relaxed);
    }

    /// The number at which to wake it. For the thread that took it off its list.
    pub(crate) fn target(&self) -> u64 {
        // ORDERING: Relaxed; the Acquire of the take covers it.
        self.target.load(Ordering::Relaxed)
    }

    pub(crate) fn is_registered(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `let_go`; what the
        // waker published before it is then visible to the predicate.
        self.registration.load(Ordering::Acquire)
    }

    /// Whether an earlier wait that timed out left it on this list, with a target that
    /// also serves this wait.
    pub(crate) fn is_waiting_on(&self, list: usize, target: u64) -> bool {
        // ORDERING: Relaxed on both; only the waiter's own thread stores them.
        self.is_registered()
            && self.list.load(Ordering::Relaxed) == list
            && self.target.load(Ordering::Relaxed) <= target
    }

    /// Marks it as off its list. For the thread that took it off. From now on it may
    /// register on another list, and may be woken spuriously.
    pub(crate) fn let_go(&self) {
        // ORDERING: Release pairs with the Acquire in `is_registered`.
        self.registration.store(false, Ordering::Release);
    }

    /// Marks it as off its list, and returns its sleeper. For the thread that took it off.
    /// `None` if its future was dropped.
    pub(crate) fn release(&self) -> Option<Sleeper> {
        self.let_go();
        match &self.owner {
            Owner::Thread(thread) => Some(Sleeper::Thread(thread.clone())),
            Owner::Task(task) => task.take().map(Sleeper::Task),
        }
    }

    /// Drops a task's waker, and with it everything that the task owns, unless another
    /// thread is about to call it.
    pub(crate) fn forget_task(&self) {
        if let Owner::Task(task) = &self.owner
            && let Some(waker) = task.take()
        {
            catch_panic(move || drop(waker));
        }
    }
}

/// A future's registration on a list, between two polls. Dropping it drops the waker.
/// The waiter itself stays on the list.
#[derive(Debug)]
pub(crate) struct Registration(Arc<Waiter>);

impl Registration {
    pub(crate) fn of(waiter: Arc<Waiter>) -> Self {
        Self(waiter)
    }

    /// Whether the list will wake this task.
    pub(crate) fn will_wake(&self, waker: &Waker) -> bool {
        let is_same = |task: &Task| task.address == task_address(waker);
        // Check in this order: a registered waiter holds its waker, so no other task
        // can have that address.
        self.0.is_registered() && matches!(&self.0.owner, Owner::Task(task) if is_same(task))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.0.is_registered() {
            self.0.forget_task();
        }
    }
}

/// Returns a waiter of the calling thread. It reuses one, unless an earlier wait that
/// timed out has left it on another list.
pub(crate) fn waiter_of_this_thread(list: usize, target: u64) -> Arc<Waiter> {
    per_thread! {
        static KEPT: RefCell<Vec<Arc<Waiter>>> = const { RefCell::new(Vec::new()) };
    }
    let make = || Waiter::new(Owner::Thread(ParkState::of_this_thread()));
    KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let current = kept.iter().find(|waiter| waiter.is_waiting_on(list, target));
        let fit = current.or_else(|| kept.iter().find(|waiter| !waiter.is_registered()));
        if let Some(waiter) = fit {
            return waiter.clone();
        }
        if kept.len() == KEPT_MAX {
            kept.remove(0);
        }
        let made = make();
        kept.push(made.clone());
        made
    })
    // The thread is ending, and its thread-locals are gone.
    .unwrap_or_else(|_| make())
}
