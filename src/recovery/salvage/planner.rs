//! Goes through a shard's parts, oldest first, and decides what of each is kept.

use std::io;

use super::spine::{Hole, Part, Spine};
use super::{Piece, Rewrite, Salvage};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::OpenError;
use crate::frame_reader::{Frame, FrameReader, Remains, Stop, is_consistent, search_remains};
use crate::recovery::copy::PIECE_BYTES;
use crate::recovery::report::Lost;
use crate::recovery::survey::{Folder, absolute};
use crate::segment::{Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader};

/// See [`Salvage::plan`].
pub(super) fn plan(disk: &dyn Disk, folder: &Folder) -> Result<Salvage, OpenError> {
    let spine = Spine::read(disk, folder)?;
    let here = match spine.parts.first() {
        Some(Part::Segment(header)) => header.first_sequence,
        Some(Part::Hole(_)) | None => folder.purged_below,
    };
    let salvage = Salvage { set_aside: spine.set_aside, ..Salvage::default() };
    let last = Predecessor::default();
    let mut planner = Planner { disk, folder, here, durable: 0, last, salvage };
    for (index, part) in spine.parts.iter().enumerate() {
        let later = &spine.parts[index + 1..];
        let goes_on = match part {
            Part::Segment(header) => planner.segment(*header, later, false)?,
            Part::Hole(hole) => planner.hole(hole, later)?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(planner.salvage)
}

/// How far the decision has come.
struct Planner<'a> {
    disk: &'a dyn Disk,
    folder: &'a Folder,
    /// The sequence that is next.
    here: u64,
    /// The highest mark seen.
    durable: u64,
    /// The last part, as it will stand.
    last: Predecessor,
    salvage: Salvage,
}

impl Planner<'_> {
    /// Takes what a segment holds. Whether the log goes on behind it.
    fn segment(
        &mut self,
        header: SegmentHeader,
        later: &[Part],
        write_anyway: bool,
    ) -> Result<bool, OpenError> {
        let (number, base) = (header.identity.number, header.first_sequence);
        let path = self.folder.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let limit = Limit::of(later);
        let mut frames = self.frames(number, &limit)?;
        let mut taken = Taken::default();
        self.here = self.here.max(base);
        let goes_on = loop {
            let stop =
                self.take_run(&mut frames, base, &limit, &mut taken).map_err(io("reading"))?;
            let at = frames.at();
            if let Stop::UnknownKind(_) = stop {
                let what = format!("{stop} at byte {at}");
                return Err(OpenError::NewerFormat { file: path, what });
            }
            let Some(to) = self.vouched(&limit, &header, at, later)? else {
                break !matches!(limit, Limit::Told(told) if told.next_sequence != self.here);
            };
            let found = self.find_frame(&mut frames, base, &limit).map_err(io("reading"))?;
            if found.is_none() && matches!(limit, Limit::Below(_)) {
                break true;
            }
            taken.is_changed = true;
            let next = found.as_ref().map_or(to, |frame| base + u64::from(frame.header.first));
            taken.pieces.extend(self.lose(number, at, next, &stop.to_string()));
            let Some(frame) = found else { break true };
            self.take(&frame, base, &mut taken);
        };
        let mut end = taken.records_end.max(SEGMENT_HEADER_BYTES as u64);
        if taken.is_changed || write_anyway {
            let rewrite = Rewrite { header, pieces: taken.pieces };
            end = rewrite.end();
            self.salvage.rewrites.push(rewrite);
        }
        self.last = Predecessor { number, end, next_sequence: self.here };
        Ok(goes_on)
    }

    fn frames(&self, number: u64, limit: &Limit) -> Result<FrameReader, OpenError> {
        let path = self.folder.path(number);
        let file = self.open(number)?;
        let file =
            file.ok_or_else(|| OpenError::io("opening", &path)(io::ErrorKind::NotFound.into()))?;
        let bytes = file.len().map_err(OpenError::io("reading the size of", &path))?;
        let end = if let Limit::Told(told) = limit { told.end.min(bytes) } else { bytes };
        let start = SEGMENT_HEADER_BYTES as u64;
        Ok(FrameReader::new(file, self.folder.seed(number), start, end, PIECE_BYTES))
    }

    /// Makes a segment where there is none with a header: of what it held if
    /// its first sequence can be known, else of a gap.
    fn hole(&mut self, hole: &Hole, later: &[Part]) -> Result<bool, OpenError> {
        if !self.was_there(hole, later)? {
            return Ok(false);
        }
        let Hole { number, told, .. } = *hole;
        let identity = self.folder.identity.with_number(number);
        let mut header =
            SegmentHeader { identity, first_sequence: self.here, predecessor: self.last };
        if let Some(base) = hole.first_sequence.filter(|base| *base >= self.here) {
            // Its header says what is missing before it.
            let _gap = self.lose(number, 0, base, "the segment's header cannot be read");
            header.first_sequence = base;
            return self.segment(header, later, true);
        }
        let next = match told {
            Some(told) => told.next_sequence,
            None => self.here + self.remains(number, 0)?.next.unwrap_or(0),
        };
        let what = "the segment is missing, or cannot be read without its header";
        let pieces = self.lose(number, 0, next, what).into_iter().collect();
        let rewrite = Rewrite { header, pieces };
        self.last = Predecessor { number, end: rewrite.end(), next_sequence: self.here };
        self.salvage.rewrites.push(rewrite);
        Ok(true)
    }

    /// Whether the log once went through a hole, rather than ended before it.
    fn was_there(&self, hole: &Hole, later: &[Part]) -> Result<bool, OpenError> {
        Ok(!hole.may_be_torn
            || self.remains(hole.number, 0)?.mark > Some(0)
            || self.mark_beyond(later)? > self.here)
    }

    /// Takes frame after frame: why it stopped.
    fn take_run(
        &mut self,
        frames: &mut FrameReader,
        base: u64,
        limit: &Limit,
        taken: &mut Taken,
    ) -> io::Result<Stop> {
        loop {
            match frames.next()? {
                Ok(frame) if self.is_next(&frame, base, limit) => self.take(&frame, base, taken),
                Ok(frame) => {
                    frames.back_to(frame.offset);
                    return Ok(Stop::Bad("a frame contradicts the frames before it, or itself"));
                }
                Err(stop) => return Ok(stop),
            }
        }
    }

    /// The next whole frame behind a damaged place that goes on with the log.
    fn find_frame(
        &self,
        frames: &mut FrameReader,
        base: u64,
        limit: &Limit,
    ) -> io::Result<Option<Frame>> {
        while let Some(frame) = frames.find()? {
            if self.is_next(&frame, base, limit) {
                return Ok(Some(frame));
            }
            frames.back_to(frame.offset);
        }
        Ok(None)
    }

    fn is_next(&self, frame: &Frame, base: u64, limit: &Limit) -> bool {
        let within = match limit {
            Limit::Told(told) => base + frame.header.next() <= told.next_sequence,
            Limit::Below(below) => base + frame.header.next() <= *below,
            Limit::Unknown | Limit::None => true,
        };
        within && base + u64::from(frame.header.first) >= self.here && is_consistent(frame)
    }

    fn take(&mut self, frame: &Frame, base: u64, taken: &mut Taken) {
        taken.frame(frame);
        if frame.header.kind.moves_on() {
            self.here = base + frame.header.next();
            taken.records_end = frame.end();
        }
        let mark = frame.header.mark().map_or(0, |mark| absolute(base, mark));
        self.durable = self.durable.max(mark);
    }

    /// Notes that nothing before `next` can be read at a place; what to write
    /// there.
    fn lose(&mut self, number: u64, offset: u64, next: u64, what: &str) -> Option<Piece> {
        let first_sequence = self.here;
        self.here = self.here.max(next);
        self.salvage.lost.push(Lost {
            generation: self.folder.identity.generation,
            shard: self.folder.identity.shard,
            file: self.folder.path(number),
            offset,
            first_sequence,
            next_sequence: self.here,
            what: what.into(),
        });
        let gap = Piece::Gap { next: self.here, durable: self.durable };
        (self.here > first_sequence).then_some(gap)
    }

    /// Up to where the log is known to have gone on from here, if it is.
    fn vouched(
        &self,
        limit: &Limit,
        header: &SegmentHeader,
        at: u64,
        later: &[Part],
    ) -> Result<Option<u64>, OpenError> {
        let told = match (limit, later.first()) {
            (Limit::Told(told), _) if told.next_sequence == self.here => return Ok(None),
            (Limit::Below(below), _) => return Ok((*below > self.here).then_some(*below)),
            (Limit::Unknown, Some(Part::Hole(hole))) if self.was_there(hole, &later[1..])? => {
                return Ok(None);
            }
            (Limit::Told(told), _) => Some(told.next_sequence),
            (Limit::Unknown | Limit::None, _) => None,
        };
        let (number, base) = (header.identity.number, header.first_sequence);
        let mark = self.remains(number, at)?.mark.map_or(0, |mark| absolute(base, mark));
        let mark = mark.max(self.durable).max(self.mark_beyond(later)?);
        Ok((mark > self.here).then_some(told.unwrap_or(mark)))
    }

    /// The highest mark in these segments.
    fn mark_beyond(&self, later: &[Part]) -> Result<u64, OpenError> {
        let mut highest = 0;
        for part in later {
            let Part::Segment(header) = part else { continue };
            let remains = self.remains(header.identity.number, 0)?;
            let mark = remains.mark.map_or(0, |mark| absolute(header.first_sequence, mark));
            highest = highest.max(mark);
        }
        Ok(highest)
    }

    /// What stands in a segment from an offset on; nothing where it is missing.
    fn remains(&self, number: u64, from: u64) -> Result<Remains, OpenError> {
        let Some(file) = self.open(number)? else { return Ok(Remains::default()) };
        let seed = self.folder.seed(number);
        let searched = file.len().and_then(|end| search_remains(file.as_ref(), seed, from, end));
        searched.map_err(OpenError::io("reading", &self.folder.path(number)))
    }

    fn open(&self, number: u64) -> Result<Option<Box<dyn DiskFile>>, OpenError> {
        let path = self.folder.path(number);
        match self.disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let file = opened.map_err(OpenError::io("opening", &path))?;
                file.drop_cache();
                Ok(Some(file))
            }
        }
    }
}

/// What is known of where a segment ended.
enum Limit {
    /// Its successor says it.
    Told(Predecessor),
    /// Its successor has lost its header, and began with this sequence. What
    /// lies below was never used twice: a segment that open makes begins where
    /// it found the log's end, one that a writer makes follows all of its own.
    Below(u64),
    /// Its successor is gone; it may have been cut anywhere behind its first
    /// damaged place, and its sequences used again.
    Unknown,
    /// It is the newest.
    None,
}

impl Limit {
    fn of(later: &[Part]) -> Self {
        match later.first() {
            Some(Part::Segment(successor)) => Self::Told(successor.predecessor),
            Some(Part::Hole(Hole { first_sequence: Some(first), .. })) => Self::Below(*first),
            Some(Part::Hole(_)) => Self::Unknown,
            None => Self::None,
        }
    }
}

/// What was taken of a segment so far.
#[derive(Default)]
struct Taken {
    pieces: Vec<Piece>,
    records_end: u64,
    is_changed: bool,
}

impl Taken {
    fn frame(&mut self, frame: &Frame) {
        match self.pieces.last_mut() {
            Some(Piece::Frames { to, .. }) if *to == frame.offset => *to = frame.end(),
            _ => self.pieces.push(Piece::Frames { from: frame.offset, to: frame.end() }),
        }
    }
}
