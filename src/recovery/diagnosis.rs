//! The diagnosis of corruption: what is wrong, and what to do.
//!
//! Each cause has its own text, because the cure differs: a missing file is put
//! back, a foreign file is moved away. This module only words what others found.

use std::ops::Range;

use crate::error::{Damage, RESTORE};
use crate::layout::manifest::Generation;
use crate::recovery::shard_scan::Folder;
use crate::segment::header::{SegmentHeader, SegmentIdentity, segment_path};

/// The successor names a segment that does not exist.
pub(crate) fn missing(folder: &Folder, successor: &SegmentHeader) -> Damage {
    let number = successor.predecessor.number;
    let what = "the segment is missing, and its successor names it".into();
    let below = successor.predecessor.next_sequence;
    let advice = format!(
        "put it back from a copy of the log; or, if the log was truncated to sequence {below} or \
         beyond, put the shard's latest purge files back"
    );
    Damage { durable_below: successor.first_sequence, what, advice, ..of(folder, number) }
}

/// A segment's file holds another intact segment.
pub(crate) fn foreign(folder: &Folder, number: u64, found: &SegmentIdentity) -> Damage {
    let own = &folder.identity;
    let SegmentIdentity { generation, shard, .. } = *found;
    let (what, home) = if found.log != own.log {
        let id: String = found.log.iter().map(|byte| format!("{byte:02x}")).collect();
        (format!("the file is a segment of another log, {id}"), "away".into())
    } else {
        let what = if generation != own.generation {
            format!("the file is a segment of another generation, {generation}, shard {shard}")
        } else if shard != own.shard {
            format!("the file is a segment of another shard, {shard}")
        } else {
            format!("the file is another segment of the shard, {}", found.number)
        };
        let home = Generation { number: generation, shards: 0 };
        let home = segment_path(&home.shard_dir("".as_ref(), shard), found.number);
        (what, format!("to {} if it is missing there, else away", home.display()))
    };
    let advice =
        format!("move it {home}; then put the shard's own segment {number} back, if it had one");
    Damage { what, advice, ..of(folder, number) }
}

/// A segment holds durable records, but has no header.
pub(crate) fn headerless(folder: &Folder, number: u64, mark: u64) -> Damage {
    let what = "the segment's header cannot be read, and records in it were durable".into();
    Damage { durable_below: mark, what, ..of(folder, number) }
}

/// The disk cannot read a header. The segment may be any one, or never used.
pub(crate) fn unreadable_header(folder: &Folder, number: u64) -> Damage {
    let what = "the disk cannot read the segment's header".into();
    Damage { what, durable_below: folder.purged_below, ..of(folder, number) }
}

/// A segment has no valid header, and the disk cannot read bytes that could prove
/// whether it held durable records.
pub(crate) fn unreadable_without_header(
    folder: &Folder,
    number: u64,
    range: &Range<u64>,
) -> Damage {
    let Range { start, end } = range;
    let what = format!("the disk cannot read bytes {start}..{end}, and the segment has no header");
    Damage { what, durable_below: folder.purged_below, ..of(folder, number) }
}

/// No frame proves that records after the place were durable, but the disk cannot
/// read all the bytes there.
pub(crate) fn unreadable(
    damage: Damage,
    folder: &Folder,
    number: u64,
    range: &Range<u64>,
) -> Damage {
    let Range { start, end } = range;
    let (file, mut what) = (folder.path(number), damage.what.clone());
    let unreadable = format!("the disk cannot read bytes {start}..{end}");
    if what != unreadable || file != damage.file {
        what = format!("{unreadable} of {}, and before them {what}", file.display());
    }
    let durable_below = damage.durable_below.max(damage.first_sequence);
    Damage { what, durable_below, ..damage }
}

/// A shard has no segment. Every shard should have one.
pub(crate) fn no_segment(folder: &Folder) -> Damage {
    let what = "the shard has no segment with a header".into();
    let advice = "put the shard's directory back from a copy of the log".into();
    Damage { what, advice, ..of(folder, 1) }
}

/// A segment has a number that is higher than any writer uses.
pub(crate) fn last_number(folder: &Folder, number: u64) -> Damage {
    let what = "no segment can follow one with this number".into();
    Damage { what, advice: "move it away".into(), ..of(folder, number) }
}

/// A segment ends before the end that its successor names.
pub(crate) fn cut_short(damage: Damage, file_end: u64, end: u64) -> Damage {
    let how = match file_end.saturating_sub(damage.offset) {
        zeros if file_end >= end => format!("its last {zeros} bytes are zeros"),
        _ => format!("it has {file_end} bytes"),
    };
    let what = format!(
        "the file is older than its successor, or was cut short: {how}, and its frames went to \
         byte {end}; they end"
    );
    let advice = "put its latest copy back".into();
    Damage { what, advice, ..damage }
}

/// Corruption at the beginning of a segment.
fn of(folder: &Folder, number: u64) -> Damage {
    Damage {
        generation: folder.identity.generation,
        shard: folder.identity.shard,
        file: folder.path(number),
        offset: 0,
        first_sequence: folder.purged_below,
        durable_below: 0,
        what: String::new(),
        advice: RESTORE.into(),
    }
}
