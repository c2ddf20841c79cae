//! Following: durable records in order, from a checkpoint on, and then as they come.
//!
//! A [`Follower`] has one cursor per shard of one generation, and a shard's records come from
//! a [`shard_source::ShardSource`]: an open log ([`open_log`]). It reads the log's files, as a
//! replay does, and never writes. This folder does not know queues.
//!
//! | label | invariant |
//! |---|---|
//! | F1 DURABLE | a record is passed only if it was durable before its bytes were read |
//! | F2 WHOLE | between two batches of a shard no durable record is left out; else the answer is *gone* |

mod batch;
mod cursor;
mod follower;
pub(crate) mod log_files;
pub(crate) mod open_log;
#[cfg(test)]
pub(crate) mod scripted;
pub(crate) mod shard_source;
#[cfg(feature = "stream")]
mod stream;
#[cfg(all(test, not(loom)))]
mod tests;

pub use batch::{FollowedBatch, Records};
pub use follower::{Followed, Follower};
#[cfg(feature = "stream")]
pub use stream::FollowerStream;
