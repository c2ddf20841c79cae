//! Native histograms of Prometheus: the message `Histogram`, which remote write 1.0 and 2.0 and
//! remote read share. The storage keeps its canonical encoding. This file does not know the server.

use prost::{DecodeError, Message, Oneof};
use shardwal_timeseries::{HISTOGRAM_BYTES_MAX, HistogramSample};

use super::go_float;
use check::check;

mod bounds;
mod check;
mod text;

/// The schema of custom buckets. The others are exponential.
const CUSTOM: i32 = -53;

/// A native histogram. Buckets are consecutive within a span, and a span's offset is the gap before
/// it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub(crate) count: Option<Count>,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
    /// The resolution: bounds are powers of `2^(2^-schema)`.
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(double, tag = "5")]
    pub(crate) zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub(crate) zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<Span>,
    /// Each the difference to the bucket before it. Only a histogram of integers has them.
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    /// Only a histogram of floats has them.
    #[prost(double, repeated, tag = "10")]
    pub(crate) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) timestamp: i64,
    /// The upper bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub(crate) custom_values: Vec<f64>,
    /// When it began to count. Only version 2.0 has it. It is not stored.
    #[prost(int64, tag = "17")]
    pub(crate) start_timestamp: i64,
}

/// The number of observations. It decides whether all numbers are integers or floats.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Count {
    #[prost(uint64, tag = "1")]
    Integer(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

/// The number of observations in the bucket around zero.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Integer(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

/// Consecutive buckets.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

impl Histogram {
    /// Decodes a message, and drops what Prometheus ignores: numbers of the other type.
    ///
    /// # Errors
    /// The bytes are not a message.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut histogram = Self::decode(bytes)?;
        let Self { count, zero_count, .. } = histogram;
        if let Some(Count::Float(_)) = count {
            histogram.negative_deltas.clear();
            histogram.positive_deltas.clear();
            let zero = if let Some(ZeroCount::Float(zero)) = zero_count { zero } else { 0.0 };
            histogram.zero_count = Some(ZeroCount::Float(zero));
        } else {
            histogram.count = count.or(Some(Count::Integer(0)));
            histogram.negative_counts.clear();
            histogram.positive_counts.clear();
            let zero = if let Some(ZeroCount::Integer(zero)) = zero_count { zero } else { 0 };
            histogram.zero_count = Some(ZeroCount::Integer(zero));
        }
        Ok(histogram)
    }

    /// Checks it as Prometheus does, and returns what the storage keeps.
    ///
    /// # Errors
    /// It is no valid histogram, or too large. The text says why.
    pub(crate) fn stored(mut self) -> Result<HistogramSample, String> {
        check(&self)?;
        self.start_timestamp = 0;
        let bytes = self.encoded_len();
        if bytes > HISTOGRAM_BYTES_MAX {
            return Err(format!("it has {bytes} bytes; at most {HISTOGRAM_BYTES_MAX} are stored"));
        }
        let timestamp_ms = self.timestamp;
        Ok(HistogramSample { timestamp_ms, bytes: self.encode_to_vec().into() })
    }
}
