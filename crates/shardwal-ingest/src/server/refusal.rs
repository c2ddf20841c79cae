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
use shardwal_timeseries::WriteError;

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
    },
    /// The encoding of the request is not supported.
    Encoding(String),
    /// The log is being replayed.
    Replaying,
    /// The budget for requests in flight is exhausted.
    InFlight,
    /// The body did not arrive in time.
    Slow,
    /// The storage or its log refused or failed the write.
    Storage(WriteError),
}

/// The reasons, in the order of their counters.
pub(crate) const REASONS: [&str; 14] = [
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
            Self::InFlight => 4,
            Self::Slow => 5,
            Self::Storage(WriteError::TooManySeries { .. }) => 6,
            Self::Storage(_) => 7,
        })
    }

    /// The status, and the seconds after which the client should retry.
    fn status(&self) -> (StatusCode, Option<&'static str>) {
        let unavailable = |seconds| (StatusCode::SERVICE_UNAVAILABLE, Some(seconds));
        match (self, self.cause()) {
            (Self::Invalid(_), _) => (StatusCode::BAD_REQUEST, None),
            (Self::TooLarge { .. }, _) | (_, Some(Cause::TooLarge { .. })) => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
            (Self::Encoding(_), _) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            (Self::Replaying, _) => unavailable("2"),
            (Self::InFlight | Self::Slow, _)
            | (_, Some(Cause::QueueFull | Cause::SegmentNotReady)) => unavailable("1"),
            // These do not resolve quickly. An operator may have to act.
            (Self::Storage(_), _) => unavailable("10"),
        }
    }

    /// Builds a plain-text response.
    pub(crate) fn as_text(&self) -> Response<Body> {
        self.answer("text/plain; charset=utf-8", format!("{self}\n"))
    }

    /// Builds a JSON response with the fields of both versions of InfluxDB.
    pub(crate) fn as_json(&self) -> Response<Body> {
        let (status, _) = self.status();
        let code = match status {
            StatusCode::BAD_REQUEST => "invalid",
            StatusCode::PAYLOAD_TOO_LARGE => "request too large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
            _ => "unavailable",
        };
        let reason = self.to_string();
        let json = serde_json::json!({ "code": code, "message": reason, "error": reason });
        self.answer("application/json", json.to_string())
    }

    fn answer(&self, content_type: &'static str, body: String) -> Response<Body> {
        let (status, retry_after) = self.status();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::Encoding(why) => formatter.write_str(why),
            Self::TooLarge { what, found, max } => {
                write!(formatter, "{what} is {found}; at most {max} is allowed")
            }
            Self::Replaying => formatter.write_str("the log is being replayed; try again"),
            Self::InFlight => formatter.write_str("too many requests are in flight; try again"),
            Self::Slow => formatter.write_str("the body did not arrive in time; try again"),
            Self::Storage(error) => write!(formatter, "{error}"),
        }
    }
}
