//! The sample of both versions of remote write, read without a copy.

use super::protobuf::{Malformed, Reader, Value, malformed};

const WRONG_TYPE: Malformed = malformed("a sample's field has the wrong type");

/// Reads a sample: a timestamp in milliseconds and a value. Calls `other` for each further field.
///
/// # Errors
/// The bytes are not a sample, or `other` fails.
#[inline]
pub(crate) fn read_sample(
    message: &[u8],
    mut other: impl FnMut(u64, Value<'_>) -> Result<(), Malformed>,
) -> Result<(i64, f64), Malformed> {
    let mut reader = Reader { rest: message };
    let (mut timestamp_ms, mut sampled) = (0, 0.0);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => sampled = f64::from_bits(bits),
            (2, Value::Varint(bits)) => timestamp_ms = bits.cast_signed(),
            (1 | 2, _) => return Err(WRONG_TYPE),
            _ => other(number, value)?,
        }
    }
    Ok((timestamp_ms, sampled))
}

/// The number of created timestamps in the field of a sample of version 2.0 that holds one.
///
/// # Errors
/// The field has the wrong type.
#[inline]
pub(crate) fn created_in(value: Value<'_>) -> Result<u64, Malformed> {
    match value {
        Value::Varint(created) => Ok(u64::from(created != 0)),
        _ => Err(WRONG_TYPE),
    }
}
