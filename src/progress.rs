//! How far a shard has come: what callers wait for and the writer moves.
//!
//! One number resolves every append: the tickets below [`Progress::acknowledged`]
//! are answered. Nothing is allocated or counted for an append that does not wait.
//! A thread that waits uses its one node again, a task brings one each time; who
//! wakes makes a list of the tasks, and of the threads too where a commit ends with
//! a sync, one a commit. This layer knows tickets; it knows neither records nor files.
//!
//! | label | invariant |
//! |---|---|
//! | C1 ONCE | a ticket gets one answer, and it never changes |
//! | C2 DURABLE | a ticket is acknowledged only after the mode's condition held for it and all before |
//! | C3 ANSWER | whatever happens to the writer, every ticket gets an answer and its waiters wake |

use std::io;
use std::task::Context;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::error::Cause;
use crate::refusals::Refusals;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::waiter::{Enrolled, Tasks};
use crate::waiters::WaitList;
use crate::wake_chain::Chain;

/// The answer to one ticket.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The mode's condition holds.
    Acknowledged,
    /// It is not in the log and never will be.
    NotWritten(Cause),
    /// It may be in the log.
    Indeterminate(Cause),
}

/// Why a shard stopped for good.
#[derive(Debug)]
struct Failure {
    /// Tickets from the first unanswered one to here may be in the log.
    indeterminate_below: u64,
    cause: Cause,
}

/// A number that only rises, and those who wait for it.
#[derive(Debug)]
struct Watermark {
    /// The writer alone stores (Release); anyone loads (Acquire).
    reached: CachePadded<AtomicU64>,
    waiters: WaitList,
}

impl Watermark {
    fn new() -> Self {
        Self { reached: CachePadded::new(AtomicU64::new(0)), waiters: WaitList::new() }
    }

    fn load(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `raise`: who sees the
        // mark sees what the writer did before it, a refusal's entry included.
        self.reached.load(Ordering::Acquire)
    }

    /// Who raises it wakes its waiters, or has it done soon.
    fn raise(&self, to: u64) {
        // ORDERING: Release pairs with the Acquire in `load`.
        self.reached.store(to, Ordering::Release);
    }
}

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Progress {
    /// C2 DURABLE: tickets below are answered. The writer raises it after the
    /// mode's condition held, or after it has entered a refusal.
    acknowledged: Watermark,
    /// C2 DURABLE: tickets below are on stable storage or refused.
    synced: Watermark,
    /// C3 ANSWER: not `u64::MAX` once the shard has failed: unanswered tickets
    /// from here on will not be acknowledged. Stored once, by the writer or
    /// by the guard that outlives it, after `failure`.
    failed_from: AtomicU64,
    /// Written before `failed_from`.
    failure: Mutex<Option<Failure>>,
    /// C1 ONCE: tickets below the end of the last refusal. The writer stores
    /// it before it raises `acknowledged` over them. While it is 0 nobody
    /// looks at the list, so the lock is met only after a full disk.
    refused_below: AtomicU64,
    refused: Mutex<Refusals>,
    /// What [`Progress::records_end`] said of `synced` when that was raised: its refusals
    /// may be forgotten since. The writer alone stores it, before it raises `synced`.
    synced_records_end: AtomicU64,
    /// What another thread has found that ends the shard. The writer takes it.
    condemned: Mutex<Option<io::Error>>,
    /// Whether the last commit found no room. The writer stores, callers read
    /// it as a hint.
    disk_full: AtomicBool,
    /// Whether the writer waits for its next segment. The same.
    segment_late: AtomicBool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            acknowledged: Watermark::new(),
            synced: Watermark::new(),
            failed_from: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
            refused_below: AtomicU64::new(0),
            refused: Mutex::new(Refusals::default()),
            synced_records_end: AtomicU64::new(0),
            condemned: Mutex::new(None),
            disk_full: AtomicBool::new(false),
            segment_late: AtomicBool::new(false),
        }
    }

    /// Tickets below are answered.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load()
    }

    /// Tickets below are on stable storage, or refused.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load()
    }

    /// The answer to a ticket, if there is one yet.
    pub(crate) fn answer(&self, ticket: u64) -> Option<Answer> {
        // Looked at before the mark: a failure follows the last raise, so a
        // ticket that the mark covers keeps its answer (C1 ONCE).
        let failed = self.failed(ticket);
        if ticket < self.acknowledged.load() {
            return Some(self.refusal(ticket).unwrap_or(Answer::Acknowledged));
        }
        failed.map(|(indeterminate, cause)| {
            if indeterminate { Answer::Indeterminate(cause) } else { Answer::NotWritten(cause) }
        })
    }

    /// Blocks until there is an answer, or the deadline passes.
    pub(crate) fn wait(&self, ticket: u64, deadline: Option<Instant>) -> Option<Answer> {
        self.acknowledged.waiters.wait(ticket + 1, deadline, || self.answer(ticket))
    }

    /// The same for a task; `None` means that its waker will be called.
    pub(crate) fn poll(
        &self,
        ticket: u64,
        context: &mut Context<'_>,
        enrolled: &mut Option<Enrolled>,
    ) -> Option<Answer> {
        let waiters = &self.acknowledged.waiters;
        waiters.poll(ticket + 1, context, enrolled, || self.answer(ticket))
    }

    /// Blocks until all below `end` is on stable storage, or never will be.
    pub(crate) fn wait_synced(&self, end: u64) -> Result<(), Cause> {
        let answer = self.synced.waiters.wait(end, None, || self.synced_answer(end));
        answer.unwrap_or(Ok(()))
    }

    /// The same for a task; `None` means that its waker will be called.
    pub(crate) fn poll_synced(
        &self,
        end: u64,
        context: &mut Context<'_>,
        enrolled: &mut Option<Enrolled>,
    ) -> Option<Result<(), Cause>> {
        self.synced.waiters.poll(end, context, enrolled, || self.synced_answer(end))
    }

    /// Whether all below `end` is on stable storage, or never will be, if that is decided.
    pub(crate) fn synced_answer(&self, end: u64) -> Option<Result<(), Cause>> {
        // As in `answer`: the failure is looked at before the mark.
        let failed = end.checked_sub(1).and_then(|last| self.failed(last));
        if end <= self.synced.load() {
            return Some(Ok(()));
        }
        failed.map(|(_, cause)| Err(cause))
    }

    fn failed(&self, ticket: u64) -> Option<(bool, Cause)> {
        // ORDERING: Acquire pairs with the Release in `fail`: the failure, and
        // every raise before it, are visible.
        if self.failed_from.load(Ordering::Acquire) > ticket {
            return None;
        }
        let failure = self.failure.lock();
        let failure = failure.as_ref()?;
        Some((ticket < failure.indeterminate_below, failure.cause.clone()))
    }

    /// The ticket after the last below `mark`, one of the two marks, that was
    /// not refused: the log has a record below it, and need have none from
    /// there to the mark.
    pub(crate) fn records_end(&self, mark: u64) -> u64 {
        let last = mark.checked_sub(1);
        // Adjacent refusals are one range, so the one before it is a record.
        last.and_then(|last| self.refused(last, |refused| refused.range_begins(last)))
            .unwrap_or(mark)
    }

    /// The ticket after the last below [`Progress::synced`] that was not refused.
    pub(crate) fn synced_records_end(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release of the store. A newer one than
        // `synced` is no harm: all below it is on stable storage.
        self.synced_records_end.load(Ordering::Acquire)
    }

    fn refusal(&self, ticket: u64) -> Option<Answer> {
        self.refused(ticket, |refused| refused.answer(ticket))
    }

    /// Looks at the refusals for a ticket that the mark covers, if there may be one.
    fn refused<R>(&self, ticket: u64, look: impl Fn(&Refusals) -> Option<R>) -> Option<R> {
        // ORDERING: Relaxed; `Watermark::load` has synchronised with the raise
        // that came after this was stored.
        if ticket >= self.refused_below.load(Ordering::Relaxed) {
            return None;
        }
        look(&self.refused.lock())
    }

    /// The writer: all below `end` is acknowledged. Nobody is woken yet: see
    /// [`Progress::wake_answered_threads`].
    pub(crate) fn acknowledge(&self, end: u64) {
        // ORDERING: Relaxed on both; a hint. Every append reads what is beside it: a
        // store each time would take that from them.
        if self.disk_full.load(Ordering::Relaxed) {
            self.disk_full.store(false, Ordering::Relaxed);
        }
        self.acknowledged.raise(end);
    }

    /// The writer: all below `end` is on stable storage.
    pub(crate) fn mark_synced(&self, end: u64) {
        // ORDERING: Release pairs with the Acquire in `synced_records_end`.
        self.synced_records_end.store(self.records_end(end), Ordering::Release);
        self.synced.raise(end);
        self.synced.waiters.wake(|| self.synced());
    }

    /// C3 ANSWER: wakes the threads that were answered, by whoever has answered, once
    /// nobody waits for what it has in hand; the tasks as what this returns is dropped.
    pub(crate) fn wake_answered_threads(&self) -> Tasks {
        self.acknowledged.waiters.wake_threads(|| self.answered())
    }

    /// The same for all; some of the threads as the chain is dropped.
    pub(crate) fn wake_some_answered(&self) -> Chain {
        self.acknowledged.waiters.wake_some(|| self.answered())
    }

    /// Who is put back because the mark does not reach him must not miss a
    /// failure, which answers him without raising it.
    fn answered(&self) -> u64 {
        if self.has_failed() { u64::MAX } else { self.acknowledged() }
    }

    fn has_failed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `fail`.
        self.failed_from.load(Ordering::Acquire) != u64::MAX
    }

    /// The writer: there was no room for `first..end`, and nothing of it is in
    /// the log. Nobody is woken yet.
    pub(crate) fn refuse(&self, first: u64, end: u64, cause: Cause) {
        let is_disk_full = matches!(cause, Cause::DiskFull(_));
        self.refused.lock().add(first, end, cause);
        // ORDERING: Relaxed; published by the raise below.
        self.refused_below.store(end, Ordering::Relaxed);
        // ORDERING: Relaxed; a hint.
        self.disk_full.store(is_disk_full, Ordering::Relaxed);
        self.acknowledged.raise(end);
    }

    /// The shard stops for good: unanswered tickets below
    /// `indeterminate_below` may be in the log, those from there on are not.
    /// The first call decides.
    pub(crate) fn fail(&self, indeterminate_below: u64, cause: Cause) {
        {
            let mut failure = self.failure.lock();
            if failure.is_some() {
                return;
            }
            *failure = Some(Failure { indeterminate_below, cause });
        }
        // ORDERING: Release pairs with the Acquire in `failed`. From the
        // lower mark on: what was acknowledged and not yet synced keeps its
        // answer, but a barrier over it fails; the other way round likewise.
        let lower = self.synced().min(self.acknowledged());
        self.failed_from.store(lower, Ordering::Release);
        // The threads of both before any task.
        let answered = self.acknowledged.waiters.wake_every_thread();
        let synced = self.synced.waiters.wake_every_thread();
        drop((answered, synced));
    }

    /// Says what ends the shard, for the writer to take. The first call decides.
    pub(crate) fn condemn(&self, error: io::Error) {
        self.condemned.lock().get_or_insert(error);
    }

    /// The writer: what another thread has said by [`Progress::condemn`], once.
    pub(crate) fn take_condemnation(&self) -> Option<io::Error> {
        self.condemned.lock().take()
    }

    /// Why the shard has stopped for good, if it has.
    pub(crate) fn failure(&self) -> Option<Cause> {
        if !self.has_failed() {
            return None;
        }
        self.failure.lock().as_ref().map(|failure| failure.cause.clone())
    }

    /// Whether the last commit found no room: a hint.
    pub(crate) fn is_disk_full(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.disk_full.load(Ordering::Relaxed)
    }

    /// The cause of the last refusal for want of room.
    pub(crate) fn last_refusal(&self) -> Option<Cause> {
        self.refused.lock().last_cause()
    }

    /// The writer: whether it waits for its next segment.
    pub(crate) fn set_segment_late(&self, late: bool) {
        // ORDERING: Relaxed; a hint for the reason of a refusal.
        self.segment_late.store(late, Ordering::Relaxed);
    }

    /// Whether the writer waits for its next segment: a hint.
    pub(crate) fn is_segment_late(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.segment_late.load(Ordering::Relaxed)
    }
}
