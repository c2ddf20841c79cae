//! The result of an append: a position, and later the answer.
//!
//! A completion is a shard and a ticket. The shard is borrowed from the log, or shared with it.
//! A completion owns nothing that the writer would have to free. Dropping it takes its waker
//! back, and the record is written nevertheless.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::commit::committer::SpinPolicy;
use crate::commit::progress::{Answer, TicketRegistration};
use crate::error::{AppendError, BatchError, Cause, FailedShard, Position};
use crate::shard::shard::{ShardRef, WalShard};
use crate::util::sync::{Arc, now};
use crate::wait::waiter::Registration;

/// The outcome of one append: wait for it, await it, or drop it.
///
/// It resolves to the record's [`Position`] once the condition of the log's
/// [`crate::Durability`] holds for the record and all before it in its shard. It always
/// resolves: a shutdown, a panic of the writer and a failed disk resolve it too. It answers
/// once. After that, `wait` and `poll` return the same answer.
///
/// As a future it needs no runtime. A poll that finds no answer keeps a clone of the waker in
/// a table of the shard. That allocates nothing, but for the table itself: 64 places at a time,
/// which are reused. Waiting allocates nothing, except for the first wait of a thread. The
/// thread that wakes the waiters allocates one list of them per commit.
///
/// A completion borrows the log and has a `Drop`, so the log cannot be moved or dropped while
/// one is in scope. [`Completion::into_owned`] ends the borrow. Dropping a completion takes its
/// waker back: a future that is dropped leaves nothing behind.
///
/// The thread that has committed the record calls the waker: the shard's thread, or a caller
/// of [`crate::ShardedWal::append_wait`]. A panic of the waker is contained. The waker may
/// wait for a thread that was answered with it. It must not wait for another task, for
/// further work of the same shard, or for a lock that a caller holds during `append` or
/// `append_wait`. A call of the log that would wait there fails with
/// [`Cause::WouldDeadlock`].
#[derive(Debug)]
#[must_use = "an append that is not waited for may still fail; drop it on purpose if that is meant"]
pub struct Completion<'log> {
    state: State<'log>,
    registration: TicketRegistration,
}

#[derive(Debug)]
enum State<'log> {
    Queued { shard: ShardRef<'log>, ticket: u64 },
    Answered(Result<Position, AppendError>),
}

impl<'log> Completion<'log> {
    pub(crate) fn queued(shard: ShardRef<'log>, ticket: u64) -> Self {
        Self { state: State::Queued { shard, ticket }, registration: TicketRegistration::None }
    }

    /// The completion of a position that another completion may also wait for.
    pub(crate) fn of_position(shard: ShardRef<'log>, position: Position) -> Self {
        match shard.ticket(position) {
            Some(ticket) => Self {
                state: State::Queued { shard, ticket },
                registration: TicketRegistration::OnList(None),
            },
            None => Self::answered(Ok(position)),
        }
    }

    pub(crate) fn refused(cause: Cause) -> Self {
        Self::answered(Err(AppendError::NotWritten { position: None, cause }))
    }

    pub(crate) fn answered(answer: Result<Position, AppendError>) -> Self {
        Self { state: State::Answered(answer), registration: TicketRegistration::None }
    }

    /// Ends the borrow of the log. The result can be stored, or sent to another task. It keeps
    /// the shard's memory, not the log: closing or dropping the log answers it. Costs one
    /// reference count.
    #[must_use = "it is the completion"]
    pub fn into_owned(mut self) -> Completion<'static> {
        let answered = || {
            State::Answered(Err(AppendError::NotWritten { position: None, cause: Cause::Closed }))
        };
        let state = match std::mem::replace(&mut self.state, answered()) {
            State::Queued { shard, ticket } => State::Queued { shard: shard.into_owned(), ticket },
            State::Answered(answer) => State::Answered(answer),
        };
        Completion { state, registration: std::mem::take(&mut self.registration) }
    }

    /// The record's position, known once it is queued. `None` if it was refused before.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match &self.state {
            State::Queued { shard, ticket } => Some(shard.position(*ticket)),
            State::Answered(Ok(position)) => Some(*position),
            State::Answered(Err(error)) => error.position(),
        }
    }

    /// Whether the record was refused before it was queued.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        matches!(&self.state, State::Answered(Err(error)) if error.was_refused())
    }

    /// Commits the record inline if the commit lock is free. For a caller that has queued it
    /// without a wake-up and is about to wait.
    pub(crate) fn commit_inline(&self, spin: SpinPolicy) {
        if let State::Queued { shard, ticket } = &self.state {
            shard.committer().commit_inline(*ticket, spin);
        }
    }

    /// Whether the record is answered. Does not block.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Queued { shard, ticket } => shard.committer().progress.answer(*ticket).is_some(),
            State::Answered(_) => true,
        }
    }

    /// Blocks until the record is answered.
    ///
    /// # Errors
    /// See [`AppendError`]. A thread that commits must not wait: it gets `Indeterminate` with
    /// [`Cause::WouldDeadlock`] for a record without an answer. The record is still written.
    pub fn wait(mut self) -> Result<Position, AppendError> {
        self.wait_for_ever()
    }

    fn wait_for_ever(&mut self) -> Result<Position, AppendError> {
        loop {
            if let Some(answer) = self.wait_until(None) {
                return answer;
            }
        }
    }

    /// Blocks until the record is answered, for at most `timeout`. `None` means that there is
    /// no answer yet, and the completion can be waited for again. On a thread that commits it
    /// does not block.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Position, AppendError>> {
        self.wait_until(Some(now().checked_add(timeout)))
    }

    /// Blocks without limit for `None`, and for `Some(None)`, a deadline that the clock cannot
    /// represent.
    fn wait_until(
        &mut self,
        timeout: Option<Option<Instant>>,
    ) -> Option<Result<Position, AppendError>> {
        let State::Queued { shard, ticket } = &self.state else { return self.answered_already() };
        let ticket = *ticket;
        let progress = &shard.committer().progress;
        let answer = match (progress.answer(ticket), shard.would_deadlock()) {
            (Some(answer), _) => answer,
            // No thread of a forked child will ever answer.
            (None, Some(cause @ Cause::Forked { .. })) => Answer::Indeterminate(cause),
            (None, Some(_)) if timeout.is_some() => return None,
            (None, Some(cause)) => Answer::Indeterminate(cause),
            (None, None) => progress.wait(ticket, timeout.flatten(), &self.registration)?,
        };
        let answer = shard.outcome(ticket, answer);
        Some(self.answer_with(answer))
    }

    /// C1 ONCE: keeps the answer for later calls.
    fn answer_with(
        &mut self,
        answer: Result<Position, AppendError>,
    ) -> Result<Position, AppendError> {
        self.state = State::Answered(answer.clone());
        answer
    }

    fn answered_already(&self) -> Option<Result<Position, AppendError>> {
        match &self.state {
            State::Queued { .. } => None,
            State::Answered(answer) => Some(answer.clone()),
        }
    }
}

impl Future for Completion<'_> {
    type Output = Result<Position, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let State::Queued { shard, ticket } = &this.state else {
            return this.answered_already().map_or(Poll::Pending, Poll::Ready);
        };
        let answer = shard.poll_answer(*ticket, context, &mut this.registration);
        let Some(answer) = answer else { return Poll::Pending };
        let answer = shard.outcome(*ticket, answer);
        Poll::Ready(this.answer_with(answer))
    }
}

impl Drop for Completion<'_> {
    /// Takes its waker back, so that it leaves nothing behind.
    fn drop(&mut self) {
        if let State::Queued { shard, ticket } = &self.state {
            shard.committer().progress.withdraw(*ticket, &mut self.registration);
        }
    }
}

/// The outcome of a batch. It resolves once each shard's part has an answer.
#[derive(Debug)]
#[must_use = "a batch that is not waited for may still fail; drop it on purpose if that is meant"]
pub struct BatchCompletion<'log> {
    parts: Vec<ShardCompletion<'log>>,
    failed: Vec<FailedShard>,
    /// Parts before this one are answered.
    answered: usize,
}

/// The part of a batch in one shard. Its last record answers for all of it.
#[derive(Debug)]
pub(crate) struct ShardCompletion<'log> {
    pub(crate) shard: usize,
    pub(crate) last: Completion<'log>,
    pub(crate) records: Vec<usize>,
}

impl<'log> BatchCompletion<'log> {
    pub(crate) fn new(parts: Vec<ShardCompletion<'log>>) -> Self {
        Self { parts, failed: Vec::new(), answered: 0 }
    }

    /// Ends the borrow of the log. See [`Completion::into_owned`].
    #[must_use = "it is the completion"]
    pub fn into_owned(self) -> BatchCompletion<'static> {
        let Self { parts, failed, answered } = self;
        let own = |part: ShardCompletion<'log>| ShardCompletion {
            shard: part.shard,
            last: part.last.into_owned(),
            records: part.records,
        };
        BatchCompletion { parts: parts.into_iter().map(own).collect(), failed, answered }
    }

    /// Whether each part is answered. Does not block.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.last.is_done())
    }

    /// Blocks until each part is answered.
    ///
    /// # Errors
    /// [`BatchError`] names the parts that failed. The other parts were acknowledged.
    pub fn wait(mut self) -> Result<(), BatchError> {
        // `poll` has recorded the answers before `answered`.
        for part in &mut self.parts[self.answered..] {
            let answer = part.last.wait_for_ever();
            note(&mut self.failed, part, answer);
        }
        result(self.failed)
    }
}

fn note(
    failed: &mut Vec<FailedShard>,
    part: &mut ShardCompletion<'_>,
    answer: Result<Position, AppendError>,
) {
    if let Err(error) = answer {
        let records = std::mem::take(&mut part.records);
        let error = error.of_run(records.len());
        failed.push(FailedShard { shard: part.shard, records, error });
    }
}

fn result(failed: Vec<FailedShard>) -> Result<(), BatchError> {
    if failed.is_empty() { Ok(()) } else { Err(BatchError { failed }) }
}

impl Future for BatchCompletion<'_> {
    type Output = Result<(), BatchError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some(part) = this.parts.get_mut(this.answered) {
            match Pin::new(&mut part.last).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => note(&mut this.failed, part, answer),
            }
            this.answered += 1;
        }
        Poll::Ready(result(this.failed.clone()))
    }
}

/// The outcome of a flush. It resolves once every record that was appended before it, in
/// every shard, is on stable storage. This holds in every durability mode.
#[derive(Debug)]
#[must_use = "a flush says nothing until it is waited for"]
pub struct Flush<'log> {
    shards: Vec<(ShardRef<'log>, u64)>,
    /// Shards before this one are synced.
    passed: usize,
    registration: Option<Registration>,
}

impl<'log> Flush<'log> {
    /// Requests a sync of all these shards.
    pub(crate) fn of(shards: &'log [Arc<WalShard>]) -> Self {
        let request = |shard: &'log Arc<WalShard>| {
            (ShardRef::Borrowed(shard), shard.committer().queue.request_sync())
        };
        Self { shards: shards.iter().map(request).collect(), passed: 0, registration: None }
    }

    /// Ends the borrow of the log. See [`Completion::into_owned`].
    #[must_use = "a flush says nothing until it is waited for"]
    pub fn into_owned(self) -> Flush<'static> {
        let shards = self.shards.into_iter().map(|(shard, end)| (shard.into_owned(), end));
        Flush { shards: shards.collect(), passed: self.passed, registration: self.registration }
    }

    /// Blocks until all those records are on stable storage.
    ///
    /// # Errors
    /// `Indeterminate`, at the first shard that failed: records that were not synced there may
    /// or may not be on the disk. A refused append is reported by its own completion, not here.
    pub fn wait(self) -> Result<(), AppendError> {
        for (shard, end) in self.shards {
            let progress = &shard.committer().progress;
            let synced = match (progress.synced_answer(end), shard.would_deadlock()) {
                (Some(answer), _) => answer,
                (None, Some(cause)) => Err(cause),
                (None, None) => progress.wait_synced(end),
            };
            synced.map_err(|cause| barrier_error(&shard, cause))?;
        }
        Ok(())
    }
}

fn barrier_error(shard: &WalShard, cause: Cause) -> AppendError {
    let position = shard.position(shard.committer().progress.synced());
    AppendError::Indeterminate { position, cause }
}

impl Future for Flush<'_> {
    type Output = Result<(), AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some((shard, end)) = this.shards.get(this.passed) {
            let progress = &shard.committer().progress;
            let synced = match shard.forked() {
                Some(cause) => progress.synced_answer(*end).or(Some(Err(cause))),
                None => progress.poll_synced(*end, context, &mut this.registration),
            };
            match synced {
                None => return Poll::Pending,
                Some(Err(cause)) => return Poll::Ready(Err(barrier_error(shard, cause))),
                Some(Ok(())) => {}
            }
            this.passed += 1;
            this.registration = None;
        }
        Poll::Ready(Ok(()))
    }
}
