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
    /// The log has not taken it.
    Log(Cause),
}

/// The reasons, in the order of their counters.
pub(crate) const REASONS: [&str; 12] = [
    "invalid",
    "too_large",
    "encoding",
    "replaying",
    "in_flight",
    "slow",
    "queue_full",
    "segment_not_ready",
    "disk_full",
    "poisoned",
    "writer_panicked",
    "log_closed",
];

impl Refusal {
    /// Which of [`REASONS`] it is.
    pub(crate) fn reason(&self) -> usize {
        match self {
            Self::Invalid(_) => 0,
            Self::TooLarge { .. } | Self::Log(Cause::TooLarge { .. }) => 1,
            Self::Encoding(_) => 2,
            Self::Replaying => 3,
            Self::InFlight => 4,
            Self::Slow => 5,
            Self::Log(Cause::QueueFull) => 6,
            Self::Log(Cause::SegmentNotReady) => 7,
            Self::Log(Cause::DiskFull(_)) => 8,
            Self::Log(Cause::Poisoned(_)) => 9,
            Self::Log(Cause::WriterPanicked) => 10,
            Self::Log(_) => 11,
        }
    }

    /// The status, and after how many seconds it may be worth to try again.
    fn status(&self) -> (StatusCode, Option<&'static str>) {
        let unavailable = |seconds| (StatusCode::SERVICE_UNAVAILABLE, Some(seconds));
        match self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, None),
            Self::TooLarge { .. } | Self::Log(Cause::TooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, None)
            }
            Self::Encoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            Self::Replaying => unavailable("2"),
            Self::InFlight | Self::Slow => unavailable("1"),
            Self::Log(Cause::QueueFull | Cause::SegmentNotReady) => unavailable("1"),
            // These need somebody to come.
            Self::Log(_) => unavailable("10"),
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
            Self::Log(cause) => write!(formatter, "{cause}"),
        }
    }
}
