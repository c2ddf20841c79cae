//! The progress of a shard: the numbers that callers wait for and the writer raises.
//!
//! One number answers every append: each ticket below [`Progress::acknowledged`] is
//! answered. An append that does not wait costs no allocation and no count. One that waits
//! takes its ticket's slot in a table, so that a commit touches the waiters that it answers
//! and no others. This file knows tickets. It does not know records or files.
//!
//! Invariants:
//!
//! - C1 ONCE: a ticket gets one answer, and it never changes
//! - C2 DURABLE: a ticket is acknowledged only after the mode's condition held for it and all
//!   before
//! - C3 ANSWER: whatever happens to the writer, every ticket gets an answer and its waiters
//!   wake

use std::io;
use std::task::Context;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::commit::refusals::Refusals;
use crate::error::Cause;
use crate::util::sync::{AtomicBool, AtomicU64, Mutex, Ordering, now};
use crate::wait::sleeper::{Sleeper, Sleepers, Tasks};
use crate::wait::wait_list::WaitList;
use crate::wait::waiter::Registration;
use crate::wait::waiter_table::WaiterTable;
use crate::wait::wake_chain::{ParkState, WakeChain};

/// The answer to one ticket.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The mode's condition holds.
    Acknowledged,
    /// The record is not in the log and never will be.
    NotWritten(Cause),
    /// The record may be in the log.
    Indeterminate(Cause),
}

/// Where the waiter of a ticket is registered between two polls. [`Progress::withdraw`] ends
/// it.
#[derive(Debug, Default)]
pub(crate) enum TicketRegistration {
    #[default]
    None,
    InTable,
    /// On the list, from its first poll on. For a ticket that may have other waiters.
    OnList(Option<Registration>),
}

impl TicketRegistration {
    fn is_on_list(&self) -> bool {
        matches!(self, Self::OnList(_))
    }
}

/// Why a shard stopped for good: `Cause::Closed` if it stopped in order.
#[derive(Debug)]
struct Failure {
    /// Tickets from the first unanswered one up to this one may be in the log.
    indeterminate_below: u64,
    cause: Cause,
}

/// A number that only rises, and the list of its waiters.
#[derive(Debug)]
struct Watermark {
    /// Only the writer stores (Release). Any thread loads (Acquire).
    reached: CachePadded<AtomicU64>,
    waiters: WaitList,
}

impl Watermark {
    fn new() -> Self {
        Self { reached: CachePadded::new(AtomicU64::new(0)), waiters: WaitList::new() }
    }

    fn load(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release in `raise`: a thread that sees the
        // mark sees what the writer did before it, a refusal's entry included.
        self.reached.load(Ordering::Acquire)
    }

    /// Raises the mark. The caller must then wake the waiters, or have it done soon.
    fn raise(&self, to: u64) {
        // ORDERING: Release pairs with the Acquire in `load`.
        self.reached.store(to, Ordering::Release);
    }
}

/// The answers of one shard, and the threads and tasks that wait for them.
#[derive(Debug)]
pub(crate) struct Progress {
    /// C2 DURABLE: tickets below are answered. The writer raises it after the
    /// mode's condition held, or after it has recorded a refusal.
    acknowledged: Watermark,
    /// The waiters of single tickets. One whose slot is in use waits on the list of
    /// `acknowledged`, as those do that wait for all tickets below one.
    tickets: WaiterTable,
    /// C3 ANSWER: the waiters in `tickets` below this have been taken. Raised by the threads that
    /// answer, which may overlap.
    taken_below: AtomicU64,
    /// C2 DURABLE: tickets below are on stable storage or refused.
    synced: Watermark,
    /// C3 ANSWER: below `u64::MAX` once the shard has failed or was closed: unanswered
    /// tickets from here on will not be acknowledged. Stored once, after `failure`, as the
    /// writer ends.
    failed_from: AtomicU64,
    /// Written before `failed_from`.
    failure: Mutex<Option<Failure>>,
    /// C1 ONCE: the end of the last refusal. The writer stores it before it raises
    /// `acknowledged` over those tickets. While it is 0, no thread reads the list,
    /// so its lock is taken only after a full disk.
    refused_below: AtomicU64,
    refused: Mutex<Refusals>,
    /// The value of [`Progress::records_end`] for `synced`, kept because the refusals below
    /// may be forgotten later. Only the writer stores it, before it raises `synced`.
    synced_records_end: AtomicU64,
    /// The error by which another thread ends the shard. The writer takes it.
    fail_request: Mutex<Option<io::Error>>,
    /// Whether the last commit found no room. The writer stores it, callers read
    /// it as a hint.
    disk_full: AtomicBool,
    /// Whether the writer waits for its next segment. The writer stores it, callers read
    /// it as a hint.
    segment_late: AtomicBool,
}

impl Progress {
    /// A shard that seldom has more than `unanswered` tickets without an answer.
    pub(crate) fn new(unanswered: usize) -> Self {
        Self {
            acknowledged: Watermark::new(),
            tickets: WaiterTable::new(unanswered),
            taken_below: AtomicU64::new(0),
            synced: Watermark::new(),
            failed_from: AtomicU64::new(u64::MAX),
            failure: Mutex::new(None),
            refused_below: AtomicU64::new(0),
            refused: Mutex::new(Refusals::default()),
            synced_records_end: AtomicU64::new(0),
            fail_request: Mutex::new(None),
            disk_full: AtomicBool::new(false),
            segment_late: AtomicBool::new(false),
        }
    }

    /// Every ticket below this is answered.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load()
    }

    /// Every ticket below this is on stable storage, or refused.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load()
    }

    /// The answer to a ticket, or `None` if there is none yet.
    pub(crate) fn answer(&self, ticket: u64) -> Option<Answer> {
        // Checked before the mark: a failure follows the last raise, so a
        // ticket that the mark covers keeps its answer (C1 ONCE).
        let failed = self.failed(ticket);
        if ticket < self.acknowledged.load() {
            return Some(self.refusal(ticket).unwrap_or(Answer::Acknowledged));
        }
        failed.map(|(indeterminate, cause)| {
            if indeterminate { Answer::Indeterminate(cause) } else { Answer::NotWritten(cause) }
        })
    }

    /// Blocks until the ticket is answered. Returns `None` once the deadline has passed.
    /// `registration` is that of an earlier poll, which this leaves as it is.
    pub(crate) fn wait(
        &self,
        ticket: u64,
        deadline: Option<Instant>,
        registration: &TicketRegistration,
    ) -> Option<Answer> {
        let has_passed = || deadline.is_some_and(|deadline| deadline <= now());
        if let Some(answer) = self.answer(ticket) {
            return Some(answer);
        }
        // A caller that only checks registers nothing.
        if has_passed() {
            return None;
        }
        let thread = ParkState::of_this_thread();
        let is_free = matches!(registration, TicketRegistration::None);
        if !is_free || !self.try_register(ticket, Sleeper::Thread(thread.clone())) {
            let waiters = &self.acknowledged.waiters;
            return waiters.wait(ticket.saturating_add(1), deadline, || self.answer(ticket));
        }
        loop {
            let answer = self.answer(ticket);
            if answer.is_some() || has_passed() {
                self.tickets.withdraw(ticket);
                return answer;
            }
            thread.park(|| self.answer(ticket).is_none(), deadline);
        }
    }

    /// Checks for a task. `None` means that its waker will be called.
    pub(crate) fn poll(
        &self,
        ticket: u64,
        context: &mut Context<'_>,
        registration: &mut TicketRegistration,
    ) -> Option<Answer> {
        if let Some(answer) = self.answer(ticket) {
            // Usually the thread that answered has taken it. If not, it wakes the task once
            // more.
            if !registration.is_on_list() {
                *registration = TicketRegistration::None;
            }
            return Some(answer);
        }
        if !registration.is_on_list()
            && self.try_register(ticket, Sleeper::Task(context.waker().clone()))
        {
            *registration = TicketRegistration::InTable;
            return self.check_registered(ticket, registration);
        }
        let mut listed = match std::mem::take(registration) {
            TicketRegistration::OnList(listed) => listed,
            _ => None,
        };
        let waiters = &self.acknowledged.waiters;
        let target = ticket.saturating_add(1);
        let answer = waiters.poll(target, context, &mut listed, || self.answer(ticket));
        *registration = TicketRegistration::OnList(listed);
        answer
    }

    /// Checks once more, after the registration in the table. `None` means that the waker will be
    /// called.
    pub(crate) fn check_registered(
        &self,
        ticket: u64,
        registration: &mut TicketRegistration,
    ) -> Option<Answer> {
        let answer = self.answer(ticket)?;
        self.withdraw(ticket, registration);
        Some(answer)
    }

    /// Registers the waiter of a ticket, for its caller. The caller executes a SeqCst fence before
    /// the waiter checks for its answer, or the ticket is answered only after the call. Returns
    /// the sleeper if the ticket's slot is in use: the waiter is then woken, and waits on the list.
    pub(crate) fn register_unfenced(&self, ticket: u64, sleeper: Sleeper) -> Option<Sleeper> {
        self.tickets.register_unfenced(ticket, sleeper)
    }

    /// Registers the waiters of tickets that are answered only later. For an admission.
    pub(crate) fn registrar(&self) -> impl FnMut(u64, Sleeper) -> Option<Sleeper> + '_ {
        |ticket, sleeper| self.register_unfenced(ticket, sleeper)
    }

    /// Registers the waiter of a ticket in the table, unless the ticket's slot is in use. Returns
    /// whether it did.
    fn try_register(&self, ticket: u64, sleeper: Sleeper) -> bool {
        self.tickets.register(ticket, sleeper).map(Sleeper::discard).is_none()
    }

    /// Ends the registration of a ticket's waiter, which then leaves nothing behind.
    pub(crate) fn withdraw(&self, ticket: u64, registration: &mut TicketRegistration) {
        match registration {
            TicketRegistration::InTable => {
                *registration = TicketRegistration::None;
                self.tickets.withdraw(ticket);
            }
            TicketRegistration::OnList(listed) => *listed = None,
            TicketRegistration::None => {}
        }
    }

    /// Blocks until every record below `end` is on stable storage or refused.
    ///
    /// # Errors
    /// The cause of the shard's failure, if those records will not be synced.
    pub(crate) fn wait_synced(&self, end: u64) -> Result<(), Cause> {
        let answer = self.synced.waiters.wait(end, None, || self.synced_answer(end));
        answer.unwrap_or(Ok(()))
    }

    /// Checks for a task whether every record below `end` is on stable storage or refused.
    /// `None` means that its waker will be called.
    pub(crate) fn poll_synced(
        &self,
        end: u64,
        context: &mut Context<'_>,
        registration: &mut Option<Registration>,
    ) -> Option<Result<(), Cause>> {
        self.synced.waiters.poll(end, context, registration, || self.synced_answer(end))
    }

    /// `Ok` if every record below `end` is on stable storage or refused, the cause if the
    /// shard failed before, and `None` if that is not decided yet.
    pub(crate) fn synced_answer(&self, end: u64) -> Option<Result<(), Cause>> {
        // As in `answer`: the failure is checked before the mark.
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

    /// The ticket after the last one below `mark` that was not refused. `mark` is at most one of
    /// the two marks. The log has a record right below the result, and may have none from there
    /// to the mark.
    pub(crate) fn records_end(&self, mark: u64) -> u64 {
        let last = mark.checked_sub(1);
        // Adjacent refusals are one range, so the ticket before a range is a record.
        last.and_then(|last| self.refused(last, |refused| refused.range_begins(last)))
            .unwrap_or(mark)
    }

    /// The ticket after the last one below [`Progress::synced`] that was not refused.
    pub(crate) fn synced_records_end(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release of the store. It may be newer than
        // `synced`, which does no harm: all below it is on stable storage.
        self.synced_records_end.load(Ordering::Acquire)
    }

    fn refusal(&self, ticket: u64) -> Option<Answer> {
        self.refused(ticket, |refused| refused.answer(ticket))
    }

    /// Searches the refusals for a ticket that the mark covers, if it may be among them.
    fn refused<R>(&self, ticket: u64, search: impl Fn(&Refusals) -> Option<R>) -> Option<R> {
        // ORDERING: Relaxed; `Watermark::load` has synchronised with the raise
        // that came after this was stored.
        if ticket >= self.refused_below.load(Ordering::Relaxed) {
            return None;
        }
        search(&self.refused.lock())
    }

    /// Acknowledges every ticket below `end`. Only the writer calls it. It wakes no
    /// waiter: see [`Progress::wake_answered_threads`].
    pub(crate) fn acknowledge(&self, end: u64) {
        // ORDERING: Relaxed on both; a hint. It shares a cache line with fields that every
        // append reads, so the writer stores only a change.
        if self.disk_full.load(Ordering::Relaxed) {
            self.disk_full.store(false, Ordering::Relaxed);
        }
        self.acknowledged.raise(end);
    }

    /// Records that every ticket below `end` is on stable storage or refused, and wakes
    /// its waiters. Only the writer calls it.
    pub(crate) fn mark_synced(&self, end: u64) {
        // ORDERING: Release pairs with the Acquire in `synced_records_end`.
        self.synced_records_end.store(self.records_end(end), Ordering::Release);
        self.synced.raise(end);
        self.synced.waiters.wake(|| self.synced());
    }

    /// C3 ANSWER: wakes the threads whose tickets are answered. The thread that answered them
    /// calls it, once no other thread waits for its work. The tasks are woken as the result is
    /// dropped.
    pub(crate) fn wake_answered_threads(&self) -> Tasks {
        self.take_answered().wake_threads()
    }

    /// C3 ANSWER: wakes the waiters whose tickets are answered. Some threads may be left in the
    /// chain, to be woken as it is dropped.
    pub(crate) fn wake_some_answered(&self) -> WakeChain {
        WakeChain::begin(self.take_answered())
    }

    fn take_answered(&self) -> Sleepers {
        let mut sleepers = Sleepers::default();
        // ORDERING: Acquire and Release pair with each other: the waiters below the mark have been
        // taken. A thread that is stopped before it raises the mark leaves them to the next one.
        let (from, to) = (self.taken_below.load(Ordering::Acquire), self.acknowledged());
        self.tickets.take(from, to, &mut |sleeper| sleepers.push(sleeper));
        self.taken_below.fetch_max(to, Ordering::Release);
        self.acknowledged.waiters.take_sleepers(|| self.answered(), &mut sleepers);
        sleepers
    }

    /// The number up to which waiters are woken. A failure answers every ticket without
    /// raising the mark, and a waiter above the mark must not miss it.
    fn answered(&self) -> u64 {
        if self.has_ended() { u64::MAX } else { self.acknowledged() }
    }

    fn has_ended(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `fail`.
        self.failed_from.load(Ordering::Acquire) != u64::MAX
    }

    /// Refuses the tickets `first..end` for want of room: none of them is in the log. Only
    /// the writer calls it. It wakes no waiter.
    pub(crate) fn refuse(&self, first: u64, end: u64, cause: Cause) {
        let is_disk_full = matches!(cause, Cause::DiskFull(_));
        self.refused.lock().add(first, end, cause);
        // ORDERING: Relaxed; published by the raise below.
        self.refused_below.store(end, Ordering::Relaxed);
        // ORDERING: Relaxed; a hint.
        self.disk_full.store(is_disk_full, Ordering::Relaxed);
        self.acknowledged.raise(end);
    }

    /// Fails the shard for good. Unanswered tickets below `indeterminate_below` may be in
    /// the log, those from there on are not. Only the first call counts.
    pub(crate) fn fail(&self, indeterminate_below: u64, cause: Cause) {
        {
            let mut failure = self.failure.lock();
            if failure.is_some() {
                return;
            }
            *failure = Some(Failure { indeterminate_below, cause });
        }
        // ORDERING: Release pairs with the Acquire in `failed`. The lower mark
        // counts: a ticket that was acknowledged and not yet synced keeps its
        // answer, but a flush over it fails; the other way round likewise.
        let lower = self.synced().min(self.acknowledged());
        self.failed_from.store(lower, Ordering::Release);
        // Every thread before any task.
        let mut sleepers = Sleepers::default();
        self.tickets.take_all(&mut |sleeper| sleepers.push(sleeper));
        let answered = sleepers.wake_threads();
        let listed = self.acknowledged.waiters.wake_every_thread();
        let synced = self.synced.waiters.wake_every_thread();
        drop((answered, listed, synced));
    }

    /// Ends the shard in order: every record is answered and synced. The tickets from here
    /// on, for which a caller may wait by their position, get no record.
    pub(crate) fn close(&self) {
        self.fail(self.acknowledged(), Cause::Closed);
    }

    /// Stores the error that ends the shard, for the writer to take. Only the first call
    /// counts.
    pub(crate) fn request_fail(&self, error: io::Error) {
        self.fail_request.lock().get_or_insert(error);
    }

    /// Takes the error of [`Progress::request_fail`]. Only the writer calls it, once.
    pub(crate) fn take_fail_request(&self) -> Option<io::Error> {
        self.fail_request.lock().take()
    }

    /// The cause of the shard's failure, if it has failed.
    pub(crate) fn failure(&self) -> Option<Cause> {
        if !self.has_ended() {
            return None;
        }
        let failure = self.failure.lock();
        let cause = failure.as_ref().map(|failure| failure.cause.clone());
        cause.filter(|cause| !matches!(cause, Cause::Closed))
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

    /// Stores whether the writer waits for its next segment. Only the writer calls it.
    pub(crate) fn set_segment_late(&self, late: bool) {
        // ORDERING: Relaxed; a hint for the cause of a refusal.
        self.segment_late.store(late, Ordering::Relaxed);
    }

    /// Whether the writer waits for its next segment: a hint.
    pub(crate) fn is_segment_late(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.segment_late.load(Ordering::Relaxed)
    }
}
