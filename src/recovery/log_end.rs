//! The end of the log: where reading a shard stopped, and what the bytes after that say.
//!
//! It collects facts for the verdict, and words the corruption. It reads nothing.

use std::ops::Range;

use crate::error::{Corruption, RESTORE};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::diagnosis;
use crate::recovery::segment_file::absolute;
use crate::recovery::verdict::{Beyond, Facts};
use crate::segment::frame_reader::Stop;
use crate::segment::frame_scan::Remains;

/// The first offset at which a segment's frames stopped without agreeing with its
/// successor, or the end of the newest segment.
pub(super) struct LogEnd {
    /// Why reading stopped.
    pub(super) stop: Stop,
    /// The segment's number.
    pub(super) number: u64,
    /// The offset in the segment.
    pub(super) offset: u64,
    /// The segment's end according to its successor.
    pub(super) successor_end: Option<u64>,
    /// Whether the segment's last sequence agrees with its successor.
    pub(super) agrees: bool,
    /// The file's length.
    pub(super) file_end: u64,
    pub(super) beyond: BytesBeyond,
}

/// What the bytes at and after the log's end hold, in all segments.
#[derive(Default)]
pub(super) struct BytesBeyond {
    /// Number of bytes in the segment itself that belong to frames.
    torn_bytes: u64,
    /// The highest durable mark, as a sequence.
    pub(super) mark: u64,
    /// The highest sequence after a frame.
    pub(super) next: u64,
    /// The first unreadable bytes, and the number of their segment.
    pub(super) unreadable: Option<(u64, Range<u64>)>,
}

impl LogEnd {
    /// Adds what was found in `searched` of segment `number`, whose first sequence is
    /// `base`.
    pub(super) fn add(&mut self, number: u64, base: u64, remains: &Remains, searched: &Range<u64>) {
        let beyond = &mut self.beyond;
        beyond.mark = beyond.mark.max(remains.mark.map_or(0, |mark| absolute(base, mark)));
        beyond.next = beyond.next.max(remains.next.map_or(0, |next| base + next));
        let range = remains.unreadable.within(searched);
        beyond.unreadable = beyond.unreadable.take().or(range.map(|range| (number, range)));
        if number == self.number {
            beyond.torn_bytes = remains.torn_bytes(0);
        }
    }

    /// The facts for the verdict.
    pub(super) fn facts(&self, durable_beyond: Beyond) -> Facts {
        let has_successor = self.successor_end.is_some();
        Facts { stop: self.stop, has_successor, agrees: self.agrees, durable_beyond }
    }

    /// The corruption, if the verdict is that. `here` is the sequence of the first missing
    /// record; records below `mark` were durable.
    pub(super) fn corruption(&self, shard_dir: &ShardDir, here: u64, mark: u64) -> Corruption {
        let is_blank = matches!(self.stop, Stop::End | Stop::Blank) && self.beyond.torn_bytes == 0;
        let corruption = Corruption {
            generation: shard_dir.identity.generation,
            shard: shard_dir.identity.shard,
            file: shard_dir.path(self.number),
            offset: self.offset,
            first_sequence: here,
            durable_below: mark,
            what: self.stop.to_string(),
            advice: RESTORE.into(),
        };
        match self.successor_end {
            Some(end) if self.offset < end && (self.file_end < end || is_blank) => {
                diagnosis::cut_short(corruption, self.file_end, end)
            }
            _ => corruption,
        }
    }
}
