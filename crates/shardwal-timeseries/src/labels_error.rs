//! [`LabelsError`]: which label is invalid, and what is allowed.

use std::fmt;

/// Why labels were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelsError {
    /// A label without a name.
    EmptyName,
    /// A name occurs twice, with values that are not empty.
    Duplicate {
        /// The name.
        name: String,
    },
    /// More labels than the limit.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// More bytes than the limit.
    TooLong {
        /// Bytes in the canonical encoding.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl fmt::Display for LabelsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyName => formatter.write_str("a label has no name"),
            Self::Duplicate { name } => write!(formatter, "label {name:?} occurs twice"),
            Self::TooMany { max } => write!(formatter, "a series may have at most {max} labels"),
            Self::TooLong { bytes, max } => {
                write!(formatter, "{bytes} bytes of labels; at most {max} are allowed")
            }
        }
    }
}

impl std::error::Error for LabelsError {}
