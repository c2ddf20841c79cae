//! Doubles as decimals: `integer / 10^exponent`, if that is the double bit for bit. Most counters
//! of seconds, durations and percentages are. This file does not know the format of a column.

/// 10^0 to 10^18. Each is exact as a double.
const POWERS: [f64; 19] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18,
];

/// The largest exponent.
pub(super) const EXPONENT_MAX: u8 = 18;
const _: () = assert!(POWERS.len() == EXPONENT_MAX as usize + 1);

/// 2^53. From here on, a double cannot represent every integer.
const INTEGER_END: f64 = 9_007_199_254_740_992.0;

/// From here on, an integer has 16 digits.
const FRACTION_END: f64 = 1e15;

/// The largest double below one half. Adding one half itself would round odd integers beyond 2^52
/// up.
const HALF: f64 = 0.499_999_999_999_999_94;

/// Converts a decimal to a double. Accepts any integer.
#[inline]
pub(super) fn to_double(integer: i64, exponent: u8) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the encoder verifies that nothing is lost")]
    let integer = integer as f64;
    if exponent == 0 { integer } else { integer / POWERS[usize::from(exponent)] }
}

/// T1 EXACT: the integer that makes `value` at this exponent, if one exists.
#[inline]
pub(super) fn to_integer(value: f64, exponent: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(exponent)];
    let integer = nearest(scaled)?;
    (to_double(integer, exponent).to_bits() == value.to_bits()).then_some(integer)
}

/// Finds the smallest exponent at which `value` is an integer, and that integer. Does not consider
/// fractions of 16 digits or more: half of all doubles match one by chance, and their neighbours in
/// the series do not.
pub(super) fn find(value: f64) -> Option<(u8, i64)> {
    for exponent in 0..=EXPONENT_MAX {
        let scaled = value * POWERS[usize::from(exponent)];
        let integer = nearest(scaled).filter(|_| exponent == 0 || scaled.abs() < FRACTION_END)?;
        if to_double(integer, exponent).to_bits() == value.to_bits() {
            return Some((exponent, integer));
        }
    }
    None
}

/// Rounds to the nearest integer. `None` for NaN, infinities, and magnitudes from 2^53 on.
#[inline]
fn nearest(scaled: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it is below 2^53, and meant to round")]
    (scaled.abs() < INTEGER_END).then(|| (scaled + HALF.copysign(scaled)) as i64)
}

#[cfg(test)]
mod tests {
    use super::{find, to_double, to_integer};

    #[test]
    fn decimals_are_found_and_are_exact() {
        let expected = [
            (0.0, Some((0, 0))),
            (-7.0, Some((0, -7))),
            (0.1, Some((1, 1))),
            (123.45, Some((2, 12345))),
            (-0.000_030_713, Some((9, -30713))),
            (1e-18, Some((18, 1))),
            (9_007_199_254_740_991.0, Some((0, 9_007_199_254_740_991))),
            (-0.0, None),
            (1e-19, None),
            (1e300, None),
            (1.0 / 3.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (f64::MIN_POSITIVE, None),
        ];
        for (value, decimal) in expected {
            assert_eq!(find(value), decimal, "{value}");
            if let Some((exponent, integer)) = decimal {
                assert_eq!(to_double(integer, exponent).to_bits(), value.to_bits());
                assert_eq!(to_integer(value, exponent), Some(integer));
            }
        }
        assert_eq!(to_integer(0.5, 0), None);
        assert_eq!(to_integer(0.5, 3), Some(500));
    }
}
