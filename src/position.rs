//! The place of one record.

use std::fmt;

/// A record's permanent place in the log.
///
/// Sequences of one shard and generation rise in append order. Numbers are
/// left out only where appends were refused with
/// [`crate::AppendError::NotWritten`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The period with one shard count that the record was written in.
    pub generation: u32,
    /// The shard within the generation.
    pub shard: u32,
    /// The record's number within shard and generation, from 0.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} shard {} sequence {}", self.generation, self.shard, self.sequence)
    }
}
