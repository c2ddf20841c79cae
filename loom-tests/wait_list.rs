//! Models of the wait list alone: waiters that are put back, and nodes that are reused.

use std::task::{Context, Waker};

use loom::thread;

use super::{TaskThread, Waits, check, deadline_once_registered};
use crate::util::sync::{Arc, AtomicU64, Ordering};
use crate::wait::wait_list::WaitList;

struct Counter {
    reached: AtomicU64,
    waiters: WaitList,
}

impl Counter {
    fn new() -> Arc<Self> {
        Arc::new(Self { reached: AtomicU64::new(0), waiters: WaitList::new() })
    }

    /// Raises the number with a Relaxed operation, so that only the list's own fences keep a
    /// wake-up from being lost.
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

/// Q4 WAKE: two threads wait for different numbers. The one that is not reached yet is put
/// back, and woken later.
#[test]
fn a_waiter_put_back_is_woken_later() {
    check("a_waiter_put_back_is_woken_later", 3, || {
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

/// Q4 WAKE: two threads raise the number and wake waiters. One puts a waiter back that the
/// other should have woken, and did not find.
#[test]
fn two_wakers_put_back_and_wake() {
    check("two_wakers_put_back_and_wake", 3, || {
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

/// Q4 WAKE: a thread's node is on one list after the other and is reused, while two wakers
/// may each still be working on its last wait.
#[test]
fn a_thread_waits_again_while_it_is_being_woken() {
    check("a_thread_waits_again_while_it_is_being_woken", 3, || {
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

/// Q4 WAKE: two threads wait for one number, and two threads wake every waiter.
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

/// Q4 WAKE: three threads wait for one number. The first is woken and wakes the next parked
/// one, beside the thread that woke it.
#[test]
fn three_threads_wait_for_one_number() {
    check("three_threads_wait_for_one_number", 2, || {
        let counter = Counter::new();
        for _ in 0..3 {
            let counter = counter.clone();
            thread::spawn(move || counter.wait(1));
        }
        counter.raise(1);
        drop(counter.waiters.wake_some(|| counter.reached.load(Ordering::Relaxed)));
    });
}

/// Q4 WAKE: two threads wait for one number. The first is woken and wakes the other. The
/// thread that woke the first does nothing more until both have gone on.
#[test]
fn a_chain_continues_without_its_waker() {
    check("a_chain_continues_without_its_waker", 3, || {
        let counter = Counter::new();
        let waiting = [(); 2].map(|()| {
            let counter = counter.clone();
            thread::spawn(move || counter.wait(1))
        });
        counter.raise(1);
        let chain = counter.waiters.wake_some(|| counter.reached.load(Ordering::Relaxed));
        for waiting in waiting {
            waiting.join().expect("it was woken");
        }
        drop(chain);
    });
}

/// Q4 WAKE: a thread whose wait timed out waits for a lower number, and is woken for it.
#[test]
fn a_timed_out_thread_waits_for_less() {
    check("a_timed_out_thread_waits_for_less", 3, || {
        let counter = Counter::new();
        let also = counter.clone();
        let wakes = thread::spawn(move || {
            also.raise(1);
            also.wake();
        });
        let timed_out = counter.waiters.wait(2, Some(deadline_once_registered()), || None::<()>);
        assert!(timed_out.is_none(), "the number is not raised yet");
        counter.wait(1);
        wakes.join().expect("it returned");
    });
}

/// Q4 WAKE: a list is dropped with a waiter on it whose wait timed out. Another list takes
/// its address, and that thread waits on it.
#[test]
fn a_list_at_a_reused_address_has_its_own_waiters() {
    check("a_list_at_a_reused_address_has_its_own_waiters", 3, || {
        let mut counter = Counter::new();
        let timed_out = counter.waiters.wait(1, Some(deadline_once_registered()), || None::<()>);
        assert!(timed_out.is_none(), "the number is not raised");
        Arc::get_mut(&mut counter).expect("it has no other").waiters = WaitList::new();
        let also = counter.clone();
        thread::spawn(move || {
            also.raise(1);
            also.wake();
        });
        counter.wait(1);
    });
}

/// Q4 WAKE: an older task's waker waits for a younger thread that is woken with it.
#[test]
fn a_waker_may_wait_for_a_thread_that_is_woken_with_it() {
    check("a_waker_may_wait_for_a_thread_that_is_woken_with_it", 3, || {
        let counter = Counter::new();
        let (task, waiting) = (TaskThread::new(), counter.clone());
        let (waker, mut registration) = (Waker::from(Waits::on(task.clone())), None);
        let mut context = Context::from_waker(&waker);
        let polled = counter.waiters.poll(1, &mut context, &mut registration, || None::<()>);
        assert!(polled.is_none(), "it waits");
        thread::spawn(move || {
            waiting.wait(1);
            Waker::from(task).wake();
        });
        counter.raise(1);
        counter.wake();
    });
}

/// Q4 WAKE: a future is dropped while it is woken. Its task is dropped once.
#[test]
fn a_dropped_future_races_its_wake() {
    check("a_dropped_future_races_its_wake", 3, || {
        let counter = Counter::new();
        let task = TaskThread::new();
        let (waker, mut registration) = (Waker::from(task.clone()), None);
        let mut context = Context::from_waker(&waker);
        let polled = counter.waiters.poll(1, &mut context, &mut registration, || None::<()>);
        assert!(polled.is_none(), "it waits");
        let waking = counter.clone();
        let waking = thread::spawn(move || waking.waiters.wake_everyone());
        drop(registration);
        drop(waker);
        waking.join().expect("it returned");
        assert_eq!(Arc::strong_count(&task), 1, "the task was dropped");
    });
}
