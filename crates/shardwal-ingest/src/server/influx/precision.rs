//! The unit of a request's timestamps. This file does not know points.

const NANOSECONDS: Precision = Precision::Finer(1_000_000);
const MICROSECONDS: Precision = Precision::Finer(1_000);
const MILLISECONDS: Precision = Precision::Coarser(1);
const SECONDS: Precision = Precision::Coarser(1_000);

/// A unit of time, relative to a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// A millisecond has this number of units.
    Finer(i64),
    /// The unit has this number of milliseconds.
    Coarser(i64),
    /// The unit follows from the size of each timestamp, as in InfluxDB 3.
    Auto,
}

impl Precision {
    /// Parses the unit of a request, as InfluxDB 1 and 2 name it. The default is nanoseconds.
    /// `None` if the unit is unknown.
    pub(crate) fn named(unit: &str) -> Option<Self> {
        let precision = match unit {
            "" | "ns" | "n" => NANOSECONDS,
            "us" | "u" | "µ" => MICROSECONDS,
            "ms" => MILLISECONDS,
            "s" => SECONDS,
            "m" => Self::Coarser(60_000),
            "h" => Self::Coarser(3_600_000),
            _ => return None,
        };
        Some(precision)
    }

    /// Parses the unit of a request, as InfluxDB 3 names it. The default is [`Precision::Auto`].
    /// `None` if the unit is unknown.
    pub(crate) fn named_in_v3(unit: &str) -> Option<Self> {
        let precision = match unit {
            "" | "auto" => Self::Auto,
            "nanosecond" | "ns" => NANOSECONDS,
            "microsecond" | "us" => MICROSECONDS,
            "millisecond" | "ms" => MILLISECONDS,
            "second" | "s" => SECONDS,
            _ => return None,
        };
        Some(precision)
    }

    /// Converts a timestamp to milliseconds, rounded down. Saturates on overflow.
    pub(crate) fn milliseconds(self, timestamp: i64) -> i64 {
        match self {
            Self::Finer(parts) => timestamp.div_euclid(parts),
            Self::Coarser(milliseconds) => timestamp.saturating_mul(milliseconds),
            Self::Auto => guessed(timestamp).milliseconds(timestamp),
        }
    }
}

/// The unit of a timestamp of this size, with the bounds of InfluxDB 3.
fn guessed(timestamp: i64) -> Precision {
    match timestamp.unsigned_abs() {
        ..5_000_000_000 => SECONDS,
        5_000_000_000..5_000_000_000_000 => MILLISECONDS,
        5_000_000_000_000..5_000_000_000_000_000 => MICROSECONDS,
        5_000_000_000_000_000.. => NANOSECONDS,
    }
}
