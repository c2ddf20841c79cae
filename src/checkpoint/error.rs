//! Why a checkpoint does not fit a log.

use std::error::Error;
use std::fmt;

use super::LogId;
use crate::position::Position;

/// A checkpoint does not fit the log that it was used on. Nothing was changed
/// and nothing was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The checkpoint names no log. If it was taken of this one, name it with
    /// [`crate::Checkpoint::of_log`].
    NamesNoLog {
        /// The log that it was used on.
        log: LogId,
    },
    /// The checkpoint was taken of another log.
    AnotherLog {
        /// The log that it names.
        named: LogId,
        /// The log that it was used on.
        log: LogId,
    },
    /// The log has no such generation. Perhaps an older copy of the log was put
    /// back.
    NoSuchGeneration {
        /// The generation that the checkpoint names.
        generation: u32,
        /// The oldest generation of the log.
        first: u32,
        /// The generation that appends go to.
        last: u32,
    },
    /// The generation has another number of shards.
    WrongShardCount {
        /// The generation that the checkpoint names.
        generation: u32,
        /// The number of shards that it names.
        named: usize,
        /// The number of shards that the generation has.
        shards: usize,
    },
    /// The log ends before the place that the checkpoint names. Perhaps an older
    /// copy of the log was put back: what is appended now would be taken for
    /// what the checkpoint covers.
    BeyondEnd {
        /// The place that the checkpoint names.
        named: Position,
        /// The place where the shard ends.
        end: Position,
    },
    /// Records at or above the checkpoint were truncated, so that reading from
    /// it would leave them out.
    Truncated {
        /// The place that the checkpoint names, or where the shard began.
        named: Position,
        /// The first place that the shard still has; in a generation that was
        /// truncated as a whole, where it ended.
        first_kept: Position,
    },
    /// The text is no checkpoint, or no log's id.
    Unreadable {
        /// The text.
        text: String,
        /// What it should look like.
        expected: &'static str,
    },
}

impl CheckpointError {
    pub(super) fn unreadable(text: &str, expected: &'static str) -> Self {
        Self::Unreadable { text: text.into(), expected }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NamesNoLog { log } => write!(
                f,
                "the checkpoint names no log; if it was taken of this one, {log}, name it with `of_log`"
            ),
            Self::AnotherLog { named, log } => {
                write!(f, "the checkpoint was taken of log {named}, and this is log {log}")
            }
            Self::NoSuchGeneration { generation, first, last } => write!(
                f,
                "the checkpoint names generation {generation}, and the log has {first} to {last}; put back the log that it was taken of"
            ),
            Self::WrongShardCount { generation, named, shards } => write!(
                f,
                "the checkpoint names {named} shards of generation {generation}, which has {shards}"
            ),
            Self::BeyondEnd { named, end } => write!(
                f,
                "the checkpoint names {named}, and the log ends at {end}; put back the log that it was taken of, or use an older checkpoint"
            ),
            Self::Truncated { named, first_kept } => write!(
                f,
                "the checkpoint names {named}, and the log was truncated: first kept is {first_kept}; use the checkpoint that it was truncated with"
            ),
            Self::Unreadable { text, expected } => write!(f, "{expected}, and not `{text}`"),
        }
    }
}

impl Error for CheckpointError {}
