//! Models of the wait list alone: who is kept back, and a node used again.

use loom::thread;

use super::check;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::waiters::WaitList;

struct Counter {
    reached: AtomicU64,
    waiters: WaitList,
}

impl Counter {
    fn new() -> Arc<Self> {
        Arc::new(Self { reached: AtomicU64::new(0), waiters: WaitList::new() })
    }

    /// Relaxed, so that nothing but the list's own fences keeps a wake-up from
    /// being lost.
    fn raise(&self, to: u64) {
        self.reached.fetch_max(to, Ordering::Relaxed);
    }

    fn wake(&self) {
        self.waiters.wake(|| self.reached.load(Ordering::Relaxed));
    }

    fn wait(&self, target: u64) {
        let reached = || (self.reached.load(Ordering::Relaxed) >= target).then_some(());
        self.waiters.wait(target, None, reached).expect("there was no deadline");
    }
}

/// Q4 WAKE: two threads wait for different numbers; the one that is not reached
/// yet is kept back, and woken later.
#[test]
fn a_waiter_that_is_kept_back_is_woken_later() {
    check("a_waiter_that_is_kept_back_is_woken_later", 3, || {
        let counter = Counter::new();
        for target in 1..=2 {
            let counter = counter.clone();
            thread::spawn(move || counter.wait(target));
        }
        for reached in 1..=2 {
            counter.raise(reached);
            counter.wake();
        }
    });
}

/// Q4 WAKE: two threads come further and wake whom they may; one puts somebody
/// back whom the other should have woken, and did not find.
#[test]
fn two_wakers_keep_back_and_wake() {
    check("two_wakers_keep_back_and_wake", 3, || {
        let counter = Counter::new();
        let waiting = counter.clone();
        let waiting = thread::spawn(move || waiting.wait(2));
        let also = counter.clone();
        let also = thread::spawn(move || {
            also.raise(1);
            also.wake();
        });
        counter.raise(2);
        counter.wake();
        for thread in [waiting, also] {
            thread.join().expect("it returned");
        }
    });
}

/// Q4 WAKE: a thread's node stands on one list after the other and is used
/// again, while two wakers may each still be at work on its last wait.
#[test]
fn a_thread_waits_again_while_it_is_still_being_woken() {
    check("a_thread_waits_again_while_it_is_still_being_woken", 3, || {
        let (first, second) = (Counter::new(), Counter::new());
        let also = first.clone();
        thread::spawn(move || {
            also.raise(1);
            also.waiters.wake_everyone();
        });
        let (one, two) = (first.clone(), second.clone());
        thread::spawn(move || {
            one.raise(1);
            one.waiters.wake_everyone();
            two.raise(1);
            two.waiters.wake_everyone();
        });
        first.wait(1);
        second.wait(1);
    });
}

/// Q4 WAKE: two threads wait for the same; two threads wake everyone.
#[test]
fn two_wakers_wake_two_waiters() {
    check("two_wakers_wake_two_waiters", 2, || {
        let counter = Counter::new();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let counter = counter.clone();
                thread::spawn(move || {
                    counter.wait(1);
                    counter.wait(2);
                })
            })
            .collect();
        let also = counter.clone();
        thread::spawn(move || {
            also.raise(1);
            also.waiters.wake_everyone();
        });
        counter.raise(2);
        counter.waiters.wake_everyone();
        for waiting in waiting {
            waiting.join().expect("it was woken");
        }
    });
}

/// Q4 WAKE: three threads wait for the same, the first of whom is woken and
/// wakes the next who sleeps, beside whoever woke him.
#[test]
fn three_wait_for_the_same() {
    check("three_wait_for_the_same", 2, || {
        let counter = Counter::new();
        for _ in 0..3 {
            let counter = counter.clone();
            thread::spawn(move || counter.wait(1));
        }
        counter.raise(1);
        drop(counter.waiters.wake_some(|| counter.reached.load(Ordering::Relaxed)));
    });
}
