//! Errors of appends: one record, and a batch.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use super::{Cause, Position};

/// An append that will not be acknowledged. The variant says whether the record
/// can be in the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is not in the log and never will be. A retry cannot write it
    /// twice.
    NotWritten {
        /// The record's position, if it had one already. No other record gets this
        /// position before the log is reopened.
        position: Option<Position>,
        /// Why the record was not written.
        cause: Cause,
    },
    /// The record may or may not be in the log after a reopen. Do not acknowledge
    /// it. Reopen the log, then append it again if a duplicate is harmless.
    Indeterminate {
        /// The record's position, if it is in the log.
        position: Position,
        /// Why it is not known.
        cause: Cause,
    },
}

impl AppendError {
    /// Why the append failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotWritten { cause, .. } | Self::Indeterminate { cause, .. } => cause,
        }
    }

    /// Whether the record was refused before it was queued.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        matches!(self, Self::NotWritten { position: None, .. })
    }

    /// The record's position, if it had one already.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::NotWritten { position, .. } => *position,
            Self::Indeterminate { position, .. } => Some(*position),
        }
    }

    /// Turns the error of a run's last record into the error of the whole run:
    /// the position becomes that of the run's first record.
    pub(crate) fn of_run(mut self, records: usize) -> Self {
        let (Self::NotWritten { position: Some(position), .. }
        | Self::Indeterminate { position, .. }) = &mut self
        else {
            return self;
        };
        position.sequence -= (records as u64).saturating_sub(1);
        self
    }

    /// Whether it is certain that the record is not in the log and never will be.
    #[must_use]
    pub fn is_not_written(&self) -> bool {
        matches!(self, Self::NotWritten { .. })
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten { position: Some(position), cause } => {
                write!(f, "not written at {position}: {cause}")
            }
            Self::NotWritten { position: None, cause } => write!(f, "not written: {cause}"),
            Self::Indeterminate { position, cause } => {
                write!(f, "it is unknown whether {position} was written: {cause}")
            }
        }
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().io()
    }
}

/// An append that was refused before it was queued. The record is not in the log
/// and never will be. The payload comes back to the caller.
#[derive(Clone, Debug)]
pub struct TryAppendError {
    /// The payload, unchanged.
    pub payload: Bytes,
    /// Why the append was refused.
    pub cause: Cause,
}

impl fmt::Display for TryAppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.cause)
    }
}

impl Error for TryAppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}

impl From<TryAppendError> for AppendError {
    /// `NotWritten`, without a position. The payload is dropped.
    fn from(refused: TryAppendError) -> Self {
        Self::NotWritten { position: None, cause: refused.cause }
    }
}

/// A batch that was not acknowledged in full.
///
/// A batch has one part per shard. Each part is in the log as a whole or not at
/// all. Parts that are not listed here were acknowledged.
#[derive(Clone, Debug)]
pub struct BatchError {
    /// The parts that failed, in shard order. There is at least one.
    pub failed: Vec<FailedShard>,
}

/// One shard's part of a batch that failed.
#[derive(Clone, Debug)]
pub struct FailedShard {
    /// The shard.
    pub shard: usize,
    /// The part's records, as indices into the batch that the caller passed.
    pub records: Vec<usize>,
    /// The error, which holds for all of these records. Its position is that of
    /// the part's first record.
    pub error: AppendError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch was not acknowledged in full")?;
        for part in &self.failed {
            write!(f, "; {} records in shard {}: {}", part.records.len(), part.shard, part.error)?;
        }
        Ok(())
    }
}

impl Error for BatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failed.first().map(|part| &part.error as _)
    }
}
