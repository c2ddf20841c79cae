//! Goes through a shard's parts, oldest first, and decides what of each is kept.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::spine::{Hole, Part, Spine};
use super::{Piece, Rewrite, Salvage};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::OpenError;
use crate::frame_reader::{Frame, FrameReader, Stop, is_consistent};
use crate::frame_search::{Remains, search_remains};
use crate::recovery::report::Lost;
use crate::recovery::survey::{Folder, absolute};
use crate::segment::{Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader};

/// What is read at once: a search begins again behind each damaged place.
const CHUNK_BYTES: usize = 64 << 10;
/// What is left free where the newest segment, or its end, is lost and nothing
/// says how far it went, so that none is given twice: more than a full disk
/// refuses or a few segments hold. Open must be able to copy several of them.
const UNKNOWN_SEQUENCES: u64 = 1 << 24;

/// See [`Salvage::plan`].
pub(super) fn plan(disk: &dyn Disk, folder: &Folder) -> Result<Salvage, OpenError> {
    let spine = Spine::read(disk, folder)?;
    let here = match spine.parts.first() {
        Some(Part::Segment(header)) => header.first_sequence,
        // What it holds may begin below the purge mark.
        Some(Part::Hole(hole)) => hole.first_sequence.unwrap_or(u64::MAX).min(folder.purged_below),
        None => folder.purged_below,
    };
    let salvage = Salvage { set_aside: spine.set_aside, ..Salvage::default() };
    let (last, remains) = (Predecessor::default(), BTreeMap::new());
    let mut planner = Planner { disk, folder, remains, here, durable: 0, last, salvage };
    planner.look_for_marks(&spine.parts)?;
    let mut parts = spine.parts.as_slice();
    while let Some((part, later)) = parts.split_first() {
        let goes_on = match part {
            Part::Segment(header) => planner.segment(*header, later, false)?,
            Part::Hole(hole) => planner.hole(hole, later)?,
        };
        parts = if goes_on { later } else { planner.skip_to_a_hole(later) };
    }
    Ok(planner.salvage)
}

/// How far the decision has come.
struct Planner<'a> {
    disk: &'a dyn Disk,
    folder: &'a Folder,
    /// What stands in each segment, by its number.
    remains: BTreeMap<u64, Remains>,
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
                break limit.told.is_none_or(|told| told.next_sequence == self.here);
            };
            let found = self.find_frame(&mut frames, base, &limit, &vouched);
            let found = found.map_err(io("reading"))?;
            taken.is_changed = true;
            is_lost_to_the_end = found.is_none();
            let first = found.as_ref().map(|frame| base + u64::from(frame.header.first));
            let next = first.unwrap_or(vouched.to);
            taken.pieces.extend(self.lose(number, at, next, &stop.to_string()));
            if let Some(frame) = found {
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
        let path = self.folder.path(number);
        let file = self.open(number)?;
        let file =
            file.ok_or_else(|| OpenError::io("opening", &path)(io::ErrorKind::NotFound.into()))?;
        let bytes = file.len().map_err(OpenError::io("reading the size of", &path))?;
        let end = limit.told.map_or(bytes, |told| told.end.min(bytes));
        let start = SEGMENT_HEADER_BYTES as u64;
        Ok(FrameReader::new(file, self.folder.seed(number), start, end, CHUNK_BYTES))
    }

    /// Makes a segment where there is none with a header: of what it held if
    /// its first sequence can be known, else of a gap.
    fn hole(&mut self, hole: &Hole, later: &[Part]) -> Result<bool, OpenError> {
        if !self.was_there(hole, later) {
            return Ok(false);
        }
        let Hole { number, told, .. } = *hole;
        let identity = self.folder.identity.with_number(number);
        // That a shard's first begins at 0 is what the next repair goes by.
        let first_sequence = if number == 1 { 0 } else { self.here };
        let mut header = SegmentHeader { identity, first_sequence, predecessor: self.last };
        if let Some(base) = hole.first_sequence.filter(|base| *base >= self.here) {
            // Its header says what is missing before it.
            let _gap = self.lose(number, 0, base, "the segment's header cannot be read");
            header.first_sequence = base;
            return self.segment(header, later, true);
        }
        let (next, what) = match told {
            Some(told) => {
                (told.next_sequence, "the segment is missing, or cannot be read without its header")
            }
            None => (
                self.here + self.sequences_in(number) + UNKNOWN_SEQUENCES,
                "the newest segment cannot be read, and nothing says how far it went",
            ),
        };
        let pieces = self.lose(number, 0, next, what).into_iter().collect();
        let rewrite = Rewrite { header, pieces };
        self.last = Predecessor { number, end: rewrite.end(), next_sequence: self.here };
        self.salvage.rewrites.push(rewrite);
        Ok(true)
    }

    /// Whether the log once went through a hole, rather than ended before it.
    /// That its file is gone says so only if it is not from before a cut.
    fn was_there(&self, hole: &Hole, later: &[Part]) -> bool {
        let (chain, cut) = chain_of(later);
        let is_there = !hole.may_be_torn || self.mark_in(hole.number) > Some(0);
        (is_there && cut.is_none())
            || self.mark_of(chain).max(self.durable) > self.here
            || cut.and_then(|cut| cut.first_sequence) > Some(self.here)
    }

    /// Leaves out what a later open cut, and goes on behind it. What is left out
    /// of the log is set aside if the log goes on at all.
    fn skip_to_a_hole<'p>(&mut self, parts: &'p [Part]) -> &'p [Part] {
        let (chain, hole) = chain_of(parts);
        if hole.is_some() {
            self.salvage.set_aside.extend(chain.iter().map(|part| part.number()));
        }
        &parts[chain.len()..]
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

    /// Up to where the log is known to have gone on from here, if it is. What
    /// lies below a hole may have been cut when the hole's segment was made,
    /// and its sequences used again: marks from behind the hole say nothing.
    fn vouched(&self, limit: &Limit, header: &SegmentHeader, later: &[Part]) -> Option<Vouched> {
        let told = limit.told.map(|told| told.next_sequence);
        if told == Some(self.here) {
            return None;
        }
        let (chain, cut) = chain_of(later);
        let own = self.mark_of(&[Part::Segment(*header)]);
        let mark = own.max(self.durable).max(self.mark_of(chain));
        let behind = later.get(chain.len() + 1..).unwrap_or_default();
        let vouched = match cut.filter(|hole| self.was_there(hole, behind)) {
            Some(hole) => {
                let to = hole.first_sequence.unwrap_or(mark).min(told.unwrap_or(u64::MAX));
                (to > self.here).then_some(Vouched { to, first_max: to })
            }
            None => (mark > self.here)
                .then_some(Vouched { to: told.unwrap_or(mark), first_max: u64::MAX }),
        };
        vouched.filter(|vouched| vouched.to > self.here)
    }

    /// How far the log may have gone on from here, where nothing vouches that it
    /// did but the disk cannot read all that is there. Whole frames behind that are
    /// kept: it is not known that they are none of the log's.
    fn unknown(&self, number: u64, stop: Stop, rest: Range<u64>, limit: &Limit) -> Option<Vouched> {
        let told = limit.told.map(|told| told.next_sequence);
        let ends_here = told.is_none() && matches!(stop, Stop::End | Stop::Blank);
        if told == Some(self.here) || ends_here {
            return None;
        }
        self.remains.get(&number)?.unreadable.within(&rest)?;
        let to = told.or(limit.cut).unwrap_or(self.here + UNKNOWN_SEQUENCES);
        Some(Vouched { to: to.max(self.here), first_max: u64::MAX })
    }

    /// The highest mark in these segments.
    fn mark_of(&self, parts: &[Part]) -> u64 {
        let mark = |part: &Part| match part {
            Part::Segment(header) => self
                .mark_in(header.identity.number)
                .map(|mark| absolute(header.first_sequence, mark)),
            Part::Hole(_) => None,
        };
        parts.iter().filter_map(mark).max().unwrap_or(0)
    }

    fn mark_in(&self, number: u64) -> Option<i64> {
        self.remains.get(&number)?.mark
    }

    /// How many sequences a segment speaks of, as far as that is believed.
    fn sequences_in(&self, number: u64) -> u64 {
        let next = self.remains.get(&number).and_then(|remains| remains.next);
        next.unwrap_or(0).min(1 << 30)
    }

    /// Reads each segment once, however many places of it are damaged.
    fn look_for_marks(&mut self, parts: &[Part]) -> Result<(), OpenError> {
        for number in parts.iter().map(Part::number) {
            let Some(file) = self.open(number)? else { continue };
            let seed = self.folder.seed(number);
            let searched = file.len().and_then(|end| search_remains(file.as_ref(), seed, 0, end));
            let remains = searched.map_err(OpenError::io("reading", &self.folder.path(number)))?;
            self.remains.insert(number, remains);
        }
        Ok(())
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

/// The segments up to the next hole, and the hole.
fn chain_of(parts: &[Part]) -> (&[Part], Option<&Hole>) {
    let at = parts.iter().position(|part| matches!(part, Part::Hole(_)));
    let chain = &parts[..at.unwrap_or(parts.len())];
    match parts.get(chain.len()) {
        Some(Part::Hole(hole)) => (chain, Some(hole)),
        _ => (chain, None),
    }
}

/// What is known of where a segment ended.
struct Limit {
    /// What its successor says.
    told: Option<Predecessor>,
    /// Where a later segment that has lost its header took over.
    cut: Option<u64>,
    /// No sequence of it from here on is the log's: the lower of the two.
    below: u64,
}

impl Limit {
    fn of(later: &[Part]) -> Self {
        let told = match later.first() {
            Some(Part::Segment(successor)) => Some(successor.predecessor),
            Some(Part::Hole(_)) | None => None,
        };
        let cut = chain_of(later).1.and_then(|hole| hole.first_sequence);
        let told_below = told.map_or(u64::MAX, |told| told.next_sequence);
        Self { told, cut, below: told_below.min(cut.unwrap_or(u64::MAX)) }
    }
}

/// That the log went on behind a damaged place.
struct Vouched {
    /// The sequence to which it did for certain.
    to: u64,
    /// No frame that begins with a higher sequence is believed.
    first_max: u64,
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
