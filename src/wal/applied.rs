//! What the caller has applied of an open log, for state that is kept outside of it.
//!
//! This file does not know the caller's state.

use std::collections::BTreeSet;

use super::ShardedWal;
use crate::checkpoint::{Checkpoint, LogId};
use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::error::Position;
use crate::util::sync::{Arc, Mutex};

/// Tracks which records the caller has applied to a state of its own, and makes checkpoints
/// of it.
///
/// A record is acknowledged before the caller can apply it. So no checkpoint of the log itself
/// fits a state that is kept outside of a [`crate::StateMachine`]. Report each record with
/// [`Applied::done`] **after** it is in the state. To take a snapshot, call
/// [`Applied::checkpoint`] **first**, then copy the state: the copy holds every record below
/// the checkpoint.
///
/// The copy may hold records at or above the checkpoint too, and a replay passes those again.
/// So applying a record twice must be harmless. A state that needs each record exactly once
/// belongs in a [`crate::StateMachine`].
///
/// The records that the log had when it was opened count as applied: replay them into the
/// state before the first append. Report every record that is appended afterwards, also those
/// whose completions are dropped. A record that is never reported holds the checkpoint back,
/// and its shard can no longer be truncated. Records that the log has refused
/// ([`crate::AppendError::NotWritten`]) need no report.
///
/// It holds no reference to the log, and is `Send` and `Sync`. Memory: about 30 bytes per
/// record that is applied before an earlier one of its shard.
#[derive(Debug)]
pub struct Applied {
    log: LogId,
    generation: u32,
    shards: Vec<ShardApplied>,
}

#[derive(Debug)]
struct ShardApplied {
    committer: Arc<Committer>,
    /// The sequence of ticket 0.
    base: u64,
    done: Mutex<Done>,
}

/// The tickets of one shard that are applied.
#[derive(Debug, Default)]
struct Done {
    /// Every ticket below is applied or refused.
    below: u64,
    /// Applied tickets above `below`.
    above: BTreeSet<u64>,
}

impl Done {
    fn add(&mut self, ticket: u64) {
        if ticket > self.below {
            self.above.insert(ticket);
        } else if ticket == self.below {
            self.below += 1;
            self.join();
        }
    }

    /// Moves `below` over the applied tickets that follow it.
    fn join(&mut self) {
        while self.above.remove(&self.below) {
            self.below += 1;
        }
    }
}

impl Applied {
    /// Tracks the records that are appended to `log` while it is open. Make one per open log
    /// and state, before the first append.
    #[must_use]
    pub fn new(log: &ShardedWal) -> Self {
        let generation = log.shards[0].shard_dir().identity.generation;
        let shards = log.shards.iter().map(|shard| ShardApplied {
            committer: shard.committer().clone(),
            base: shard.position(0).sequence,
            done: Mutex::default(),
        });
        Self { log: log.id(), generation, shards: shards.collect() }
    }

    /// Reports that the record at `position` is in the caller's state. Records may be reported
    /// in any order, and twice. Positions of earlier generations, and those below what the log
    /// had when it was opened, change nothing.
    ///
    /// Does not block, except for other callers that report records of the same shard.
    pub fn done(&self, position: Position) {
        let shard = self.shards.get(position.shard as usize);
        let Some(shard) = shard.filter(|_| position.generation == self.generation) else { return };
        if let Some(ticket) = position.sequence.checked_sub(shard.base) {
            shard.done.lock().add(ticket);
        }
    }

    /// The checkpoint of what is applied *and* on stable storage: in each shard, every record
    /// below it is both. Copy the state after this call, not before.
    ///
    /// In the modes [`crate::Durability::Interval`] and [`crate::Durability::Buffered`], call
    /// [`crate::ShardedWal::flush`] before, to bring it up to date. Does not block.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let below = self.shards.iter().map(ShardApplied::below);
        Checkpoint::new(self.generation, below).of_log(self.log)
    }
}

impl ShardApplied {
    /// The first sequence that is not applied, or not on stable storage.
    fn below(&self) -> u64 {
        let progress = &self.committer.progress;
        let durable = progress.synced_records_end();
        let mut done = self.done.lock();
        loop {
            done.join();
            // A failed shard answers tickets that were never given. Those are above this mark.
            let is_answered = done.below < progress.acknowledged();
            let is_refused = |answer| matches!(answer, Some(Answer::NotWritten(_)));
            if !is_answered || !is_refused(progress.answer(done.below)) {
                break;
            }
            done.below += 1;
        }
        // The log may end below refused sequences, and give them to other records later.
        self.base + done.below.min(durable)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_is_contiguous() {
        let mut done = Done::default();
        for (ticket, below) in [(2, 0), (1, 0), (1, 0), (0, 3), (0, 3), (4, 3), (3, 5)] {
            done.add(ticket);
            assert_eq!(done.below, below, "after {ticket}");
        }
        assert!(done.above.is_empty());
    }
}
