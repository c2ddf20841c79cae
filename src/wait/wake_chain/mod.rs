//! Threads that park, and the chain in which many of them are woken.
//!
//! A thread that has to wake many others wakes only a few, and each of those wakes the
//! next. This file does not know what the threads wait for. A thread may be unparked
//! spuriously, and checks its own condition.
//!
//! A stopped thread delays no other thread, wherever it stopped. No lock is taken here,
//! and the drop of the chain unparks every thread on it that is not known to run.

use std::cell::RefCell;
use std::ptr;
use std::time::Instant;

use crate::util::sync::{
    Arc, AtomicBool, AtomicPtr, AtomicUsize, Ordering, Parker, Weak, cores, per_thread,
};
use crate::wait::sleeper::Sleepers;

/// The thread runs, or has ended: no wake-up is needed.
const RUNNING: *mut Links = ptr::null_mut();
/// The thread is parked, or is about to park unless it was let go.
const PARKED: *mut Links = ptr::without_provenance_mut(1);
/// Another thread has unparked it, outside a chain.
const NOTIFIED: *mut Links = ptr::without_provenance_mut(2);
const _: () = assert!(align_of::<Links>() > 2, "no chain's address is one of the three");

/// The park state of a thread.
#[derive(Debug)]
pub(crate) struct ParkState {
    parker: Parker,
    /// Q4 WAKE: one of the three values above, or the chain in which it was unparked. Then
    /// it owns a reference to that chain ([`Weak::into_raw`]). The thread itself stores
    /// `PARKED` and `RUNNING`. A thread that unparks it replaces `PARKED`.
    state: AtomicPtr<Links>,
}

impl ParkState {
    /// The park state of the calling thread. A thread has one, in all its waits.
    pub(crate) fn of_this_thread() -> Arc<Self> {
        per_thread! {
            static OWN: RefCell<Option<Arc<ParkState>>> = const { RefCell::new(None) };
        }
        let make =
            || Arc::new(Self { parker: Parker::for_this_thread(), state: AtomicPtr::new(RUNNING) });
        OWN.try_with(|own| own.borrow_mut().get_or_insert_with(make).clone())
            // The thread is ending, and its thread-locals are gone.
            .unwrap_or_else(|_| make())
    }

    /// Unparks the thread. Returns whether it was parked and no other thread has unparked
    /// it. If it is only about to park, it sees the caller's earlier writes and does not park.
    pub(crate) fn unpark(&self, chain: Option<&Arc<Links>>) -> bool {
        let notified =
            chain.map_or(NOTIFIED, |links| Weak::into_raw(Arc::downgrade(links)).cast_mut());
        let mut found = PARKED;
        loop {
            let state = if found == PARKED { notified } else { found };
            // ORDERING: Release pairs with the Acquire of either swap in `park`. So
            // does an exchange that changes nothing: it has a place in their order, and
            // a swap that comes after it has seen it.
            match self.state.compare_exchange(found, state, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        if found != PARKED {
            drop(adopt(notified));
        }
        // An earlier unparking thread may have been stopped before this line.
        if found != RUNNING {
            self.parker.unpark();
        }
        found == PARKED
    }

    /// Parks while `is_due` holds, until it is unparked or the deadline passes, or
    /// spuriously. Then it wakes the next thread of the chain in which it was unparked.
    pub(crate) fn park(&self, is_due: impl FnOnce() -> bool, deadline: Option<Instant>) {
        // ORDERING: Acquire pairs with the Release in `unpark`: `is_due` sees the writes
        // of a thread that found this one `RUNNING`.
        let was = self.state.swap(PARKED, Ordering::Acquire);
        debug_assert_eq!(was, RUNNING, "it was left so");
        if is_due() {
            self.parker.park(deadline);
        }
        // ORDERING: Acquire pairs with the Release in `unpark`: the chain is complete.
        let notified = self.state.swap(RUNNING, Ordering::Acquire);
        if let Some(links) = adopt(notified).and_then(|chain| chain.upgrade()) {
            links.wake_next();
        }
    }
}

/// Takes over the reference to a chain that a state owned, if it was one.
fn adopt(state: *mut Links) -> Option<Weak<Links>> {
    let is_chain = ![RUNNING, PARKED, NOTIFIED].contains(&state);
    // SAFETY: any other value came from `Weak::into_raw`. The thread that took it out of
    // the state, or failed to put it in, is its only holder.
    is_chain.then(|| unsafe { Weak::from_raw(state) })
}

/// Threads taken off a list, of which the first are woken and wake the next. Dropping
/// the chain wakes every thread that is left. That includes one that a woken thread is
/// about to wake, so that no thread depends on one that is slow to run.
#[must_use = "dropping it wakes every thread on it"]
#[derive(Debug, Default)]
pub(crate) struct WakeChain {
    /// The number of waiters that were woken or put into the chain.
    count: u64,
    links: Option<Arc<Links>>,
}

#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    /// C3 ANSWER: the next to be woken. The thread that raises it wakes that one.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Link {
    thread: Arc<ParkState>,
    /// Set by the thread that has woken it, read as the chain is dropped.
    woken: AtomicBool,
}

impl Link {
    fn new(thread: Arc<ParkState>) -> Self {
        Self { thread, woken: AtomicBool::new(false) }
    }

    /// Unparks it. Returns whether it was parked and no other thread has unparked it.
    fn wake(&self, chain: Option<&Arc<Links>>) -> bool {
        let slept = self.thread.unpark(chain);
        // ORDERING: Release pairs with the Acquire in `is_woken`.
        self.woken.store(true, Ordering::Release);
        slept
    }

    fn is_woken(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `wake`.
        self.woken.load(Ordering::Acquire)
    }
}

impl WakeChain {
    /// Takes sleepers, and wakes as many threads as there are cores. With tasks, it
    /// wakes every thread and then the tasks: a waker is the caller's code, and may block
    /// on a thread that a chain would wake later.
    pub(crate) fn begin(sleepers: Sleepers) -> Self {
        let count = sleepers.threads.len() as u64 + sleepers.tasks.count();
        if sleepers.threads.len() <= cores() || sleepers.tasks.count() > 0 {
            drop(sleepers.wake_threads());
            return Self { count, links: None };
        }
        let links = sleepers.threads.into_iter().map(Link::new).collect();
        let links = Arc::new(Links { links, next: AtomicUsize::new(0) });
        for _ in 0..cores() {
            links.wake_next();
        }
        Self { count, links: Some(links) }
    }

    /// The number of waiters that were taken off the list.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Wakes every thread that is left.
    pub(crate) fn wake_rest(&mut self) {
        let Some(links) = self.links.take() else { return };
        while links.wake_next() {}
        // A thread that raised `next` may have been stopped before it woke its link. A
        // second wake-up does no harm.
        for link in links.links.iter().filter(|link| !link.is_woken()) {
            link.wake(None);
        }
    }
}

impl Drop for WakeChain {
    fn drop(&mut self) {
        self.wake_rest();
    }
}

impl Links {
    /// Wakes the next parked thread. Returns whether there was one.
    fn wake_next(self: &Arc<Self>) -> bool {
        loop {
            // ORDERING: Relaxed; it gives each index to one thread, and the link at that
            // index came with the reference.
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(link) = self.links.get(index) else { return false };
            if link.wake(Some(self)) {
                return true;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
