//! The errors of a checkpoint that does not fit a log.

use std::error::Error;
use std::fmt;

use super::LogId;
use crate::position::Position;

/// Why a checkpoint does not fit a log. The log was not changed, and no record was
/// replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The checkpoint names no log. If it belongs to this log, set the log with
    /// [`crate::Checkpoint::of_log`].
    NamesNoLog {
        /// The id of this log.
        log: LogId,
    },
    /// The checkpoint belongs to another log. Use this log's own checkpoint.
    AnotherLog {
        /// The log that the checkpoint names.
        named: LogId,
        /// The id of this log.
        log: LogId,
    },
    /// The log has no such generation. An older copy of the log may have been
    /// restored.
    NoSuchGeneration {
        /// The checkpoint's generation.
        generation: u32,
        /// The oldest generation of the log.
        first: u32,
        /// The newest generation of the log, which takes the appends.
        last: u32,
    },
    /// The generation has another number of shards.
    WrongShardCount {
        /// The checkpoint's generation.
        generation: u32,
        /// The number of shards in the checkpoint.
        named: usize,
        /// The number of shards of the generation.
        shards: usize,
    },
    /// The log ends before the checkpoint. An older copy of the log may have been
    /// restored. New records would get sequences that the checkpoint counts as
    /// processed.
    BeyondEnd {
        /// The checkpoint's position.
        named: Position,
        /// The position after the shard's last record.
        end: Position,
    },
    /// Records at or above the checkpoint were truncated. A replay would skip
    /// them. Use the checkpoint of the truncation, or a later one.
    Truncated {
        /// The checkpoint's position, or the beginning of the shard.
        named: Position,
        /// The first position that the shard still has. If the whole generation
        /// was truncated, the position after its last record.
        first_kept: Position,
    },
    /// The text is not a checkpoint, or not the id of a log.
    Unreadable {
        /// The text.
        text: String,
        /// The expected form.
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
                "the checkpoint names no log; if it belongs to this log, {log}, set that with `of_log`"
            ),
            Self::AnotherLog { named, log } => {
                write!(f, "the checkpoint belongs to log {named}, and this is log {log}")
            }
            Self::NoSuchGeneration { generation, first, last } => write!(
                f,
                "the checkpoint is of generation {generation}, and the log has {first} to {last}; restore the log that it was taken of"
            ),
            Self::WrongShardCount { generation, named, shards } => write!(
                f,
                "the checkpoint has {named} shards, and generation {generation} has {shards}"
            ),
            Self::BeyondEnd { named, end } => write!(
                f,
                "the checkpoint is at {named}, and the log ends at {end}; restore the log that it was taken of, or use an older checkpoint"
            ),
            Self::Truncated { named, first_kept } => write!(
                f,
                "the checkpoint is at {named}, and the log was truncated to {first_kept}; use the checkpoint of the truncation"
            ),
            Self::Unreadable { text, expected } => write!(f, "`{text}` is invalid: {expected}"),
        }
    }
}

impl Error for CheckpointError {}
