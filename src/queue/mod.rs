//! The bounded MPSC queue of a shard.

pub(crate) mod entry;
#[expect(clippy::module_inception, reason = "the folder is the layer, the file its main type")]
pub(crate) mod queue;
mod ring;
