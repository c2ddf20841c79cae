//! Why labels were refused: which one, and what it should be.

use std::fmt;

use super::{LABELS_BYTES_MAX, LABELS_MAX};

/// Why labels were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelsError {
    /// A label's name is not of the form `[a-zA-Z_][a-zA-Z0-9_]*`.
    Name {
        /// The name.
        name: String,
    },
    /// The value of [`METRIC_NAME`](super::METRIC_NAME) is not of the form `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    MetricName {
        /// The value.
        value: String,
    },
    /// A name comes twice, with values that are not empty.
    Duplicate {
        /// The name.
        name: String,
    },
    /// More than [`LABELS_MAX`] labels.
    TooMany,
    /// More than [`LABELS_BYTES_MAX`] bytes.
    TooLong {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for LabelsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                write!(formatter, "label name {name:?} is not [a-zA-Z_][a-zA-Z0-9_]*")
            }
            Self::MetricName { value } => {
                write!(formatter, "metric name {value:?} is not [a-zA-Z_:][a-zA-Z0-9_:]*")
            }
            Self::Duplicate { name } => write!(formatter, "label {name:?} comes twice"),
            Self::TooMany => write!(formatter, "more than {LABELS_MAX} labels"),
            Self::TooLong { bytes } => {
                write!(formatter, "{bytes} bytes of labels, more than {LABELS_BYTES_MAX}")
            }
        }
    }
}

impl std::error::Error for LabelsError {}
