//! One who waits on a list: a thread, or a task and its waker.
//!
//! It does not know what it waits for, nor how a list holds it ([`crate::waiters`]).
//! A list, or whoever took it off one, has a reference of its own to it; the thread
//! or the future has another.

use std::cell::RefCell;
use std::ptr;
use std::task::Waker;

use crate::foreign::contain;
use crate::sync::{
    Arc, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, per_thread,
};
use crate::wake_chain::Sleep;

/// So many waiters a thread keeps, one a list on which it has given up and may look
/// again. Who looks at more lists than that, and waits a little for each, leaves one
/// at each look.
const KEPT_MAX: usize = 16;

/// One thread or task on one list. The list owns one reference to it.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// True while the waiter stands on a list. Set by the waiter before it is
    /// pushed, cleared by the waker that took it off, who wakes it thereafter.
    enrolled: AtomicBool,
    /// The list it stands on, by address, while it is enrolled.
    list: AtomicUsize,
    /// Wake when the waker's number reaches this. Written before the push.
    target: AtomicU64,
    /// The next older waiter. Written before the push, read after the take.
    pub(crate) older: AtomicPtr<Waiter>,
    sleeper: Sleeper,
}

#[derive(Debug)]
enum Sleeper {
    Thread(Sleep),
    Task(Task),
}

#[derive(Debug)]
struct Task {
    /// Which task, as [`Waker::will_wake`] compares them.
    address: (usize, usize),
    /// Taken out once, by whoever wakes it or by the end of its future, whichever
    /// comes first. Nobody waits for the lock: who finds it locked leaves the
    /// waker to the other.
    waker: Mutex<Option<Waker>>,
}

impl Task {
    fn new(waker: Waker) -> Self {
        Self { address: Self::address(&waker), waker: Mutex::new(Some(waker)) }
    }

    fn address(waker: &Waker) -> (usize, usize) {
        (waker.data().addr(), ptr::from_ref(waker.vtable()).addr())
    }

    fn take(&self) -> Option<Waker> {
        self.waker.try_lock().and_then(|mut waker| waker.take())
    }
}

impl Waiter {
    fn new(sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            enrolled: AtomicBool::new(false),
            list: AtomicUsize::new(0),
            target: AtomicU64::new(0),
            older: AtomicPtr::new(ptr::null_mut()),
            sleeper,
        })
    }

    /// For one poll of a future.
    pub(crate) fn of_task(waker: Waker) -> Arc<Self> {
        Self::new(Sleeper::Task(Task::new(waker)))
    }

    /// How it sleeps, where it is a thread.
    pub(crate) fn sleep(&self) -> Option<&Sleep> {
        match &self.sleeper {
            Sleeper::Thread(sleep) => Some(sleep),
            Sleeper::Task(_) => None,
        }
    }

    /// By the waiter itself, before it is pushed on a list.
    pub(crate) fn begin(&self, list: usize, target: u64) {
        // ORDERING: Relaxed; the push publishes all three.
        self.enrolled.store(true, Ordering::Relaxed);
        self.list.store(list, Ordering::Relaxed);
        self.target.store(target, Ordering::Relaxed);
    }

    /// By whoever took it off its list.
    pub(crate) fn target(&self) -> u64 {
        // ORDERING: Relaxed; the Acquire of the take covers it.
        self.target.load(Ordering::Relaxed)
    }

    pub(crate) fn is_enrolled(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `let_go`; what the
        // waker published before it is then visible to the predicate.
        self.enrolled.load(Ordering::Acquire)
    }

    /// Whether it is still enrolled, by a wait that ran into its deadline, where
    /// this wait would enrol it.
    pub(crate) fn stands_on(&self, list: usize, target: u64) -> bool {
        // ORDERING: Relaxed on both; only the waiter's own thread stores them.
        self.is_enrolled()
            && self.list.load(Ordering::Relaxed) == list
            && self.target.load(Ordering::Relaxed) <= target
    }

    /// By the waker who took it off its list. It may stand on another one from
    /// now on, and be woken for no reason.
    pub(crate) fn let_go(&self) {
        // ORDERING: Release pairs with the Acquire in `is_enrolled`.
        self.enrolled.store(false, Ordering::Release);
    }

    /// Wakes it, once it is taken off its list. What a task's waker panics with,
    /// and what comes of its end, must not take the writer with it, nor those
    /// behind it on the list.
    pub(crate) fn wake(self: Arc<Self>) {
        self.let_go();
        match &self.sleeper {
            Sleeper::Thread(sleep) => {
                sleep.rouse(None);
            }
            Sleeper::Task(task) => {
                let Some(waker) = task.take() else { return };
                // One by one, and by reference: the unwinding of the first would
                // drop it, and a panic of that would end the process.
                contain(|| waker.wake_by_ref());
                contain(move || drop(waker));
            }
        }
    }

    /// Gives up a task's waker, unless somebody is about to call it, and with it
    /// what the task owns.
    pub(crate) fn forget_task(&self) {
        if let Sleeper::Task(task) = &self.sleeper
            && let Some(waker) = task.take()
        {
            contain(move || drop(waker));
        }
    }
}

/// A future's place on a list, between two of its polls. As it is dropped the
/// list keeps its node, but not its waker.
#[derive(Debug)]
pub(crate) struct Enrolled(Arc<Waiter>);

impl Enrolled {
    pub(crate) fn of(waiter: Arc<Waiter>) -> Self {
        Self(waiter)
    }

    /// Whether the list will wake this task.
    pub(crate) fn stands_for(&self, waker: &Waker) -> bool {
        let is_same = |task: &Task| task.address == Task::address(waker);
        // In this order: who is enrolled has its waker, whose address no other
        // task can have.
        self.0.is_enrolled() && matches!(&self.0.sleeper, Sleeper::Task(task) if is_same(task))
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        if self.0.is_enrolled() {
            self.0.forget_task();
        }
    }
}

/// Tasks that were taken off a list, whose wakers are called as this is dropped,
/// oldest first: when nobody waits any more for what their caller has to do.
#[must_use = "as it is dropped it wakes them"]
#[derive(Debug, Default)]
pub(crate) struct Tasks(Vec<Arc<Waiter>>);

impl Tasks {
    pub(crate) fn push(&mut self, waiter: Arc<Waiter>) {
        self.0.push(waiter);
    }

    pub(crate) fn many(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waiter::wake);
    }
}

/// A waiter of the calling thread, used again unless an earlier wait that ran into
/// its deadline has left it on another list.
pub(crate) fn waiter_of_this_thread(list: usize, target: u64) -> Arc<Waiter> {
    per_thread! {
        static KEPT: RefCell<Vec<Arc<Waiter>>> = const { RefCell::new(Vec::new()) };
    }
    let make = || Waiter::new(Sleeper::Thread(Sleep::of_this_thread()));
    KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let stands = kept.iter().find(|waiter| waiter.stands_on(list, target));
        let fit = stands.or_else(|| kept.iter().find(|waiter| !waiter.is_enrolled()));
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
    // The thread is ending and its locals are gone.
    .unwrap_or_else(|_| make())
}
