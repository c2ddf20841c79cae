//! The follower of a log: one cursor per shard, generation after generation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, LogId};
use crate::error::{Cause, FollowError, OpenError, Position};
use crate::follow::batch::FollowedBatch;
use crate::follow::cursor::{Cursor, CursorBatch, Step};
use crate::follow::log_files::LogFiles;
use crate::follow::shard_source::{ShardSource, ShardSources, generation_of};
use crate::util::sync::{AtomicBool, Mutex, Ordering, now, spawn, wait_until};
use crate::wait::wake_chain::ParkState;

/// Bytes for reading, over all shards.
const MEMORY_BYTES: usize = 4 << 20;
/// The largest read of one shard.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes of one shard that are passed before the next shard has its turn.
const TURN_BYTES: usize = 1 << 20;

/// How often the files of a log are looked at, if no writer of this process wakes the follower.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The answer of a follower.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Followed {
    /// The next records. They are durable.
    Advanced(FollowedBatch),
    /// Every durable record was passed. [`Follower::checkpoint`] is the place to go on from.
    CaughtUp,
    /// The next record was truncated, so records would be left out. The follower ends. A new one
    /// that begins at `first_kept` passes what is left.
    Gone {
        /// The checkpoint of the oldest records that the log still has.
        first_kept: Checkpoint,
    },
}

/// Passes the durable records of a log, from a checkpoint on, and then as they come.
///
/// Records of one shard come in order, and so do the records of one key, over generations and
/// repairs too. Shards take turns. No record is left out: if one was truncated, the answer is
/// [`Followed::Gone`]. A record is passed once it is on stable storage, in every
/// [`crate::Durability`]. With `Interval` and `Buffered` that is later than its acknowledgement.
///
/// It is an [`Iterator`]: each item is an answer or an error. After [`Followed::CaughtUp`] it
/// blocks until more is durable. It ends after the log was closed, after [`Followed::Gone`] and
/// after an error. A task calls [`Follower::poll_next`], or with the feature `stream` the `Stream`
/// of `into_stream`. It needs no runtime. Each answer blocks for a read of the log's files, mostly
/// from the page cache.
///
/// It shares the shards with the log and does not keep it open: closing or dropping the log ends
/// it, once it has passed all durable records. Waiting costs nothing but about 100 bytes per
/// shard: no thread, no polling. (A follower of a [`crate::LogReader`] polls instead.) Reading
/// takes at most 4 MiB, or 16 KiB per shard, or the size of the largest batches, besides what the
/// caller keeps. Dropping it at any time loses nothing: the checkpoint of the last batch is the
/// place to go on from.
#[derive(Debug)]
pub struct Follower {
    log: LogId,
    generation: u32,
    /// The shards of the generation that is being passed.
    cursors: Vec<Cursor>,
    later: VecDeque<ShardSources>,
    /// Where later generations come from if no writer of this process names them.
    files: Option<LogFiles>,
    /// The shard whose turn it is, and the bytes that are left of its turn.
    turn: usize,
    turn_bytes: usize,
    state: State,
    /// Of the thread that waited last.
    alarm: Option<Arc<Alarm>>,
    /// Of tasks, if there are `files`.
    timer: Arc<Timer>,
}

#[derive(Debug)]
enum State {
    Advancing,
    /// `CaughtUp` was the last answer.
    CaughtUp,
    Gone(Checkpoint),
    Ended,
}

impl Follower {
    /// A follower of the generations from that of the checkpoint on, each with its shards. The
    /// checkpoint lies in the log. If the log has no record of its generation any more, the
    /// follower begins at the oldest one.
    pub(crate) fn new(
        log: LogId,
        generations: Vec<ShardSources>,
        from: &Checkpoint,
    ) -> Result<Self, FollowError> {
        let (later, state, turn_bytes) = (generations.into(), State::Advancing, TURN_BYTES);
        let (generation, cursors, turn) = (0, Vec::new(), 0);
        let (files, alarm, timer) = (None, None, Arc::default());
        let mut new =
            Self { log, generation, cursors, later, files, turn, turn_bytes, state, alarm, timer };
        new.begin_generation(from);
        // Generations count from 1. No file says whether one that is gone had later records.
        if from.generation().max(1) < new.generation {
            new.state = State::Gone(new.first_kept().map_err(FollowError::Log)?);
        }
        Ok(new)
    }

    /// A follower of a log's files. Otherwise like [`Follower::new`].
    pub(crate) fn of_files(
        log: LogId,
        files: LogFiles,
        from: &Checkpoint,
    ) -> Result<Self, FollowError> {
        let first = files.generation(from.generation()).map_err(FollowError::Log)?;
        let new = Self::new(log, first.into_iter().collect(), from)?;
        Ok(Self { files: Some(files), ..new })
    }

    /// Begins the next generation. Returns whether there is one.
    fn begin_generation(&mut self, from: &Checkpoint) -> bool {
        let Some(shards) = self.later.pop_front() else { return false };
        let chunk_bytes = CHUNK_BYTES_MAX.min(MEMORY_BYTES / shards.len().max(1));
        let cursor = |source: Box<dyn ShardSource>| {
            let identity = &source.shard_dir().identity;
            self.generation = identity.generation;
            let next = from.below(identity.generation, identity.shard);
            Cursor::new(source, next, chunk_bytes)
        };
        self.cursors = shards.into_iter().map(cursor).collect();
        (self.turn, self.turn_bytes) = (0, TURN_BYTES);
        true
    }

    /// The checkpoint after everything that was passed: the place to go on from, with this log,
    /// a later open of it or a copy.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let below = self.cursors.iter().map(Cursor::next);
        Checkpoint::new(self.generation, below).of_log(self.log)
    }

    /// The next answer. Does not wait for records: at the end it returns
    /// [`Followed::CaughtUp`], each time. Blocks for a read of the log's files.
    ///
    /// # Errors
    /// [`FollowError::Log`] if the log cannot be read. The follower stays where it is.
    pub fn try_next(&mut self) -> Result<Followed, FollowError> {
        if let State::Gone(first_kept) = &self.state {
            return Ok(Followed::Gone { first_kept: first_kept.clone() });
        }
        let answer = self.advance().map_err(FollowError::Log)?;
        self.state = match &answer {
            Followed::Advanced(_) => State::Advancing,
            Followed::CaughtUp => State::CaughtUp,
            Followed::Gone { first_kept } => State::Gone(first_kept.clone()),
        };
        Ok(answer)
    }

    /// Passes over the shards, from the one whose turn it is, until one has records.
    fn advance(&mut self) -> Result<Followed, OpenError> {
        loop {
            for _ in 0..self.cursors.len() {
                self.turn %= self.cursors.len();
                match self.cursors[self.turn].step()? {
                    Step::Batch(batch) => return Ok(Followed::Advanced(self.pass(batch))),
                    Step::Gone => return Ok(Followed::Gone { first_kept: self.first_kept()? }),
                    Step::CaughtUp => self.end_turn(),
                }
            }
            match self.find_later()? {
                Later::Found => continue,
                Later::AfterGap => return Ok(Followed::Gone { first_kept: self.first_kept()? }),
                Later::None => {}
            }
            // A generation that has ended gets no more records.
            if !self.begin_generation(&Checkpoint::start()) {
                return Ok(Followed::CaughtUp);
            }
        }
    }

    /// Looks into the files for a later generation, if none is known. If there is one, the current
    /// one may have more records, which its end has made durable.
    fn find_later(&mut self) -> Result<Later, OpenError> {
        let Some(files) = self.files.as_ref().filter(|_| self.later.is_empty()) else {
            return Ok(Later::None);
        };
        let Some(later) = files.generation(self.generation + 1)? else { return Ok(Later::None) };
        let mut has_gap = generation_of(&later) != self.generation + 1;
        for cursor in &mut self.cursors {
            has_gap |= !cursor.source().end_generation()?;
        }
        self.later.push_back(later);
        Ok(if has_gap { Later::AfterGap } else { Later::Found })
    }

    fn end_turn(&mut self) {
        (self.turn, self.turn_bytes) = (self.turn + 1, TURN_BYTES);
    }

    fn pass(&mut self, batch: CursorBatch) -> FollowedBatch {
        let CursorBatch { body, first, offset, records, lost } = batch;
        let shard = u32::try_from(self.turn).unwrap_or(u32::MAX);
        let first = Position { generation: self.generation, shard, sequence: first };
        let next = self.checkpoint();
        self.turn_bytes = self.turn_bytes.saturating_sub(body.len().max(1));
        if self.turn_bytes == 0 {
            self.end_turn();
        }
        FollowedBatch { first, records, offset, body, lost, next }
    }

    /// The checkpoint of the oldest records that the log still has. The follower stays where it
    /// is.
    fn first_kept(&mut self) -> Result<Checkpoint, OpenError> {
        let mut generation = self.generation;
        let own = self.cursors.iter_mut().map(|cursor| (cursor.next(), cursor.source()));
        let (mut below, mut has_records) = first_kept(own)?;
        for shards in &mut self.later {
            if has_records {
                break;
            }
            generation = generation_of(shards);
            (below, has_records) = first_kept(shards.iter_mut().map(|shard| (0, shard.as_mut())))?;
        }
        Ok(Checkpoint::new(generation, below).of_log(self.log))
    }

    /// The next answer, for a task. After [`Followed::CaughtUp`] it is `Pending` until more is
    /// durable. `None` after the log was closed, after [`Followed::Gone`] and after an error.
    /// Blocks for a read of the log's files. Dropping the future of a call loses nothing.
    ///
    /// ```
    /// # use shardwal::{Checkpoint, Config, Followed, ShardedWal};
    /// # use std::future::poll_fn;
    /// # async fn follow(log: &ShardedWal) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut follower = log.follow(&Checkpoint::start())?;
    /// while let Some(answer) = poll_fn(|context| follower.poll_next(context)).await {
    ///     if let Followed::Advanced(batch) = answer? {
    ///         batch.records().for_each(|record| println!("{:?}", record.payload()));
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FollowError::ShardFailed`] once every durable record was passed, otherwise as for
    /// [`Follower::try_next`].
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Followed, FollowError>>> {
        let answer = self.poll(context);
        if answer.is_pending() && self.files.is_some() {
            self.timer.wake_later(context.waker());
        }
        answer
    }

    /// [`Follower::poll_next`], for a caller that looks at files again by itself.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Followed, FollowError>>> {
        loop {
            if matches!(self.state, State::Ended | State::Gone(_)) {
                return Poll::Ready(None);
            }
            let was_caught_up = matches!(self.state, State::CaughtUp);
            match self.try_next() {
                Ok(Followed::CaughtUp) if was_caught_up => {}
                Ok(answer) => return Poll::Ready(Some(Ok(answer))),
                Err(error) => return Poll::Ready(Some(Err(self.end(error)))),
            }
            match self.poll_advanced(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Advance::More) => {}
                Poll::Ready(Advance::Closed) => self.state = State::Ended,
                Poll::Ready(Advance::Failed(error)) => {
                    return Poll::Ready(Some(Err(self.end(error))));
                }
            }
        }
    }

    fn end(&mut self, error: FollowError) -> FollowError {
        self.state = State::Ended;
        error
    }

    /// Blocks until the next answer is there, as [`Iterator::next`] does, for at most `timeout`.
    /// The outer `None` means that there is no answer yet.
    ///
    /// # Errors
    /// As for [`Follower::poll_next`]. [`FollowError::NotHere`] on a thread that commits, where
    /// it would block.
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Option<Option<Result<Followed, FollowError>>> {
        self.wait(now().checked_add(timeout))
    }

    /// Blocks until the next answer is there, or the deadline has passed.
    fn wait(&mut self, deadline: Option<Instant>) -> Option<Option<Result<Followed, FollowError>>> {
        let alarm = self.alarm();
        let waker = Waker::from(alarm.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(answer) = self.poll(&mut context) {
                return Some(answer);
            }
            let cause = self.cursors.iter_mut().find_map(|it| it.source().would_deadlock());
            if let Some(cause) = cause {
                return Some(Some(Err(FollowError::NotHere(cause))));
            }
            if deadline.is_some_and(|deadline| deadline <= now()) {
                return None;
            }
            let look_at = self.files.as_ref().and_then(|_| now().checked_add(LOOK_EVERY));
            alarm.wait(deadline.into_iter().chain(look_at).min());
        }
    }

    /// The alarm of this thread. It is kept: shards compare wakers by their address, and another
    /// one might be where an earlier one was.
    fn alarm(&mut self) -> Arc<Alarm> {
        let thread = ParkState::of_this_thread();
        let kept = self.alarm.take().filter(|alarm| Arc::ptr_eq(&alarm.thread, &thread));
        let make = || Arc::new(Alarm { thread, rings: AtomicBool::new(false) });
        self.alarm.insert(kept.unwrap_or_else(make)).clone()
    }

    /// Checks for a task whether any shard may have more records. All shards are asked, so that
    /// each of them wakes the task.
    fn poll_advanced(&mut self, context: &mut Context<'_>) -> Poll<Advance> {
        let (mut has_more, mut ended, mut failed) = (false, 0, None);
        let shards = self.cursors.len();
        for (shard, cursor) in self.cursors.iter_mut().enumerate() {
            match cursor.source().poll_advanced(context) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => has_more = true,
                Poll::Ready(Err(cause)) => {
                    ended += 1;
                    if !matches!(cause, Cause::Closed) {
                        failed.get_or_insert((shard, cause));
                    }
                }
            }
        }
        match failed {
            _ if has_more => Poll::Ready(Advance::More),
            Some((shard, cause)) => {
                Poll::Ready(Advance::Failed(FollowError::ShardFailed { shard, cause }))
            }
            None if ended == shards => Poll::Ready(Advance::Closed),
            None => Poll::Pending,
        }
    }
}

impl Iterator for Follower {
    type Item = Result<Followed, FollowError>;

    /// Blocks until the next answer is there. See [`Follower`].
    fn next(&mut self) -> Option<Self::Item> {
        self.wait(None).flatten()
    }
}

/// Wakes the task that polled last when it is time to look at the files again.
#[derive(Debug, Default)]
struct Timer {
    /// The task to wake. There is a thread that will if, and only if, there is one.
    waker: Mutex<Option<Waker>>,
}

impl Timer {
    /// Wakes a task later, in place of the one before it. Blocks until then if no thread can be
    /// started.
    fn wake_later(self: &Arc<Self>, waker: &Waker) {
        if self.waker.lock().replace(waker.clone()).is_some() {
            return;
        }
        let (timer, look_at) = (self.clone(), now() + LOOK_EVERY);
        let wakes = move || {
            wait_until(look_at);
            timer.wake();
        };
        if spawn("shardwal-follow".into(), wakes).is_err() {
            wait_until(look_at);
            self.wake();
        }
    }

    fn wake(&self) {
        // Taken first: a waker may poll, and the poll may start the next thread.
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The first sequence of each shard, from the given one on, that can still be passed, and whether
/// there is any record to pass.
fn first_kept<'a>(
    shards: impl Iterator<Item = (u64, &'a mut (dyn ShardSource + 'static))>,
) -> Result<(Vec<u64>, bool), OpenError> {
    let (mut below, mut has_records) = (Vec::new(), false);
    for (next, source) in shards {
        let end = source.durable_below()?;
        let first = next.max(source.truncated_below()?).min(end.max(next));
        has_records |= first < end;
        below.push(first);
    }
    Ok((below, has_records))
}

/// What [`Follower::find_later`] found.
enum Later {
    None,
    /// The next generation.
    Found,
    /// A generation, and no proof that everything before it was passed.
    AfterGap,
}

/// What [`Follower::poll_advanced`] found.
enum Advance {
    More,
    /// The log was closed in order, and everything was passed.
    Closed,
    Failed(FollowError),
}

/// The waker of a thread.
#[derive(Debug)]
struct Alarm {
    thread: Arc<ParkState>,
    rings: AtomicBool,
}

impl Alarm {
    /// Blocks until it rings, until the deadline, or spuriously.
    fn wait(&self, deadline: Option<Instant>) {
        // ORDERING: Acquire pairs with the Release of the ring. A ring that this misses unparks
        // the thread.
        self.thread.park(|| !self.rings.swap(false, Ordering::Acquire), deadline);
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        // ORDERING: Release pairs with the Acquire in `wait`. A swap, because loom does not order
        // a plain store after the swap there.
        self.rings.swap(true, Ordering::Release);
        self.thread.unpark(None);
    }
}
