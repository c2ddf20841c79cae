//! The error of a follower.

use std::error::Error;
use std::fmt;

use super::{Cause, OpenError};
use crate::checkpoint::CheckpointError;

/// Why a follower cannot go on. It has passed every durable record before the error, and none
/// was skipped. The log was not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum FollowError {
    /// The checkpoint to follow from does not fit the log.
    Checkpoint(CheckpointError),
    /// The log could not be read, or records that were durable cannot be found. Check the disk,
    /// then reopen the log.
    Log(OpenError),
    /// A shard failed while the log was open. Its records that were durable have been passed.
    /// Reopen the log, and follow it from the last checkpoint.
    ShardFailed {
        /// The shard.
        shard: usize,
        /// Why it failed.
        cause: Cause,
    },
    /// The calling thread commits, or the calling process is not the log's: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`].
    NotHere(Cause),
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(error) => write!(f, "follow: {error}"),
            Self::Log(error) => write!(f, "follow: {error}"),
            Self::ShardFailed { shard, cause } => {
                write!(f, "follow: shard {shard} has failed: {cause}")
            }
            Self::NotHere(cause) => write!(f, "not followed: {cause}"),
        }
    }
}

impl Error for FollowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Checkpoint(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::ShardFailed { cause, .. } => cause.io(),
            Self::NotHere(_) => None,
        }
    }
}
