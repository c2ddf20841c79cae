//! The report of an open: what it found, as data. Knows figures and their text
//! form; it does not know how they are found.

use std::fmt;
use std::path::PathBuf;

use crate::error::Corruption;
use crate::fs::DurabilityWarning;
use crate::recovery::ShardScan;
use crate::trace;

/// What an open, or a [`LogReader`](crate::LogReader), found in the log.
///
/// Its text form is a table with one line per shard, then the warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Each shard of each generation, oldest generation first.
    pub shards: Vec<ShardRecovery>,
    /// What the open repaired, under [`crate::OnCorruption::Quarantine`]. `shards`
    /// describes the log after the repair.
    pub repair: Option<RepairReport>,
    /// Reasons why a sync may succeed on this file system without making data
    /// durable. Empty if there is none, or if the system does not report it.
    pub durability_warnings: Vec<DurabilityWarning>,
}

/// What a repair did, or what a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// The directory with the copies. `None` if nothing was done.
    pub quarantine: Option<PathBuf>,
    /// The segments that were rewritten or removed. The repair first copied those
    /// that existed to `quarantine`, under their path relative to the log.
    pub files: Vec<PathBuf>,
    /// The lost ranges, shard by shard, in sequence order.
    pub lost: Vec<LostRange>,
}

/// A lost range: records that could not be read. The log continues after it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostRange {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// The path of the segment before the repair.
    pub file: PathBuf,
    /// The first byte of the segment that cannot be used.
    pub offset: u64,
    /// The first lost sequence.
    pub first_sequence: u64,
    /// The sequence after the last lost one. It equals `first_sequence` if no
    /// record is lost, only a seal or a header. Some sequences of the range may
    /// never have been written.
    pub next_sequence: u64,
    /// The problem with the segment.
    pub what: String,
}

impl fmt::Display for LostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, shard, offset, first_sequence, next_sequence, what, .. } = self;
        let file = self.file.display();
        write!(f, "generation {generation} shard {shard}: {what} at byte {offset} of {file}; ")?;
        if first_sequence == next_sequence {
            return f.write_str("no record is lost");
        }
        write!(f, "sequences {first_sequence}..{next_sequence} are lost")
    }
}

impl RepairReport {
    /// The number of lost sequences. It is an upper bound of the lost records.
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
        let (rewritten, lost) = (self.files.len(), self.lost_sequences());
        match &self.quarantine {
            Some(copies) => {
                writeln!(
                    f,
                    "{rewritten} segments rewritten, {lost} sequences lost; copies of the old segments are in {}",
                    copies.display()
                )
            }
            None => writeln!(f, "{rewritten} segments to rewrite, {lost} sequences to lose"),
        }
    }
}

/// What an open found in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShardRecovery {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// The segments that hold the log.
    pub segments: u64,
    /// The records that were read intact.
    pub records: u64,
    /// The sequences that earlier repairs lost. Some may never have been written.
    pub lost_sequences: u64,
    /// The bytes of headers and frames in these segments.
    pub bytes: u64,
    /// Truncation removed the records below this sequence. `u64::MAX` for a shard
    /// of an earlier generation that was truncated as a whole;
    /// `next_sequence` is then `u64::MAX` too.
    pub truncated_below: u64,
    /// The sequence after the last record.
    pub next_sequence: u64,
    /// A frame proves that all records below this sequence were durable.
    pub durable_below: u64,
    /// The bytes of a write that never completed. The open cuts them off. Under
    /// [`crate::Durability::Sync`] such a write was not acknowledged.
    pub torn_bytes: u64,
    /// The records of that write, as far as its frame headers could be read.
    pub torn_records: u64,
    /// The records above `durable_below`, which the open wrote and synced again.
    pub copied_records: u64,
    /// Whether a file is missing whose name carries a truncation mark. If somebody has
    /// removed it, the mark that holds may be an older one, and truncated records are back.
    pub mark_file_missing: bool,
    /// Corruption of durable records. Only a [`LogReader`](crate::LogReader)
    /// reports it; an open fails with [`Corrupted`](crate::OpenError::Corrupted).
    pub corruption: Option<Corruption>,
}

impl ShardRecovery {
    pub(crate) fn of(generation: u32, shard: u32, truncated_below: u64, scan: &ShardScan) -> Self {
        Self {
            generation,
            shard,
            segments: scan.segments.len() as u64,
            records: scan.records,
            lost_sequences: scan.lost_sequences,
            bytes: scan.bytes,
            truncated_below,
            next_sequence: scan.next_sequence,
            durable_below: scan.durable_below,
            torn_bytes: scan.torn_bytes,
            torn_records: scan.torn_records,
            copied_records: 0,
            mark_file_missing: false,
            corruption: scan.corruption.clone(),
        }
    }
}

impl RecoveryReport {
    /// Emits the events of an open.
    pub(crate) fn trace(&self) {
        for shard in &self.shards {
            let (generation, number) = (shard.generation, shard.shard);
            if shard.torn_bytes > 0 {
                trace::torn_tail(generation, number, shard.torn_bytes, shard.torn_records);
            }
            if shard.mark_file_missing {
                trace::mark_file_missing(generation, number);
            }
        }
        self.durability_warnings.iter().for_each(|warning| trace::not_durable(warning));
        trace::opened(self.shards.len(), self.records());
    }

    /// The number of records that were read intact, over all shards. It includes
    /// truncated records in segments that were not deleted yet.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.shards.iter().map(|shard| shard.records).sum()
    }

    /// The number of torn bytes, over all shards.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.torn_bytes).sum()
    }

    /// The corruption of each corrupted shard.
    pub fn corruption(&self) -> impl Iterator<Item = &Corruption> {
        self.shards.iter().filter_map(|shard| shard.corruption.as_ref())
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
            "truncated",
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
                shard.truncated_below,
                shard.next_sequence,
                shard.torn_bytes,
                shard.copied_records,
            )?;
            if shard.lost_sequences > 0 {
                let lost = shard.lost_sequences;
                writeln!(f, "{:>10} {lost} sequences were lost in a repair", "")?;
            }
            if shard.mark_file_missing {
                writeln!(
                    f,
                    "{:>10} warning: a file that carries truncation marks, purge-*, is missing: \
                     truncated records may be back; truncate again",
                    ""
                )?;
            }
            if let Some(corruption) = &shard.corruption {
                writeln!(f, "{:>10} corruption: {corruption}", "")?;
            }
        }
        for warning in &self.durability_warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
