//! What an open found, as data.

use std::fmt;
use std::path::PathBuf;

use crate::disk::DurabilityWarning;
use crate::error::Damage;
use crate::recovery::Survey;

/// What stood in the log when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Each shard of each generation, oldest generation first.
    pub shards: Vec<ShardRecovery>,
    /// What was repaired, under [`crate::OnDamage::Quarantine`]; `shards` says
    /// how the log stood after it.
    pub repair: Option<RepairReport>,
    /// Why a sync may succeed on this file system and nothing be durable. Empty
    /// where nothing speaks against it, or the system does not tell.
    pub durability_warnings: Vec<DurabilityWarning>,
}

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// The folder with the copies; `None` where nothing has been done.
    pub quarantine: Option<PathBuf>,
    /// The segments that were written anew or removed. Those that existed were
    /// copied before, under the same path below the log's directory.
    pub files: Vec<PathBuf>,
    /// The places that could not be read, each shard's in the log's order.
    pub lost: Vec<Lost>,
}

/// A place that could not be read. The log goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Lost {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// The segment, as it was called.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The first sequence that is lost.
    pub first_sequence: u64,
    /// The sequence after the last that is lost: the same as the first where
    /// only a seal or a header was. Of those between, some may never have been
    /// written.
    pub next_sequence: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, shard, offset, first_sequence, next_sequence, what, .. } = self;
        let file = self.file.display();
        write!(f, "generation {generation} shard {shard}: {what} at byte {offset} of {file}; ")?;
        if first_sequence == next_sequence {
            return f.write_str("no record is lost by it");
        }
        write!(f, "sequences {first_sequence}..{next_sequence} are lost")
    }
}

impl RepairReport {
    /// Sequences that are lost, at the most.
    #[must_use]
    pub fn lost_sequences(&self) -> u64 {
        self.lost.iter().map(|lost| lost.next_sequence - lost.first_sequence).sum()
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for lost in &self.lost {
            writeln!(f, "{lost}")?;
        }
        let (anew, lost) = (self.files.len(), self.lost_sequences());
        match &self.quarantine {
            Some(folder) => {
                writeln!(
                    f,
                    "{anew} segments written anew, {lost} sequences lost; copies of what was there are in {}",
                    folder.display()
                )
            }
            None => writeln!(f, "{anew} segments to write anew, {lost} sequences to lose"),
        }
    }
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
    /// Sequences that an earlier repair could not read and gave up, records
    /// that were never written among them, perhaps.
    pub gap_sequences: u64,
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
            gap_sequences: survey.gap_sequences,
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
            if shard.gap_sequences > 0 {
                let gone = shard.gap_sequences;
                writeln!(f, "{:>10} {gone} sequences were given up by a repair", "")?;
            }
            if let Some(damage) = &shard.damage {
                writeln!(f, "{:>10} damage: {damage}", "")?;
            }
        }
        for warning in &self.durability_warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
