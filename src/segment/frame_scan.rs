//! Searches for frames in arbitrary bytes.
//!
//! Recovery searches behind the position at which reading stopped. The bytes there may
//! be a torn write, zeros ahead, or mebibytes of an earlier segment. A frame may begin
//! at each offset. 64 MiB must be searched in the time that it takes to read them.
//!
//! This file finds headers. [`crate::segment::frame_reader`] and [`crate::recovery`] decide what
//! follows from them.

use std::io;
use std::ops::ControlFlow;

use crate::fs::{FileHandle, Unreadable, read_around};
use crate::segment::frame::{FRAME_BODY_MAX, FRAME_HEADER_BYTES, FrameHeader};

/// Bytes per read, without the rest of a header that begins in them.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes per pass.
const RUN: usize = 64;

/// What a search found behind the position at which reading stopped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remains {
    /// The highest durable mark in a header whose checksum matches, relative to the
    /// segment's first sequence.
    pub(crate) mark: Option<i64>,
    /// The highest sequence after a frame, relative to the segment's first.
    pub(crate) next: Option<u64>,
    /// Number of bytes up to the last one that is not zero, of any segment.
    pub(crate) bytes: u64,
    /// Number of bytes up to the end of the last frame with a valid header.
    framed_bytes: u64,
    /// The ranges that the disk cannot read. They may hold anything.
    pub(crate) unreadable: Unreadable,
}

impl Remains {
    /// Number of bytes of a torn write. Bytes without a valid header may belong to an
    /// earlier segment, so of them at most `least` count.
    pub(crate) fn torn_bytes(&self, least: usize) -> u64 {
        self.framed_bytes.max(self.bytes.min(least as u64))
    }
}

/// Searches for frame headers at every offset from `from` to `end`. Each header
/// validates by itself, so the work is linear in the length, whatever the bytes are.
pub(crate) fn search_remains(
    file: &dyn FileHandle,
    seed: u32,
    from: u64,
    end: u64,
) -> io::Result<Remains> {
    let (mut remains, mut unreadable) = (Remains::default(), Unreadable::default());
    search(file, seed, from, end, &mut unreadable, |at, header| {
        match header {
            Some(header) => {
                remains.mark = remains.mark.max(header.mark());
                remains.next = remains.next.max(Some(header.next()));
                let frame_end = at + FRAME_HEADER_BYTES as u64 + u64::from(header.body_bytes);
                remains.framed_bytes = remains.framed_bytes.max(frame_end.min(end) - from);
            }
            None => remains.bytes = remains.bytes.max(at + 1 - from),
        }
        ControlFlow::<()>::Continue(())
    })?;
    Ok(Remains { unreadable, ..remains })
}

/// The range of the first frame at or behind `from` that ends before `end`, according
/// to its header.
pub(crate) fn find_header(
    file: &dyn FileHandle,
    seed: u32,
    from: u64,
    end: u64,
) -> io::Result<Option<(u64, u64)>> {
    search(file, seed, from, end, &mut Unreadable::default(), |at, header| {
        let Some(header) = header else { return ControlFlow::Continue(()) };
        let frame_end = at + FRAME_HEADER_BYTES as u64 + u64::from(header.body_bytes);
        if header.body_bytes as usize > FRAME_BODY_MAX || frame_end > end {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break((at, frame_end))
    })
}

/// Calls `visit` with each plausible frame header, and with the last byte of each chunk
/// that is not zero, in ascending order, until `visit` breaks. Adds ranges that cannot
/// be read to `unreadable` and skips them.
fn search<R>(
    file: &dyn FileHandle,
    seed: u32,
    from: u64,
    end: u64,
    unreadable: &mut Unreadable,
    mut visit: impl FnMut(u64, Option<FrameHeader>) -> ControlFlow<R>,
) -> io::Result<Option<R>> {
    let left = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut chunk = vec![0; left.min(CHUNK_BYTES + FRAME_HEADER_BYTES)];
    let mut chunk_at = from;
    while chunk_at < end {
        let wanted = usize::try_from(end - chunk_at).unwrap_or(usize::MAX).min(chunk.len());
        let read = read_around(file, &mut chunk[..wanted], chunk_at, unreadable)?;
        if read == 0 {
            break;
        }
        let bytes = &chunk[..read];
        if let Some(last) = last_written(bytes)
            && let ControlFlow::Break(it) = visit(chunk_at + last as u64, None)
        {
            return Ok(Some(it));
        }
        let mut next = 0;
        while let Some(i) = FrameHeader::next_hint(bytes, next) {
            let at = chunk_at + i as u64;
            let header = bytes[i..].first_chunk();
            if let Some(header) = header.and_then(|it| FrameHeader::parse_plausible(it, seed, at))
                && let ControlFlow::Break(it) = visit(at, Some(header))
            {
                return Ok(Some(it));
            }
            next = i + 1;
        }
        chunk_at += (read.min(CHUNK_BYTES)) as u64;
    }
    Ok(None)
}

/// Index of the last byte that is not zero.
fn last_written(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for run in bytes.rchunks(RUN) {
        if run.iter().fold(0, |any, byte| any | byte) != 0 {
            return bytes[..end].iter().rposition(|byte| *byte != 0);
        }
        end -= run.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::sim::SimFileSystem;
    use crate::fs::{FileSystem, OpenMode};
    use crate::segment::frame::{Encoder, FrameOrigin, ParsedFrameHeader};

    const SEED: u32 = 7;

    /// A file of three chunks and a bit: noise of the bytes below `kinds`, with zeros
    /// between. Frames begin at any offset, some at the end of a chunk.
    fn hostile(random: &mut impl FnMut(usize) -> usize, kinds: usize) -> Vec<u8> {
        let length = 3 * CHUNK_BYTES + random(100);
        let mut bytes: Vec<_> = (0..length).map(|_| random(kinds).to_le_bytes()[0]).collect();
        let zeros = random(length);
        bytes[zeros..(zeros + 70_000).min(length)].fill(0);
        let mut encoder = Encoder::default();
        for number in 0..200 {
            let near_an_end = CHUNK_BYTES * (1 + number % 2) - 40 + random(360);
            let at = if random(2) == 0 { random(length - 400) } else { near_an_end };
            let origin = FrameOrigin { seed: SEED, first_sequence: 3, offset: at as u64 };
            encoder.begin(&[], 1);
            match random(4) {
                0 => encoder.seal(&origin, 40 + number as u64, random(50) as u64),
                1 => encoder.gap(&origin, 60, random(50) as u64),
                kind => {
                    encoder.record(9 + number as u64, 1, &[0; 300][..random(300)]);
                    encoder.close_frame(&origin, random(20) as u64);
                    if kind == 3 {
                        write_the_longest(&mut encoder, &origin);
                    }
                }
            }
            bytes[at..at + encoder.len()].copy_from_slice(encoder.bytes());
        }
        bytes
    }

    /// Replaces the encoded frame by one whose header says the longest accepted body,
    /// which ends far behind the file.
    fn write_the_longest(encoder: &mut Encoder, origin: &FrameOrigin) {
        let header = encoder.bytes().first_chunk();
        let found = FrameHeader::parse(header.unwrap(), origin.seed, origin.offset);
        let ParsedFrameHeader::Header(mut header) = found else { panic!("{found:?}") };
        header.body_bytes = u32::try_from(FRAME_BODY_MAX).unwrap();
        encoder.begin(&[], 1);
        encoder.copy(&header, &[], origin, 9, 9);
    }

    /// The header at `at`, if there is a plausible one.
    fn header(bytes: &[u8], at: usize) -> Option<FrameHeader> {
        match FrameHeader::parse(bytes[at..].first_chunk()?, SEED, at as u64) {
            ParsedFrameHeader::Header(header) => header.is_plausible(SEED).then_some(header),
            _ => None,
        }
    }

    #[test]
    fn the_search_finds_what_asking_at_each_offset_finds() {
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            usize::try_from(state >> 33).unwrap() % below
        };
        for round in 0..12 {
            let bytes = hostile(&mut random, [2, 6, 256][round % 3]);
            let fs = SimFileSystem::new();
            fs.write_file("/file", &bytes);
            let file = fs.open(Path::new("/file"), OpenMode::Read).unwrap();
            let (from, end) = (random(300), bytes.len() - random(3) * 30_000);
            let (mut found, mut last) = (Vec::new(), None);
            let mut unreadable = Unreadable::default();
            search(file.as_ref(), SEED, from as u64, end as u64, &mut unreadable, |at, header| {
                match header {
                    Some(header) => found.push((at, header)),
                    None => last = Some(at),
                }
                ControlFlow::<()>::Continue(())
            })
            .unwrap();
            let bytes = &bytes[..end];
            let header = |at| header(bytes, at).map(|header| (at as u64, header));
            let expected: Vec<_> = (from..end).filter_map(header).collect();
            found.dedup();
            assert_eq!(found, expected, "round {round}");
            assert_eq!(last, bytes.iter().rposition(|byte| *byte != 0).map(|at| at as u64));
            let mut ends = expected.iter().map(|(at, header)| {
                (*at, at + FRAME_HEADER_BYTES as u64 + u64::from(header.body_bytes))
            });
            let first = ends.find(|(_, frame_end)| *frame_end <= end as u64);
            let next = find_header(file.as_ref(), SEED, from as u64, end as u64).unwrap();
            assert_eq!(next, first, "round {round}");
        }
    }
}
