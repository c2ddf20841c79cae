//! Models of the commit lock alone: no thread waits for it, and no work is left behind.

use loom::thread;

use super::check;
use crate::commit::commit_lock::{Attempt, CommitLock};
use crate::util::sync::{Arc, AtomicU64, Ordering};

/// Work that any thread may queue, and that the holder of the lock takes in.
struct Shop {
    queued: AtomicU64,
    taken_in: CommitLock<u64>,
}

impl Shop {
    fn new() -> Arc<Self> {
        let shop = Self { queued: AtomicU64::new(0), taken_in: CommitLock::new() };
        assert!(shop.taken_in.init(0).unlock(), "no thread tries repeatedly");
        Arc::new(shop)
    }

    /// Queues work with a Relaxed store, so that only the lock's own fences keep it from being
    /// left behind.
    fn queue(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in the queued work, unless another thread does.
    fn serve(&self, asks: u32) {
        let mut attempt = self.taken_in.try_lock_spinning(asks, || false);
        while let Attempt::CommitGuard(mut taken_in) = attempt {
            *taken_in += self.queued.swap(0, Ordering::Relaxed);
            if !taken_in.unlock() || self.queued.load(Ordering::Relaxed) == 0 {
                return;
            }
            attempt = self.taken_in.try_lock();
        }
    }

    fn assert_nothing_is_left(&self, queued: u64) {
        let Attempt::CommitGuard(taken_in) = self.taken_in.try_lock() else {
            panic!("Q5 TURN: every thread has released the lock");
        };
        assert_eq!(*taken_in, queued, "Q5 TURN: work was left behind");
        assert!(taken_in.unlock(), "no thread tries repeatedly");
    }
}

/// Q5 TURN: three threads queue work and serve it. Two go away if they find the lock held,
/// and one tries for it repeatedly first.
#[test]
fn what_is_queued_is_served_by_somebody() {
    check("what_is_queued_is_served_by_somebody", 3, || {
        let shop = Shop::new();
        let others = [0, 1].map(|asks| {
            let shop = shop.clone();
            thread::spawn(move || {
                shop.queue();
                shop.serve(asks);
            })
        });
        shop.queue();
        shop.serve(0);
        for other in others {
            other.join().expect("it returned");
        }
        shop.assert_nothing_is_left(3);
    });
}

/// Q5 TURN: two threads try for the lock repeatedly at the same time.
#[test]
fn two_ask_for_the_token() {
    check("two_ask_for_the_token", 3, || {
        let shop = Shop::new();
        let other = shop.clone();
        let other = thread::spawn(move || {
            other.queue();
            other.serve(2);
        });
        shop.queue();
        shop.serve(2);
        other.join().expect("it returned");
        shop.assert_nothing_is_left(2);
    });
}

/// Q5 TURN: a guard is dropped, which poisons the lock, while another thread tries for it.
/// That thread gets the lock before, or never.
#[test]
fn a_turn_that_is_dropped_is_the_last() {
    check("a_turn_that_is_dropped_is_the_last", 3, || {
        let shop = Shop::new();
        let other = shop.clone();
        let other = thread::spawn(move || {
            other.queue();
            other.serve(1);
        });
        let dropped = matches!(shop.taken_in.try_lock(), Attempt::CommitGuard(_));
        other.join().expect("it returned");
        let ended =
            matches!(shop.taken_in.try_lock(), Attempt::Busy) && shop.taken_in.is_poisoned();
        assert_eq!(ended, dropped, "Q5 TURN: no thread takes a poisoned lock");
    });
}
