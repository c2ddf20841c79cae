//! Compressed samples: the XOR chunks of Prometheus, after Facebook's Gorilla, with timestamps in
//! milliseconds.
//!
//! A chunk begins with the number of its samples, in 16 bits. The first sample follows: its time as
//! a signed varint, its value in 64 bits. The second time is the difference to the first, as an
//! unsigned varint. Each later one is the change of that difference, in 1, 16, 20, 24 or 68 bits. A
//! value is the exclusive or with the value before it: 1 bit if it is 0, and else the bits that
//! differ, in the window of the value before, or in one of its own.
//!
//! This folder knows the encoding, not what holds a chunk.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Sample;
pub(crate) use appender::XorAppender;
pub(crate) use decoder::XorSamples;

mod appender;
mod decoder;

/// Bytes of the number of samples, at the start of a chunk.
const COUNT_BYTES: usize = 2;

/// Where a difference between two values lies. Five bits hold the leading zeros, so more count as
/// significant.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Zeros before the significant bits: at most 31.
    leading: u8,
    /// Zeros after them.
    trailing: u8,
}

impl Window {
    /// The window before the first difference. No difference fits into it.
    const NONE: Self = Self { leading: 64, trailing: 0 };

    /// Number of significant bits.
    fn significant(self) -> u32 {
        64_u32.saturating_sub(u32::from(self.leading) + u32::from(self.trailing))
    }
}

/// A compressed chunk of samples, as Prometheus stores and transfers them. A clone shares the
/// bytes.
#[derive(Clone, Debug)]
pub struct XorChunk {
    first_ms: i64,
    last_ms: i64,
    bytes: Arc<[u8]>,
}

impl XorChunk {
    /// Encodes samples, which should be sorted by time.
    ///
    /// # Panics
    /// There is no sample, or more than 65,535.
    #[must_use]
    pub fn encode(samples: &[Sample]) -> Self {
        XorAppender::new(samples).into_chunk().expect("a chunk has samples")
    }

    /// Time of the first sample, in milliseconds since 1970.
    #[must_use]
    pub fn first_ms(&self) -> i64 {
        self.first_ms
    }

    /// Time of the last sample, in milliseconds since 1970.
    #[must_use]
    pub fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// Number of samples.
    #[expect(clippy::big_endian_bytes, reason = "the encoding is Prometheus'")]
    pub(crate) fn len(&self) -> usize {
        self.bytes.first_chunk().map_or(0, |count| u16::from_be_bytes(*count).into())
    }

    /// The encoding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part of the chunk that is in a time range: the chunk itself, if all of it is. `None` if
    /// no sample is.
    pub(crate) fn within(self, range: &RangeInclusive<i64>) -> Option<Self> {
        if range.contains(&self.first_ms) && range.contains(&self.last_ms) {
            return Some(self);
        }
        let is_within = |sample: &Sample| range.contains(&sample.timestamp_ms);
        let samples: Vec<_> = self.samples().filter(is_within).collect();
        (!samples.is_empty()).then(|| Self::encode(&samples))
    }

    /// The samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        XorSamples::of_chunk(&self.bytes)
    }
}

#[cfg(test)]
mod tests;
