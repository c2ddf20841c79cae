//! [`XorSamples`]: decodes a chunk. It trusts no byte: any input ends with samples.

use super::{COUNT_BYTES, Sample, Window};

/// Where the decoder of a chunk is: what an encoder needs to go on from there.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// Number of samples before the place, and of their bits.
    pub(super) samples: u16,
    pub(super) bits: usize,
    pub(super) last: Sample,
    pub(super) delta_ms: i64,
    pub(super) window: Window,
}

/// The samples of a chunk, in order.
#[derive(Clone, Debug)]
pub(crate) struct XorSamples<'a> {
    bits: BitReader<'a>,
    /// Samples of the chunk, and those that are still to be read.
    count: u16,
    left: u16,
    /// Samples that were read, at most 2.
    seen: u8,
    last: Sample,
    /// Difference of the last two times. It wraps around.
    delta_ms: i64,
    window: Window,
}

impl<'a> XorSamples<'a> {
    /// The samples of a whole chunk.
    #[expect(clippy::big_endian_bytes, reason = "the encoding is Prometheus'")]
    pub(super) fn of_chunk(chunk: &'a [u8]) -> Self {
        let (count, rest) = chunk.split_first_chunk::<COUNT_BYTES>().unwrap_or((&[0; 2], &[]));
        Self::new(rest, u16::from_be_bytes(*count))
    }

    /// The samples of a chunk without its count.
    pub(super) fn new(bytes: &'a [u8], count: u16) -> Self {
        Self {
            bits: BitReader { bytes, position: 0 },
            count,
            left: count,
            seen: 0,
            last: Sample::default(),
            delta_ms: 0,
            window: Window::NONE,
        }
    }

    /// The state before the next sample.
    pub(super) fn state(&self) -> State {
        let samples = self.count - self.left;
        let (last, delta_ms, window) = (self.last, self.delta_ms, self.window);
        State { samples, bits: self.bits.position, last, delta_ms, window }
    }

    /// Reads the next sample. `None` if the bits are not one.
    fn read(&mut self) -> Option<Sample> {
        let bits = &mut self.bits;
        if self.seen == 0 {
            self.seen = 1;
            let time = bits.varint()?;
            let time_ms = (time >> 1).cast_signed() ^ -(time & 1).cast_signed();
            return Some(Sample::new(time_ms, f64::from_bits(bits.take_any(64)?)));
        }
        self.delta_ms = if self.seen == 1 {
            self.seen = 2;
            bits.varint()?.cast_signed()
        } else {
            self.delta_ms.wrapping_add(bits.change_of_delta()?)
        };
        let difference = bits.difference(&mut self.window)?;
        Some(Sample {
            timestamp_ms: self.last.timestamp_ms.wrapping_add(self.delta_ms),
            value: f64::from_bits(self.last.value.to_bits() ^ difference),
        })
    }
}

impl Iterator for XorSamples<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        self.left = self.left.checked_sub(1)?;
        let sample = self.read();
        match sample {
            Some(sample) => self.last = sample,
            None => self.left = 0,
        }
        sample
    }
}

/// A stream of bits, the highest of a byte first.
#[derive(Clone, Debug)]
struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits that were read: at most those of `bytes`.
    position: usize,
}

impl BitReader<'_> {
    /// The next bits, the first one highest: at least 57, with zeros after the end.
    #[inline]
    #[expect(clippy::big_endian_bytes, reason = "the highest bit of a byte comes first")]
    fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.position / 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(word) => *word,
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                word
            }
        };
        u64::from_be_bytes(word) << (self.position % 8)
    }

    /// Skips bits. `None` if there are fewer.
    #[inline]
    fn skip(&mut self, count: u32) -> Option<()> {
        let after = self.position + count as usize;
        (after <= self.bytes.len() * 8).then(|| self.position = after)
    }

    /// Takes 1 to 57 bits.
    #[inline]
    fn take(&mut self, count: u32) -> Option<u64> {
        let word = self.peek();
        self.skip(count)?;
        Some(word >> (64 - count))
    }

    /// Takes 1 to 64 bits.
    #[inline]
    fn take_any(&mut self, count: u32) -> Option<u64> {
        if count <= 57 {
            return self.take(count);
        }
        let high = self.take(count - 32)?;
        Some(high << 32 | self.take(32)?)
    }

    /// Takes a number in seven bits per byte.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(8)?;
            number |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Takes the change of the difference between two times.
    #[inline]
    fn change_of_delta(&mut self) -> Option<i64> {
        let (prefix_bits, bits) = match self.peek().leading_ones() {
            0 => return self.skip(1).map(|()| 0),
            1 => (2, 14),
            2 => (3, 17),
            3 => (4, 20),
            _ => {
                self.skip(4)?;
                return self.take_any(64).map(u64::cast_signed);
            }
        };
        let number = self.take(prefix_bits + bits)? & ((1 << bits) - 1);
        // A number above half of its range is negative.
        let wraps = if number > 1 << (bits - 1) { 1 << bits } else { 0 };
        Some(number.cast_signed() - wraps)
    }

    /// Takes the difference of a value to the one before it.
    #[inline]
    fn difference(&mut self, window: &mut Window) -> Option<u64> {
        match self.peek() >> 62 {
            0b00 | 0b01 => return self.skip(1).map(|()| 0),
            0b10 => self.skip(2)?,
            _ => {
                let head = self.take(13)?;
                let byte = |number: u64| number.to_le_bytes()[0];
                let leading = byte(head >> 6 & 0x1F);
                // 64 significant bits are written as 0.
                let significant = byte(head.wrapping_sub(1) & 0x3F) + 1;
                let trailing = (64 - leading).checked_sub(significant)?;
                *window = Window { leading, trailing };
            }
        }
        match window.significant() {
            0 => None,
            significant => Some(self.take_any(significant)? << window.trailing),
        }
    }
}
