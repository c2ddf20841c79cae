//! Numbers as bytes: varints, zigzag, and a reader that tracks its offset. A varint has seven bits
//! per byte, lowest first, with the high bit set on all but the last byte. This file does not know
//! columns.

use super::{DecodeError, DecodeFault};

/// Appends a varint.
#[inline]
pub(super) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | (number & 0x7f).to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends the lowest `count` bytes of `number`, the lowest first.
#[inline]
pub(super) fn push_low_bytes(out: &mut Vec<u8>, number: u64, count: usize) {
    out.extend_from_slice(&number.to_le_bytes()[..count]);
}

/// Number of bytes that hold `number`. 0 takes none.
#[inline]
pub(super) fn bytes_of(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(8) as usize
}

/// Maps signed to unsigned so that small magnitudes remain small: 0, -1, 1, -2, ...
#[inline]
pub(super) const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(super) const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads the bytes of a batch from the front.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// An error at the current offset.
    #[cold]
    pub(super) const fn fault(&self, fault: DecodeFault) -> DecodeError {
        DecodeError { offset: self.at, fault }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let Some(byte) = self.bytes.get(self.at) else {
            return Err(self.fault(DecodeFault::Truncated));
        };
        self.at += 1;
        Ok(*byte)
    }

    /// Returns the next `count` bytes. Allocates nothing, so that a length without bytes behind it
    /// is refused first.
    pub(super) fn slice(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some(slice) = self.bytes[self.at..].get(..count) else {
            return Err(self.fault(DecodeFault::Truncated));
        };
        self.at += count;
        Ok(slice)
    }

    /// Reads a number of `count` bytes, at most 8, the lowest first.
    #[inline]
    pub(super) fn low_bytes(&mut self, count: usize) -> Result<u64, DecodeError> {
        if let Some(word) = self.bytes[self.at..].first_chunk::<8>() {
            self.at += count;
            let unused = 64 - 8 * count;
            return Ok(u64::from_le_bytes(*word) << unused >> unused);
        }
        let mut word = [0; 8];
        word[..count].copy_from_slice(self.slice(count)?);
        Ok(u64::from_le_bytes(word))
    }

    /// Reads a checksum of four bytes, the lowest first.
    pub(super) fn check(&mut self) -> Result<u32, DecodeError> {
        let Some(check) = self.bytes[self.at..].first_chunk::<4>() else {
            return Err(self.fault(DecodeFault::Truncated));
        };
        self.at += 4;
        Ok(u32::from_le_bytes(*check))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.fault(DecodeFault::OutOfRange { what: "a varint", found: u64::MAX }))
    }

    /// Reads a varint of at most `max`. `what` names it in the error.
    #[inline]
    pub(super) fn at_most(&mut self, max: usize, what: &'static str) -> Result<usize, DecodeError> {
        let offset = self.at;
        let found = self.varint()?;
        match usize::try_from(found) {
            Ok(number) if number <= max => Ok(number),
            _ => Err(DecodeError { offset, fault: DecodeFault::OutOfRange { what, found } }),
        }
    }

    pub(super) fn zigzag(&mut self) -> Result<i64, DecodeError> {
        self.varint().map(unzigzag)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, bytes_of, push_low_bytes, push_varint, unzigzag, zigzag};

    #[test]
    fn numbers_survive_their_bytes() {
        let numbers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, u64::MAX >> bit]);
        for number in numbers {
            assert_eq!(zigzag(unzigzag(number)), number);
            let mut out = Vec::new();
            push_varint(&mut out, number);
            push_low_bytes(&mut out, number, bytes_of(number));
            push_varint(&mut out, number);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.varint(), Ok(number));
            if bytes_of(number) > 0 {
                assert_eq!(reader.low_bytes(bytes_of(number)), Ok(number));
            }
            assert_eq!(reader.varint(), Ok(number));
            assert!(reader.is_at_end());
        }
        assert_eq!([0, -1, 1, i64::MIN].map(zigzag), [0, 1, 2, u64::MAX]);
    }

    #[test]
    fn a_varint_that_does_not_end_is_refused() {
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(Reader::new(&[0xff; 3]).varint().is_err());
    }
}
