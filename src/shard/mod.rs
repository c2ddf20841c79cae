//! One shard as its callers see it, and the threads that serve all shards of a log.

pub(crate) mod completion;
pub(crate) mod housekeeping;
pub(crate) mod sealer;
#[expect(clippy::module_inception, reason = "the folder is the layer, the file its main type")]
pub(crate) mod shard;
pub(crate) mod truncate;
