//! Group commit: drain the queue, write, sync, acknowledge.

pub(crate) mod commit_lock;
pub(crate) mod committer;
pub(crate) mod committing;
pub(crate) mod progress;
mod refusals;
pub(crate) mod state_machine;
pub(crate) mod writer;
