//! Tests for a plausible frame header, at each offset of arbitrary bytes.
//!
//! A header is plausible if a writer of this version could have written it. The
//! cheapest test comes first. This file knows bytes. It does no I/O.

use super::{
    FRAME_BODY_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameKind, header_crc, record_bytes, word,
};

/// The highest kind that this version writes; the lowest is 1.
const KIND_WRITTEN_MAX: u8 = 3;
/// The most significant byte of the longest accepted length.
const LENGTH_TOP_MAX: u8 = FRAME_BODY_MAX.to_le_bytes()[3];
/// Number of offsets per pass.
const RUN: usize = 64;

impl FrameHeader {
    /// Whether a writer of this version could have written this header. A search tries
    /// each offset of arbitrary bytes, and one header in 2^32 has a matching checksum
    /// by chance.
    pub(crate) fn is_plausible(&self, seed: u32) -> bool {
        let (records, body) = (usize::from(self.records), self.body_bytes as usize);
        match self.kind {
            FrameKind::Records => {
                records > 0 && records * record_bytes(0) <= body && body <= FRAME_BODY_MAX
            }
            FrameKind::Seal | FrameKind::Gap => {
                records == 0 && body == 0 && self.matches_body(&[], seed)
            }
            FrameKind::Skippable(_) => false,
        }
    }

    /// The header in these bytes, if [`Self::parse`] accepts it and it
    /// [`Self::is_plausible`]. The checksum is tested last, because it costs most.
    pub(crate) fn parse_plausible(
        bytes: &[u8; FRAME_HEADER_BYTES],
        seed: u32,
        offset: u64,
    ) -> Option<Self> {
        let header = Self::read(bytes, FrameKind::of(bytes[4])?);
        if bytes[5] != 0 || !header.is_plausible(seed) {
            return None;
        }
        (word(bytes, 20) == header_crc(&bytes[..20], seed, offset)).then_some(header)
    }

    /// The first index from `from` on at which [`Self::parse_plausible`] may find a header,
    /// judged by three bytes. Text has no such index, and noise one per million bytes.
    /// Each run is one pass without a branch, so that the compiler can vectorize it.
    pub(crate) fn next_hint(bytes: &[u8], from: usize) -> Option<usize> {
        let is_hint = |length: u8, kind: u8, zero: u8| {
            (length <= LENGTH_TOP_MAX) & (kind.wrapping_sub(1) < KIND_WRITTEN_MAX) & (zero == 0)
        };
        let (lengths, kinds, zeros) = (bytes.get(3..)?, bytes.get(4..)?, bytes.get(5..)?);
        let mut at = from;
        while at < zeros.len() {
            let to = zeros.len().min(at + RUN);
            let run = lengths[at..to].iter().zip(&kinds[at..to]).zip(&zeros[at..to]);
            if run.fold(false, |any, ((length, kind), zero)| any | is_hint(*length, *kind, *zero))
                && let Some(hint) = (at..to).find(|i| is_hint(lengths[*i], kinds[*i], zeros[*i]))
            {
                return Some(hint);
            }
            at = to;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::body_crc;
    use super::*;

    #[test]
    fn what_no_writer_writes_could_not_be_written() {
        let seed = 7;
        let header = |kind, records, body_bytes, body_crc| {
            let header = FrameHeader { kind, body_bytes, records, first: 5, lag: 0, body_crc };
            header.is_plausible(seed)
        };
        assert!(header(FrameKind::Records, 2, 18, 0), "two records of nothing");
        assert!(!header(FrameKind::Records, 0, 0, 0));
        assert!(!header(FrameKind::Records, 2, 17, 0));
        assert!(!header(FrameKind::Records, 1, u32::MAX, 0));
        for kind in [FrameKind::Seal, FrameKind::Gap] {
            let empty = body_crc(&[], seed);
            assert!(header(kind, 0, 0, empty));
            assert!(!header(kind, 1, 0, empty));
            assert!(!header(kind, 0, 1, empty));
            assert!(!header(kind, 0, 0, empty ^ 1));
        }
        assert!(!header(FrameKind::Skippable(0x80), 0, 0, 0));
    }
}
