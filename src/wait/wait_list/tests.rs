//! Tests of callers' code among the waiters, and of what timed-out waits leave behind.

use std::task::{Wake, Waker};
use std::time::Duration;

use super::*;
use crate::util::catch_panic::catch_panic;
use crate::util::sync::channel::{Receiver, unbounded};
use crate::util::sync::{AtomicU64, spawn, yield_now};

/// A task whose drop panics, and whose wake panics if `wake_panics`.
struct Fragile {
    wake_panics: bool,
}

impl Wake for Fragile {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        assert!(!self.wake_panics, "a planned panic of a wake");
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("a planned panic at the end of a task");
    }
}

struct Counted(AtomicU64);

impl Counted {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    fn wakes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Registers a task, of which the list then holds the last waker.
fn enrol(list: &WaitList, task: Arc<impl Wake + Send + Sync + 'static>) -> Option<Registration> {
    let (waker, mut registration) = (Waker::from(task), None);
    let polled = list.poll(0, &mut Context::from_waker(&waker), &mut registration, || None::<()>);
    assert!(polled.is_none(), "it waits");
    registration
}

/// C3 ANSWER: the list holds the last reference to a task whose drop panics, after its wake
/// may have panicked. The waiter behind it is still woken.
#[test]
fn a_task_that_panics_as_it_ends_harms_nobody_behind_it() {
    for wake_panics in [false, true] {
        let (list, counted) = (WaitList::new(), Counted::new());
        let fragile = Arc::new(Fragile { wake_panics });
        let registration = [enrol(&list, fragile), enrol(&list, counted.clone())];
        list.wake_everyone();
        assert_eq!(counted.wakes(), 1, "it was woken");
        drop(registration);
    }
}

/// Q4 WAKE: a list is dropped with a task whose drop panics, and a thread behind it whose
/// wait timed out. The next list may take its address.
#[test]
fn a_list_that_ends_lets_everybody_go_and_panics_at_nobody() {
    let mut list = Arc::new(WaitList::new());
    let task = Arc::new(Fragile { wake_panics: false });
    let ended = Arc::downgrade(&task);
    // Kept, as by a future that was leaked, so that the task ends with the list.
    let registration = enrol(&list, task);
    let soon = || Some(now() + Duration::from_millis(1));
    assert!(list.wait(5, soon(), || None::<()>).is_none(), "the wait times out");
    let inner = Arc::get_mut(&mut list).expect("no other thread has it");
    assert!(catch_panic(|| *inner = WaitList::new()).is_some(), "it has unwound");
    assert!(ended.upgrade().is_none(), "no task is kept");
    assert!(list.wait(5, soon(), || None::<()>).is_none(), "the wait times out");
    let mut waiters = 0;
    list.take(|| 5, |_| waiters += 1);
    assert_eq!(waiters, 1, "it is registered on the new list");
    drop(registration);
}

/// Q4 WAKE: a wait for less than a node left behind uses another node.
#[test]
fn a_wait_on_many_lists_in_turn_leaves_one_node_on_each() {
    let lists = [(); 5].map(|()| WaitList::new());
    for target in (1..=3).rev().cycle().take(300) {
        for list in &lists {
            assert!(list.wait(target, Some(now()), || None::<()>).is_none(), "it only looks");
        }
    }
    assert!(lists.iter().all(|list| list.newest.load(Ordering::Relaxed).is_null()));
    for _ in 0..1000 {
        for list in &lists {
            let soon = now() + Duration::from_micros(5);
            assert!(list.wait(1, Some(soon), || None::<()>).is_none(), "the wait times out");
        }
    }
    let mut nodes = 0;
    lists.iter().for_each(|list| list.take(|| 1, |_| nodes += 1));
    assert!((1..=lists.len()).contains(&nodes), "{nodes} nodes of one thread");
}

/// The list keeps no task whose future was dropped, nor one whose future has moved.
#[test]
fn a_cancelled_wait_drops_its_task() {
    let (list, first, second) = (WaitList::new(), Counted::new(), Counted::new());
    let (one, other) = (Waker::from(first.clone()), Waker::from(second.clone()));
    let mut registration = None;
    for waker in [&one, &one, &other] {
        let mut context = Context::from_waker(waker);
        assert!(list.poll(0, &mut context, &mut registration, || None::<()>).is_none(), "it waits");
    }
    assert_eq!(Arc::strong_count(&first), 2, "it has moved");
    assert_eq!(Arc::strong_count(&second), 3, "it waits");
    drop(registration);
    assert_eq!(Arc::strong_count(&second), 2, "it has gone");
    list.wake_everyone();
    assert_eq!(first.wakes() + second.wakes(), 0);
}

/// Q4 WAKE: the waker of an older task waits for a younger thread.
#[test]
fn a_waker_may_wait_for_a_thread_that_came_later() {
    struct Waits(Receiver<()>, AtomicU64);

    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            let waited = self.0.recv_timeout(Duration::from_secs(20));
            self.1.store(waited.is_ok().into(), Ordering::Relaxed);
        }
    }

    let wakes: [fn(&WaitList); 2] = [WaitList::wake_everyone, |list| drop(list.wake_some(|| 1))];
    for wake in wakes {
        let (list, reached) = (Arc::new(WaitList::new()), Arc::new(AtomicU64::new(0)));
        let (sender, gone_on) = unbounded();
        let task = Arc::new(Waits(gone_on, AtomicU64::new(0)));
        let registration = enrol(&list, task.clone());
        let (on, at, wakers) = (list.clone(), reached.clone(), Counted::new());
        let count = wakers.clone();
        let thread = spawn("younger".into(), move || {
            let ready = || {
                count.0.fetch_add(1, Ordering::Relaxed);
                (at.load(Ordering::Acquire) == 1).then_some(())
            };
            on.wait(1, None, ready).expect("there is no deadline");
            sender.send(()).expect("the test waits");
        });
        // It checks the second time once it is registered.
        while wakers.wakes() < 2 {
            yield_now();
        }
        reached.store(1, Ordering::Release);
        wake(&list);
        assert_eq!(task.1.load(Ordering::Relaxed), 1, "the thread went on meanwhile");
        thread.expect("it starts").join().expect("no panic");
        drop(registration);
    }
}
