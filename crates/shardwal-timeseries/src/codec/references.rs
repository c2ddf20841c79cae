//! The column of references: the series of each sample. Scrapes repeat their order, so the
//! predicted reference is the one that followed the previous reference last time. This file does
//! not know labels.

use super::bytes::{Reader, push_varint, unzigzag, zigzag};
use super::{DecodeError, DecodeFault};

/// The order of references so far. Encoder and decoder keep equal copies.
#[derive(Default)]
pub(super) struct References {
    /// For each reference, the reference that last followed it.
    after: Vec<u32>,
    /// The previous reference.
    previous: u32,
    /// The predicted reference.
    expected: u32,
}

impl References {
    pub(super) fn clear(&mut self) {
        self.after.clear();
        (self.previous, self.expected) = (0, 0);
    }

    pub(super) const fn len(&self) -> usize {
        self.after.len()
    }

    /// Adds a reference. The prediction after it is the next reference.
    pub(super) fn define(&mut self) {
        let next = u32::try_from(self.after.len() + 1).expect("fewer references than series");
        self.after.push(next);
    }

    /// Advances past `reference`. `learn` is false for the first of a block, because the previous
    /// block may be of another source.
    #[inline]
    fn step(&mut self, reference: u32, learn: bool) {
        if learn {
            self.after[self.previous as usize] = reference;
        }
        self.previous = reference;
        self.expected = self.after[reference as usize];
    }

    /// Encodes alternating runs until all references are written. A run of hits is only its length.
    /// A run of misses is its length, and the difference of each from its prediction.
    pub(super) fn encode(&mut self, references: &[u32], out: &mut Vec<u8>) {
        let mut at = 0;
        while at < references.len() {
            let start = at;
            while at < references.len() && references[at] == self.expected {
                self.step(references[at], at > 0);
                at += 1;
            }
            push_varint(out, (at - start) as u64);
            if at == references.len() {
                return;
            }
            // Reserve one byte for the length. A longer length moves what follows, which is rare.
            let (start, length_at) = (at, out.len());
            out.push(0);
            while at < references.len() && references[at] != self.expected {
                push_varint(out, zigzag(i64::from(references[at]) - i64::from(self.expected)));
                self.step(references[at], at > 0);
                at += 1;
            }
            set_length(out, length_at, at - start);
        }
    }

    /// Decodes the references of `count` samples.
    pub(super) fn decode(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        found: &mut Vec<u32>,
    ) -> Result<(), DecodeError> {
        found.clear();
        while found.len() < count {
            let expected = reader.at_most(count - found.len(), "a run of references")?;
            for _ in 0..expected {
                self.take(reader, i64::from(self.expected), found)?;
            }
            if found.len() == count {
                break;
            }
            let others = reader.at_most(count - found.len(), "a run of references")?;
            if others == 0 {
                let fault = DecodeFault::OutOfRange { what: "a run of references", found: 0 };
                return Err(reader.fault(fault));
            }
            for _ in 0..others {
                let difference = unzigzag(reader.varint()?);
                self.take(reader, i64::from(self.expected).wrapping_add(difference), found)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn take(
        &mut self,
        reader: &Reader<'_>,
        reference: i64,
        found: &mut Vec<u32>,
    ) -> Result<(), DecodeError> {
        match u32::try_from(reference) {
            Ok(reference) if (reference as usize) < self.after.len() => {
                self.step(reference, !found.is_empty());
                found.push(reference);
                Ok(())
            }
            _ => Err(reader.fault(DecodeFault::OutOfRange {
                what: "a reference",
                found: reference.cast_unsigned(),
            })),
        }
    }
}

/// Writes `length` into its reserved byte. Inserts a second byte if needed. The limit on a block
/// ensures that two suffice.
fn set_length(out: &mut Vec<u8>, at: usize, length: usize) {
    const { assert!(super::BLOCK_SAMPLES_MAX < 1 << 14) };
    if length < 0x80 {
        out[at] = length.to_le_bytes()[0];
    } else {
        out[at] = 0x80 | (length & 0x7f).to_le_bytes()[0];
        out.insert(at + 1, (length >> 7).to_le_bytes()[0]);
    }
}
