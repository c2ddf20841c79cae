//! Replay into states: one per shard, each built by one thread.
//!
//! This file does not know how a shard is read.

use std::sync::{Mutex, PoisonError};

use super::{Record, ReplayOptions, ReplayReport, ShardPlan, ShardVisitor, replay_shards};
use crate::error::ReplayError;

/// One shard of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId {
    /// The generation. Generations count from 1.
    pub generation: u32,
    /// The shard within the generation.
    pub shard: u32,
}

/// The state that a replay has built from the records of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardState<S> {
    /// The shard.
    pub shard: ShardId,
    /// The state after the shard's last record.
    pub state: S,
}

/// The result of [`crate::ShardedWal::replay_into`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed<S> {
    /// The number of records, and where they end.
    pub report: ReplayReport,
    /// The state of each shard, also of those without records: earlier generations first, and
    /// within one by shard number. The records of a key are in one shard per generation, so
    /// states merge in this order.
    pub shards: Vec<ShardState<S>>,
}

/// Builds the state of one shard.
struct Fold<'a, S, F> {
    shard: ShardId,
    state: S,
    apply: &'a F,
    done: &'a Mutex<Vec<ShardState<S>>>,
}

impl<S, E, F: Fn(&mut S, &Record<'_>) -> Result<(), E>> ShardVisitor<E> for Fold<'_, S, F> {
    fn visit(&mut self, record: &Record<'_>) -> Result<(), E> {
        (self.apply)(&mut self.state, record)
    }

    fn end(self: Box<Self>) {
        let Self { shard, state, done, .. } = *self;
        done.lock().unwrap_or_else(PoisonError::into_inner).push(ShardState { shard, state });
    }
}

/// Replays each shard into a state of its own. Blocks until all threads are done.
pub(crate) fn replay_into<S: Send, E: Send>(
    generations: Vec<Vec<ShardPlan>>,
    options: &ReplayOptions,
    new: &(impl Fn(ShardId) -> S + Sync),
    apply: &(impl Fn(&mut S, &Record<'_>) -> Result<(), E> + Sync),
) -> Result<Replayed<S>, ReplayError<E>> {
    // Locked once per shard.
    let done = Mutex::new(Vec::new());
    let report = replay_shards(generations, options, &|shard| {
        Box::new(Fold { shard, state: new(shard), apply, done: &done })
    })?;
    let mut shards = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    shards.sort_by_key(|state: &ShardState<S>| state.shard);
    Ok(Replayed { report, shards })
}
