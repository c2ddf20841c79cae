//! What an open found, as data.

use std::fmt;

use crate::error::Damage;
use crate::recovery::Survey;

/// What stood in the log when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Each shard of each generation, oldest generation first.
    pub shards: Vec<ShardRecovery>,
}

/// What stood in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShardRecovery {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// Segments that hold records, or may.
    pub segments: u64,
    /// Records that were found whole.
    pub records: u64,
    /// Bytes of headers and frames of those segments.
    pub bytes: u64,
    /// Sequences below were removed by truncation. `u64::MAX`, and the next
    /// sequence too, for an old shard that nothing is left of.
    pub purged_below: u64,
    /// The sequence after the last record.
    pub next_sequence: u64,
    /// The highest sequence below which a frame says that all was durable.
    pub durable_below: u64,
    /// Bytes of a write that never came whole to the disk and was cut. It was
    /// not acknowledged under [`crate::Durability::Sync`].
    pub torn_bytes: u64,
    /// Records of it whose frames' headers could still be read.
    pub torn_records: u64,
    /// Records above the durable mark that were written and synced once more.
    pub copied_records: u64,
    /// Damage to durable records, told by those who only read; `open` refuses.
    pub damage: Option<Damage>,
}

impl ShardRecovery {
    pub(crate) fn of(generation: u32, shard: u32, purged_below: u64, survey: &Survey) -> Self {
        Self {
            generation,
            shard,
            segments: survey.segments.len() as u64,
            records: survey.records,
            bytes: survey.bytes,
            purged_below,
            next_sequence: survey.next_sequence,
            durable_below: survey.durable_below,
            torn_bytes: survey.torn_bytes,
            torn_records: survey.torn_records,
            copied_records: 0,
            damage: survey.damage.clone(),
        }
    }
}

impl RecoveryReport {
    /// Records found whole, those below a purge mark in a segment that still
    /// stands included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.shards.iter().map(|shard| shard.records).sum()
    }

    /// Bytes cut, over all shards.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.torn_bytes).sum()
    }

    /// Damage, shard by shard.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.shards.iter().filter_map(|shard| shard.damage.as_ref())
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>10} {:>5} {:>8} {:>12} {:>14} {:>12} {:>12} {:>10} {:>8}",
            "generation",
            "shard",
            "segments",
            "records",
            "bytes",
            "purged",
            "next",
            "torn",
            "copied"
        )?;
        for shard in &self.shards {
            writeln!(
                f,
                "{:>10} {:>5} {:>8} {:>12} {:>14} {:>12} {:>12} {:>10} {:>8}",
                shard.generation,
                shard.shard,
                shard.segments,
                shard.records,
                shard.bytes,
                shard.purged_below,
                shard.next_sequence,
                shard.torn_bytes,
                shard.copied_records,
            )?;
            if let Some(damage) = &shard.damage {
                writeln!(f, "{:>10} damage: {damage}", "")?;
            }
        }
        Ok(())
    }
}
