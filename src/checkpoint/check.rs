//! Checks whether a checkpoint fits a log. Knows where shards begin and end; it
//! does not know what a segment is.

use super::{Checkpoint, CheckpointError, LogId};
use crate::position::Position;

/// The range of sequences that one shard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardReach {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// The records below this sequence were truncated.
    pub first: u64,
    /// The sequence after the last record.
    pub end: u64,
}

/// The ranges of all shards of a log, oldest generation first.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The log.
    pub log: LogId,
    /// One entry per shard.
    pub shards: Vec<ShardReach>,
}

impl ShardReach {
    fn at(&self, sequence: u64) -> Position {
        Position { generation: self.generation, shard: self.shard, sequence }
    }
}

impl Reach {
    /// Checks that the checkpoint lies in this log. Its records may be truncated.
    /// Any checkpoint of a generation that the log has retired passes.
    ///
    /// # Errors
    /// It does not.
    pub fn check_position(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let log = self.log;
        match checkpoint.log() {
            None if checkpoint.is_start() => return Ok(()),
            None => return Err(CheckpointError::NamesNoLog { log }),
            Some(named) if named != log => return Err(CheckpointError::AnotherLog { named, log }),
            Some(_) if checkpoint.is_start() => return Ok(()),
            Some(_) => {}
        }
        let (generation, below) = (checkpoint.generation(), checkpoint.sequences());
        let (first, last) = self.generations();
        if (1..first).contains(&generation) {
            return Ok(());
        }
        let shards: Vec<_> =
            self.shards.iter().filter(|shard| shard.generation == generation).collect();
        if shards.is_empty() {
            return Err(CheckpointError::NoSuchGeneration { generation, first, last });
        }
        if shards.len() != below.len() {
            let (named, shards) = (below.len(), shards.len());
            return Err(CheckpointError::WrongShardCount { generation, named, shards });
        }
        match shards.iter().zip(below).find(|(shard, below)| **below > shard.end) {
            Some((shard, below)) => Err(CheckpointError::BeyondEnd {
                named: shard.at(*below),
                end: shard.at(shard.end),
            }),
            None => Ok(()),
        }
    }

    /// Checks that the log still has every record from the checkpoint on.
    ///
    /// # Errors
    /// It has not, or the checkpoint does not lie in it.
    pub fn check_kept(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.check_position(checkpoint)?;
        if checkpoint.is_start() {
            return self.check_whole();
        }
        let (first, _) = self.generations();
        if checkpoint.generation() < first {
            let sequence = checkpoint.sequences().first().copied().unwrap_or(0);
            let named = Position { generation: checkpoint.generation(), shard: 0, sequence };
            return Err(self.truncated(named, &self.shards[0]));
        }
        let below = |shard: &ShardReach| checkpoint.below(shard.generation, shard.shard);
        match self.shards.iter().find(|shard| below(shard) < shard.first) {
            Some(shard) => Err(self.truncated(shard.at(below(shard)), shard)),
            None => Ok(()),
        }
    }

    /// Checks that nothing of the log was ever truncated.
    ///
    /// # Errors
    /// Something was, and the error names the first position that is kept.
    pub fn check_whole(&self) -> Result<(), CheckpointError> {
        let (first, _) = self.generations();
        let is_cut = |shard: &&ShardReach| shard.first > 0 || first > 1;
        match self.shards.iter().find(is_cut) {
            Some(shard) => {
                let named = Position { generation: 1, ..shard.at(0) };
                Err(self.truncated(named, shard))
            }
            None => Ok(()),
        }
    }

    fn truncated(&self, named: Position, shard: &ShardReach) -> CheckpointError {
        CheckpointError::Truncated { named, first_kept: shard.at(shard.first) }
    }

    /// The oldest and the newest generation.
    fn generations(&self) -> (u32, u32) {
        let of = |shard: Option<&ShardReach>| shard.map_or(1, |shard| shard.generation);
        (of(self.shards.first()), of(self.shards.last()))
    }
}
