//! Floats as Go's `%g` prints them.

/// The least exponent that is written as one.
const EXPONENT_MIN: i32 = 6;

/// The shortest digits that read back as this value; with an exponent of two
/// digits or more below 1e-4 and from 1e6 on.
pub(crate) fn print(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust's digits are the shortest as well. Of two that are as short, Go has
    // the nearer one, and the even one if they are as near; Rust may not, but
    // rounds so when it is told how many digits.
    let shortest = format!("{value:e}");
    let digits = shortest.split('e').next().unwrap_or_default();
    let decimals = digits.bytes().filter(u8::is_ascii_digit).count() - 1;
    let scientific = format!("{value:.decimals$e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..EXPONENT_MIN).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let places = usize::try_from(decimals as i64 - i64::from(exponent)).unwrap_or(0);
    format!("{value:.places$}")
}
