//! One record in a frame's body: key, length, payload.

use std::ops::Range;

use super::{RECORD_OVERHEAD_MAX, fits};

/// Appends the bytes that precede a record's payload in a frame's body.
#[inline]
pub(crate) fn put_record_head(bytes: &mut Vec<u8>, key: u64, length: usize) {
    // Assembled first, so that the vector checks its capacity once.
    let mut head = [0; RECORD_OVERHEAD_MAX];
    head[..8].copy_from_slice(&key.to_le_bytes());
    let (mut rest, mut last) = (fits(length), 8);
    while rest >= 0x80 {
        head[last] = rest.to_le_bytes()[0] | 0x80;
        rest >>= 7;
        last += 1;
    }
    head[last] = rest.to_le_bytes()[0];
    bytes.extend_from_slice(&head[..=last]);
}

/// Number of bytes of a record with this payload length in a frame's body.
pub(crate) fn record_bytes(payload: usize) -> usize {
    let bits = usize::BITS - (payload | 1).leading_zeros();
    8 + bits.div_ceil(7) as usize + payload
}

/// Decodes the record at `at` in a body whose checksum matches. Returns its key and the
/// range of its payload in the body, and moves `at` behind it. Returns `None` if the
/// body contradicts itself.
pub(crate) fn next_record(body: &[u8], at: &mut usize) -> Option<(u64, Range<usize>)> {
    let key = body.get(*at..*at + 8)?;
    let key = u64::from_le_bytes(key.try_into().ok()?);
    let mut length = 0_u64;
    let mut cursor = *at + 8;
    for shift in (0..35).step_by(7) {
        let byte = *body.get(cursor)?;
        cursor += 1;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let end = cursor.checked_add(usize::try_from(length).ok()?)?;
            if end > body.len() {
                return None;
            }
            *at = end;
            return Some((key, cursor..end));
        }
    }
    None
}
