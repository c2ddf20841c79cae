//! Group commit: drain the queue, write, sync, acknowledge.
//!
//! A [`committer`] is the shared part of a shard: its queue, its progress and its commit
//! lock. The lock's holder runs the [`writer`], which makes one commit of all queued
//! records. The holder is the shard's thread, or a caller that commits inline. The
//! layer does not know other shards, checkpoints, recovery or handles of callers.

pub(crate) mod commit_lock;
pub(crate) mod commit_mode;
pub(crate) mod committer;
pub(crate) mod committing;
pub(crate) mod progress;
mod refusals;
pub(crate) mod snapshots;
pub(crate) mod state_machine;
pub(crate) mod writer;
