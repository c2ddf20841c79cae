//! Records that appends refused before they were queued, counted by cause.

use std::fmt;

use crate::error::Cause;

/// The number of records that appends refused before they were queued, by cause: full queues
/// and limits, closed and failed shards. Each record of a refused batch counts.
///
/// Records that a commit refuses later are in [`crate::ShardStats::refused_records`]. `Display`
/// prints the causes that occurred. With the `serde` feature it is a map from label to number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedAppends {
    by_label: [u64; Cause::LABELS.len()],
}

impl RefusedAppends {
    pub(super) fn new(by_label: [u64; Cause::LABELS.len()]) -> Self {
        Self { by_label }
    }

    /// All causes together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_label.iter().sum()
    }

    /// The number for a label of [`Cause::LABELS`], and 0 for any other text.
    #[must_use]
    pub fn of(&self, label: &str) -> u64 {
        self.iter().find(|(it, _)| *it == label).map_or(0, |(_, count)| count)
    }

    /// Each label of [`Cause::LABELS`] with its number.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Cause::LABELS.into_iter().zip(self.by_label)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.by_label.iter_mut().zip(other.by_label) {
            *sum += more;
        }
    }
}

impl fmt::Display for RefusedAppends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let occurred = self.iter().filter(|(_, count)| *count > 0);
        let texts: Vec<_> = occurred.map(|(label, count)| format!("{label} {count}")).collect();
        f.write_str(if texts.is_empty() { "none" } else { "" })?;
        f.write_str(&texts.join(", "))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for RefusedAppends {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
