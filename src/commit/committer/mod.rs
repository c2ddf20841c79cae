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

use crate::commit::commit_lock::{CommitGuard, CommitLock};
use crate::commit::commit_mode::CommitMode;
use crate::commit::committing::Committing;
use crate::commit::progress::{Progress, TicketRegistration};
use crate::commit::writer::{Flow, Writer};
use crate::error::Cause;
use crate::fs::Origin;
use crate::queue::entry::Entry;
use crate::queue::queue::{PushError, Queue};
use crate::queue::receiver::Receiver;
use crate::queue::requests::Work;
use crate::util::catch_panic::catch_panic;
use crate::util::sync::{Arc, yield_now};
use crate::wait::sleeper::Sleeper;
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

/// The commit lock's guard, with the writer.
type WriterGuard<'a> = CommitGuard<'a, Box<Writer>>;

/// The shared part of one shard. Its fields are the queue, the progress and the lock.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) queue: Arc<Queue<Entry>>,
    pub(crate) progress: Arc<Progress>,
    /// Q5 TURN: the commit lock. The thread that holds it commits.
    lock: CommitLock<Box<Writer>>,
    /// If each commit ends with a sync, a caller tries the commit lock only once, since
    /// commits take long, and makes no further commit for others.
    mode: CommitMode,
    /// The process whose threads serve the shard.
    origin: Origin,
}

impl Committer {
    pub(crate) fn new(
        queue_capacity: usize,
        queue_bytes: u64,
        mode: CommitMode,
    ) -> (Arc<Self>, Receiver<Entry>) {
        let (queue, receiver) = Queue::new(queue_capacity.next_power_of_two(), queue_bytes);
        // As many in a commit as in the queue.
        let (progress, lock) = (Arc::new(Progress::new(2 * queue_capacity)), CommitLock::new());
        let origin = Origin::here();
        (Arc::new(Self { queue, progress, lock, mode, origin }), receiver)
    }

    /// The error for a call in a forked child, where no thread serves the shard.
    pub(crate) fn forked(&self) -> Option<Cause> {
        self.origin
            .is_other_process()
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
        let mut locked = Some(self.lock.init(Box::new(writer)));
        let mut answered = WakeChain::default();
        while let Some(guard) = locked {
            answered = self.contain(move || self.thread_loop(guard, answered));
            locked = self.wait_for_lock(&mut answered);
        }
        self.progress.failure().map_or(Ok(()), Err)
    }

    /// Waits for work, and takes the commit lock. Returns `None` once the writer has ended.
    fn wait_for_lock(&self, answered: &mut WakeChain) -> Option<WriterGuard<'_>> {
        let locked = self.queue.wait_for_work(|work| {
            // Checked first: an inline commit may have ended the shard, with or without
            // values left in the queue.
            if self.lock.is_poisoned() {
                return Some(None);
            }
            let guard = work.and_then(|_| self.lock.try_lock());
            if guard.is_none() {
                // Wake the rest of the chain before this thread parks.
                answered.wake_rest();
            }
            guard.map(Some)
        });
        locked.flatten()
    }

    /// Queues a value for a caller that is about to wait for it, and commits it inline if
    /// the commit lock is free. When this returns, the value is committed or another
    /// thread is about to commit it.
    pub(crate) fn push_and_commit_inline(
        &self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
    ) -> Result<u64, PushError> {
        let Some(mut guard) = self.lock.try_lock_unfenced() else {
            let ticket = self.queue.try_push_no_wake(1, bytes, fill)?;
            self.commit_inline(ticket, SpinPolicy::Spin);
            return Ok(ticket);
        };
        let pushed = guard.try_push(bytes, fill);
        self.run_inline(guard, || pushed.map_or(true, |ticket| self.is_answered(ticket)));
        pushed
    }

    /// Queues a value for a task, which waits for it from now on if the second part of the result
    /// says so: it must then check for its answer ([`Progress::check_registered`]). Returns the
    /// sleeper if there is no room.
    pub(crate) fn push_for_task(
        &self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
        sleeper: Sleeper,
    ) -> Result<(u64, TicketRegistration), (PushError, Sleeper)> {
        let ticket = match self.queue.try_push_no_wake(1, bytes, fill) {
            Ok(ticket) => ticket,
            Err(error) => return Err((error, sleeper)),
        };
        let refused = self.progress.register_unfenced(ticket, sleeper);
        // Q4 WAKE: its fence also comes before the task's check.
        self.queue.wake_receiver();
        match refused {
            None => Ok((ticket, TicketRegistration::InTable)),
            Some(sleeper) => {
                sleeper.discard();
                Ok((ticket, TicketRegistration::None))
            }
        }
    }

    /// Commits `ticket` inline if the commit lock is free. For a caller that has queued
    /// it without a wake-up and is about to wait for it. When this returns, the ticket is
    /// answered or another thread is about to commit it.
    pub(crate) fn commit_inline(&self, ticket: u64, spin: SpinPolicy) {
        let is_answered = || self.is_answered(ticket);
        if is_answered() {
            return;
        }
        let tries_once = self.mode.syncs_each_commit() || spin == SpinPolicy::TryOnce;
        let spins = if tries_once { 0 } else { SPINS_MAX };
        if let Some(guard) = self.lock.try_lock_spinning(spins, is_answered) {
            self.run_inline(guard, is_answered);
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

    /// Runs a caller's inline commits, and wakes their waiters.
    fn run_inline(&self, guard: WriterGuard<'_>, is_answered: impl Fn() -> bool) {
        let _meanwhile = Committing::enter();
        drop(self.contain(move || self.inline_loop(guard, is_answered)));
    }

    /// The loop of the shard's thread. If commits end with a sync, it commits until there is
    /// no work. Otherwise it does one step, because its waiters are woken after the release.
    /// Returns the waiters that are not woken yet, or `None` if the writer has ended.
    fn thread_loop(
        &self,
        mut guard: WriterGuard<'_>,
        mut answered: WakeChain,
    ) -> Option<WakeChain> {
        while let Some(work) = self.queue.next_work() {
            self.step(&mut guard, work, &mut answered)?;
            if !self.mode.syncs_each_commit() {
                break;
            }
        }
        self.release(guard);
        Some(answered)
    }

    /// The loop of a caller: commits until its record is answered, then a few more times for
    /// other callers. Returns as [`Committer::thread_loop`] does.
    fn inline_loop(
        &self,
        mut guard: WriterGuard<'_>,
        is_answered: impl Fn() -> bool,
    ) -> Option<WakeChain> {
        let mut answered = WakeChain::default();
        let mut has_committed = false;
        let mut extra = if self.mode.syncs_each_commit() { 0 } else { EXTRA_INLINE_COMMITS_MAX };
        while let Some(work) = guard.next_work() {
            let is_waiting = guard.has_bypassed() || !is_answered();
            match work {
                Work::Stop => {}
                // Requests of other threads. Once this caller has committed, the shard's
                // thread serves them: `release` wakes it.
                Work::Snapshot | Work::Sync if is_waiting && !has_committed => {}
                Work::Values if is_waiting => has_committed = true,
                Work::Values if extra > 0 && !self.lock.is_contended() => extra -= 1,
                // Only the shard's thread seals and closes.
                _ => break,
            }
            self.step(&mut guard, work, &mut answered)?;
        }
        self.release(guard);
        Some(answered)
    }

    /// Runs one of the two loops. A panic of the writer ends here, so that it reaches no
    /// caller. Returns the waiters of the last commit that are not woken yet.
    fn contain(&self, commits: impl FnOnce() -> Option<WakeChain>) -> WakeChain {
        let answered = catch_panic(commits).flatten();
        if answered.is_none() {
            // The writer has answered the waiting callers, also after a panic.
            // Only the shard's thread may still wait for the commit lock.
            self.queue.wake_receiver();
        }
        answered.unwrap_or_default()
    }

    /// Does one piece of work, and wakes waiters if it ends with a sync. Returns `None` if
    /// the writer has ended.
    fn step(&self, writer: &mut Writer, work: Work, answered: &mut WakeChain) -> Option<()> {
        let syncs = self.mode.syncs_each_commit();
        if work == Work::Values && syncs && answered.count() > 1 {
            self.gather(writer.last_commit_records());
        }
        if writer.step(work) == Flow::Ended {
            return None;
        }
        if syncs {
            // The waiters of the last commit had the time of a sync to wake each other.
            answered.wake_rest();
            *answered = self.progress.wake_some_answered();
        }
        Some(())
    }

    /// Yields so that the callers of the last commit can append again. Larger commits
    /// matter where the syncs of many shards compete for one disk and two cores.
    fn gather(&self, records: u64) {
        let mut yields = 0;
        while yields < GATHER_YIELDS_MAX && self.queue.depth() < records {
            yield_now();
            yields += 1;
        }
    }

    /// Releases the commit lock and wakes the waiters answered since it was taken.
    ///
    /// The lock is released first: a woken thread may take the core and would find the
    /// lock held. If commits end with a sync, the waiters are woken before, for larger
    /// commits. Tasks are woken last, because their wakers may wait for the queued work.
    fn release(&self, guard: WriterGuard<'_>) {
        let must_check = guard.unlock();
        let _tasks =
            (!self.mode.syncs_each_commit()).then(|| self.progress.wake_answered_threads());
        if must_check && self.queue.next_work().is_some() {
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
