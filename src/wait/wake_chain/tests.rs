//! Tests of a chain of wake-ups in which a thread or a waker is stopped.

use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::util::sync::{AtomicU64, JoinHandle, now, spawn, yield_now};
use crate::wait::wait_list::WaitList;

fn yield_until(done: impl Fn() -> bool, wait: Duration) {
    let deadline = now() + wait;
    while !done() && now() < deadline {
        yield_now();
    }
}

/// Threads that wait for a number to be 1, all of them registered.
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
        let checks = Arc::new(AtomicUsize::new(0));
        let wait = || {
            let (list, reached, checks) = (list.clone(), reached.clone(), checks.clone());
            // Each checks the second time once it is registered.
            let ready = move || {
                checks.fetch_add(1, Ordering::Relaxed);
                (reached.load(Ordering::Acquire) == 1).then_some(())
            };
            let wait = move || list.wait(1, None, ready).expect("there is no deadline");
            spawn("waiting".into(), wait).expect("it starts")
        };
        let threads: Vec<_> = (0..threads).map(|_| wait()).collect();
        let registration = || checks.load(Ordering::Relaxed) >= 2 * threads.len();
        yield_until(registration, Duration::from_secs(60));
        assert!(registration(), "they look twice");
        yield_until(|| false, Duration::from_millis(20));
        Self { list, reached, threads }
    }

    fn wake_some(&self) -> WakeChain {
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
fn a_woken_waiter_wakes_the_next() {
    let waiting = Waiting::begin(8 * cores());
    let chain = waiting.wake_some();
    assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
    drop(chain);
}

/// Takes the waiting threads off the list as a chain, of which those before index `next` are
/// taken, and none is woken.
fn let_go(waiting: &Waiting, next: usize) -> WakeChain {
    waiting.reached.store(1, Ordering::Release);
    let mut sleepers = Sleepers::default();
    waiting.list.take_sleepers(|| 1, &mut sleepers);
    let count = sleepers.threads.len() as u64;
    let links = sleepers.threads.into_iter().map(Link::new).collect();
    WakeChain { count, links: Some(Arc::new(Links { links, next: AtomicUsize::new(next) })) }
}

/// Q4 WAKE: a woken thread took the next index, and stops before it wakes that thread.
#[test]
fn nobody_hangs_on_a_woken_thread_that_is_stopped() {
    let waiting = Waiting::begin(3);
    drop(let_go(&waiting, 1));
    assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
}

/// Q4 WAKE: a woken thread stored the wake-up of the next one, and stops before it unparks
/// that thread.
#[test]
fn nobody_hangs_on_a_woken_thread_that_is_stopped_before_it_unparks() {
    let waiting = Waiting::begin(3);
    let chain = let_go(&waiting, 1);
    let links = chain.links.as_ref().expect("it is whole");
    let first = &links.links[0].thread;
    assert_eq!(first.state.swap(NOTIFIED, Ordering::Release), PARKED, "it sleeps");
    drop(chain);
    assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
}

/// Q4 WAKE: every thread is woken before a waker is called, because the waker may wait for
/// any of them.
#[test]
fn all_threads_are_woken_before_a_task() {
    let waiting = Waiting::begin(8 * cores());
    let mut registration = None;
    let mut context = Context::from_waker(Waker::noop());
    let polled = waiting.list.poll(1, &mut context, &mut registration, || None::<()>);
    assert!(polled.is_none(), "it waits");
    let chain = waiting.wake_some();
    assert!(chain.links.is_none(), "a thread is left to be woken");
    assert_eq!(chain.count(), 8 * cores() as u64 + 1);
    assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
}

/// Q4 WAKE: threads whose waits timed out are first on the list, and wake no other thread.
#[test]
fn no_waiter_hangs_on_waiters_that_timed_out() {
    let list = Arc::new(WaitList::new());
    let timed_out: Vec<_> = (0..2 * cores())
        .map(|_| {
            let list = list.clone();
            let wait = move || {
                list.wait(1, Some(now() + Duration::from_millis(20)), || None::<()>).is_none()
            };
            spawn("times out".into(), wait).expect("it starts")
        })
        .collect();
    assert!(timed_out.into_iter().all(|thread| thread.join().expect("no panic")));
    let waiting = Waiting::begin_on(list, 8 * cores());
    let chain = waiting.wake_some();
    assert!(waiting.have_all_gone_on(Duration::from_secs(60)));
    drop(chain);
}
