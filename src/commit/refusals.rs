//! The tickets that a shard has refused for want of room, in bounded memory.
//!
//! Adjacent refusals form one range. A disk that is full for every other commit makes one
//! range each time. So old ranges lose their error first, and are forgotten later. This file
//! does not know the callers. A completion keeps the first answer that it got.

use std::collections::VecDeque;
use std::io;

use crate::commit::progress::Answer;
use crate::error::Cause;

/// Ranges that keep the system's error. Older ones still answer `NotWritten`.
pub(crate) const CAUSES_MAX: usize = 256;
/// Ranges to keep, 16 bytes each: at most 1 MiB per shard. A ticket below them, whose answer
/// no caller has read yet, is answered `Indeterminate`.
pub(crate) const RANGES_MAX: usize = 1 << 16;

/// The refused tickets of one shard.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// The first ticket of each range and the ticket after its last, in rising order.
    ranges: VecDeque<(u64, u64)>,
    /// The errors of the newest ranges.
    causes: VecDeque<Cause>,
    /// Ranges below this are forgotten.
    forgotten_below: u64,
}

impl Refusals {
    /// Adds tickets, which must be above all that were added before.
    pub(crate) fn add(&mut self, first: u64, end: u64, cause: Cause) {
        match self.ranges.back_mut() {
            Some(last) if last.1 == first => last.1 = end,
            _ => {
                self.ranges.push_back((first, end));
                self.causes.push_back(cause);
            }
        }
        if self.causes.len() > CAUSES_MAX {
            self.causes.pop_front();
        }
        if self.ranges.len() > RANGES_MAX {
            self.forgotten_below = self.ranges.pop_front().map_or(0, |(_, end)| end);
        }
    }

    /// The answer to a ticket that was acknowledged or refused. `None` if it was acknowledged.
    pub(crate) fn answer(&self, ticket: u64) -> Option<Answer> {
        if ticket < self.forgotten_below {
            return Some(Answer::Indeterminate(Forgotten::Answer.cause()));
        }
        let at = self.find(ticket)?;
        let causes_from = self.ranges.len() - self.causes.len();
        let cause = at.checked_sub(causes_from).map(|at| self.causes[at].clone());
        Some(Answer::NotWritten(cause.unwrap_or_else(|| Forgotten::Error.cause())))
    }

    /// The first ticket of the range that holds `ticket`. Forgotten ranges are not found.
    pub(crate) fn range_begins(&self, ticket: u64) -> Option<u64> {
        self.find(ticket).map(|at| self.ranges[at].0)
    }

    pub(crate) fn last_cause(&self) -> Option<Cause> {
        self.causes.back().cloned()
    }

    fn find(&self, ticket: u64) -> Option<usize> {
        let after = self.ranges.partition_point(|(first, _)| *first <= ticket);
        after.checked_sub(1).filter(|at| ticket < self.ranges[*at].1)
    }
}

/// The details of an old refusal that are no longer known.
#[derive(Clone, Copy, Debug)]
enum Forgotten {
    /// The system's error.
    Error,
    /// Whether the ticket was refused at all.
    Answer,
}

impl Forgotten {
    /// The cause to report in place of the one that was forgotten.
    fn cause(self) -> Cause {
        no_room(match self {
            Self::Error => "only newer refusals keep the system's error",
            Self::Answer => {
                "this answer was forgotten after too many later refusals; read the log to find it"
            }
        })
    }
}

fn no_room(what: &'static str) -> Cause {
    Cause::DiskFull(io::Error::new(io::ErrorKind::StorageFull, what).into())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn refused(count: usize) -> Refusals {
        let mut refusals = Refusals::default();
        for at in 0..count as u64 {
            refusals.add(3 * at + 1, 3 * at + 2, no_room("planned"));
            refusals.add(3 * at + 2, 3 * at + 3, no_room("joins the range"));
        }
        refusals
    }

    /// C1 ONCE: every ticket of the ranges that are kept has its one answer.
    #[test]
    fn every_refused_ticket_is_answered_and_the_newest_have_a_cause() {
        let refusals = refused(RANGES_MAX);
        for at in 0..RANGES_MAX as u64 {
            assert!(refusals.answer(3 * at).is_none(), "it was acknowledged");
            let keeps_error = at >= (RANGES_MAX - CAUSES_MAX) as u64;
            for ticket in [3 * at + 1, 3 * at + 2] {
                let Some(Answer::NotWritten(Cause::DiskFull(error))) = refusals.answer(ticket)
                else {
                    panic!("{ticket}");
                };
                assert_eq!(error.to_string() == "planned", keeps_error, "{ticket}: {error}");
                assert_eq!(refusals.range_begins(ticket), Some(3 * at + 1));
            }
        }
    }

    /// A forgotten ticket is reported neither as written nor as not written.
    #[test]
    fn refusals_take_bounded_memory() {
        let refusals = refused(3 * RANGES_MAX);
        assert_eq!((refusals.ranges.len(), refusals.causes.len()), (RANGES_MAX, CAUSES_MAX));
        assert!(refusals.ranges.capacity() * size_of::<(u64, u64)>() <= 4 << 20);
        let forgotten = 3 * 2 * RANGES_MAX as u64;
        for ticket in [0, 1, forgotten - 1] {
            let answer = refusals.answer(ticket);
            assert!(matches!(answer, Some(Answer::Indeterminate(_))), "{ticket}: {answer:?}");
        }
        assert!(refusals.answer(forgotten).is_none(), "it was acknowledged");
        assert!(matches!(refusals.answer(forgotten + 1), Some(Answer::NotWritten(_))));
    }
}
