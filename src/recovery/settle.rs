//! Makes what a survey found safe to go on from: a new segment that says where
//! the log ends, and holds a copy of what no frame says was durable.
//!
//! **Open never writes into an old segment** (R3 FRESH). After a failed sync
//! the cache may have shown bytes that the disk never had; the survey has read
//! past the cache, and what it accepted above the durable mark is written and
//! synced once more, before anything is replayed.

use std::io;

use crate::disk::{Disk, DiskFile, OpenMode, unlink_if_there, write_full};
use crate::error::OpenError;
use crate::frame::{Encoder, FRAME_HEADER_BYTES, FrameKind, Place, next_record};
use crate::frame_reader::{Frame, FrameReader};
use crate::recovery::chain::Link;
use crate::recovery::survey::{Folder, Survey};
use crate::segment::{
    Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path, unfinished_path,
};
use crate::segment_writer::SegmentMeta;

/// The copy is written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// A shard that can be replayed, and whose last segment may be written to.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) header: SegmentHeader,
    /// The new segment, durable up to `position`, its name included.
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) position: u64,
    pub(crate) next_sequence: u64,
    /// Oldest first, the new segment last.
    pub(crate) segments: Vec<SegmentMeta>,
    /// Records that were copied.
    pub(crate) copied: u64,
}

/// Where the new segment takes over.
struct Joint {
    predecessor: Predecessor,
    /// Segments that stay, with the last one's end and next sequence.
    kept: Vec<SegmentMeta>,
    /// Index in the survey of the segment that the copy begins in, and where.
    copy_from: Option<(usize, u64)>,
}

/// Writes the new segment and removes what it supersedes.
pub(crate) fn settle(
    disk: &dyn Disk,
    folder: &Folder,
    survey: &Survey,
) -> Result<Settled, OpenError> {
    let joint = find_joint(disk, folder, survey)?;
    let number = survey.highest_number + 1;
    let first_sequence = match joint.copy_from {
        Some(_) => joint.predecessor.next_sequence,
        None => survey.next_sequence,
    };
    let header = SegmentHeader {
        identity: folder.identity.with_number(number),
        first_sequence,
        predecessor: joint.predecessor,
    };
    let unfinished = unfinished_path(&folder.dir, number);
    let doing = |what: &'static str| OpenError::io(what, &unfinished);
    remove(disk, &unfinished)?;
    let file = disk.open(&unfinished, OpenMode::CreateNew).map_err(doing("creating"))?;
    let mut copy = Copy::new(file, &header);
    for (index, link) in survey.links.iter().enumerate() {
        if let Some((from, offset)) = joint.copy_from.filter(|(from, _)| index >= *from) {
            let offset = if index == from { offset } else { SEGMENT_HEADER_BYTES as u64 };
            copy.segment(disk, folder, link, &survey.segments[index], offset)?;
        }
    }
    copy.finish(survey.next_sequence).map_err(doing("writing"))?;
    let path = segment_path(&folder.dir, number);
    disk.rename(&unfinished, &path).map_err(doing("renaming"))?;
    disk.sync_dir(&folder.dir).map_err(OpenError::io("syncing", &folder.dir))?;
    remove_superseded(disk, folder, survey, &joint)?;
    let mut segments = joint.kept;
    segments.push(SegmentMeta {
        number,
        first_sequence,
        next_sequence: None,
        end: 0,
        durable: true,
    });
    Ok(Settled {
        header,
        file: copy.file,
        position: copy.position,
        next_sequence: survey.next_sequence,
        segments,
        copied: copy.records,
    })
}

/// The same for a shard that needs no new segment, because nobody writes to it
/// and all in it is durable: makes the names that say so durable, and removes
/// what they supersede.
pub(crate) fn tidy(disk: &dyn Disk, folder: &Folder, survey: &Survey) -> Result<(), OpenError> {
    disk.sync_dir(&folder.dir).map_err(OpenError::io("syncing", &folder.dir))?;
    survey.superfluous.iter().try_for_each(|path| remove(disk, path))
}

/// The new segment is durable; what it replaces may go. A file that stays is
/// found superfluous by the next open.
fn remove_superseded(
    disk: &dyn Disk,
    folder: &Folder,
    survey: &Survey,
    joint: &Joint,
) -> Result<(), OpenError> {
    for path in &survey.superfluous {
        remove(disk, path)?;
    }
    for meta in &survey.segments {
        if !joint.kept.iter().any(|kept| kept.number == meta.number) {
            remove(disk, &folder.path(meta.number))?;
        }
    }
    Ok(())
}

fn remove(disk: &dyn Disk, path: &std::path::Path) -> Result<(), OpenError> {
    unlink_if_there(disk, path).map_err(OpenError::io("removing", path))
}

/// The last place below which all is said to be durable; segments without a
/// record below it are left behind as well.
fn find_joint(disk: &dyn Disk, folder: &Folder, survey: &Survey) -> Result<Joint, OpenError> {
    // What was truncated needs no copy, even if no mark covers it.
    let durable = survey.durable_below.max(folder.purged_below);
    let mut kept = survey.segments.clone();
    let mut copy_from = None;
    for (index, link) in survey.links.iter().enumerate() {
        let meta = &survey.segments[index];
        if meta.next_sequence > Some(durable) {
            let (offset, next) = first_frame_above(disk, folder, link, meta, durable)?;
            kept.truncate(index + 1);
            kept[index].end = offset;
            kept[index].next_sequence = Some(next);
            copy_from = Some((index, offset));
            break;
        }
    }
    let mut predecessor = Predecessor::default();
    while let Some(last) = kept.last() {
        let next_sequence = last.next_sequence.unwrap_or(last.first_sequence);
        if next_sequence > last.first_sequence {
            predecessor = Predecessor { number: last.number, end: last.end, next_sequence };
            break;
        }
        predecessor.next_sequence = last.first_sequence;
        kept.pop();
    }
    Ok(Joint { predecessor, kept, copy_from })
}

/// Where the first frame stands that reaches past `durable`, and the sequence
/// that was next before it.
fn first_frame_above(
    disk: &dyn Disk,
    folder: &Folder,
    link: &Link,
    meta: &SegmentMeta,
    durable: u64,
) -> Result<(u64, u64), OpenError> {
    let base = link.header.first_sequence;
    let mut next = meta.first_sequence;
    // Behind the last record, not behind a seal that may never have been
    // synced: the next open may find it gone.
    let mut place = SEGMENT_HEADER_BYTES as u64;
    each_frame(disk, folder, meta, SEGMENT_HEADER_BYTES as u64, |frame| {
        if frame.header.kind != FrameKind::Records {
            return Ok(true);
        }
        if base + frame.header.next() > durable {
            return Ok(false);
        }
        place = frame.end();
        next = base + frame.header.next();
        Ok(true)
    })?;
    Ok((place, next))
}

/// Calls `take` for each frame of a surveyed segment until it says stop.
fn each_frame(
    disk: &dyn Disk,
    folder: &Folder,
    meta: &SegmentMeta,
    from: u64,
    mut take: impl FnMut(&Frame) -> io::Result<bool>,
) -> Result<(), OpenError> {
    let path = folder.path(meta.number);
    let file = disk.open(&path, OpenMode::Read).map_err(OpenError::io("opening", &path))?;
    let seed = folder.seed(meta.number);
    let mut frames = FrameReader::new(file, seed, from, meta.end, PIECE_BYTES);
    while frames.at() < meta.end {
        let frame = frames.next().map_err(OpenError::io("reading", &path))?;
        let frame = frame.map_err(|stop| {
            let changed =
                io::Error::other(format!("it has changed since it was surveyed: {stop:?}"));
            OpenError::io("reading", &path)(changed)
        })?;
        if !take(&frame).map_err(OpenError::io("copying from", &path))? {
            break;
        }
    }
    Ok(())
}

/// The new segment while it is filled.
struct Copy {
    file: Box<dyn DiskFile>,
    place: Place,
    encoder: Encoder,
    position: u64,
    records: u64,
}

impl Copy {
    fn new(file: Box<dyn DiskFile>, header: &SegmentHeader) -> Self {
        let mut encoder = Encoder::default();
        encoder.begin(&header.encode());
        let place = Place {
            seed: header.identity.seed(),
            first_sequence: header.first_sequence,
            offset: 0,
        };
        Self { file, place, encoder, position: 0, records: 0 }
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        folder: &Folder,
        link: &Link,
        meta: &SegmentMeta,
        from: u64,
    ) -> Result<(), OpenError> {
        each_frame(disk, folder, meta, from, |frame| {
            self.frame(frame, link.header.first_sequence)?;
            Ok(true)
        })
    }

    /// A frame stays a frame, so that its batches stay whole. The copy claims
    /// nothing durable until it is.
    fn frame(&mut self, frame: &Frame, base: u64) -> io::Result<()> {
        if frame.header.kind != FrameKind::Records {
            return Ok(());
        }
        let first = base + u64::from(frame.header.first);
        self.check_reach(base + frame.header.next())?;
        let mut at = 0;
        for record in 0..u64::from(frame.header.records) {
            let (key, payload) = next_record(&frame.body, &mut at)
                .ok_or_else(|| io::Error::other("a frame has changed since it was surveyed"))?;
            self.encoder.record(first + record, key, &frame.body[payload]);
            self.records += 1;
        }
        self.encoder.close_frame(&self.place, self.place.first_sequence);
        if self.encoder.len() >= PIECE_BYTES - FRAME_HEADER_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = self.encoder.bytes();
        write_full(self.file.as_mut(), bytes, self.position)?;
        self.position += bytes.len() as u64;
        self.place.offset = self.position;
        self.encoder.begin(&[]);
        Ok(())
    }

    /// Makes the copy durable; then says so in a seal, and makes that durable:
    /// the name is not this segment's yet, so nobody reads the one without the
    /// other.
    fn finish(&mut self, next_sequence: u64) -> io::Result<()> {
        self.check_reach(next_sequence)?;
        self.encoder.seal(&self.place, next_sequence, next_sequence);
        self.write()?;
        self.file.sync_data()
    }

    /// Four thousand million unsynced records are none that were written.
    fn check_reach(&self, next: u64) -> io::Result<()> {
        if u32::try_from(next.saturating_sub(self.place.first_sequence)).is_ok() {
            return Ok(());
        }
        Err(io::Error::other("its unsynced sequences are more than a segment can hold"))
    }
}
