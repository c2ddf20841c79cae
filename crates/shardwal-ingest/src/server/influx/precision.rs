//! The unit of a request's timestamps. This file does not know points.

/// A unit of time, relative to a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// A millisecond has this number of units.
    Finer(i64),
    /// The unit has this number of milliseconds.
    Coarser(i64),
}

impl Precision {
    /// Parses the unit of a request. The default is nanoseconds. `None` if the unit is unknown.
    pub(crate) fn named(unit: &str) -> Option<Self> {
        let precision = match unit {
            "" | "ns" | "n" => Self::Finer(1_000_000),
            "us" | "u" | "µ" => Self::Finer(1_000),
            "ms" => Self::Coarser(1),
            "s" => Self::Coarser(1_000),
            "m" => Self::Coarser(60_000),
            "h" => Self::Coarser(3_600_000),
            _ => return None,
        };
        Some(precision)
    }

    /// Converts a timestamp to milliseconds, rounded down. Saturates on overflow.
    pub(crate) fn milliseconds(self, timestamp: i64) -> i64 {
        match self {
            Self::Finer(parts) => timestamp.div_euclid(parts),
            Self::Coarser(milliseconds) => timestamp.saturating_mul(milliseconds),
        }
    }
}
