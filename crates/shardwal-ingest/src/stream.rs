//! The recorded stream: requests as Prometheus remote write 1.0 sent them.
//!
//! A recording is a sequence of requests. Each has a little-endian `u32` length and a body of that
//! length: a snappy block that contains a protobuf `WriteRequest`. This file decodes requests and
//! trusts no length. It does not know what is logged of them.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use prost::Message;

/// Maximum decompressed bytes of a request. Prometheus sends some hundred kilobytes. A hostile
/// header may claim four gigabytes.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// Bytes of the length before each request.
const LENGTH_BYTES: usize = 4;

/// One remote-write request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// The series as they were sent. A series may occur several times.
    pub(crate) series: Vec<Series>,
}

/// Some samples of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// The labels of the series, sorted.
    pub(crate) labels: Vec<Label>,
    /// The samples, in the order in which they were sent.
    pub(crate) samples: Vec<Sample>,
}

/// Name and value of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    /// The name.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: String,
}

/// One measured value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    /// The measured value. A NaN with certain bits marks the end of the series.
    pub(crate) value: f64,
}

/// Compares bits, because a NaN with certain bits is a marker.
impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp && self.value.to_bits() == other.value.to_bits()
    }
}

/// Why a recording cannot be read.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// A request is corrupt.
    Corrupted {
        /// The request, counted from 0.
        request: usize,
        /// The offset of the request in the file, including its length.
        offset: usize,
        /// How it is corrupted.
        corruption: Corruption,
    },
}

/// How a request is corrupted.
#[derive(Debug)]
pub(crate) enum Corruption {
    /// The file ends within the request.
    Truncated,
    /// The request claims to decompress to this number of bytes, which exceeds the limit.
    TooLarge(usize),
    /// The body is not a snappy block.
    Snappy(snap::Error),
    /// The body is not a `WriteRequest`.
    Protobuf(prost::DecodeError),
}

impl fmt::Display for StreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(_) => write!(formatter, "the recording cannot be read"),
            Self::Corrupted { request, offset, corruption } => {
                write!(formatter, "request {request} at byte {offset} ")?;
                match corruption {
                    Corruption::Truncated => write!(formatter, "is cut off by the end of the file"),
                    Corruption::TooLarge(bytes) => write!(
                        formatter,
                        "claims to hold {bytes} bytes; at most {REQUEST_BYTES_MAX} are allowed"
                    ),
                    Corruption::Snappy(_) => write!(formatter, "is not a snappy block"),
                    Corruption::Protobuf(_) => write!(formatter, "is not a WriteRequest"),
                }
            }
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            Self::Corrupted { corruption, .. } => match corruption {
                Corruption::Truncated | Corruption::TooLarge(_) => None,
                Corruption::Snappy(error) => Some(error),
                Corruption::Protobuf(error) => Some(error),
            },
        }
    }
}

/// Reads all requests of a recording.
///
/// # Errors
/// The file cannot be read, or a request is corrupt.
pub(crate) fn read(path: &Path) -> Result<Vec<Request>, StreamError> {
    decode(&fs::read(path).map_err(StreamError::Unreadable)?)
}

/// Decodes all requests of a recording.
///
/// # Errors
/// The first request that is corrupt.
pub(crate) fn decode(recording: &[u8]) -> Result<Vec<Request>, StreamError> {
    let mut requests = Vec::new();
    let mut rest = recording;
    while !rest.is_empty() {
        let corrupted = |corruption| StreamError::Corrupted {
            request: requests.len(),
            offset: recording.len() - rest.len(),
            corruption,
        };
        let (body, after) = split_body(rest).ok_or_else(|| corrupted(Corruption::Truncated))?;
        let request = decode_body(body).map_err(corrupted)?;
        requests.push(request);
        rest = after;
    }
    Ok(requests)
}

/// Splits off the body of the first request.
fn split_body(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn decode_body(body: &[u8]) -> Result<Request, Corruption> {
    let bytes = snap::raw::decompress_len(body).map_err(Corruption::Snappy)?;
    if bytes > REQUEST_BYTES_MAX {
        return Err(Corruption::TooLarge(bytes));
    }
    let message = snap::raw::Decoder::new().decompress_vec(body).map_err(Corruption::Snappy)?;
    let request = wire::WriteRequest::decode(message.as_slice()).map_err(Corruption::Protobuf)?;
    Ok(request.into())
}

impl From<wire::WriteRequest> for Request {
    fn from(request: wire::WriteRequest) -> Self {
        let series = request.timeseries.into_iter().map(Series::from).collect();
        Self { series }
    }
}

impl From<wire::TimeSeries> for Series {
    fn from(series: wire::TimeSeries) -> Self {
        let mut labels: Vec<Label> = series
            .labels
            .into_iter()
            .map(|wire::Label { name, value }| Label { name, value })
            .collect();
        labels.sort();
        let samples = series
            .samples
            .into_iter()
            .map(|wire::Sample { value, timestamp }| Sample { timestamp, value })
            .collect();
        Self { labels, samples }
    }
}

/// The protobuf messages. Metadata, exemplars and histograms are unknown fields, and skipped.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) timeseries: Vec<TimeSeries>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub(super) samples: Vec<Sample>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(double, tag = "1")]
        pub(super) value: f64,
        #[prost(int64, tag = "2")]
        pub(super) timestamp: i64,
    }
}
