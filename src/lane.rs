//! What a shard's callers and its writer share: the queue, the progress, and the
//! turn to commit.
//!
//! The shard's own thread commits what the queue holds. Where it is idle, a
//! caller that waits **lends a hand**: it takes the turn, commits its own record
//! and all that is queued, and puts it back, which saves waking one thread and
//! being woken by it. Nobody waits for the turn: who finds it taken waits for
//! his answer, and whoever has it looks at the queue once he has put it back.

use std::{io, process};

use crate::committing::Committing;
use crate::disk::Origin;
use crate::entry::Entry;
use crate::error::Cause;
use crate::foreign::contain;
use crate::mailbox::{Mailbox, PushError, Receiver, Work};
use crate::progress::Progress;
use crate::sync::{Arc, yield_now};
use crate::token::{Attempt, Taken, Token};
use crate::wake_chain::Chain;
use crate::writer::{Flow, Writer};

/// How often a caller whose commits end with no sync asks for the turn before
/// it sleeps, giving its core away in between: docs/performance.md, lever 3 and
/// "`Os`: what was tried".
const ASKS: u32 = if cfg!(loom) { 1 } else { 60 };
/// How many commits such a caller makes for others, beside its own, before it
/// wakes the shard's thread.
const LENT_COMMITS_MAX: u32 = if cfg!(loom) { 1 } else { 8 };

/// How often a commit that ends with a sync gives its core away before it
/// begins, where fewer have come than the last one answered, and several waited
/// for that: most of those are on their way. One who is alone has none to wait
/// for, and who does not wait comes when he likes.
const GATHERING_TURNS: u32 = 3;

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) mailbox: Arc<Mailbox<Entry>>,
    pub(crate) progress: Arc<Progress>,
    /// Q5 TURN: who has it commits.
    turn: Token<Box<Writer>>,
    /// Whether each commit ends with a sync: nobody asks for a turn that takes
    /// so long, and nobody takes another one for others.
    sync: bool,
    /// The process whose threads serve it.
    origin: Origin,
}

impl Lane {
    pub(crate) fn new(
        queue_records: usize,
        queue_bytes: u64,
        sync: bool,
    ) -> (Arc<Self>, Receiver<Entry>) {
        let (mailbox, receiver) = Mailbox::new(queue_records.next_power_of_two(), queue_bytes);
        let (progress, turn) = (Arc::new(Progress::new()), Token::new());
        let origin = Origin::here();
        (Arc::new(Self { mailbox, progress, turn, sync, origin }), receiver)
    }

    /// Why nothing can be done here, in a forked child.
    pub(crate) fn forked(&self) -> Option<Cause> {
        self.origin
            .is_elsewhere()
            .then(|| Cause::Forked { opened_by: self.origin.pid(), called_by: process::id() })
    }

    /// Why the calling thread must not wait for a commit, if it must not.
    pub(crate) fn cannot_wait(&self) -> Option<Cause> {
        self.forked().or_else(|| Committing::is_here().then_some(Cause::WouldDeadlock))
    }

    /// The shard's thread: serves the queue until it is closed and empty, or the
    /// shard fails.
    pub(crate) fn serve(&self, writer: Writer) -> Result<(), Cause> {
        let _for_life = Committing::begin();
        let mut turn = self.turn.bring(Box::new(writer));
        let mut answered = Chain::default();
        loop {
            let mut again = true;
            let goes_on = |_| self.sync || std::mem::take(&mut again);
            answered = self.work(turn, None, answered, goes_on);
            let next = self.mailbox.wait_for_work(|work| {
                // Looked at first: under a caller's hand the shard may end with
                // something in the queue, or nothing.
                if self.turn.has_ended() {
                    return Some(None);
                }
                match work.map(|_| self.turn.try_take()) {
                    Some(Attempt::Taken(turn)) => Some(Some(turn)),
                    _ => {
                        // Who is about to sleep leaves nobody to be woken.
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

    /// Queues a value for a caller that is about to wait for it, and lends a hand:
    /// at once where nobody has the turn. When this returns, somebody has seen to
    /// it.
    pub(crate) fn try_push_and_lend(
        &self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
    ) -> Result<u64, PushError> {
        let Attempt::Taken(mut turn) = self.turn.take_if_free() else {
            let ticket = self.mailbox.try_push_quietly(1, bytes, fill)?;
            self.lend_a_hand(ticket, Patience::Little);
            return Ok(ticket);
        };
        let pushed = turn.try_push(bytes, fill);
        let first = turn.has_own().then_some(Work::Values);
        self.lend(turn, first, || pushed.map_or(true, |ticket| self.is_answered(ticket)));
        pushed
    }

    /// For a caller that has queued `ticket` without waking anybody and is about
    /// to wait for it: commits it if the turn is free. When this returns,
    /// somebody has seen to it.
    pub(crate) fn lend_a_hand(&self, ticket: u64, patience: Patience) {
        let is_answered = || self.is_answered(ticket);
        if is_answered() {
            return;
        }
        let asks = if self.sync || patience == Patience::None { 0 } else { ASKS };
        if let Attempt::Taken(turn) = self.turn.ask(asks, is_answered) {
            self.lend(turn, None, is_answered);
        }
    }

    /// Ends the shard for what another thread has found: its writer fails with
    /// this error before it acknowledges anything more, at once if it is idle.
    pub(crate) fn condemn(&self, error: io::Error) {
        self.progress.condemn(error);
        self.mailbox.request_stop();
    }

    /// Whether [`Lane::condemn`] was called.
    pub(crate) fn is_condemned(&self) -> bool {
        self.mailbox.is_stop_requested()
    }

    fn is_answered(&self, ticket: u64) -> bool {
        self.progress.answer(ticket).is_some()
    }

    /// Commits until what the caller has queued is answered, and a little more.
    fn lend(
        &self,
        turn: Taken<'_, Box<Writer>>,
        first: Option<Work>,
        is_answered: impl Fn() -> bool,
    ) {
        let _meanwhile = Committing::begin();
        let mut more = if self.sync { 0 } else { LENT_COMMITS_MAX };
        let mut committed = false;
        let answered = self.work(turn, first, Chain::default(), |work| match work {
            Work::Stop => true,
            // Asked for by others: once this caller has committed, it is left to the
            // shard's thread, which is woken as the turn is put back.
            Work::Mark | Work::Sync => !committed && !is_answered(),
            Work::Values if !is_answered() => {
                committed = true;
                true
            }
            Work::Values if more == 0 || self.turn.is_asked_for() => false,
            Work::Values => {
                more -= 1;
                true
            }
            // The end is the thread's own.
            Work::Seal | Work::Closed => false,
        });
        drop(answered);
    }

    /// Does what is to be done first, then what there is to do while `goes_on` says
    /// so, and puts the turn back, or ends the writer. Its panic ends here: it must
    /// reach no caller. Gives those who were answered last, who may still be asleep.
    fn work(
        &self,
        mut turn: Taken<'_, Box<Writer>>,
        mut first: Option<Work>,
        mut answered: Chain,
        mut goes_on: impl FnMut(Work) -> bool,
    ) -> Chain {
        let work = move || {
            let mut next = || {
                let found = self.mailbox.look();
                // What others have asked for comes before the first, or it might never.
                let is_asked_for = matches!(found, Some(Work::Stop | Work::Mark | Work::Sync));
                if first.is_some() && !is_asked_for {
                    return first.take();
                }
                found.filter(|work| goes_on(*work)).or_else(|| first.take())
            };
            while let Some(work) = next() {
                if work == Work::Values && self.sync && answered.many() > 1 {
                    self.gather(turn.last_commit_records());
                }
                if turn.step(work) == Flow::Ended {
                    return None;
                }
                if self.sync {
                    // Those of the last commit have had a sync's time to wake
                    // each other.
                    drop(answered);
                    answered = self.progress.wake_some_answered();
                }
            }
            self.put_back(turn);
            Some(answered)
        };
        let answered = contain(work).flatten();
        if answered.is_none() {
            // Who was to be told was told as the writer was dropped, by panic or
            // not. The shard's thread is left, who may wait for its turn.
            self.mailbox.wake_receiver();
        }
        answered.unwrap_or_default()
    }

    /// Lets those come who were answered last: fewer, larger commits, where many
    /// shards' syncs compete for one disk and two cores.
    fn gather(&self, records: u64) {
        let mut turns = 0;
        while turns < GATHERING_TURNS && self.mailbox.depth() < records {
            yield_now();
            turns += 1;
        }
    }

    /// Puts the turn back, then wakes those who were answered: who is woken may
    /// take the core away, and would find the turn taken. Where commits end with
    /// a sync it is the other way round, for the sake of larger commits. Tasks come
    /// last, whose wakers may wait for what is left over.
    fn put_back(&self, turn: Taken<'_, Box<Writer>>) {
        let is_left_to_me = turn.put_back();
        let _tasks = (!self.sync).then(|| self.progress.wake_answered_threads());
        if is_left_to_me && self.mailbox.look().is_some() {
            self.mailbox.wake_receiver();
        }
    }
}

/// Whether a caller who finds the turn taken asks for it a little while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It does, where commits end with no sync.
    Little,
    /// It does not: there is something else to do.
    None,
}

#[cfg(all(test, not(loom)))]
mod tests;
