//! The column of references: which series each sample is of. Scrapes come in
//! the same order again and again, so each reference is expected after the one
//! that it followed the last time.

use super::bytes::{Reader, push_varint, unzigzag, zigzag};
use super::{DecodeError, DecodeFault};

/// What encoder and decoder both know of the order so far.
#[derive(Default)]
pub(super) struct References {
    /// For each reference the one that followed it last.
    after: Vec<u32>,
    /// The reference before.
    previous: u32,
    /// What is expected next.
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

    /// One more reference, expected to be followed by the one after it.
    pub(super) fn define(&mut self) {
        let next = u32::try_from(self.after.len() + 1).expect("fewer references than series");
        self.after.push(next);
    }

    /// `reference` came; `learn` is not set for a block's first, which follows
    /// what came from somewhere else.
    #[inline]
    fn step(&mut self, reference: u32, learn: bool) {
        if learn {
            self.after[self.previous as usize] = reference;
        }
        self.previous = reference;
        self.expected = self.after[reference as usize];
    }

    /// In turn: how many come as expected; how many do not, and these, each as
    /// its difference from what was expected. Until all are told.
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
            // A length of one byte is right nearly always; else it is moved.
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

    /// Reads the references of `count` samples.
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

/// Writes `length` where a byte was kept for it, and makes room for the second
/// one that a block's limit may need.
fn set_length(out: &mut Vec<u8>, at: usize, length: usize) {
    const { assert!(super::BLOCK_SAMPLES_MAX < 1 << 14) };
    if length < 0x80 {
        out[at] = length.to_le_bytes()[0];
    } else {
        out[at] = 0x80 | (length & 0x7f).to_le_bytes()[0];
        out.insert(at + 1, (length >> 7).to_le_bytes()[0]);
    }
}
