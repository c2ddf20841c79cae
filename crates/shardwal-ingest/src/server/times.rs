//! Times of a query: seconds since 1970, or RFC 3339.

use jiff::Timestamp;

/// Parses a time to milliseconds. Seconds are rounded, and digits of RFC 3339 below a millisecond
/// do not count.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as intended")]
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_nan() => None,
        Ok(seconds) => Some((seconds * 1e3).round() as i64),
        Err(_) => text.parse().ok().map(Timestamp::as_millisecond),
    }
}
