//! Why bytes are no batch, and where.

use std::fmt;

use crate::timeseries::LabelsError;

/// Why a batch cannot be decoded. After a fault in the batch itself the decoder
/// takes none but a fresh one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The byte of the batch that was being read.
    pub offset: usize,
    /// What is wrong with it.
    pub fault: DecodeFault,
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeFault {
    /// It ends too early.
    Truncated,
    /// A kind that this version does not know and must not pass over.
    UnknownKind(u8),
    /// It continues a period whose fresh batch the decoder has not met, or not
    /// been able to decode.
    NotFresh,
    /// It does not continue the batches that were decoded: one is missing, or
    /// came twice, or in another order.
    OutOfOrder {
        /// The checksum of the period's batches that were decoded.
        found: u32,
        /// The checksum of those before which it was encoded.
        expected: u32,
    },
    /// A number that is too large for what it counts or names.
    OutOfRange {
        /// What it counts or names.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// A string that is not UTF-8.
    NotUtf8,
    /// The labels of a series are not valid.
    Labels(LabelsError),
}

impl DecodeFault {
    /// Whether nothing is wrong with the batch itself, but those before it are
    /// not the ones that it continues.
    pub(crate) fn lacks_another(&self) -> bool {
        matches!(self, Self::NotFresh | Self::OutOfOrder { .. })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "byte {} of a time series batch: ", self.offset)?;
        match &self.fault {
            DecodeFault::Truncated => write!(formatter, "it ends too early"),
            DecodeFault::UnknownKind(kind) => {
                write!(formatter, "kind {kind}, which only a later version knows")
            }
            DecodeFault::NotFresh => write!(formatter, "the fresh batch before it is missing"),
            DecodeFault::OutOfOrder { found, expected } => write!(
                formatter,
                "it continues batches of checksum {expected:08x}, those before it have {found:08x}"
            ),
            DecodeFault::OutOfRange { what, found } => {
                write!(formatter, "{what} can not be {found}")
            }
            DecodeFault::NotUtf8 => write!(formatter, "a string is not UTF-8"),
            DecodeFault::Labels(_) => write!(formatter, "the labels of a series are not valid"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            DecodeFault::Labels(error) => Some(error),
            _ => None,
        }
    }
}
