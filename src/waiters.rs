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
//! Many threads are woken as a [`Chain`]: the waker wakes a few, each of whom
//! wakes the next as it goes on, while the waker does what it has to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::task::{Context, Waker};
use std::time::Instant;

use crate::sync::{
    Arc, AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, Parker, Weak, cores,
    fence, now, per_thread,
};

/// Beyond whatever anybody waits for.
const EVERYONE: u64 = u64::MAX;

/// A lock-free list of waiters. See the module's words.
#[derive(Debug)]
pub(crate) struct WaitList {
    /// Q4 WAKE: the newest waiter. Any waiter pushes (Release), a waker takes
    /// the whole list (Acquire); nothing is ever removed from the middle.
    newest: AtomicPtr<Waiter>,
}

/// One thread or task on one list. The list owns one reference to it.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// True while the waiter stands on a list. Set by the waiter before it is
    /// pushed, cleared by the waker that took it off.
    enrolled: AtomicBool,
    /// The list it stands on, by address, while it is enrolled.
    list: AtomicUsize,
    /// Wake when the waker's number reaches this. Written before the push.
    target: AtomicU64,
    /// The next older waiter. Written before the push, read after the take.
    older: AtomicPtr<Waiter>,
    /// The chain that it was woken in. Whoever wakes it writes it before, the
    /// waiter takes it after.
    chain: Mutex<Weak<Links>>,
    sleeper: Sleeper,
}

#[derive(Debug)]
enum Sleeper {
    Thread(Parker),
    Task(Waker),
}

impl Waiter {
    fn new(sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            enrolled: AtomicBool::new(false),
            list: AtomicUsize::new(0),
            target: AtomicU64::new(0),
            older: AtomicPtr::new(ptr::null_mut()),
            chain: Mutex::new(Weak::new()),
            sleeper,
        })
    }

    fn is_enrolled(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `wake_up`; what the
        // waker published before it is then visible to the predicate.
        self.enrolled.load(Ordering::Acquire)
    }

    /// Whether it is still enrolled, by a wait that ran into its deadline, where
    /// this wait would enrol it.
    fn stands_on(&self, list: &WaitList, target: u64) -> bool {
        // ORDERING: Relaxed on both; only the waiter's own thread stores them.
        self.is_enrolled()
            && self.list.load(Ordering::Relaxed) == list.address()
            && self.target.load(Ordering::Relaxed) <= target
    }

    fn wake_up(&self) {
        // ORDERING: Release pairs with the Acquire in `is_enrolled`.
        self.enrolled.store(false, Ordering::Release);
        match &self.sleeper {
            Sleeper::Thread(parker) => parker.unpark(),
            Sleeper::Task(waker) => waker.wake_by_ref(),
        }
    }

    /// For a thread that was woken: wakes the next of its chain.
    fn wake_next(&self) {
        let chain = std::mem::take(&mut *self.chain.lock());
        if let Some(links) = chain.upgrade() {
            links.wake_next();
        }
    }
}

/// Threads that may go on, all but the first of them still asleep: who is woken
/// wakes the next. Whoever has the chain wakes those who are left as he drops
/// it, so that nobody hangs on a thread that is slow to run.
#[must_use = "as it is dropped it wakes everybody on it"]
#[derive(Debug, Default)]
pub(crate) struct Chain(Option<Arc<Links>>);

#[derive(Debug)]
struct Links {
    waiters: Vec<Arc<Waiter>>,
    /// C3 ANSWER: the next to be woken. Whoever raises it wakes the one.
    next: AtomicUsize,
}

impl Chain {
    /// Wakes as many as can run at once.
    fn begin(waiters: Vec<Arc<Waiter>>) -> Self {
        if waiters.len() <= cores() {
            for waiter in waiters {
                waiter.wake_up();
            }
            return Self(None);
        }
        let links = Arc::new(Links { waiters, next: AtomicUsize::new(0) });
        for _ in 0..cores() {
            links.wake_next();
        }
        Self(Some(links))
    }
}

impl Links {
    /// Whether anybody was left to be woken.
    fn wake_next(self: &Arc<Self>) -> bool {
        // ORDERING: Relaxed; it gives each place to one thread, and what stands
        // there came with the reference.
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(waiter) = self.waiters.get(place) else { return false };
        *waiter.chain.lock() = Arc::downgrade(self);
        waiter.wake_up();
        true
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Some(links) = &self.0 {
            while links.wake_next() {}
        }
    }
}

/// The waiter of the calling thread, made once and used again unless an
/// earlier wait that ran into its deadline has left it on another list.
fn waiter_of_this_thread(list: &WaitList, target: u64) -> Arc<Waiter> {
    use std::cell::RefCell;
    per_thread! {
        static WAITER: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
    }
    let make = || Waiter::new(Sleeper::Thread(Parker::for_this_thread()));
    WAITER
        .try_with(|kept| {
            let mut kept = kept.borrow_mut();
            match &*kept {
                Some(waiter) if !waiter.is_enrolled() || waiter.stands_on(list, target) => {
                    waiter.clone()
                }
                _ => kept.insert(make()).clone(),
            }
        })
        // The thread is ending and its locals are gone.
        .unwrap_or_else(|_| make())
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
        loop {
            if let Some(result) = ready() {
                return Some(result);
            }
            let waiter = waiter_of_this_thread(self, target);
            if !waiter.stands_on(self, target) {
                self.enroll(&waiter, target);
            }
            let Sleeper::Thread(parker) = &waiter.sleeper else {
                unreachable!("the waiter of a thread parks");
            };
            while waiter.is_enrolled() {
                if let Some(result) = ready() {
                    return Some(result);
                }
                if deadline.is_some_and(|deadline| deadline <= now()) {
                    return None;
                }
                parker.park(deadline);
            }
            waiter.wake_next();
        }
    }

    /// The same for a task: `None` means that its waker will be called.
    /// `enrolled` is the caller's memory between polls.
    pub(crate) fn poll<R>(
        &self,
        target: u64,
        context: &mut Context<'_>,
        enrolled: &mut Option<Arc<Waiter>>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        if let Some(result) = ready() {
            return Some(result);
        }
        let stands = enrolled.as_ref().is_some_and(|waiter| {
            waiter.is_enrolled()
                && matches!(&waiter.sleeper, Sleeper::Task(w) if w.will_wake(context.waker()))
        });
        if !stands {
            let waiter = Waiter::new(Sleeper::Task(context.waker().clone()));
            self.enroll(&waiter, target);
            *enrolled = Some(waiter);
        }
        ready()
    }

    fn enroll(&self, waiter: &Arc<Waiter>, target: u64) {
        // ORDERING: Relaxed; the push below publishes all three.
        waiter.enrolled.store(true, Ordering::Relaxed);
        waiter.list.store(self.address(), Ordering::Relaxed);
        waiter.target.store(target, Ordering::Relaxed);
        self.push(Arc::into_raw(waiter.clone()).cast_mut());
        // ORDERING: SeqCst fence, pairs with the fence in `wake`: either this
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
            // ORDERING: Release pairs with the Acquire of the swap in `take`.
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

    /// Wakes those whose target is at most what `reached` says now, oldest
    /// first; the others stay. Several threads may be at it.
    pub(crate) fn wake(&self, reached: impl Fn() -> u64) {
        drop(self.call(reached));
    }

    /// Wakes every waiter, whatever it waits for.
    pub(crate) fn wake_everyone(&self) {
        self.wake(|| EVERYONE);
    }

    /// The same as [`WaitList::wake`], but leaves some of the threads to be
    /// woken by those who are woken, or as the chain is dropped.
    pub(crate) fn call(&self, reached: impl Fn() -> u64) -> Chain {
        let mut threads = Vec::new();
        // ORDERING: SeqCst fence, pairs with the fence in `enroll`.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; a waiter that this misses has yet to look at its
        // predicate, by the fences.
        while !self.newest.load(Ordering::Relaxed).is_null() {
            let so_far = reached();
            if self.take_up_to(so_far, &mut threads) {
                break;
            }
            // ORDERING: SeqCst fence, pairs with the one above: who has come
            // further meanwhile, and did not find those who were put back, is
            // seen here.
            fence(Ordering::SeqCst);
            if reached() == so_far {
                break;
            }
        }
        Chain::begin(threads)
    }

    /// Takes the threads off whose target is at most `reached`, and wakes such
    /// tasks; whether nobody was put back.
    fn take_up_to(&self, reached: u64, threads: &mut Vec<Arc<Waiter>>) -> bool {
        let mut everybody = true;
        let mut next = self.take_oldest_first();
        while let Some(waiter) = next {
            // ORDERING: Relaxed; the Acquire in `take_oldest_first` covers it.
            next = Self::adopt(waiter.older.swap(ptr::null_mut(), Ordering::Relaxed));
            // ORDERING: Relaxed, as above.
            if waiter.target.load(Ordering::Relaxed) > reached {
                self.push(Arc::into_raw(waiter).cast_mut());
                everybody = false;
            } else if matches!(waiter.sleeper, Sleeper::Thread(_)) {
                threads.push(waiter);
            } else {
                // A waker is foreign code, and so is what it owns, which may end
                // with the list's reference. Its panic must not take the writer
                // with it, nor those behind it on the list.
                drop(catch_unwind(AssertUnwindSafe(move || waiter.wake_up())));
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
            // ORDERING: Release pairs with the Acquire in `is_enrolled`.
            waiter.enrolled.store(false, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::sync::{spawn, yield_now};

    /// A task that owns something whose end panics.
    struct Fragile;

    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("a planned panic at the end of a task");
        }
    }

    struct Counted(AtomicU64);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// C3 ANSWER: the list held the last reference to a task, whose end panics.
    #[test]
    fn a_task_that_panics_as_it_ends_harms_nobody_behind_it() {
        let list = WaitList::new();
        let counted = Arc::new(Counted(AtomicU64::new(0)));
        for waker in [Waker::from(Arc::new(Fragile)), Waker::from(counted.clone())] {
            let polled = list.poll(0, &mut Context::from_waker(&waker), &mut None, || None::<()>);
            assert!(polled.is_none(), "it waits");
        }
        list.wake_everyone();
        assert_eq!(counted.0.load(Ordering::Relaxed), 1, "it was woken");
    }

    fn yield_until(done: impl Fn() -> bool, wait: Duration) {
        let deadline = now() + wait;
        while !done() && now() < deadline {
            yield_now();
        }
    }

    /// Whether the threads wake each other while whoever woke the first has the
    /// chain. One that looked up just then was not asleep, and wakes nobody.
    fn all_go_on_while_the_chain_is_held() -> bool {
        let (list, reached) = (Arc::new(WaitList::new()), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..8 * cores())
            .map(|_| {
                let (list, reached) = (list.clone(), reached.clone());
                let ready = move || (reached.load(Ordering::Acquire) == 1).then_some(());
                spawn("waiting".into(), move || list.wait(1, None, ready)).expect("it starts")
            })
            .collect();
        yield_until(|| false, Duration::from_millis(20));
        reached.store(1, Ordering::Release);
        let chain = list.call(|| 1);
        let all_went_on = || threads.iter().all(|thread| thread.is_finished());
        yield_until(all_went_on, Duration::from_millis(500));
        let all = all_went_on();
        drop(chain);
        for thread in threads {
            thread.join().expect("it was woken");
        }
        all
    }

    #[test]
    fn who_is_woken_wakes_the_next() {
        assert!((0..10).any(|_| all_go_on_while_the_chain_is_held()));
    }
}
