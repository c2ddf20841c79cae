//! Replays of an open log.

use super::ShardedWal;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::error::ReplayError;
use crate::recovery::replay::{
    Record, ReplayOptions, ReplayReport, Replayed, ShardId, ShardPlan, reach, replay, replay_into,
    start_from,
};

impl ShardedWal {
    /// Calls `callback` with every record: those in the log when it was opened, and those
    /// acknowledged before this call. Blocks until done. Generations are replayed one after
    /// the other. Within one, shards run in parallel and each in order, so that records of one
    /// key come in append order.
    ///
    /// # Errors
    /// The callback's first error, or the log's. The other threads then stop.
    /// [`ReplayError::NotHere`] on a thread that commits, or in a forked child.
    ///
    /// # Panics
    /// Panics with the callback's panic, once the other threads have stopped.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.plans_from(None)?, &options, &callback)
    }

    /// Replays the records from a checkpoint on. Records below it are not passed to
    /// `callback`, and segments below it are not read.
    ///
    /// Call it before the first append after an open. If an older copy of the log was
    /// restored, the log may end before the checkpoint. That is an error now, but cannot be
    /// detected any more after enough appends.
    ///
    /// # Errors
    /// [`ReplayError::Checkpoint`] if the checkpoint does not fit the log, or if records above
    /// it were truncated. Otherwise as for [`ShardedWal::replay`].
    ///
    /// # Panics
    /// As for [`ShardedWal::replay`].
    pub fn replay_from<E: Send>(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.plans_from(Some(checkpoint))?, &options, &callback)
    }

    /// Replays each shard into a state of its own, without locks. `new` makes the state of a
    /// shard, and `apply` changes it with each of its records, in order. One thread at a time
    /// has a state. Blocks until done, then returns the states. With a checkpoint, records
    /// below it are left out, as [`ShardedWal::replay_from`] does.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use shardwal::{Config, ReplayOptions, ShardedWal};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scratch = tempfile::tempdir()?;
    /// # let log = ShardedWal::open(Config::new(scratch.path()))?;
    /// # (0..6).try_for_each(|key| log.append_wait(key % 3, "event").map(drop))?;
    /// let replayed = log.replay_into(
    ///     None,
    ///     ReplayOptions::default(),
    ///     |_shard| HashMap::new(),
    ///     |counts, record| {
    ///         *counts.entry(record.key()).or_insert(0) += 1;
    ///         Ok::<_, std::io::Error>(())
    ///     },
    /// )?;
    /// // A key is in one shard per generation. Generations come in order.
    /// let mut counts = HashMap::new();
    /// for part in replayed.shards {
    ///     for (key, count) in part.state {
    ///         *counts.entry(key).or_insert(0) += count;
    ///     }
    /// }
    /// assert_eq!(counts, HashMap::from([(0, 2), (1, 2), (2, 2)]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`ShardedWal::replay_from`]. The states are dropped then.
    ///
    /// # Panics
    /// As for [`ShardedWal::replay`].
    pub fn replay_into<S: Send, E: Send>(
        &self,
        from: Option<&Checkpoint>,
        options: ReplayOptions,
        new: impl Fn(ShardId) -> S + Sync,
        apply: impl Fn(&mut S, &Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<Replayed<S>, ReplayError<E>> {
        replay_into(self.plans_from(from)?, &options, &new, &apply)
    }

    /// The plans of a replay, from a checkpoint on if there is one. A thread that commits must
    /// not replay: the callback runs on other threads too, and may wait there for the commit.
    fn plans_from<E>(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<Vec<ShardPlan>>, ReplayError<E>> {
        if let Some(cause) = self.would_deadlock() {
            return Err(ReplayError::NotHere(cause));
        }
        start_from(self.id(), self.plans(), checkpoint)
    }

    /// One plan per shard, grouped by generation, oldest first.
    pub(super) fn plans(&self) -> Vec<Vec<ShardPlan>> {
        let mut generations: Vec<Vec<ShardPlan>> = Vec::new();
        let first = self.generations.first();
        let old = self.old.iter().map(|shard| shard.plan());
        let old = old.filter(|plan| plan.shard_dir.identity.generation >= first);
        let current = self.shards.iter().map(|shard| ShardPlan {
            shard_dir: shard.shard_dir().clone(),
            from: *shard.truncated_below().lock(),
            // The synced mark rises a moment before the acknowledged one. A caller that has
            // waited for a flush must find the records that it covers.
            to: shard.acknowledged_below().max(shard.durable_below()),
            segments: shard.catalogue().lock().iter().copied().collect(),
        });
        for plan in old.chain(current) {
            let generation = plan.shard_dir.identity.generation;
            match generations.last_mut() {
                Some(plans) if plans[0].shard_dir.identity.generation == generation => {
                    plans.push(plan)
                }
                _ => generations.push(vec![plan]),
            }
        }
        generations
    }

    /// Checks that the log has every record from the checkpoint on. Without a checkpoint, it
    /// must have every record that was ever appended.
    pub(crate) fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let reach = reach(self.id(), &self.plans());
        checkpoint.map_or_else(|| reach.check_whole(), |checkpoint| reach.check_kept(checkpoint))
    }
}
