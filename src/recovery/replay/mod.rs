//! Replay: reads the log back within bounded memory.
//!
//! Generations are replayed one after the other. Within one, threads replay the
//! shards in parallel, and each shard in order. This file knows segments and the
//! caller's callback; it never writes.

mod into_states;
mod options;
mod threads;

pub(crate) use into_states::replay_into;
pub use into_states::{Replayed, ShardId, ShardState};
pub use options::{Record, ReplayOptions, ReplayProgress, ReplayReport};

use crate::checkpoint::{Checkpoint, LogId, Reach, ShardReach};
use crate::error::{OpenError, ReplayError};
use crate::fs::OpenMode;
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::header::SegmentIdentity;
use crate::trace;
use threads::Shared;

/// The part of a replay that reads one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardPlan {
    pub(crate) shard_dir: ShardDir,
    pub(crate) segments: Vec<SegmentMeta>,
    /// The callback gets the records of `from..to`.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl ShardPlan {
    /// The range of the shard. Valid before a checkpoint limits the plan.
    fn reach(&self) -> ShardReach {
        let SegmentIdentity { generation, shard, .. } = self.shard_dir.identity;
        ShardReach { generation, shard, first: self.from.min(self.to), end: self.to }
    }

    /// Drops the segments without a record of `from..to`.
    fn trim(&mut self) {
        let (from, to) = (self.from, self.to);
        self.segments.retain(|meta| meta.first_sequence < to && meta.reaches(from));
    }
}

/// The ranges of a log's shards, from the plans of all of them.
pub(crate) fn reach(log: LogId, generations: &[Vec<ShardPlan>]) -> Reach {
    Reach { log, shards: generations.iter().flatten().map(ShardPlan::reach).collect() }
}

/// Limits the plans to the records from a checkpoint on, if there is one. Fails if the log
/// does not have all of them.
pub(crate) fn start_from<E>(
    log: LogId,
    mut generations: Vec<Vec<ShardPlan>>,
    checkpoint: Option<&Checkpoint>,
) -> Result<Vec<Vec<ShardPlan>>, ReplayError<E>> {
    let Some(checkpoint) = checkpoint else { return Ok(generations) };
    reach(log, &generations).check_kept(checkpoint).map_err(ReplayError::Checkpoint)?;
    for plan in generations.iter_mut().flatten() {
        let identity = &plan.shard_dir.identity;
        plan.from = plan.from.max(checkpoint.below(identity.generation, identity.shard));
    }
    Ok(generations)
}

/// Receives the records of one shard, in order and on one thread.
pub(crate) trait ShardVisitor<E> {
    fn visit(&mut self, record: &Record<'_>) -> Result<(), E>;

    /// Called after the shard's last record, unless a visit failed.
    fn end(self: Box<Self>) {}
}

/// A caller's callback, for the records of all shards.
struct Calls<'a, F>(&'a F);

impl<E, F: Fn(&Record<'_>) -> Result<(), E>> ShardVisitor<E> for Calls<'_, F> {
    fn visit(&mut self, record: &Record<'_>) -> Result<(), E> {
        (self.0)(record)
    }
}

/// Makes the visitor of a shard, on the thread that will use it.
type Visitors<'a, E> = dyn Fn(ShardId) -> Box<dyn ShardVisitor<E> + 'a> + Sync + 'a;

/// Replays the generations one after the other. Blocks until all threads are done.
/// A panic of the callback is resumed on the calling thread.
pub(crate) fn replay<E: Send>(
    generations: Vec<Vec<ShardPlan>>,
    options: &ReplayOptions,
    callback: &(impl Fn(&Record<'_>) -> Result<(), E> + Sync),
) -> Result<ReplayReport, ReplayError<E>> {
    replay_shards(generations, options, &|_| Box::new(Calls(callback)))
}

/// Replays each shard to a visitor of its own, otherwise like [`replay`].
fn replay_shards<E: Send>(
    mut generations: Vec<Vec<ShardPlan>>,
    options: &ReplayOptions,
    visitors: &Visitors<'_, E>,
) -> Result<ReplayReport, ReplayError<E>> {
    let mut bytes_total = 0;
    for plan in generations.iter_mut().flatten() {
        plan.trim();
        for meta in &plan.segments {
            bytes_total += segment_bytes(plan, meta).map_err(ReplayError::Log)?;
        }
    }
    let _span = trace::replaying(bytes_total);
    let shared = Shared::new(options, visitors, bytes_total);
    for plans in generations {
        shared.run_generation(plans)?;
    }
    Ok(shared.into_report())
}

fn segment_bytes(plan: &ShardPlan, meta: &SegmentMeta) -> Result<u64, OpenError> {
    if meta.next_sequence.is_some() {
        return Ok(meta.end);
    }
    let path = plan.shard_dir.path(meta.number);
    let file =
        plan.shard_dir.fs.open(&path, OpenMode::Read).map_err(OpenError::io("opening", &path))?;
    file.len().map_err(OpenError::io("reading the size of", &path))
}
