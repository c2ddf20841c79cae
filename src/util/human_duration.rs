//! Durations as people write them: `10ms`, `1.5s`, `250us`.

use std::time::Duration;

/// Longest first: a duration is printed in the longest unit that fits.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

/// Parses a number and its unit: `s`, `ms`, `us` or `ns`.
///
/// # Errors
/// A message that names the text and gives examples.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a duration; write it like `10ms`, `1.5s` or `250us`");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(refuse)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| {
        !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return Err(refuse());
    }
    let digits = |digits: &str| digits.parse::<u64>().map_err(|_| refuse());
    let places = u32::try_from(fraction.len()).map_err(|_| refuse())?;
    let fraction = u128::from(digits(fraction)?) * u128::from(*nanos) / 10_u128.pow(places);
    let fraction = u64::try_from(fraction).map_err(|_| refuse())?;
    let nanos = digits(whole)?.checked_mul(*nanos).and_then(|whole| whole.checked_add(fraction));
    nanos.map(Duration::from_nanos).ok_or_else(refuse)
}

/// Prints a duration in the largest unit that needs no fraction.
pub(crate) fn print(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fits = |(_, unit): &&(&str, u64)| nanos.is_multiple_of(u128::from(*unit));
    let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("ns", 1));
    format!("{}{name}", nanos / u128::from(*unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed_and_the_unit_suits() {
        let cases = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_micros(250), "250us"),
            (Duration::from_millis(10), "10ms"),
            (Duration::from_millis(1500), "1500ms"),
            (Duration::from_secs(3600), "3600s"),
        ];
        for (duration, text) in cases {
            assert_eq!(print(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0.25ms"), Ok(Duration::from_micros(250)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "10", "ms", "-1s", "1 s", "1h", "1.s", ".5s", "1e3s", "99999999999s", "1.2.3s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
