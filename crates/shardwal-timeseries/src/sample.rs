//! Samples and native histograms. A value is its bits: two NaNs with different payloads are
//! different values, because Prometheus encodes messages in the payload. This file does not know
//! the codec.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

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

/// Maximum bytes of a native histogram.
pub const HISTOGRAM_BYTES_MAX: usize = 64 << 10;

/// A native histogram at one time. The storage keeps its bytes, and does not read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HistogramSample {
    /// Milliseconds since 1970. Any `i64` is allowed.
    pub timestamp_ms: i64,
    /// The histogram, in an encoding that the caller chooses: at most [`HISTOGRAM_BYTES_MAX`].
    pub bytes: Arc<[u8]>,
}

/// Samples and native histograms of one series, in any order.
///
/// Both are kept apart. Of two samples, or of two histograms, with equal timestamps, the later one
/// wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeSeries {
    /// The labels that identify the series.
    pub labels: Labels,
    /// The samples.
    pub samples: Vec<Sample>,
    /// The native histograms.
    pub histograms: Vec<HistogramSample>,
}

impl TimeSeries {
    /// Samples of one series, without histograms.
    #[must_use]
    pub const fn new(labels: Labels, samples: Vec<Sample>) -> Self {
        Self { labels, samples, histograms: Vec::new() }
    }

    /// Number of samples and histograms.
    #[must_use]
    pub const fn count(&self) -> u64 {
        (self.samples.len() + self.histograms.len()) as u64
    }

    /// Drops the samples and the histograms.
    pub fn clear(&mut self) {
        (self.samples, self.histograms) = (Vec::new(), Vec::new());
    }

    /// Whether it has neither samples nor histograms.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }
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
