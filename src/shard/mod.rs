//! One shard as its callers see it, and the threads that serve all shards of a log.
//!
//! A [`shard`] checks and queues an [`append`], and returns a [`completion`]. Four
//! [`housekeeping`] threads keep time, prepare segments, watch files and sync full
//! segments ([`sealer`]). [`truncate`] deletes segments. The layer does not know how a
//! key is routed, or how a log is opened.

pub(crate) mod append;
pub(crate) mod append_future;
pub(crate) mod completion;
pub(crate) mod gradual_deletion;
pub(crate) mod holds;
pub(crate) mod housekeeping;
pub(crate) mod reserve;
pub(crate) mod retention;
pub(crate) mod sealer;
#[expect(clippy::module_inception, reason = "the directory is the layer, the file its main type")]
pub(crate) mod shard;
pub(crate) mod snapshot;
mod task_append;
pub(crate) mod truncate;
