//! Requests to a queue's receiver, which travel beside the values.
//!
//! A sync request names a ticket: "once every value below ticket t is received, sync". Its
//! order among the values is therefore fixed, as it would be in the ring. But a request takes
//! no ticket, because tickets become the records' permanent sequences, which have no holes.
//! And a full ring cannot delay a request. This file does not know how the receiver is woken.

use crate::util::sync::{AtomicBool, AtomicU64, Ordering};

/// The next thing for the receiver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A stop was requested; values that are left are not received.
    Stop,
    /// There are values to receive.
    Values,
    /// Every ticket below a requested one is received: sync.
    Sync,
    /// A seal was requested, and there is nothing else to do.
    Seal,
    /// A snapshot was requested.
    Snapshot,
    /// Pushes may wait for room, and there is no value to receive.
    Admit,
    /// The queue is closed, and every value is received.
    Closed,
}

/// The requests that the receiver has not done yet.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Sync once every ticket below this is received. Any thread raises it.
    sync_below: AtomicU64,
    /// The receiver's head when it last began a sync. Only the receiver stores.
    synced_below: AtomicU64,
    /// The sync request that the receiver is working towards. Later requests do not
    /// postpone it. Only the receiver stores.
    sync_goal: AtomicU64,
    /// A seal is requested. Any thread sets it, the receiver clears it.
    seal: AtomicBool,
    /// A snapshot is requested. Any thread sets it, the receiver clears it.
    snapshot: AtomicBool,
    /// Pushes may wait for room. Any thread sets it, the receiver clears it.
    admit: AtomicBool,
    /// The receiver must stop, even if values or requests are left.
    stop: AtomicBool,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            sync_below: AtomicU64::new(0),
            synced_below: AtomicU64::new(0),
            sync_goal: AtomicU64::new(0),
            seal: AtomicBool::new(false),
            snapshot: AtomicBool::new(false),
            admit: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// Requests a sync once every ticket below `below` is received.
    pub(super) fn sync(&self, below: u64) {
        // ORDERING: Relaxed; the fences of the receiver's wait list order it (Q4 WAKE), and
        // the receiver acts on it only by what it has itself received.
        self.sync_below.fetch_max(below, Ordering::Relaxed);
    }

    pub(super) fn seal(&self) {
        // ORDERING: Relaxed; a hint, ordered by the fences of the receiver's wait list.
        self.seal.store(true, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) {
        // ORDERING: Relaxed; the request publishes nothing but itself, and the fences of the
        // receiver's wait list order it (Q4 WAKE).
        self.snapshot.store(true, Ordering::Relaxed);
    }

    pub(super) fn admit(&self) {
        // ORDERING: Release pairs with the Acquire in `accept`: the receiver sees why. An
        // exchange, so that it also sees the reasons of earlier requests that are not served.
        self.admit.swap(true, Ordering::Release);
    }

    pub(super) fn is_admission_requested(&self) -> bool {
        // ORDERING: Relaxed; the fences of the receiver's wait list order it (Q4 WAKE).
        self.admit.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        // ORDERING: Release pairs with the Acquire in `is_stop_requested`; the fences of the
        // receiver's wait list order it for a receiver that sleeps (Q4 WAKE).
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn is_stop_requested(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `stop`.
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn is_seal_requested(&self) -> bool {
        // ORDERING: Relaxed; see `seal`.
        self.seal.load(Ordering::Relaxed)
    }

    /// The request that comes before any value, if there is one. The receiver has received
    /// every ticket below `head`.
    pub(super) fn due(&self, head: u64) -> Option<Work> {
        if self.is_stop_requested() {
            return Some(Work::Stop);
        }
        // ORDERING: Relaxed on all of them; see `snapshot` and `sync`.
        if self.snapshot.load(Ordering::Relaxed) {
            return Some(Work::Snapshot);
        }
        let synced_below = self.synced_below.load(Ordering::Relaxed);
        let requests = [&self.sync_goal, &self.sync_below].map(|it| it.load(Ordering::Relaxed));
        let is_due = requests.iter().any(|below| *below > synced_below && *below <= head);
        is_due.then_some(Work::Sync)
    }

    /// Clears a request, because the receiver is about to do it. Only the receiver calls it.
    pub(super) fn accept(&self, work: Work, head: u64) {
        match work {
            // ORDERING: Relaxed on all; a request that comes now is the next one.
            Work::Seal => self.seal.store(false, Ordering::Relaxed),
            Work::Snapshot => self.snapshot.store(false, Ordering::Relaxed),
            Work::Sync => self.synced_below.store(head, Ordering::Relaxed),
            // ORDERING: Acquire pairs with the Release in `admit`.
            Work::Admit => drop(self.admit.swap(false, Ordering::Acquire)),
            Work::Values => self.set_sync_goal(),
            Work::Stop | Work::Closed => {}
        }
    }

    /// Remembers a sync request that waits for values, until it is done.
    fn set_sync_goal(&self) {
        // ORDERING: Relaxed on all; the receiver's own, and a request that is
        // missed now is found with the next values.
        let synced_below = self.synced_below.load(Ordering::Relaxed);
        let goal = self.sync_goal.load(Ordering::Relaxed);
        let sync_below = self.sync_below.load(Ordering::Relaxed);
        // An unchanged store would take the cache line from the producers.
        if goal <= synced_below && goal != sync_below {
            self.sync_goal.store(sync_below, Ordering::Relaxed);
        }
    }
}
