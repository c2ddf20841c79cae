//! Models of the commit lock alone: no thread waits for it, and no work is left behind.

use loom::thread;

use super::check;
use crate::commit::commit_lock::CommitLock;
use crate::util::sync::{Arc, AtomicU64, Ordering};

/// Work that any thread may queue, and that the holder of the lock takes in.
struct Tally {
    queued: AtomicU64,
    sum: CommitLock<u64>,
}

impl Tally {
    fn new() -> Arc<Self> {
        let tally = Self { queued: AtomicU64::new(0), sum: CommitLock::new() };
        assert!(tally.sum.init(0).unlock(), "no thread tries repeatedly");
        Arc::new(tally)
    }

    /// Queues work with a Relaxed store, so that only the lock's own fences keep it from being
    /// left behind.
    fn queue(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in the queued work, unless another thread does.
    fn take_in(&self, spins: u32) {
        let mut guard = self.sum.try_lock_spinning(spins, || false);
        while let Some(mut sum) = guard {
            *sum += self.queued.swap(0, Ordering::Relaxed);
            if !sum.unlock() || self.queued.load(Ordering::Relaxed) == 0 {
                return;
            }
            guard = self.sum.try_lock();
        }
    }

    fn assert_sum(&self, queued: u64) {
        let sum = self.sum.try_lock().expect("Q5 TURN: every thread has released the lock");
        assert_eq!(*sum, queued, "Q5 TURN: work was left behind");
        assert!(sum.unlock(), "no thread tries repeatedly");
    }
}

/// Q5 TURN: three threads queue work and take it in. Two go away if they find the lock held,
/// and one tries for it repeatedly first.
#[test]
fn queued_work_is_never_left_behind() {
    check("queued_work_is_never_left_behind", 3, || {
        let tally = Tally::new();
        let others = [0, 1].map(|spins| {
            let tally = tally.clone();
            thread::spawn(move || {
                tally.queue();
                tally.take_in(spins);
            })
        });
        tally.queue();
        tally.take_in(0);
        for other in others {
            other.join().expect("it returned");
        }
        tally.assert_sum(3);
    });
}

/// Q5 TURN: two threads try for the lock repeatedly at the same time.
#[test]
fn two_threads_spin_for_the_lock() {
    check("two_threads_spin_for_the_lock", 3, || {
        let tally = Tally::new();
        let other = tally.clone();
        let other = thread::spawn(move || {
            other.queue();
            other.take_in(2);
        });
        tally.queue();
        tally.take_in(2);
        other.join().expect("it returned");
        tally.assert_sum(2);
    });
}

/// Q5 TURN: a guard is dropped, which poisons the lock, while another thread tries for it.
/// That thread gets the lock before, or never.
#[test]
fn a_dropped_guard_poisons_the_lock() {
    check("a_dropped_guard_poisons_the_lock", 3, || {
        let tally = Tally::new();
        let other = tally.clone();
        let other = thread::spawn(move || {
            other.queue();
            other.take_in(1);
        });
        let dropped = tally.sum.try_lock().is_some();
        other.join().expect("it returned");
        let ended = tally.sum.try_lock().is_none() && tally.sum.is_poisoned();
        assert_eq!(ended, dropped, "Q5 TURN: no thread takes a poisoned lock");
    });
}
