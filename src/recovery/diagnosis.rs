//! The diagnosis of corruption: what is wrong, and what to do.
//!
//! Each cause has its own text, because the cure differs: a missing file is put
//! back, a foreign file is moved away. This module only words what others found.

use std::ops::Range;

use crate::error::{Corruption, RESTORE};
use crate::layout::manifest::Generation;
use crate::layout::shard_dir::ShardDir;
use crate::segment::header::{SegmentHeader, SegmentIdentity, segment_path};

/// The successor names a segment that does not exist.
pub(crate) fn missing(shard_dir: &ShardDir, successor: &SegmentHeader) -> Corruption {
    let number = successor.predecessor.number;
    let what = "the segment is missing, and its successor names it".into();
    let below = successor.predecessor.next_sequence;
    let advice = format!(
        "put it back from a copy of the log; or, if the log was truncated to sequence {below} or \
         beyond, put the shard's latest purge files back"
    );
    Corruption { durable_below: successor.first_sequence, what, advice, ..of(shard_dir, number) }
}

/// A segment's file holds another intact segment.
pub(crate) fn foreign(shard_dir: &ShardDir, number: u64, identity: &SegmentIdentity) -> Corruption {
    let own = &shard_dir.identity;
    let SegmentIdentity { generation, shard, .. } = *identity;
    let (what, home) = if identity.log != own.log {
        let id: String = identity.log.iter().map(|byte| format!("{byte:02x}")).collect();
        (format!("the file is a segment of another log, {id}"), "away".into())
    } else {
        let what = if generation != own.generation {
            format!("the file is a segment of another generation, {generation}, shard {shard}")
        } else if shard != own.shard {
            format!("the file is a segment of another shard, {shard}")
        } else {
            format!("the file is another segment of the shard, {}", identity.number)
        };
        let home = Generation { number: generation, shards: 0 };
        let home = segment_path(&home.shard_dir("".as_ref(), shard), identity.number);
        (what, format!("to {} if it is missing there, else away", home.display()))
    };
    let advice =
        format!("move it {home}; then put the shard's own segment {number} back, if it had one");
    Corruption { what, advice, ..of(shard_dir, number) }
}

/// A segment holds durable records, but has no header.
pub(crate) fn headerless(shard_dir: &ShardDir, number: u64, mark: u64) -> Corruption {
    let what = "the segment's header cannot be read, and records in it were durable".into();
    Corruption { durable_below: mark, what, ..of(shard_dir, number) }
}

/// The disk cannot read a header. The segment may be any one, or never used.
pub(crate) fn unreadable_header(shard_dir: &ShardDir, number: u64) -> Corruption {
    let what = "the disk cannot read the segment's header".into();
    Corruption { what, durable_below: shard_dir.truncated_below, ..of(shard_dir, number) }
}

/// A segment has no valid header, and the disk cannot read bytes that could prove
/// whether it held durable records.
pub(crate) fn unreadable_without_header(
    shard_dir: &ShardDir,
    number: u64,
    range: &Range<u64>,
) -> Corruption {
    let Range { start, end } = range;
    let what = format!("the disk cannot read bytes {start}..{end}, and the segment has no header");
    Corruption { what, durable_below: shard_dir.truncated_below, ..of(shard_dir, number) }
}

/// No frame proves that records after the place were durable, but the disk cannot
/// read all the bytes there.
pub(crate) fn unreadable(
    corruption: Corruption,
    shard_dir: &ShardDir,
    number: u64,
    range: &Range<u64>,
) -> Corruption {
    let Range { start, end } = range;
    let (file, mut what) = (shard_dir.path(number), corruption.what.clone());
    let unreadable = format!("the disk cannot read bytes {start}..{end}");
    if what != unreadable || file != corruption.file {
        what = format!("{unreadable} of {}, and before them {what}", file.display());
    }
    let durable_below = corruption.durable_below.max(corruption.first_sequence);
    Corruption { what, durable_below, ..corruption }
}

/// A shard has no segment. Every shard should have one.
pub(crate) fn no_segment(shard_dir: &ShardDir) -> Corruption {
    let what = "the shard has no segment with a header".into();
    let advice = "put the shard's directory back from a copy of the log".into();
    Corruption { what, advice, ..of(shard_dir, 1) }
}

/// A segment has a number that is higher than any writer uses.
pub(crate) fn last_number(shard_dir: &ShardDir, number: u64) -> Corruption {
    let what = "no segment can follow one with this number".into();
    Corruption { what, advice: "move it away".into(), ..of(shard_dir, number) }
}

/// A segment ends before the end that its successor names.
pub(crate) fn cut_short(corruption: Corruption, file_end: u64, end: u64) -> Corruption {
    let how = match file_end.saturating_sub(corruption.offset) {
        zeros if file_end >= end => format!("its last {zeros} bytes are zeros"),
        _ => format!("it has {file_end} bytes"),
    };
    let what = format!(
        "the file is older than its successor, or was cut short: {how}, and its frames went to \
         byte {end}; they end"
    );
    let advice = "put its latest copy back".into();
    Corruption { what, advice, ..corruption }
}

/// Corruption at the beginning of a segment.
fn of(shard_dir: &ShardDir, number: u64) -> Corruption {
    Corruption {
        generation: shard_dir.identity.generation,
        shard: shard_dir.identity.shard,
        file: shard_dir.path(number),
        offset: 0,
        first_sequence: shard_dir.truncated_below,
        durable_below: 0,
        what: String::new(),
        advice: RESTORE.into(),
    }
}
