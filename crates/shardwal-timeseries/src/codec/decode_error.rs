//! [`DecodeError`]: why bytes are not a batch, and at which offset.

use std::fmt;

use crate::LabelsError;

/// Why a batch could not be decoded. After a fault in the batch itself, the decoder accepts only a
/// fresh batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte offset in the batch.
    pub offset: usize,
    /// The problem at that offset.
    pub fault: DecodeFault,
}

/// The problem with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeFault {
    /// The batch ends too early.
    Truncated,
    /// A batch kind that this version does not know and must not skip.
    UnknownKind(u8),
    /// The batch continues a fresh period that the decoder has not seen, or could not decode.
    NotFresh,
    /// The batch does not continue the decoded batches. A batch is missing, repeated or out of
    /// order.
    OutOfOrder {
        /// Checksum of the batches decoded in this period.
        found: u32,
        /// Checksum of the batches that it was encoded after.
        expected: u32,
    },
    /// A number exceeds the limit of what it counts or names.
    OutOfRange {
        /// What it counts or names.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// A string is not UTF-8.
    NotUtf8,
    /// The labels of a series are invalid.
    Labels(LabelsError),
}

impl DecodeFault {
    /// Whether the batch itself may be valid, but the batches decoded before are not those that it
    /// continues.
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
                write!(formatter, "unknown kind {kind}; use a newer version")
            }
            DecodeFault::NotFresh => write!(formatter, "the fresh batch before it is missing"),
            DecodeFault::OutOfOrder { found, expected } => write!(
                formatter,
                "it continues batches of checksum {expected:08x}, not of {found:08x}"
            ),
            DecodeFault::OutOfRange { what, found } => {
                write!(formatter, "{what} cannot be {found}")
            }
            DecodeFault::NotUtf8 => write!(formatter, "a string is not UTF-8"),
            DecodeFault::Labels(_) => write!(formatter, "the labels of a series are invalid"),
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
