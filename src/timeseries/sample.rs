//! What is measured of a series. A value is its bits: two NaNs with different
//! payloads are different values, because a payload can be a message.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::Labels;

/// The NaN by which Prometheus says that a series has ended.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One measured value. Equal if time and bits are: a NaN equals itself, and
/// 0.0 is not -0.0.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    /// When, in milliseconds since 1970; any `i64`.
    pub timestamp_ms: i64,
    /// What was measured; any bits.
    pub value: f64,
}

impl Sample {
    /// A sample of `value` at `timestamp_ms`.
    #[must_use]
    pub const fn new(timestamp_ms: i64, value: f64) -> Self {
        Self { timestamp_ms, value }
    }

    /// Whether this says that the series has ended, as Prometheus does.
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

/// NaNs show their bits, which is where they differ.
impl fmt::Debug for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_nan() {
            write!(formatter, "NaN({:#x})@{}", self.value.to_bits(), self.timestamp_ms)
        } else {
            write!(formatter, "{:?}@{}", self.value, self.timestamp_ms)
        }
    }
}

/// Some samples of one series, in whatever order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSeries {
    /// What names the series.
    pub labels: Labels,
    /// What was measured.
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
