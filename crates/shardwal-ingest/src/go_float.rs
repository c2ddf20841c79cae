//! Floats in the format of Go's `%g`.

/// From this decimal exponent on, an exponent is printed.
const EXPONENT_MIN: i32 = 6;

/// Prints the shortest digits that parse to this value. Below 1e-4 and from 1e6 on, an exponent of
/// two digits or more follows.
pub(crate) fn print(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust's digits are the shortest too. Of several shortest candidates, Go picks the nearest, and
    // the even one on a tie. Rust does so only if the number of digits is given. Below a power of
    // two, that one may be another value.
    let shortest = format!("{value:e}");
    let digits = shortest.split('e').next().unwrap_or_default();
    let decimals = digits.bytes().filter(u8::is_ascii_digit).count() - 1;
    let nearest = format!("{value:.decimals$e}");
    let is_value = nearest.parse::<f64>().is_ok_and(|back| back.to_bits() == value.to_bits());
    let scientific = if is_value { nearest } else { shortest };
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..EXPONENT_MIN).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    if !is_value {
        return value.to_string();
    }
    let places = usize::try_from(decimals as i64 - i64::from(exponent)).unwrap_or(0);
    format!("{value:.places$}")
}
