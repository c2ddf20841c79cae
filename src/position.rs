//! The position of one record in the log.

use std::fmt;

/// A record's position in the log. It never changes.
///
/// Within one shard and generation, sequences rise in append order. A sequence
/// is skipped only if its append failed with
/// [`crate::AppendError::NotWritten`], or if a repair lost its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The generation: a new one begins when the number of shards changes.
    /// Generations count from 1.
    pub generation: u32,
    /// The shard within the generation.
    pub shard: u32,
    /// The record's number within its shard and generation. It counts from 0.
    pub sequence: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} shard {} sequence {}", self.generation, self.shard, self.sequence)
    }
}
