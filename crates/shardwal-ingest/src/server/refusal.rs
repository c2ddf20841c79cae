//! Refusals: why a request fails, and the HTTP response for it. This file does not know the
//! protocols.
//!
//! A client drops a request after a 4xx response, and retries it after a 5xx. Only a request that
//! can never succeed gets a 4xx. Server-side failures return 503 with `Retry-After`, so that
//! clients retry.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use shardwal::Cause;
use shardwal_timeseries::{LabelsError, WriteError};

use super::batch::Written;
use super::budget::Exhausted;
use super::excerpt::excerpt;
use super::protobuf::Malformed;

/// The options that limit a request.
pub(crate) const REQUEST_BYTES_MAX: &str = "--request-bytes-max";
const IN_FLIGHT_BYTES_MAX: &str = "--in-flight-bytes-max";
pub(crate) const SAMPLES_MAX: &str = "--samples-max";
pub(crate) const SERIES_MAX: &str = "--series-max";

/// Maximum characters of the labels that a response names.
const LABELS_SHOWN_MAX: usize = 80;

/// Why labels are refused, with the option that sets the limit.
pub(crate) struct WithOption<'a>(pub(crate) &'a LabelsError);

impl fmt::Display for WithOption<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self.0 {
            LabelsError::TooMany { .. } => " (--labels-max)",
            LabelsError::TooLong { .. } => " (--labels-bytes-max)",
            _ => "",
        };
        write!(formatter, "{}{option}", self.0)
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request is invalid. The text says where.
    Invalid(String),
    /// The request exceeds a limit of this server.
    TooLarge {
        /// The thing that is too large.
        what: &'static str,
        /// Its size, as far as it was measured.
        found: u64,
        /// The limit.
        max: u64,
        /// The option that sets it.
        limit: &'static str,
    },
    /// New series of the request are left out, because the server has room for no more.
    SeriesLimit {
        /// Number of series that are left out.
        count: usize,
        /// The labels of the first.
        first: String,
        /// What else was left out of the request.
        also: Option<String>,
        /// The samples that were written.
        written: Written,
        /// The limit.
        max: u64,
        /// The option that sets it.
        limit: &'static str,
        /// Whether the other series are written.
        others_written: bool,
    },
    /// A tenant of the request sends too many samples per second.
    TenantRate {
        /// The tenant.
        tenant: String,
        /// The limit.
        max: u64,
        /// The option that sets it.
        limit: &'static str,
        /// Seconds until the tenant may send more.
        seconds: u64,
    },
    /// The encoding of the request is not supported.
    Encoding(String),
    /// The log is being replayed.
    Replaying,
    /// The budget for requests in flight is exhausted.
    InFlight,
    /// Too many reads are open.
    Reads,
    /// The body did not arrive in time.
    Slow,
    /// The read took too long.
    ReadTime,
    /// The storage or its log refused or failed the write.
    Storage(WriteError),
}

/// The reasons, in the order of their counters.
pub(crate) const REASONS: [&str; 16] = [
    "invalid",
    "too_large",
    "encoding",
    "replaying",
    "in_flight",
    "slow",
    "too_many_series",
    "memory_full",
    "queue_full",
    "segment_not_ready",
    "disk_full",
    "poisoned",
    "writer_panicked",
    "log_closed",
    "tenant_rate",
    "series_gone",
];

/// Index of the reason for a full disk.
pub(crate) const DISK_FULL: usize = 10;

impl Refusal {
    /// The cause of the log, if the log refused or failed the write.
    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Storage(WriteError::Refused(cause)) => Some(cause),
            Self::Storage(WriteError::Append(error)) => Some(error.cause()),
            _ => None,
        }
    }

    /// Index in [`REASONS`].
    pub(crate) fn reason(&self) -> usize {
        let cause = self.cause().map(|cause| match cause {
            Cause::TooLarge { .. } => 1,
            Cause::QueueFull => 8,
            Cause::SegmentNotReady | Cause::OutOfResources(_) => 9,
            Cause::DiskFull(_) | Cause::BelowFreeSpaceMin { .. } => DISK_FULL,
            Cause::Poisoned(_) => 11,
            Cause::WriterPanicked => 12,
            _ => 13,
        });
        cause.unwrap_or(match self {
            Self::Invalid(_) => 0,
            Self::TooLarge { .. } => 1,
            Self::Encoding(_) => 2,
            Self::Replaying => 3,
            Self::InFlight | Self::Reads => 4,
            Self::Slow | Self::ReadTime => 5,
            Self::SeriesLimit { .. } | Self::Storage(WriteError::TooManySeries { .. }) => 6,
            Self::Storage(WriteError::SeriesGone) => 15,
            Self::Storage(_) => 7,
            Self::TenantRate { .. } => 14,
        })
    }

    /// The status, and the seconds after which the client should retry.
    pub(crate) fn status(&self) -> (StatusCode, Option<u64>) {
        let unavailable = |seconds| (StatusCode::SERVICE_UNAVAILABLE, Some(seconds));
        match (self, self.cause()) {
            // A limit that stays is no passing trouble. A client that retried would retry for ever.
            (Self::Invalid(_) | Self::SeriesLimit { .. }, _) => (StatusCode::BAD_REQUEST, None),
            (Self::TooLarge { .. }, _) | (_, Some(Cause::TooLarge { .. })) => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
            (Self::Encoding(_), _) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            (Self::TenantRate { seconds, .. }, _) => {
                (StatusCode::TOO_MANY_REQUESTS, Some(*seconds))
            }
            (Self::Replaying, _) => unavailable(2),
            (
                Self::InFlight
                | Self::Reads
                | Self::Slow
                | Self::Storage(WriteError::TooManySeries { .. } | WriteError::SeriesGone),
                _,
            )
            | (_, Some(Cause::QueueFull | Cause::SegmentNotReady)) => unavailable(1),
            // These do not resolve quickly. An operator may have to act.
            (Self::ReadTime | Self::Storage(_), _) => unavailable(10),
        }
    }

    /// Whether the request was written, but for some series.
    pub(crate) fn is_partial_write(&self) -> bool {
        matches!(self, Self::SeriesLimit { others_written: true, .. })
    }

    /// The samples that were written all the same.
    pub(crate) fn written(&self) -> Written {
        match self {
            Self::SeriesLimit { written, others_written: true, .. } => *written,
            _ => Written::default(),
        }
    }

    /// Adds what else was left out of a request that was written in part.
    pub(crate) fn and_also(mut self, what: Option<String>) -> Self {
        if let Self::SeriesLimit { also, .. } = &mut self {
            *also = what;
        }
        self
    }

    /// Builds a plain-text response.
    pub(crate) fn as_text(&self) -> Response<Body> {
        self.answer("text/plain; charset=utf-8", excerpt(self) + "\n")
    }

    /// Builds a JSON response with the fields of both versions of InfluxDB.
    pub(crate) fn as_json(&self) -> Response<Body> {
        let (status, _) = self.status();
        let code = match status {
            StatusCode::BAD_REQUEST => "invalid",
            StatusCode::PAYLOAD_TOO_LARGE => "request too large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
            StatusCode::TOO_MANY_REQUESTS => "too many requests",
            _ => "unavailable",
        };
        let reason = excerpt(self);
        let json = serde_json::json!({ "code": code, "message": reason, "error": reason });
        self.answer("application/json", json.to_string())
    }

    /// Builds a JSON response with the fields of Prometheus' API.
    pub(crate) fn as_prometheus(&self) -> Response<Body> {
        let kind = match self.status().0 {
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "bad_data",
        };
        let reason = excerpt(self);
        let json = serde_json::json!({ "status": "error", "errorType": kind, "error": reason });
        self.answer("application/json", json.to_string())
    }

    fn answer(&self, content_type: &'static str, body: String) -> Response<Body> {
        let (status, retry_after) = self.status();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Invalid(malformed.to_string())
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Busy => Self::InFlight,
            Exhausted::TooLarge { needed, max } => {
                let (found, max, limit) = (needed as u64, max as u64, IN_FLIGHT_BYTES_MAX);
                Self::TooLarge { what: "the request's memory", found, max, limit }
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::Encoding(why) => formatter.write_str(why),
            Self::TooLarge { what, found, max, limit } => {
                write!(formatter, "{what} is {found}; {limit} allows at most {max}")
            }
            Self::SeriesLimit { count, first, also, max, limit, others_written, .. } => {
                let first: String = first.chars().take(LABELS_SHOWN_MAX).collect();
                let written = if *others_written { "the other series" } else { "nothing" };
                write!(
                    formatter,
                    "{count} new series left out, {written} written: {limit} allows at most {max} \
                     series; the first: {first}"
                )?;
                also.iter().try_for_each(|also| write!(formatter, "; also: {also}"))
            }
            Self::TenantRate { tenant, max, limit, seconds } => write!(
                formatter,
                "tenant {tenant:?} is beyond {limit}, {max}; try again in {seconds} s"
            ),
            Self::Replaying => formatter.write_str("the log is being replayed; try again"),
            Self::InFlight => formatter.write_str("too many requests are in flight; try again"),
            Self::Reads => formatter.write_str("too many reads are open; try again"),
            Self::Slow => formatter.write_str("the body did not arrive in time; try again"),
            Self::ReadTime => formatter.write_str("the read took longer than --read-time-max"),
            Self::Storage(error) => write!(formatter, "{error}"),
        }
    }
}
