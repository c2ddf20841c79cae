//! The unit of a request's timestamps.

/// How many of a unit make a millisecond, or how many milliseconds it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// The unit is a part of a millisecond.
    Finer(i64),
    /// The unit is so many milliseconds.
    Coarser(i64),
}

impl Precision {
    /// The unit that a request names; `None` if there is no such unit. Without
    /// a name it is nanoseconds.
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

    /// A timestamp in milliseconds, rounded down; beyond what can be told, the
    /// last that can.
    pub(crate) fn milliseconds(self, timestamp: i64) -> i64 {
        match self {
            Self::Finer(parts) => timestamp.div_euclid(parts),
            Self::Coarser(milliseconds) => timestamp.saturating_mul(milliseconds),
        }
    }
}
