//! Reads a file that has blocks the disk cannot read.
//!
//! Such a block is not the end of the file, and not zeros. It is a range, which the
//! reader of the file must interpret.

use std::io;
use std::ops::Range;

use super::os::UNREADABLE_ERRORS;
use super::{FileHandle, read_full};

/// The system reads files in pages of at least this size. A smaller read after an error
/// would not find out more.
const PAGE_BYTES: u64 = 4096;

/// The ranges of a file that could not be read: sorted, disjoint, and not adjacent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unreadable {
    ranges: Vec<Range<u64>>,
}

impl Unreadable {
    /// The first range that overlaps `part`.
    pub(crate) fn within(&self, wanted: &Range<u64>) -> Option<Range<u64>> {
        let at = self.ranges.partition_point(|range| range.end <= wanted.start);
        self.ranges.get(at).filter(|range| range.start < wanted.end).cloned()
    }

    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.ranges.first().cloned()
    }

    /// Adds a range, and merges it with those that it touches.
    fn add(&mut self, range: Range<u64>) {
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let to = self.ranges.partition_point(|known| known.start <= range.end);
        let met = self.ranges[from..to].iter();
        let start = met.clone().map(|known| known.start).fold(range.start, u64::min);
        let end = met.map(|known| known.end).fold(range.end, u64::max);
        self.ranges.splice(from..to, std::iter::once(start..end));
    }

    /// Removes the ranges that end at or before `offset`.
    pub(crate) fn forget_before(&mut self, offset: u64) {
        self.ranges.retain(|range| range.end > offset);
    }
}

/// Whether a read error means that the bytes are lost or not trustworthy: a bad sector,
/// or a wrong checksum of the file system. Any other error concerns the call, such as a
/// lack of descriptors.
pub(crate) fn means_unreadable(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| UNREADABLE_ERRORS.contains(&errno))
}

/// Reads like [`read_full`], but continues behind blocks that cannot be read. Adds them
/// to `unreadable`, and puts zeros into `bytes` in their place.
pub(crate) fn read_around(
    file: &dyn FileHandle,
    bytes: &mut [u8],
    offset: u64,
    unreadable: &mut Unreadable,
) -> io::Result<usize> {
    match read_full(file, bytes, offset) {
        Err(error) if means_unreadable(&error) => {}
        read => return read,
    }
    // A block that cannot be read does not show where the file ends.
    let left = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (mut done, end) = (0, bytes.len().min(left));
    while done < end {
        let at = offset + done as u64;
        let to_page_end = usize::try_from(PAGE_BYTES - at % PAGE_BYTES).unwrap_or(usize::MAX);
        let length = to_page_end.min(end - done);
        let piece = &mut bytes[done..done + length];
        match read_full(file, piece, at) {
            Ok(read) => {
                done += read;
                if read < length {
                    break;
                }
            }
            Err(error) if means_unreadable(&error) => {
                piece.fill(0);
                unreadable.add(at..at + length as u64);
                done += length;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::sim::{Call, Fault, FaultKind, SimFileSystem, linux_error};
    use crate::fs::{FileSystem, OpenMode};

    fn disk_with(unreadable: &[(u64, u64)]) -> SimFileSystem {
        let fs = SimFileSystem::new();
        let bytes: Vec<u8> = (0..40_000_u32).map(|at| at.to_le_bytes()[0] | 1).collect();
        fs.write_file("/file", &bytes);
        for (from, to) in unreadable {
            fs.make_unreadable("/file", *from..*to);
        }
        fs
    }

    #[test]
    fn everything_but_the_pages_that_cannot_be_read_is_read() {
        let fs = disk_with(&[(4096, 4097), (8192, 12_288), (20_000, 20_001), (39_999, 40_000)]);
        let file = fs.open(Path::new("/file"), OpenMode::Read).unwrap();
        let (mut bytes, mut unreadable) = (vec![9; 50_000], Unreadable::default());
        let read = read_around(file.as_ref(), &mut bytes, 10, &mut unreadable).unwrap();
        assert_eq!(unreadable.ranges, [4096..12_288, 16_384..20_480, 36_864..40_000]);
        assert_eq!(read, 40_000 - 10);
        for at in 10..40_000 {
            let is_lost = unreadable.within(&(at..at + 1)).is_some();
            let byte = bytes[usize::try_from(at - 10).unwrap()];
            assert_eq!(byte == 0, is_lost, "at {at}");
        }
        // A second read of a part adds nothing.
        read_around(file.as_ref(), &mut bytes[..9000], 3000, &mut unreadable).unwrap();
        assert_eq!(unreadable.ranges, [4096..12_288, 16_384..20_480, 36_864..40_000]);
        unreadable.forget_before(12_288);
        assert_eq!(unreadable.within(&(0..20_000)), Some(16_384..20_480));
        assert_eq!(unreadable.within(&(0..16_384)), None);
    }

    #[test]
    fn an_error_of_the_call_stays_one() {
        for errno in [4, 12, 24] {
            let fs = disk_with(&[(0, 1)]);
            fs.fail(Fault { sticky: true, ..Fault::new(Call::Read, 2, FaultKind::Error(errno)) });
            let file = fs.open(Path::new("/file"), OpenMode::Read).unwrap();
            let read = read_around(file.as_ref(), &mut [0; 5000], 0, &mut Unreadable::default());
            assert_eq!(read.unwrap_err().kind(), linux_error(errno).kind());
        }
    }
}
