//! Why a request is not answered as its sender wished, and what that is in
//! HTTP.
//!
//! A client drops what is answered with 4xx and sends again what is answered
//! with 5xx. So 4xx is for what can never be right, and every trouble of our
//! own is 503 with `Retry-After`.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use shardwal::Cause;
use shardwal::timeseries::WriteError;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is not what its path takes; the text says where it is wrong.
    Invalid(String),
    /// It is larger than this server takes at all.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is, as far as it was looked at.
        found: u64,
        /// What is allowed.
        max: u64,
    },
    /// It is encoded in a way that this server does not read.
    Encoding(String),
    /// The log is being replayed.
    Replaying,
    /// As many bytes of requests are in flight as may be.
    InFlight,
    /// The rest of the request did not come in time.
    Slow,
    /// The storage or its log has not taken it.
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

/// Which of them is the want of room on the disk.
pub(crate) const DISK_FULL: usize = 10;

impl Refusal {
    /// Why the log did not take it, if that is it.
    fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Storage(WriteError::Refused(cause)) => Some(cause),
            Self::Storage(WriteError::Append(error)) => Some(error.cause()),
            _ => None,
        }
    }

    /// Which of [`REASONS`] it is.
    pub(crate) fn reason(&self) -> usize {
        let cause = self.cause().map(|cause| match cause {
            Cause::TooLarge { .. } => 1,
            Cause::QueueFull => 8,
            Cause::SegmentNotReady | Cause::OutOfResources(_) => 9,
            Cause::DiskFull(_) | Cause::BelowWatermark { .. } => DISK_FULL,
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

    /// The status, and after how many seconds it may be worth to try again.
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
            // These need somebody to come.
            (Self::Storage(_), _) => unavailable("10"),
        }
    }

    /// The answer, with the reason as text.
    pub(crate) fn as_text(&self) -> Response<Body> {
        self.answer("text/plain; charset=utf-8", format!("{self}\n"))
    }

    /// The answer, with the reason as both versions of InfluxDB give it.
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
                write!(formatter, "{what} is {found} and may be {max} at most")
            }
            Self::Replaying => formatter.write_str("the log is being replayed; try again"),
            Self::InFlight => formatter.write_str("too many requests are in flight; try again"),
            Self::Slow => formatter.write_str("the body did not come in time; try again"),
            Self::Storage(error) => write!(formatter, "{error}"),
        }
    }
}
