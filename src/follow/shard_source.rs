//! Where the records of one shard come from.

use std::fmt::Debug;
use std::task::{Context, Poll};

use crate::error::{Cause, OpenError};
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;

/// The shards of one generation, of which there is one at least.
pub(crate) type ShardSources = Vec<Box<dyn ShardSource>>;

/// The generation of these shards.
pub(crate) fn generation_of(shards: &ShardSources) -> u32 {
    shards[0].shard_dir().identity.generation
}

/// A source among those of other shards.
pub(crate) fn boxed(source: impl ShardSource + 'static) -> Box<dyn ShardSource> {
    Box::new(source)
}

/// A shard that is followed.
pub(crate) trait ShardSource: Debug + Send {
    fn shard_dir(&self) -> &ShardDir;

    /// Records below this sequence are durable, and the last of them is a record. Their bytes
    /// can be read after the call.
    fn durable_below(&mut self) -> Result<u64, OpenError>;

    /// Records below this sequence were truncated.
    fn truncated_below(&mut self) -> Result<u64, OpenError>;

    /// The segment that has `sequence` or, if none has, the first record after it. `None` if the
    /// log has no such segment.
    fn segment(&mut self, sequence: u64) -> Result<Option<SegmentMeta>, OpenError>;

    /// Checks for a task whether [`ShardSource::durable_below`] has changed since its last call.
    /// `Pending` means that the waker will be called. `Ready(Err)` means that it never changes
    /// again, and why.
    fn poll_advanced(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cause>>;

    /// Says that a later generation exists, so that this shard gets no more records. Its last
    /// records are durable then. Returns whether it is known where they end.
    fn end_generation(&mut self) -> Result<bool, OpenError> {
        Ok(true)
    }

    /// The error if the calling thread must not wait for the shard.
    fn would_deadlock(&self) -> Option<Cause>;
}
