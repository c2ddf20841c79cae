//! The committer of a shard: what its callers and its writer share. That is the
//! queue, the progress and the commit lock.
//!
//! The shard's own thread commits the queued records. If that thread is idle, a
//! caller that waits for its record commits **inline**: it takes the commit lock,
//! commits its own record and all queued ones, and releases the lock. This saves two
//! thread wake-ups. It is flat combining, and the classic leader/follower group commit.
//! No thread waits for the commit lock. A caller that finds it held waits for its
//! answer instead, and the holder checks the queue after it releases the lock.
//!
//! This file does not know what a commit does, nor how a thread waits.

use std::{io, process};

use crate::commit::commit_lock::{Attempt, CommitGuard, CommitLock};
use crate::commit::committing::Committing;
use crate::commit::progress::Progress;
use crate::commit::writer::{Flow, Writer};
use crate::error::Cause;
use crate::fs::Origin;
use crate::queue::entry::Entry;
use crate::queue::queue::{PushError, Queue, Receiver, Work};
use crate::util::catch_panic::catch_panic;
use crate::util::sync::{Arc, yield_now};
use crate::wait::wake_chain::WakeChain;

/// Attempts of a caller to take the commit lock before it sleeps, with a yield in
/// between, if commits end without a sync: docs/performance.md, "Inline commits".
const SPINS_MAX: u32 = if cfg!(loom) { 1 } else { 60 };
/// Commits that such a caller makes for others, beside its own, before it wakes the
/// shard's thread.
const EXTRA_INLINE_COMMITS_MAX: u32 = if cfg!(loom) { 1 } else { 8 };

/// Yields before a commit that ends with a sync, if the queue holds fewer records than
/// the last commit answered, and several callers waited for that one: most of them are
/// about to append again. A single caller has no others to wait for, and a caller that
/// does not wait may append at any time.
const GATHER_YIELDS_MAX: u32 = 3;

/// The shared part of one shard. Its fields are the queue, the progress and the lock.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue<Entry>>,
    pub(crate) progress: Arc<Progress>,
    /// Q5 TURN: the commit lock. The thread that holds it commits.
    lock: CommitLock<Box<Writer>>,
    /// Whether each commit ends with a sync. If so, a caller tries the commit lock only
    /// once, since commits take long, and makes no further commit for others.
    sync: bool,
    /// The process whose threads serve the shard.
    origin: Origin,
}

impl Committer {
    pub(crate) fn new(
        queue_capacity: usize,
        queue_bytes: u64,
        sync: bool,
    ) -> (Arc<Self>, Receiver<Entry>) {
        let (queue, receiver) = Queue::new(queue_capacity.next_power_of_two(), queue_bytes);
        let (progress, lock) = (Arc::new(Progress::new()), CommitLock::new());
        let origin = Origin::here();
        (Arc::new(Self { queue, progress, lock, sync, origin }), receiver)
    }

    /// The error for a call in a forked child, where no thread serves the shard.
    pub(crate) fn forked(&self) -> Option<Cause> {
        self.origin
            .is_elsewhere()
            .then(|| Cause::Forked { opened_by: self.origin.pid(), called_by: process::id() })
    }

    /// The error if the calling thread must not wait for a commit: in a forked child, or
    /// on a thread that commits.
    pub(crate) fn would_deadlock(&self) -> Option<Cause> {
        self.forked().or_else(|| Committing::is_here().then_some(Cause::WouldDeadlock))
    }

    /// Runs the shard's thread: commits until the queue is closed and empty, or the
    /// shard fails.
    pub(crate) fn run_thread(&self, writer: Writer) -> Result<(), Cause> {
        let _for_life = Committing::enter();
        let mut turn = self.lock.init(Box::new(writer));
        let mut answered = WakeChain::default();
        loop {
            let mut again = true;
            let goes_on = |_| self.sync || std::mem::take(&mut again);
            answered = self.work(turn, None, answered, goes_on);
            let next = self.queue.wait_for_work(|work| {
                // Checked first: an inline commit may have ended the shard, with or without
                // values left in the queue.
                if self.lock.is_poisoned() {
                    return Some(None);
                }
                match work.map(|_| self.lock.try_lock()) {
                    Some(Attempt::CommitGuard(turn)) => Some(Some(turn)),
                    _ => {
                        // Wake the rest of the chain before this thread parks.
                        answered.wake_rest();
                        None
                    }
                }
            });
            match next.flatten() {
                Some(taken) => turn = taken,
                None => return self.progress.failure().map_or(Ok(()), Err),
            }
        }
    }

    /// Queues a value for a caller that is about to wait for it, and commits it inline if
    /// the commit lock is free. When this returns, the value is committed or another
    /// thread is about to commit it.
    pub(crate) fn push_and_commit_inline(
        &self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
    ) -> Result<u64, PushError> {
        let Attempt::CommitGuard(mut turn) = self.lock.try_lock_unfenced() else {
            let ticket = self.queue.try_push_no_wake(1, bytes, fill)?;
            self.commit_inline(ticket, SpinPolicy::Spin);
            return Ok(ticket);
        };
        let pushed = turn.try_push(bytes, fill);
        let first = turn.has_bypassed().then_some(Work::Values);
        self.commit_with(turn, first, || pushed.map_or(true, |ticket| self.is_answered(ticket)));
        pushed
    }

    /// Commits `ticket` inline if the commit lock is free. For a caller that has queued
    /// it without a wake-up and is about to wait for it. When this returns, the ticket is
    /// answered or another thread is about to commit it.
    pub(crate) fn commit_inline(&self, ticket: u64, spin: SpinPolicy) {
        let is_answered = || self.is_answered(ticket);
        if is_answered() {
            return;
        }
        let asks = if self.sync || spin == SpinPolicy::TryOnce { 0 } else { SPINS_MAX };
        if let Attempt::CommitGuard(turn) = self.lock.try_lock_spinning(asks, is_answered) {
            self.commit_with(turn, None, is_answered);
        }
    }

    /// Fails the shard with an error that another thread has found. The writer stops
    /// before it acknowledges anything more, at once if it is idle.
    pub(crate) fn request_fail(&self, error: io::Error) {
        self.progress.request_fail(error);
        self.queue.request_stop();
    }

    /// Whether [`Committer::request_fail`] was called.
    pub(crate) fn is_fail_requested(&self) -> bool {
        self.queue.is_stop_requested()
    }

    fn is_answered(&self, ticket: u64) -> bool {
        self.progress.answer(ticket).is_some()
    }

    /// Commits until the caller's record is answered, then a few more times for others.
    fn commit_with(
        &self,
        turn: CommitGuard<'_, Box<Writer>>,
        first: Option<Work>,
        is_answered: impl Fn() -> bool,
    ) {
        let _meanwhile = Committing::enter();
        let mut more = if self.sync { 0 } else { EXTRA_INLINE_COMMITS_MAX };
        let mut committed = false;
        let answered = self.work(turn, first, WakeChain::default(), |work| match work {
            Work::Stop => true,
            // Requests of other threads. Once this caller has committed, the shard's
            // thread serves them: `unlock` wakes it.
            Work::Mark | Work::Sync => !committed && !is_answered(),
            Work::Values if !is_answered() => {
                committed = true;
                true
            }
            Work::Values if more == 0 || self.lock.is_contended() => false,
            Work::Values => {
                more -= 1;
                true
            }
            // Only the shard's thread seals and closes.
            Work::Seal | Work::Closed => false,
        });
        drop(answered);
    }

    /// Does `first`, then further work while `goes_on` returns `true`. Then it releases
    /// the commit lock, or ends the writer. A panic of the writer ends here, so that it
    /// reaches no caller. Returns the waiters of the last commit that are not woken yet.
    fn work(
        &self,
        mut turn: CommitGuard<'_, Box<Writer>>,
        mut first: Option<Work>,
        mut answered: WakeChain,
        mut goes_on: impl FnMut(Work) -> bool,
    ) -> WakeChain {
        let work = move || {
            let mut next = || {
                let found = self.queue.next_work();
                // Requests come before `first`; a busy shard would never serve them otherwise.
                let is_contended = matches!(found, Some(Work::Stop | Work::Mark | Work::Sync));
                if first.is_some() && !is_contended {
                    return first.take();
                }
                found.filter(|work| goes_on(*work)).or_else(|| first.take())
            };
            while let Some(work) = next() {
                if work == Work::Values && self.sync && answered.count() > 1 {
                    self.gather(turn.last_commit_records());
                }
                if turn.step(work) == Flow::Ended {
                    return None;
                }
                if self.sync {
                    // The waiters of the last commit had the time of a sync to wake
                    // each other.
                    drop(answered);
                    answered = self.progress.wake_some_answered();
                }
            }
            self.unlock(turn);
            Some(answered)
        };
        let answered = catch_panic(work).flatten();
        if answered.is_none() {
            // The writer has answered the waiting callers, also after a panic.
            // Only the shard's thread may still wait for the commit lock.
            self.queue.wake_receiver();
        }
        answered.unwrap_or_default()
    }

    /// Yields so that the callers of the last commit can append again. Larger commits
    /// matter where the syncs of many shards compete for one disk and two cores.
    fn gather(&self, records: u64) {
        let mut turns = 0;
        while turns < GATHER_YIELDS_MAX && self.queue.depth() < records {
            yield_now();
            turns += 1;
        }
    }

    /// Releases the commit lock and wakes the answered waiters.
    ///
    /// The lock is released first: a woken thread may take the core and would find the
    /// lock held. If commits end with a sync, the waiters are woken before, for larger
    /// commits. Tasks are woken last, because their wakers may wait for the queued work.
    fn unlock(&self, turn: CommitGuard<'_, Box<Writer>>) {
        let is_left_to_me = turn.unlock();
        let _tasks = (!self.sync).then(|| self.progress.wake_answered_threads());
        if is_left_to_me && self.queue.next_work().is_some() {
            self.queue.wake_receiver();
        }
    }
}

/// Whether a caller that finds the commit lock held tries again for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpinPolicy {
    /// It tries again, if commits end without a sync.
    Spin,
    /// It tries once, because it has other work.
    TryOnce,
}

#[cfg(all(test, not(loom)))]
mod tests;
