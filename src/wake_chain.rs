//! Threads that sleep, and the chain in which many of them are woken.
//!
//! Whoever wakes many threads has other things to do: it wakes a few, each of
//! whom wakes the next. It does not know why anybody sleeps, nor whether it is
//! time: a thread may be roused for no reason, and looks for itself.
//!
//! Nobody hangs on a thread that is stopped, wherever that is: no lock is taken
//! here, and whoever has the chain rouses all once more, as it is dropped, whom it
//! does not know to be up.

use std::ptr;
use std::time::Instant;

use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicUsize, Ordering, Parker, Weak, cores};
use crate::waiter::{Tasks, Waiter};

/// It looks for itself, or has gone: nobody need rouse it.
const UP: *mut Links = ptr::null_mut();
/// It sleeps, or will at once unless it was let go.
const DOWN: *mut Links = ptr::without_provenance_mut(1);
/// Somebody has roused it, in no chain.
const ROUSED: *mut Links = ptr::without_provenance_mut(2);
const _: () = assert!(align_of::<Links>() > 2, "no chain's address is one of the three");

/// The sleep of a thread.
#[derive(Debug)]
pub(crate) struct Sleep {
    parker: Parker,
    /// Q4 WAKE: one of the three above, or the chain that it was roused in, a
    /// reference to which it holds ([`Weak::into_raw`]). The thread writes that it
    /// lies down and that it is up, whoever rouses it turns `DOWN` into the others.
    state: AtomicPtr<Links>,
}

impl Sleep {
    pub(crate) fn of_this_thread() -> Self {
        Self { parker: Parker::for_this_thread(), state: AtomicPtr::new(UP) }
    }

    /// Whether it slept and nobody else has roused it. What was written before is
    /// seen by one who lies down later: he does not.
    pub(crate) fn rouse(&self, chain: Option<&Arc<Links>>) -> bool {
        let roused = chain.map_or(ROUSED, |links| Weak::into_raw(Arc::downgrade(links)).cast_mut());
        let mut found = DOWN;
        loop {
            let state = if found == DOWN { roused } else { found };
            // ORDERING: Release pairs with the Acquire of either swap in
            // `lie_down`. So does an exchange that changes nothing: it has a place
            // in the order of them, and a swap that comes after it has seen it.
            match self.state.compare_exchange(found, state, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => found = now,
            }
        }
        if found != DOWN {
            drop(adopt(roused));
        }
        // Whoever has roused it before may be stopped and not have come to this.
        if found != UP {
            self.parker.unpark();
        }
        found == DOWN
    }

    /// Sleeps while `is_due`, until it is roused or the deadline passes, or for
    /// no reason, and wakes the next of the chain that it was roused in.
    pub(crate) fn lie_down(&self, is_due: impl FnOnce() -> bool, deadline: Option<Instant>) {
        // ORDERING: Acquire pairs with the Release in `rouse`: who has found it up
        // is seen by `is_due`.
        let was = self.state.swap(DOWN, Ordering::Acquire);
        debug_assert_eq!(was, UP, "it was left so");
        if is_due() {
            self.parker.park(deadline);
        }
        // ORDERING: Acquire pairs with the Release in `rouse`: the chain is whole.
        let roused = self.state.swap(UP, Ordering::Acquire);
        if let Some(links) = adopt(roused).and_then(|chain| chain.upgrade()) {
            links.wake_next();
        }
    }
}

/// Takes over the reference that a state held, where it was a chain.
fn adopt(state: *mut Links) -> Option<Weak<Links>> {
    let is_chain = ![UP, DOWN, ROUSED].contains(&state);
    // SAFETY: any other came from `Weak::into_raw`, and whoever took it out of the
    // state, or never got it in, is its only holder.
    is_chain.then(|| unsafe { Weak::from_raw(state) })
}

/// Threads that were let go, the first of whom are woken, and wake the next.
/// Whoever has the chain wakes all who are left as he drops it, one whom a woken
/// thread is about to wake among them, so that nobody hangs on a thread that is
/// slow to run.
#[must_use = "as it is dropped it wakes everybody on it"]
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// How many were let go, as a chain or at once.
    many: u64,
    links: Option<Arc<Links>>,
}

#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    /// C3 ANSWER: the next to be woken. Whoever raises it wakes the one.
    next: AtomicUsize,
}

#[derive(Debug)]
struct Link {
    waiter: Arc<Waiter>,
    /// Set by whoever has woken it, read as the chain is dropped.
    woken: AtomicBool,
}

impl Link {
    fn new(waiter: Arc<Waiter>) -> Self {
        waiter.let_go();
        Self { waiter, woken: AtomicBool::new(false) }
    }

    /// Whether it slept, and nobody else has roused it.
    fn wake(&self, chain: Option<&Arc<Links>>) -> bool {
        let slept = self.waiter.sleep().is_some_and(|sleep| sleep.rouse(chain));
        // ORDERING: Release pairs with the Acquire in `is_woken`.
        self.woken.store(true, Ordering::Release);
        slept
    }

    fn is_woken(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `wake`.
        self.woken.load(Ordering::Acquire)
    }
}

impl Chain {
    /// Lets threads go that were taken off a list, and wakes as many as can run at
    /// once; all of them where there are tasks as well, and then those: a waker is
    /// foreign code, and may wait for one who would be woken late.
    pub(crate) fn begin(threads: Vec<Arc<Waiter>>, tasks: Tasks) -> Self {
        let many = threads.len() as u64 + tasks.many();
        if threads.len() <= cores() || tasks.many() > 0 {
            threads.into_iter().for_each(Waiter::wake);
            drop(tasks);
            return Self { many, links: None };
        }
        let links = threads.into_iter().map(Link::new).collect();
        let links = Arc::new(Links { links, next: AtomicUsize::new(0) });
        for _ in 0..cores() {
            links.wake_next();
        }
        Self { many, links: Some(links) }
    }

    /// How many were let go.
    pub(crate) fn many(&self) -> u64 {
        self.many
    }

    /// Wakes all who are left.
    pub(crate) fn wake_rest(&mut self) {
        let Some(links) = self.links.take() else { return };
        while links.wake_next() {}
        // Whoever has raised `next` may have been stopped: it does no harm to
        // be woken twice.
        for link in links.links.iter().filter(|link| !link.is_woken()) {
            link.wake(None);
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.wake_rest();
    }
}

impl Links {
    /// Wakes the next who sleeps; whether there was one.
    fn wake_next(self: &Arc<Self>) -> bool {
        loop {
            // ORDERING: Relaxed; it gives each place to one thread, and what
            // stands there came with the reference.
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(link) = self.links.get(place) else { return false };
            if link.wake(Some(self)) {
                return true;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
