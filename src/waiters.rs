//! Who sleeps until something is true, threads and tasks alike.
//!
//! A [`WaitList`] is a lock-free stack of waiters, each with the number that
//! it waits for. It does not know what the numbers mean: the caller brings a
//! predicate, and **the predicate alone decides**; a wake-up is only a hint to
//! look again. Blocking, deadlines and async share the one loop.
//!
//! No wake-up is lost (Q4 WAKE), because both sides put a `SeqCst` fence
//! between their write and their read: the waiter enrols, fences, looks at the
//! predicate; the waker changes what the predicate reads, fences, looks at the
//! list. Whichever fence comes second sees the other's write.
//!
//! Many threads may be woken as a [`Chain`]: the waker wakes a few, each of whom
//! wakes the next, while the waker does what it has to do.
//!
//! A task's waker is foreign code. It may panic, as may what ends with it, and
//! nobody notices. It may block, too, on a thread that is woken with it, for
//! **threads come before tasks**. What it blocks on in vain is another task that
//! comes after it, and whatever is left to be done by the thread that it is run
//! on. And whoever has taken a list must go on: were he stopped for ever, or
//! blocked so, those whom he has in hand would sleep on, since nobody else knows
//! of them. A stack that is taken whole has no way round that.

use std::ptr;
use std::task::Context;
use std::time::Instant;

use crate::sync::{Arc, AtomicPtr, Ordering, fence, now};
use crate::waiter::{Enrolled, Tasks, Waiter, waiter_of_this_thread};
use crate::wake_chain::Chain;

/// Beyond whatever anybody waits for.
const EVERYONE: u64 = u64::MAX;

/// A lock-free list of waiters. See the module's words.
#[derive(Debug)]
pub(crate) struct WaitList {
    /// Q4 WAKE: the newest waiter. Any waiter pushes (Release), a waker takes
    /// the whole list (Acquire); nothing is ever removed from the middle.
    newest: AtomicPtr<Waiter>,
}

impl WaitList {
    pub(crate) fn new() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Blocks until `ready` gives a result, or returns `None` once the
    /// deadline has passed. `target` is what `wake` must reach.
    pub(crate) fn wait<R>(
        &self,
        target: u64,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let has_passed = || deadline.is_some_and(|deadline| deadline <= now());
        loop {
            if let Some(result) = ready() {
                return Some(result);
            }
            // Who only looks leaves nothing behind.
            if has_passed() {
                return None;
            }
            let waiter = waiter_of_this_thread(self.address(), target);
            if !waiter.stands_on(self.address(), target) {
                self.enroll(&waiter, target);
            }
            let sleep = waiter.sleep().expect("it is a thread's");
            while waiter.is_enrolled() {
                if let Some(result) = ready() {
                    return Some(result);
                }
                if has_passed() {
                    return None;
                }
                sleep.lie_down(|| waiter.is_enrolled(), deadline);
            }
        }
    }

    /// The same for a task: `None` means that its waker will be called.
    /// `enrolled` is the caller's memory between polls.
    pub(crate) fn poll<R>(
        &self,
        target: u64,
        context: &mut Context<'_>,
        enrolled: &mut Option<Enrolled>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        if let Some(result) = ready() {
            return Some(result);
        }
        let stands = enrolled.as_ref().is_some_and(|it| it.stands_for(context.waker()));
        if !stands {
            let waiter = Waiter::of_task(context.waker().clone());
            self.enroll(&waiter, target);
            *enrolled = Some(Enrolled::of(waiter));
        }
        ready()
    }

    fn enroll(&self, waiter: &Arc<Waiter>, target: u64) {
        waiter.begin(self.address(), target);
        self.push(Arc::into_raw(waiter.clone()).cast_mut());
        // ORDERING: SeqCst fence, pairs with the fence in `take`: either this
        // thread's next look at the predicate sees the change, or the waker
        // sees the waiter.
        fence(Ordering::SeqCst);
    }

    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    fn push(&self, waiter: *mut Waiter) {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: the pointer came from `Arc::into_raw` and the list owns
            // that reference until a waker takes it, which cannot be before
            // the exchange below publishes it.
            let link = unsafe { &(*waiter).older };
            // ORDERING: Relaxed; published by the exchange.
            link.store(newest, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `take_oldest_first`.
            match self.newest.compare_exchange_weak(
                newest,
                waiter,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Wakes those whose target is at most what `reached` says now: the threads,
    /// then the tasks, each oldest first; the others stay. Several threads may be
    /// at it.
    pub(crate) fn wake(&self, reached: impl Fn() -> u64) {
        drop(self.wake_threads(reached));
    }

    /// The same, and leaves the tasks to the caller, who may have something to do
    /// before foreign code is run.
    pub(crate) fn wake_threads(&self, reached: impl Fn() -> u64) -> Tasks {
        let mut tasks = Tasks::default();
        self.take(reached, |waiter| match waiter.sleep() {
            Some(_) => waiter.wake(),
            None => tasks.push(waiter),
        });
        tasks
    }

    /// Wakes every waiter, whatever it waits for.
    pub(crate) fn wake_everyone(&self) {
        drop(self.wake_every_thread());
    }

    /// The same, and leaves the tasks to the caller.
    pub(crate) fn wake_every_thread(&self) -> Tasks {
        self.wake_threads(|| EVERYONE)
    }

    /// The same as [`WaitList::wake`], but may leave some of the threads to be
    /// woken by those who are woken, or as the chain is dropped.
    pub(crate) fn wake_some(&self, reached: impl Fn() -> u64) -> Chain {
        let (mut threads, mut tasks) = (Vec::new(), Tasks::default());
        self.take(reached, |waiter| match waiter.sleep() {
            Some(_) => threads.push(waiter),
            None => tasks.push(waiter),
        });
        Chain::begin(threads, tasks)
    }

    /// Takes those off whose target is at most what `reached` says now.
    pub(crate) fn take(&self, reached: impl Fn() -> u64, mut each: impl FnMut(Arc<Waiter>)) {
        // ORDERING: SeqCst fence, pairs with the fence in `enroll`.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; a waiter that this misses has yet to look at its
        // predicate, by the fences.
        while !self.newest.load(Ordering::Relaxed).is_null() {
            let so_far = reached();
            if self.take_up_to(so_far, &mut each) {
                return;
            }
            // ORDERING: SeqCst fence, pairs with the one above: who has come
            // further meanwhile, and did not find those who were put back, is
            // seen here.
            fence(Ordering::SeqCst);
            if reached() == so_far {
                return;
            }
        }
    }

    /// The same up to one number; whether nobody was put back.
    fn take_up_to(&self, reached: u64, each: &mut impl FnMut(Arc<Waiter>)) -> bool {
        let mut everybody = true;
        let mut next = self.take_oldest_first();
        while let Some(waiter) = next {
            // ORDERING: Relaxed; the Acquire in `take_oldest_first` covers it.
            next = Self::adopt(waiter.older.swap(ptr::null_mut(), Ordering::Relaxed));
            if waiter.target() <= reached {
                each(waiter);
            } else {
                self.push(Arc::into_raw(waiter).cast_mut());
                everybody = false;
            }
        }
        everybody
    }

    /// Empties the list and turns it round.
    fn take_oldest_first(&self) -> Option<Arc<Waiter>> {
        // ORDERING: Acquire pairs with the Release in `push`: target, link and
        // sleeper of each waiter are visible.
        let mut rest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest: *mut Waiter = ptr::null_mut();
        while let Some(waiter) = Self::adopt(rest) {
            // ORDERING: Relaxed; the list is this thread's own now.
            rest = waiter.older.swap(oldest, Ordering::Relaxed);
            oldest = Arc::into_raw(waiter).cast_mut();
        }
        Self::adopt(oldest)
    }

    /// Takes over the reference that a list held.
    fn adopt(waiter: *mut Waiter) -> Option<Arc<Waiter>> {
        // SAFETY: a pointer that is not null came from `Arc::into_raw`, and
        // whoever took it off the list is its only holder.
        (!waiter.is_null()).then(|| unsafe { Arc::from_raw(waiter) })
    }
}

impl Drop for WaitList {
    fn drop(&mut self) {
        let mut next = self.take_oldest_first();
        while let Some(waiter) = next {
            // ORDERING: Relaxed; exclusive access.
            next = Self::adopt(waiter.older.swap(ptr::null_mut(), Ordering::Relaxed));
            // A later list may have this one's address.
            waiter.let_go();
            // That of a future which was forgotten, and will not do so itself.
            waiter.forget_task();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
