//! [`LabelsError`]: which label is invalid, and what is allowed.

use std::fmt;

use super::{LABELS_BYTES_MAX, LABELS_MAX};

/// Why labels were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelsError {
    /// A label's name does not match `[a-zA-Z_][a-zA-Z0-9_]*`.
    Name {
        /// The name.
        name: String,
    },
    /// The value of [`METRIC_NAME`](super::METRIC_NAME) does not match `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    MetricName {
        /// The value.
        value: String,
    },
    /// A name occurs twice, with values that are not empty.
    Duplicate {
        /// The name.
        name: String,
    },
    /// More than [`LABELS_MAX`] labels.
    TooMany,
    /// More than [`LABELS_BYTES_MAX`] bytes.
    TooLong {
        /// Bytes in the canonical encoding.
        bytes: usize,
    },
}

impl fmt::Display for LabelsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                write!(formatter, "label name {name:?} does not match [a-zA-Z_][a-zA-Z0-9_]*")
            }
            Self::MetricName { value } => {
                write!(formatter, "metric name {value:?} does not match [a-zA-Z_:][a-zA-Z0-9_:]*")
            }
            Self::Duplicate { name } => write!(formatter, "label {name:?} occurs twice"),
            Self::TooMany => write!(formatter, "a series may have at most {LABELS_MAX} labels"),
            Self::TooLong { bytes } => {
                write!(formatter, "{bytes} bytes of labels; at most {LABELS_BYTES_MAX} are allowed")
            }
        }
    }
}

impl std::error::Error for LabelsError {}
