//! A list of threads and tasks that wait until a condition holds.
//!
//! A [`WaitList`] is a lock-free stack of waiters, each with the number that it waits
//! for. The list does not know what the numbers mean. The caller supplies a predicate,
//! and **the predicate alone decides**: a wake-up is only a hint to check it again.
//! Blocking waits, deadlines and async waits share one loop.
//!
//! No wake-up is lost (Q4 WAKE), because both sides put a `SeqCst` fence between their
//! write and their read. The waiter registers, fences, then checks the predicate. The
//! waker changes what the predicate reads, fences, then checks the list. The side whose
//! fence comes second sees the other side's write.
//!
//! Many threads can be woken as a [`WakeChain`]: the waker wakes a few, and each of them
//! wakes the next, while the waker goes on with its own work.
//!
//! A task's waker is the caller's code. Its panics, and those of its drop, are contained.
//! It may block on a thread that is woken with it, because **threads are woken before
//! tasks**. It must not block on a task later in the list, nor on work that the waking
//! thread has still to do: that would deadlock. And a thread that has taken a list must
//! not stop. If it stopped, or blocked in a waker, the waiters that it holds would sleep
//! forever, because no other thread can reach them. A stack that is taken whole cannot
//! avoid that.

use std::ptr;
use std::task::Context;
use std::time::Instant;

use crate::util::sync::{Arc, AtomicPtr, Ordering, fence, now};
use crate::wait::sleeper::{Sleepers, Tasks};
use crate::wait::waiter::{Registration, Waiter, waiter_of_this_thread};

/// Above every number that a waiter can wait for.
const EVERYONE: u64 = u64::MAX;

/// A lock-free list of waiters, each with the number at which to wake it.
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

    /// Blocks until `ready` returns a result. Returns `None` once the deadline has passed.
    /// `wake` must reach `target` for this thread to be woken.
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
            // A caller that only checks leaves no waiter behind.
            if has_passed() {
                return None;
            }
            let waiter = waiter_of_this_thread(self.address(), target);
            if !waiter.is_waiting_on(self.address(), target) {
                self.register(&waiter, target);
            }
            let sleep = waiter.park_state().expect("it is a thread's");
            while waiter.is_registered() {
                if let Some(result) = ready() {
                    return Some(result);
                }
                if has_passed() {
                    return None;
                }
                sleep.park(|| waiter.is_registered(), deadline);
            }
        }
    }

    /// Checks for a task. `None` means that its waker will be called. `registration` keeps the
    /// task's registration between polls.
    pub(crate) fn poll<R>(
        &self,
        target: u64,
        context: &mut Context<'_>,
        registration: &mut Option<Registration>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        if let Some(result) = ready() {
            return Some(result);
        }
        let current = registration.as_ref().is_some_and(|it| it.will_wake(context.waker()));
        if !current {
            let waiter = Waiter::of_task(context.waker().clone());
            self.register(&waiter, target);
            *registration = Some(Registration::of(waiter));
        }
        ready()
    }

    fn register(&self, waiter: &Arc<Waiter>, target: u64) {
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

    /// Wakes the waiters whose target is at most the number that `reached` returns: first
    /// the threads, then the tasks, each oldest first. The others stay on the list. Several
    /// threads may call it at once.
    pub(crate) fn wake(&self, reached: impl Fn() -> u64) {
        drop(self.wake_threads(reached));
    }

    /// Wakes the threads as [`WaitList::wake`] does, and returns the tasks. The caller can
    /// finish its own work before it drops them, which runs their wakers.
    pub(crate) fn wake_threads(&self, reached: impl Fn() -> u64) -> Tasks {
        let mut sleepers = Sleepers::default();
        self.take_sleepers(reached, &mut sleepers);
        sleepers.wake_threads()
    }

    /// Wakes every waiter, whatever its target.
    pub(crate) fn wake_everyone(&self) {
        drop(self.wake_every_thread());
    }

    /// Wakes every thread, and returns every task, to be woken as it is dropped.
    pub(crate) fn wake_every_thread(&self) -> Tasks {
        self.wake_threads(|| EVERYONE)
    }

    /// Wakes waiters as [`WaitList::wake`] does, as a chain.
    #[cfg(test)]
    pub(crate) fn wake_some(
        &self,
        reached: impl Fn() -> u64,
    ) -> crate::wait::wake_chain::WakeChain {
        let mut sleepers = Sleepers::default();
        self.take_sleepers(reached, &mut sleepers);
        crate::wait::wake_chain::WakeChain::begin(sleepers)
    }

    /// Takes the waiters off whose target is at most the number that `reached` returns, and
    /// adds them to `sleepers`.
    pub(crate) fn take_sleepers(&self, reached: impl Fn() -> u64, sleepers: &mut Sleepers) {
        self.take(reached, |waiter| {
            if let Some(sleeper) = waiter.release() {
                sleepers.push(sleeper);
            }
        });
    }

    /// Takes the waiters off whose target is at most the number that `reached` returns.
    pub(crate) fn take(&self, reached: impl Fn() -> u64, mut each: impl FnMut(Arc<Waiter>)) {
        // ORDERING: SeqCst fence, pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; a waiter that this misses has yet to check its
        // predicate, by the fences.
        while !self.newest.load(Ordering::Relaxed).is_null() {
            let so_far = reached();
            if self.take_up_to(so_far, &mut each) {
                return;
            }
            // ORDERING: SeqCst fence, pairs with the one above: if another thread has
            // reached a higher number meanwhile, and did not find the waiters that were
            // put back, this thread sees that number.
            fence(Ordering::SeqCst);
            if reached() == so_far {
                return;
            }
        }
    }

    /// Takes waiters off up to one number. Returns whether none was put back.
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

    /// Empties the list and reverses it.
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
        // SAFETY: a non-null pointer came from `Arc::into_raw`, and the thread
        // that took it off the list is its only holder.
        (!waiter.is_null()).then(|| unsafe { Arc::from_raw(waiter) })
    }
}

impl Drop for WaitList {
    fn drop(&mut self) {
        let mut next = self.take_oldest_first();
        while let Some(waiter) = next {
            // ORDERING: Relaxed; exclusive access.
            next = Self::adopt(waiter.older.swap(ptr::null_mut(), Ordering::Relaxed));
            // A later list may have the address of this one.
            waiter.let_go();
            // Its future may have been leaked, and then never drops the waker.
            waiter.forget_task();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
