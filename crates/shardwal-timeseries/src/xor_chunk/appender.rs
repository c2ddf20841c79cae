//! [`XorAppender`]: a chunk that grows by one sample at a time.

use std::sync::Arc;

use super::decoder::State;
use super::{COUNT_BYTES, Sample, Window, XorChunk, XorSamples};

/// A chunk that can grow, and the state of its encoder. It takes 64 bytes beside its buffer.
///
/// The newest sample is held back: it is encoded when the next one comes. Clients that send on
/// several connections often exchange two neighbours, and a late neighbour costs no decoding then.
#[derive(Clone, Debug)]
pub(crate) struct XorAppender {
    /// The encoded bits, then zeros. The place of the number of samples is empty.
    bytes: Box<[u8]>,
    /// The newest sample, which is not encoded. All zeros without samples.
    newest: Sample,
    /// The last encoded sample. All zeros before the first.
    last: Sample,
    /// Difference of the last two encoded times. It wraps around.
    delta_ms: i64,
    /// Number of encoded bits.
    bits: u32,
    /// Number of samples, the newest too.
    samples: u16,
    /// The window of the last value that had its own.
    window: Window,
}

impl Default for XorAppender {
    fn default() -> Self {
        Self {
            bytes: Box::default(),
            newest: Sample::default(),
            last: Sample::default(),
            delta_ms: 0,
            bits: 0,
            samples: 0,
            window: Window::NONE,
        }
    }
}

impl XorAppender {
    /// A chunk of samples, which should be sorted by time.
    pub(crate) fn new(samples: &[Sample]) -> Self {
        let mut appender = Self::default();
        samples.iter().for_each(|sample| appender.append(*sample));
        appender
    }

    /// Appends a sample.
    ///
    /// # Panics
    /// The chunk has 65,535 samples.
    #[inline]
    pub(crate) fn append(&mut self, sample: Sample) {
        if self.samples > 0 {
            self.encode(self.newest);
        }
        self.newest = sample;
        self.count_one();
    }

    /// Inserts a sample that is not after the newest one. It replaces a sample of equal timestamp.
    /// Returns whether the number of samples grew. The chunk must have samples, sorted by time.
    ///
    /// This decodes the chunk, unless the sample's place is beside the newest one, and encodes what
    /// follows the place again.
    ///
    /// # Panics
    /// As [`XorAppender::append`].
    pub(crate) fn insert(&mut self, sample: Sample) -> bool {
        let time_ms = sample.timestamp_ms;
        if time_ms == self.newest.timestamp_ms {
            self.newest = sample;
            return false;
        }
        if self.samples == 1 || self.last.timestamp_ms < time_ms {
            self.encode(sample);
            self.count_one();
            return true;
        }
        let mut place = self.encoded_samples();
        let mut rest = place.clone();
        while rest.next().is_some_and(|kept| kept.timestamp_ms < time_ms) {
            place = rest.clone();
        }
        let mut following: Vec<_> = place.clone().collect();
        let is_new = following.first().is_none_or(|first| first.timestamp_ms != time_ms);
        match following.first_mut().filter(|_| !is_new) {
            Some(first) => *first = sample,
            None => following.insert(0, sample),
        }
        let state = place.state();
        self.rewind(&state);
        for sample in following {
            self.encode(sample);
            self.count_one();
        }
        is_new
    }

    /// Forgets the encoded samples from some place on.
    fn rewind(&mut self, state: &State) {
        let end = if state.samples == 0 { 0 } else { COUNT_BYTES * 8 + state.bits };
        let encoded = self.bits.div_ceil(8) as usize;
        if let Some((first, rest)) = self.bytes[end / 8..encoded].split_first_mut() {
            *first &= !(0xFF >> (end % 8));
            rest.fill(0);
        }
        self.bits = u32::try_from(end).expect("fewer bits than before");
        (self.last, self.delta_ms, self.window) = (state.last, state.delta_ms, state.window);
        self.samples = state.samples + 1;
    }

    fn count_one(&mut self) {
        self.samples = self.samples.checked_add(1).expect("a chunk is closed long before");
    }

    /// Encodes a sample, after the others that are encoded.
    #[inline]
    fn encode(&mut self, sample: Sample) {
        let time_ms = sample.timestamp_ms;
        let delta_ms = time_ms.wrapping_sub(self.last.timestamp_ms);
        let difference = sample.value.to_bits() ^ self.last.value.to_bits();
        // The newest one counts too.
        match self.samples {
            0 | 1 => {
                self.bits = u32::try_from(COUNT_BYTES * 8).expect("a small constant");
                // Zigzag, as Go writes a signed number.
                self.push_varint((time_ms << 1 ^ time_ms >> 63).cast_unsigned());
                self.push(sample.value.to_bits(), 64);
            }
            2 => {
                self.push_varint(delta_ms.cast_unsigned());
                self.push_difference(difference);
            }
            _ => {
                self.push_change_of_delta(delta_ms.wrapping_sub(self.delta_ms));
                self.push_difference(difference);
            }
        }
        (self.last, self.delta_ms) = (sample, delta_ms);
    }

    /// Number of samples.
    pub(crate) fn len(&self) -> usize {
        self.samples.into()
    }

    /// The newest sample. `None` without samples.
    #[inline]
    pub(crate) fn last(&self) -> Option<Sample> {
        (self.samples > 0).then_some(self.newest)
    }

    /// The samples, in order.
    pub(crate) fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        self.encoded_samples().chain(self.last())
    }

    fn encoded_samples(&self) -> XorSamples<'_> {
        let bytes = self.encoded().get(COUNT_BYTES..).unwrap_or_default();
        XorSamples::new(bytes, self.samples.saturating_sub(1))
    }

    /// A chunk of the samples so far. `None` without samples.
    pub(crate) fn to_chunk(&self) -> Option<XorChunk> {
        self.clone().into_chunk()
    }

    /// A chunk of the samples. `None` without samples.
    #[expect(clippy::big_endian_bytes, reason = "the encoding is Prometheus'")]
    pub(crate) fn into_chunk(mut self) -> Option<XorChunk> {
        let first = self.samples().next()?;
        self.encode(self.newest);
        let mut bytes: Arc<[u8]> = self.encoded().into();
        let count = Arc::get_mut(&mut bytes).and_then(|bytes| bytes.first_chunk_mut());
        *count.expect("nobody shares it yet") = self.samples.to_be_bytes();
        let (first_ms, last_ms) = (first.timestamp_ms, self.newest.timestamp_ms);
        Some(XorChunk { first_ms, last_ms, bytes })
    }

    fn encoded(&self) -> &[u8] {
        &self.bytes[..self.bits.div_ceil(8) as usize]
    }

    /// Appends the lowest `count` bits of a number, which has no others. `count` is 1 to 64.
    #[inline]
    #[expect(clippy::big_endian_bytes, reason = "the highest bit of a byte comes first")]
    fn push(&mut self, number: u64, count: u32) {
        let end = self.bits + count;
        if end as usize > self.bytes.len() * 8 {
            self.grow(end);
        }
        let (at, used) = (self.bits as usize / 8, self.bits % 8);
        self.bits = end;
        let word = number << (64 - count);
        let [first, rest @ ..] = (word >> used).to_be_bytes();
        self.bytes[at] |= first;
        // The bytes after the last bit are zeros, and stay so.
        let after = &mut self.bytes[at + 1..];
        if let Some((seven, after)) = after.split_first_chunk_mut() {
            *seven = rest;
            if used + count > 64 {
                after[0] = (word << (64 - used)).to_be_bytes()[0];
            }
        } else {
            after.copy_from_slice(&rest[..after.len()]);
        }
    }

    /// Makes room for the bits below `end`, by a quarter at least.
    #[cold]
    fn grow(&mut self, end: u32) {
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let length = (end.div_ceil(8) as usize).max(bytes.len() + bytes.len() / 4);
        // 24, 40, 56: allocators add 8 bytes, and round up to a multiple of 16.
        let length = (length + 8).next_multiple_of(16) - 8;
        bytes.reserve_exact(length - bytes.len());
        bytes.resize(length, 0);
        self.bytes = bytes.into_boxed_slice();
    }

    /// Appends a number in seven bits per byte.
    fn push_varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number & 0x7F | 0x80, 8);
            number >>= 7;
        }
        self.push(number, 8);
    }

    /// Appends the change of the difference between two times.
    #[inline]
    fn push_change_of_delta(&mut self, change: i64) {
        let fits = |bits: u32| (-((1_i64 << (bits - 1)) - 1)..=1 << (bits - 1)).contains(&change);
        let (prefix, prefix_bits, bits) = match () {
            () if change == 0 => return self.push(0, 1),
            () if fits(14) => (0b10, 2, 14),
            () if fits(17) => (0b110, 3, 17),
            () if fits(20) => (0b1110, 4, 20),
            () => {
                self.push(0b1111, 4);
                return self.push(change.cast_unsigned(), 64);
            }
        };
        self.push(prefix << bits | change.cast_unsigned() & ((1 << bits) - 1), prefix_bits + bits);
    }

    /// Appends the difference of a value to the one before it.
    #[inline]
    fn push_difference(&mut self, difference: u64) {
        if difference == 0 {
            return self.push(0, 1);
        }
        let byte = |zeros: u32| zeros.to_le_bytes()[0];
        // Five bits hold the number of leading zeros.
        let leading = byte(difference.leading_zeros().min(31));
        let trailing = byte(difference.trailing_zeros());
        if leading < self.window.leading || trailing < self.window.trailing {
            self.window = Window { leading, trailing };
            // 64 significant bits are written as 0.
            let significant = u64::from(self.window.significant() % 64);
            self.push(0b11 << 11 | u64::from(leading) << 6 | significant, 13);
        } else {
            self.push(0b10, 2);
        }
        self.push(difference >> self.window.trailing, self.window.significant());
    }
}
