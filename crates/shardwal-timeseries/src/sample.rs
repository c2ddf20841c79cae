//! Samples. A value is its bits: two NaNs with different payloads are different values, because
//! Prometheus encodes messages in the payload. This file does not know the codec.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::Labels;

/// The NaN with which Prometheus marks the end of a series.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One measured value. Two samples are equal if their timestamps and the bits of their values are.
/// A NaN thus equals itself, and 0.0 differs from -0.0.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// Milliseconds since 1970. Any `i64` is allowed.
    pub timestamp_ms: i64,
    /// The measured value. Any bits are allowed.
    pub value: f64,
}

impl Sample {
    /// Builds a sample.
    #[must_use]
    pub const fn new(timestamp_ms: i64, value: f64) -> Self {
        Self { timestamp_ms, value }
    }

    /// Whether this is Prometheus' marker for the end of a series.
    #[must_use]
    pub const fn is_stale_marker(&self) -> bool {
        self.value.to_bits() == STALE_MARKER_BITS
    }
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms && self.value.to_bits() == other.value.to_bits()
    }
}

impl Eq for Sample {}

impl Hash for Sample {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.timestamp_ms, self.value.to_bits()).hash(state);
    }
}

/// Prints a NaN with its bits, because NaNs differ in them.
impl fmt::Debug for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_nan() {
            write!(formatter, "NaN({:#x})@{}", self.value.to_bits(), self.timestamp_ms)
        } else {
            write!(formatter, "{:?}@{}", self.value, self.timestamp_ms)
        }
    }
}

/// Samples of one series, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSeries {
    /// The labels that identify the series.
    pub labels: Labels,
    /// The samples.
    pub samples: Vec<Sample>,
}

#[cfg(test)]
mod tests {
    use super::{STALE_MARKER_BITS, Sample};

    #[test]
    fn samples_are_equal_by_their_bits() {
        let stale = Sample::new(1, f64::from_bits(STALE_MARKER_BITS));
        assert!(stale.is_stale_marker());
        assert_eq!(stale, stale);
        assert_ne!(stale, Sample::new(1, f64::NAN));
        assert_ne!(Sample::new(1, 0.0), Sample::new(1, -0.0));
        assert_eq!(format!("{stale:?}"), "NaN(0x7ff0000000000002)@1");
    }
}
