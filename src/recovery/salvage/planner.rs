//! The planner of a salvage: goes through a shard's parts, oldest first, and decides
//! what to keep of each. It reads files and writes none.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::limit::{Limit, Taken, Vouched, chain_of};
use super::skeleton::{Element, Hole, Skeleton};
use super::{Piece, Rewrite, Salvage};
use crate::error::OpenError;
use crate::fs::{FileHandle, FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::report::LostRange;
use crate::recovery::segment_file::absolute;
use crate::segment::frame_reader::{Frame, FrameReader, Stop, is_consistent};
use crate::segment::frame_scan::{Remains, search_remains};
use crate::segment::header::{Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader};

/// Bytes per read. It is small, because a search restarts after each corrupted
/// place.
const CHUNK_BYTES: usize = 64 << 10;
/// The sequences to skip if the newest segment, or its end, is lost, and its length
/// is unknown. No sequence may be used twice, so this is more than a full disk
/// refuses or a few segments hold. An open must be able to copy several such gaps.
const UNKNOWN_SEQUENCES: u64 = 1 << 24;

/// Makes the plan for one shard: see [`Salvage::plan`].
pub(super) fn plan(fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<Salvage, OpenError> {
    let skeleton = Skeleton::read(fs, shard_dir)?;
    let here = match skeleton.elements.first() {
        Some(Element::Segment(header)) => header.first_sequence,
        // Its records may begin below the truncation mark.
        Some(Element::Hole(hole)) => {
            hole.first_sequence.unwrap_or(u64::MAX).min(shard_dir.truncated_below)
        }
        None => shard_dir.truncated_below,
    };
    let salvage = Salvage { set_aside: skeleton.set_aside, ..Salvage::default() };
    let (last, remains) = (Predecessor::default(), BTreeMap::new());
    let mut planner = Planner { fs, shard_dir, remains, here, durable: 0, last, salvage };
    planner.search_marks(&skeleton.elements)?;
    let mut elements = skeleton.elements.as_slice();
    while let Some((element, later)) = elements.split_first() {
        let goes_on = match element {
            Element::Segment(header) => planner.segment(*header, later, false)?,
            Element::Hole(hole) => planner.hole(hole, later)?,
        };
        elements = if goes_on { later } else { planner.skip_to_hole(later) };
    }
    Ok(planner.salvage)
}

/// The state of the planner.
struct Planner<'a> {
    fs: &'a dyn FileSystem,
    shard_dir: &'a ShardDir,
    /// The frames found in each segment, by its number.
    remains: BTreeMap<u64, Remains>,
    /// The next sequence.
    here: u64,
    /// The highest durable mark so far.
    durable: u64,
    /// The last part, as it will be after the repair.
    last: Predecessor,
    salvage: Salvage,
}

impl Planner<'_> {
    /// Decides what to keep of a segment. Returns whether the log continues after it.
    fn segment(
        &mut self,
        header: SegmentHeader,
        later: &[Element],
        write_anyway: bool,
    ) -> Result<bool, OpenError> {
        let (number, base) = (header.identity.number, header.first_sequence);
        let path = self.shard_dir.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let limit = Limit::of(later);
        if limit.cut.is_some_and(|cut| base >= cut) {
            return Ok(false);
        }
        let mut frames = self.frames(number, &limit)?;
        let mut taken = Taken::default();
        self.here = self.here.max(base);
        let mut is_lost_to_the_end = false;
        let goes_on = loop {
            let stop =
                self.take_run(&mut frames, base, &limit, &mut taken).map_err(io("reading"))?;
            let at = frames.at();
            if let Stop::UnknownKind(_) = stop {
                let what = format!("{stop} at byte {at}");
                return Err(OpenError::NewerFormat { file: path, what });
            }
            let vouched = self.vouched(&limit, &header, later);
            let vouched = vouched.or_else(|| self.unknown(number, stop, at..frames.end(), &limit));
            let Some(vouched) = vouched.filter(|_| !is_lost_to_the_end) else {
                break limit.expected.is_none_or(|expected| expected.next_sequence == self.here);
            };
            let following = self.find_frame(&mut frames, base, &limit, &vouched);
            let following = following.map_err(io("reading"))?;
            taken.is_changed = true;
            is_lost_to_the_end = following.is_none();
            let first = following.as_ref().map(|frame| base + u64::from(frame.header.first));
            let next = first.unwrap_or(vouched.to);
            taken.pieces.extend(self.lose(number, at, next, &stop.to_string()));
            if let Some(frame) = following {
                self.take(&frame, base, &mut taken);
            }
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
        let path = self.shard_dir.path(number);
        let file = self.open(number)?;
        let file =
            file.ok_or_else(|| OpenError::io("opening", &path)(io::ErrorKind::NotFound.into()))?;
        let bytes = file.len().map_err(OpenError::io("reading the size of", &path))?;
        let end = limit.expected.map_or(bytes, |expected| expected.end.min(bytes));
        let start = SEGMENT_HEADER_BYTES as u64;
        Ok(FrameReader::new(file, self.shard_dir.seed(number), start, end, CHUNK_BYTES))
    }

    /// Plans a segment for a hole. It keeps the hole's records if their first
    /// sequence is known, otherwise it is a gap. Returns whether the log continues
    /// after it.
    fn hole(&mut self, hole: &Hole, later: &[Element]) -> Result<bool, OpenError> {
        if !self.once_existed(hole, later) {
            return Ok(false);
        }
        let Hole { number, expected, .. } = *hole;
        let identity = self.shard_dir.identity.with_number(number);
        // A later repair relies on it that a shard's first segment begins at 0.
        let first_sequence = if number == 1 { 0 } else { self.here };
        let mut header = SegmentHeader { identity, first_sequence, predecessor: self.last };
        if let Some(base) = hole.first_sequence.filter(|base| *base >= self.here) {
            // No gap frame is needed: the header's first sequence implies the gap.
            let _gap = self.lose(number, 0, base, "the segment's header cannot be read");
            header.first_sequence = base;
            return self.segment(header, later, true);
        }
        let (next, what) = match expected {
            Some(expected) => (
                expected.next_sequence,
                "the segment is missing, or cannot be read without its header",
            ),
            None => (
                self.here + self.sequences_in(number) + UNKNOWN_SEQUENCES,
                "the newest segment cannot be read, and nothing says how far it went",
            ),
        };
        let mut pieces: Vec<_> = self.lose(number, 0, next, what).into_iter().collect();
        if expected.is_some_and(|expected| expected.end <= SEGMENT_HEADER_BYTES as u64) {
            // A reader goes no further than its successor says, so it would not see a gap frame.
            // The header's first sequence implies the gap.
            pieces.clear();
            header.first_sequence = self.here;
        }
        let rewrite = Rewrite { header, pieces };
        self.last = Predecessor { number, end: rewrite.end(), next_sequence: self.here };
        self.salvage.rewrites.push(rewrite);
        Ok(true)
    }

    /// Whether the log once continued into a hole, and did not end before it. A
    /// missing file proves that only if no later open cut the log there.
    fn once_existed(&self, hole: &Hole, later: &[Element]) -> bool {
        let (chain, cut) = chain_of(later);
        let is_there = !hole.may_be_torn || self.mark_in(hole.number) > Some(0);
        (is_there && cut.is_none())
            || self.mark_of(chain).max(self.durable) > self.here
            || cut.and_then(|cut| cut.first_sequence) > Some(self.here)
    }

    /// Skips the parts that a later open cut off, up to the next hole. Sets them
    /// aside if the log continues after them.
    fn skip_to_hole<'p>(&mut self, elements: &'p [Element]) -> &'p [Element] {
        let (chain, hole) = chain_of(elements);
        if hole.is_some() {
            self.salvage.set_aside.extend(chain.iter().map(|element| element.number()));
        }
        &elements[chain.len()..]
    }

    /// Takes frames up to the first that does not follow. Returns why it stopped.
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

    /// The next valid frame after a corrupted place that continues the log.
    fn find_frame(
        &self,
        frames: &mut FrameReader,
        base: u64,
        limit: &Limit,
        vouched: &Vouched,
    ) -> io::Result<Option<Frame>> {
        while let Some(frame) = frames.find()? {
            let first = base + u64::from(frame.header.first);
            if first <= vouched.first_max && self.is_next(&frame, base, limit) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn is_next(&self, frame: &Frame, base: u64, limit: &Limit) -> bool {
        base + frame.header.next() <= limit.below
            && base + u64::from(frame.header.first) >= self.here
            && is_consistent(frame)
    }

    fn take(&mut self, frame: &Frame, base: u64, taken: &mut Taken) {
        taken.frame(frame);
        if frame.header.kind.advances_sequence() {
            self.here = base + frame.header.next();
            taken.records_end = frame.end();
        }
        let mark = frame.header.mark().map_or(0, |mark| absolute(base, mark));
        self.durable = self.durable.max(mark);
    }

    /// Records the range up to `next` as lost. Returns the gap to write, if a
    /// sequence is lost.
    fn lose(&mut self, number: u64, offset: u64, next: u64, what: &str) -> Option<Piece> {
        let first_sequence = self.here;
        self.here = self.here.max(next);
        self.salvage.lost.push(LostRange {
            generation: self.shard_dir.identity.generation,
            shard: self.shard_dir.identity.shard,
            file: self.shard_dir.path(number),
            offset,
            first_sequence,
            next_sequence: self.here,
            what: what.into(),
        });
        let gap = Piece::Gap { next: self.here, durable: self.durable };
        (self.here > first_sequence).then_some(gap)
    }

    /// How far the log provably continued from here, if it did.
    ///
    /// The open that made a hole's segment may have cut off the records before it,
    /// and used their sequences again. So marks after the hole prove nothing.
    fn vouched(&self, limit: &Limit, header: &SegmentHeader, later: &[Element]) -> Option<Vouched> {
        let expected = limit.expected.map(|expected| expected.next_sequence);
        if expected == Some(self.here) {
            return None;
        }
        let (chain, cut) = chain_of(later);
        let own = self.mark_of(&[Element::Segment(*header)]);
        let mark = own.max(self.durable).max(self.mark_of(chain));
        let behind = later.get(chain.len() + 1..).unwrap_or_default();
        let vouched = match cut.filter(|hole| self.once_existed(hole, behind)) {
            Some(hole) => {
                let to = hole.first_sequence.unwrap_or(mark).min(expected.unwrap_or(u64::MAX));
                (to > self.here).then_some(Vouched { to, first_max: to })
            }
            None => (mark > self.here)
                .then_some(Vouched { to: expected.unwrap_or(mark), first_max: u64::MAX }),
        };
        vouched.filter(|vouched| vouched.to > self.here)
    }

    /// How far the log may have continued from here, if there is no proof but the
    /// disk cannot read some bytes. Valid frames after those are kept, because they
    /// may be the log's.
    fn unknown(&self, number: u64, stop: Stop, rest: Range<u64>, limit: &Limit) -> Option<Vouched> {
        let expected = limit.expected.map(|expected| expected.next_sequence);
        let ends_here = expected.is_none() && matches!(stop, Stop::End | Stop::Blank);
        if expected == Some(self.here) || ends_here {
            return None;
        }
        self.remains.get(&number)?.unreadable.within(&rest)?;
        let to = expected.or(limit.cut).unwrap_or(self.here + UNKNOWN_SEQUENCES);
        Some(Vouched { to: to.max(self.here), first_max: u64::MAX })
    }

    /// The highest durable mark in these segments.
    fn mark_of(&self, elements: &[Element]) -> u64 {
        let mark = |element: &Element| match element {
            Element::Segment(header) => self
                .mark_in(header.identity.number)
                .map(|mark| absolute(header.first_sequence, mark)),
            Element::Hole(_) => None,
        };
        elements.iter().filter_map(mark).max().unwrap_or(0)
    }

    fn mark_in(&self, number: u64) -> Option<i64> {
        self.remains.get(&number)?.mark
    }

    /// The number of sequences that a segment's frames name, up to a plausible limit.
    fn sequences_in(&self, number: u64) -> u64 {
        let next = self.remains.get(&number).and_then(|remains| remains.next);
        next.unwrap_or(0).min(1 << 30)
    }

    /// Searches each segment for marks once, however many corrupted places it has.
    fn search_marks(&mut self, elements: &[Element]) -> Result<(), OpenError> {
        for number in elements.iter().map(Element::number) {
            let Some(file) = self.open(number)? else { continue };
            let seed = self.shard_dir.seed(number);
            let searched = file.len().and_then(|end| search_remains(file.as_ref(), seed, 0, end));
            let remains =
                searched.map_err(OpenError::io("reading", &self.shard_dir.path(number)))?;
            self.remains.insert(number, remains);
        }
        Ok(())
    }

    fn open(&self, number: u64) -> Result<Option<Box<dyn FileHandle>>, OpenError> {
        let path = self.shard_dir.path(number);
        match self.fs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let file = opened.map_err(OpenError::io("opening", &path))?;
                file.drop_cache();
                Ok(Some(file))
            }
        }
    }
}
