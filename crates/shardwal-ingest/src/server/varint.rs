//! Writes numbers as protobuf does. This file knows no messages.

/// Maximum bytes that [`put_varint`] appends.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Appends a number, in seven bits per byte.
#[inline]
pub(crate) fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.push(number.to_le_bytes()[0]);
}
