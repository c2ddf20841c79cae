//! The snapshot requests of one shard, and their answers.
//!
//! A caller adds a request and wakes the writer. The writer answers every request that was
//! added before it began. Snapshots are rare, so one lock guards everything. This file does
//! not know what a snapshot is, nor how the writer is woken.
//!
//! Each request has an answer of its own. A later snapshot does not change it, because the
//! caller stores the answer with the state of *its* snapshot.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::util::catch_panic::catch_panic;
use crate::util::sync::{Arc, Mutex, Parker};
use crate::wait::sleeper::wake_task;

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// The snapshot holds every record below this sequence, and no other.
    Taken(u64),
    /// The writer has ended without it.
    Ended,
}

/// The requests of one shard.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next request.
    next_request: u64,
    requests: BTreeMap<u64, Request>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Request {
    answer: Option<Snapshot>,
    waiter: Option<Waiter>,
}

#[derive(Debug)]
enum Waiter {
    Task(Waker),
    Thread(Arc<Parker>),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Task(waker) => wake_task(waker),
            Self::Thread(parker) => parker.unpark(),
        }
    }
}

impl Snapshots {
    /// Adds a request. The caller must wake the writer afterwards.
    pub(crate) fn add(&self) -> u64 {
        let mut state = self.state.lock();
        let number = state.next_request;
        state.next_request += 1;
        let answer = state.has_ended.then_some(Snapshot::Ended);
        state.requests.insert(number, Request { answer, waiter: None });
        number
    }

    /// Forgets a request and its waiter.
    pub(crate) fn remove(&self, number: u64) {
        let removed = self.state.lock().requests.remove(&number);
        // A task's waker may run code of its own, so it is dropped without the lock.
        catch_panic(|| drop(removed));
    }

    /// The answer to a request, or `None` if there is none yet.
    pub(crate) fn answer(&self, number: u64) -> Option<Snapshot> {
        self.state.lock().requests.get(&number).and_then(|request| request.answer)
    }

    /// Checks for a task. `None` means that its waker will be called.
    pub(crate) fn poll(&self, number: u64, waker: &Waker) -> Option<Snapshot> {
        // Cloned and dropped without the lock: both are code of the task's executor.
        let waiter = Waiter::Task(waker.clone());
        let (answer, replaced) = self.register(number, waiter);
        drop(replaced);
        answer
    }

    /// Blocks until the request is answered. `Ended` for a request that was removed.
    pub(crate) fn wait(&self, number: u64) -> Snapshot {
        let parker = Arc::new(Parker::for_this_thread());
        loop {
            match self.register(number, Waiter::Thread(parker.clone())).0 {
                Some(answer) => return answer,
                None => parker.park(None),
            }
        }
    }

    /// Returns the answer, or stores the waiter and returns the one that it replaced.
    fn register(&self, number: u64, waiter: Waiter) -> (Option<Snapshot>, Option<Waiter>) {
        let mut state = self.state.lock();
        match state.requests.get_mut(&number) {
            None => (Some(Snapshot::Ended), Some(waiter)),
            Some(Request { answer: Some(answer), .. }) => (Some(*answer), Some(waiter)),
            Some(request) => (None, request.waiter.replace(waiter)),
        }
    }

    /// Answers the requests below `number`, and wakes their waiters.
    fn answer_below(&self, number: u64, answer: Snapshot) {
        let mut waiters = Vec::new();
        for (_, request) in self.state.lock().requests.range_mut(..number) {
            if request.answer.is_none() {
                request.answer = Some(answer);
                waiters.extend(request.waiter.take());
            }
        }
        waiters.into_iter().for_each(Waiter::wake);
    }
}

/// The writer's side of [`Snapshots`]. When it is dropped, every request is answered.
#[derive(Debug, Default)]
pub(crate) struct SnapshotTaker(Arc<Snapshots>);

impl SnapshotTaker {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Self {
        Self(snapshots)
    }

    /// The requests that a snapshot answers if it begins now: those below this number. Later
    /// ones are answered by the next.
    pub(crate) fn begin(&self) -> u64 {
        self.0.state.lock().next_request
    }

    /// Answers the requests below `requests`. The snapshot holds all records below `next`.
    pub(crate) fn taken(&self, requests: u64, next: u64) {
        self.0.answer_below(requests, Snapshot::Taken(next));
    }
}

impl Drop for SnapshotTaker {
    /// C3 ANSWER: the writer has ended, and takes no more snapshots.
    fn drop(&mut self) {
        self.0.state.lock().has_ended = true;
        self.0.answer_below(u64::MAX, Snapshot::Ended);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::util::sync::{Ordering, UnmodelledAtomicUsize};

    fn ends() -> (Arc<Snapshots>, SnapshotTaker) {
        let snapshots = Arc::new(Snapshots::default());
        (snapshots.clone(), SnapshotTaker::new(snapshots))
    }

    #[test]
    fn a_request_is_answered_by_the_snapshot_that_began_after_it() {
        let (snapshots, taker) = ends();
        let before = snapshots.add();
        let requests = taker.begin();
        let during = snapshots.add();
        taker.taken(requests, 10);
        assert_eq!(snapshots.answer(before), Some(Snapshot::Taken(10)));
        assert_eq!(snapshots.answer(during), None);
        taker.taken(taker.begin(), 20);
        assert_eq!(snapshots.answer(before), Some(Snapshot::Taken(10)), "it keeps its answer");
        assert_eq!(snapshots.wait(during), Snapshot::Taken(20));
    }

    #[test]
    fn a_writer_that_ends_answers_earlier_and_later_requests() {
        let (snapshots, taker) = ends();
        let before = snapshots.add();
        drop(taker);
        let after = snapshots.add();
        let answers = [before, after].map(|it| snapshots.answer(it));
        assert_eq!(answers, [Some(Snapshot::Ended); 2]);
    }

    /// C3 ANSWER: the waker of a request panics as it wakes and as it is dropped. The next
    /// request's waiter is still woken.
    #[test]
    fn a_waker_that_panics_twice_harms_no_other_request() {
        struct Fragile;

        impl Wake for Fragile {
            fn wake(self: Arc<Self>) {
                panic!("a planned panic of a wake");
            }
        }

        impl Drop for Fragile {
            fn drop(&mut self) {
                panic!("a planned panic at the end of a task");
            }
        }

        struct Woken(UnmodelledAtomicUsize);

        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let (snapshots, taker) = ends();
        let woken = Arc::new(Woken(UnmodelledAtomicUsize::new(0)));
        let numbers = [snapshots.add(), snapshots.add()];
        assert_eq!(snapshots.poll(numbers[0], &Waker::from(Arc::new(Fragile))), None);
        assert_eq!(snapshots.poll(numbers[1], &Waker::from(woken.clone())), None);
        taker.taken(taker.begin(), 1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_removed_request_leaves_nothing_behind() {
        let (snapshots, taker) = ends();
        let number = snapshots.add();
        assert_eq!(snapshots.poll(number, Waker::noop()), None);
        snapshots.remove(number);
        assert!(snapshots.state.lock().requests.is_empty());
        taker.taken(taker.begin(), 1);
    }
}
