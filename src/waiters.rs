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
    /// pushed, cleared by the waker that took it off, who wakes it thereafter.
    enrolled: AtomicBool,
    /// The list it stands on, by address, while it is enrolled.
    list: AtomicUsize,
    /// Wake when the waker's number reaches this. Written before the push.
    target: AtomicU64,
    /// The next older waiter. Written before the push, read after the take.
    older: AtomicPtr<Waiter>,
    sleeper: Sleeper,
}

#[derive(Debug)]
enum Sleeper {
    Thread(Sleep),
    Task(Waker),
}

/// The sleep of a thread.
#[derive(Debug)]
struct Sleep {
    parker: Parker,
    /// Q4 WAKE: the thread writes that it lies down and that it is up, whoever
    /// rouses it that it was roused. Locked for an assignment, by two threads
    /// at most but for a chain that is roused twice.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// It looks for itself, or has gone: nobody need rouse it.
    Up,
    /// It sleeps, or will at once unless it was let go.
    Down,
    /// Somebody has, and it wakes the next of this chain, if there is one.
    Roused(Weak<Links>),
}

impl Sleep {
    fn of_this_thread() -> Self {
        Self { parker: Parker::for_this_thread(), state: Mutex::new(State::Up) }
    }

    /// Whether it slept. What was written before is seen by one who lies down
    /// later: he does not.
    fn rouse(&self, chain: Weak<Links>) -> bool {
        let mut state = self.state.lock();
        if !matches!(*state, State::Down) {
            return false;
        }
        *state = State::Roused(chain);
        drop(state);
        self.parker.unpark();
        true
    }

    /// Sleeps while `is_due`, until it is roused or the deadline passes, or for
    /// no reason, and wakes the next of the chain that it was roused in.
    fn lie_down(&self, is_due: impl FnOnce() -> bool, deadline: Option<Instant>) {
        *self.state.lock() = State::Down;
        if is_due() {
            self.parker.park(deadline);
        }
        let state = std::mem::replace(&mut *self.state.lock(), State::Up);
        if let State::Roused(chain) = state
            && let Some(links) = chain.upgrade()
        {
            links.wake_next();
        }
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

    /// By the waker who took it off its list. It may stand on another one from
    /// now on, and be woken for no reason.
    fn let_go(&self) {
        // ORDERING: Release pairs with the Acquire in `is_enrolled`.
        self.enrolled.store(false, Ordering::Release);
    }

    /// Wakes it, once it is taken off its list. A task's waker is foreign code,
    /// and so is what it owns, which may end with the list's reference; its panic,
    /// and that of what it panics with, must not take the writer with it, nor
    /// those behind it on the list.
    fn wake(self: Arc<Self>) {
        self.let_go();
        if let Sleeper::Thread(sleep) = &self.sleeper {
            sleep.rouse(Weak::new());
            return;
        }
        let wake = move || {
            if let Sleeper::Task(waker) = &self.sleeper {
                waker.wake_by_ref();
            }
            drop(self);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(wake)) {
            let dropped = catch_unwind(AssertUnwindSafe(move || drop(panic)));
            dropped.unwrap_or_else(std::mem::forget);
        }
    }
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
struct Links {
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

    /// Whether it slept.
    fn wake(&self, chain: Weak<Links>) -> bool {
        let Sleeper::Thread(sleep) = &self.waiter.sleeper else { return false };
        let slept = sleep.rouse(chain);
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
    /// Wakes as many as can run at once; all, where a task is among them: its
    /// waker may wait for an older thread.
    fn begin(waiters: Vec<Arc<Waiter>>) -> Self {
        let many = waiters.len() as u64;
        let is_thread = |waiter: &Arc<Waiter>| matches!(waiter.sleeper, Sleeper::Thread(_));
        if waiters.len() <= cores() || !waiters.iter().all(is_thread) {
            waiters.into_iter().for_each(Waiter::wake);
            return Self { many, links: None };
        }
        let links = waiters.into_iter().map(Link::new).collect();
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
            link.wake(Weak::new());
        }
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
            if link.wake(Arc::downgrade(self)) {
                return true;
            }
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.wake_rest();
    }
}

/// The waiter of the calling thread, made once and used again unless an
/// earlier wait that ran into its deadline has left it on another list.
fn waiter_of_this_thread(list: &WaitList, target: u64) -> Arc<Waiter> {
    use std::cell::RefCell;
    per_thread! {
        static WAITER: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
    }
    let make = || Waiter::new(Sleeper::Thread(Sleep::of_this_thread()));
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
            let Sleeper::Thread(sleep) = &waiter.sleeper else {
                unreachable!("the waiter of a thread sleeps");
            };
            while waiter.is_enrolled() {
                if let Some(result) = ready() {
                    return Some(result);
                }
                if deadline.is_some_and(|deadline| deadline <= now()) {
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
        self.take(reached, Waiter::wake);
    }

    /// Wakes every waiter, whatever it waits for.
    pub(crate) fn wake_everyone(&self) {
        self.wake(|| EVERYONE);
    }

    /// The same as [`WaitList::wake`], but leaves some of the threads to be
    /// woken by those who are woken, or as the chain is dropped.
    pub(crate) fn wake_some(&self, reached: impl Fn() -> u64) -> Chain {
        let mut waiters = Vec::new();
        self.take(reached, |waiter| waiters.push(waiter));
        Chain::begin(waiters)
    }

    /// Takes those off whose target is at most what `reached` says now.
    fn take(&self, reached: impl Fn() -> u64, mut each: impl FnMut(Arc<Waiter>)) {
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
            // ORDERING: Relaxed, as above.
            if waiter.target.load(Ordering::Relaxed) <= reached {
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
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::sync::{JoinHandle, spawn, yield_now};

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

    /// Threads that wait for a number to be 1, all of them enrolled.
    struct Waiting {
        list: Arc<WaitList>,
        reached: Arc<AtomicU64>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Waiting {
        fn begin(threads: usize) -> Self {
            Self::begin_on(Arc::new(WaitList::new()), threads)
        }

        fn begin_on(list: Arc<WaitList>, threads: usize) -> Self {
            let reached = Arc::new(AtomicU64::new(0));
            let looks = Arc::new(AtomicUsize::new(0));
            let wait = || {
                let (list, reached, looks) = (list.clone(), reached.clone(), looks.clone());
                // The second look of each is when it stands on the list.
                let ready = move || {
                    looks.fetch_add(1, Ordering::Relaxed);
                    (reached.load(Ordering::Acquire) == 1).then_some(())
                };
                let wait = move || list.wait(1, None, ready).expect("there is no deadline");
                spawn("waiting".into(), wait).expect("it starts")
            };
            let threads: Vec<_> = (0..threads).map(|_| wait()).collect();
            let enrolled = || looks.load(Ordering::Relaxed) >= 2 * threads.len();
            yield_until(enrolled, Duration::from_secs(60));
            assert!(enrolled(), "they look twice");
            yield_until(|| false, Duration::from_millis(20));
            Self { list, reached, threads }
        }

        fn wake_some(&self) -> Chain {
            self.reached.store(1, Ordering::Release);
            self.list.wake_some(|| 1)
        }

        fn have_all_gone_on(&self, wait: Duration) -> bool {
            let gone_on = || self.threads.iter().all(JoinHandle::is_finished);
            yield_until(gone_on, wait);
            gone_on()
        }
    }

    #[test]
    fn who_is_woken_wakes_the_next() {
        let waiting = Waiting::begin(8 * cores());
        let chain = waiting.wake_some();
        assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
        drop(chain);
    }

    /// Q4 WAKE: a woken thread took the next one's place, and does not come to
    /// wake it.
    #[test]
    fn nobody_hangs_on_a_woken_thread_that_is_stopped() {
        let waiting = Waiting::begin(3);
        waiting.reached.store(1, Ordering::Release);
        let mut waiters = Vec::new();
        waiting.list.take(|| 1, |waiter| waiters.push(waiter));
        let links = waiters.into_iter().map(Link::new).collect();
        let links = Some(Arc::new(Links { links, next: AtomicUsize::new(1) }));
        drop(Chain { many: 3, links });
        assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
    }

    /// Q4 WAKE: those who gave up stand first on the list, and wake nobody.
    #[test]
    fn nobody_hangs_on_those_who_gave_up() {
        let list = Arc::new(WaitList::new());
        let gave_up: Vec<_> = (0..2 * cores())
            .map(|_| {
                let list = list.clone();
                let wait = move || list.wait(1, Some(now()), || None::<()>).is_none();
                spawn("gives up".into(), wait).expect("it starts")
            })
            .collect();
        assert!(gave_up.into_iter().all(|thread| thread.join().expect("no panic")));
        let waiting = Waiting::begin_on(list, 8 * cores());
        let chain = waiting.wake_some();
        assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
        drop(chain);
    }
}
