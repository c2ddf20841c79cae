//! The files of a log, followed without its writer.
//!
//! The durable mark comes from the frames: each names the mark that its writer had.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{Cause, OpenError};
use crate::follow::shard_source::{ShardSource, ShardSources, boxed};
use crate::fs::{FileSystem, OpenMode};
use crate::layout::manifest::{Generation, Manifest};
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::{self, ALL_TRUNCATED, mark_path};
use crate::recovery::beside_writer::scan_until_stable;
use crate::recovery::inspect::{Inspected, find_manifest};
use crate::recovery::open_segment::{OpenSegment, read_header};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame_reader::Frame;
use crate::segment::header::{
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity, segment_number,
};
use crate::util::sync::{Arc, now};

/// Bytes of a read. What is new is usually less.
const CHUNK_BYTES: usize = 16 << 10;
/// Ends of frames that are kept to look again from, per shard.
const ENDS_MAX: usize = 4096;
/// How often a shard is looked at from its last durable frame on, and its directory listed.
/// Only a commit that was taken back or a writer that died makes a difference.
const RECHECK: Duration = Duration::from_secs(1);
/// Scans in a row at most.
const RESCANS_MAX: usize = 16;

/// The log's directory.
#[derive(Debug)]
pub(crate) struct LogFiles {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
}

impl LogFiles {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Self {
        Self { fs, dir }
    }

    /// The shards of the first generation from `number` on. `None` if there is none.
    pub(crate) fn generation(&self, number: u32) -> Result<Option<ShardSources>, OpenError> {
        loop {
            let manifest = self.manifest()?;
            let later = |it: &&Generation| it.number >= number;
            let Some(found) = manifest.generations.iter().find(later) else { return Ok(None) };
            let shards = (0..found.shards).map(|shard| {
                let generation = found.number;
                let identity = SegmentIdentity { log: manifest.log, generation, shard, number: 0 };
                let dir = found.shard_dir(&self.dir, shard);
                ShardFiles::new(&self.fs, &dir, &identity).map(boxed)
            });
            match shards.collect() {
                Ok(shards) => return Ok(Some(shards)),
                // A writer may have retired the generation meanwhile.
                Err(error) if self.manifest()? == manifest => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn manifest(&self) -> Result<Manifest, OpenError> {
        let not_a_log = || OpenError::NotALog { dir: self.dir.clone() };
        find_manifest(self.fs.as_ref(), &self.dir)?.ok_or_else(not_a_log)
    }
}

/// The files of a shard.
#[derive(Debug)]
struct ShardFiles {
    shard_dir: ShardDir,
    /// Oldest first.
    segments: Vec<SegmentMeta>,
    newest: Option<OpenSegment>,
    /// Records below are durable.
    durable_below: u64,
    /// The ends of frames of the newest segment that are not durable yet: offset and sequence.
    ends: VecDeque<(u64, u64)>,
    /// The end of the last durable frame of the newest segment, likewise.
    durable_end: Option<(u64, u64)>,
    /// The sequence after the last record that was found. A mark may lie above it: after a
    /// commit that found no room.
    records_end: u64,
    recheck_at: Option<Instant>,
    /// Whether the generation gets no more records.
    is_final: bool,
}

impl ShardFiles {
    fn new(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        identity: &SegmentIdentity,
    ) -> Result<Self, OpenError> {
        let inspected = scan_whole(fs, dir, identity)?;
        let mut shard = Self {
            shard_dir: inspected.shard_dir.clone(),
            segments: Vec::new(),
            newest: None,
            durable_below: 0,
            ends: VecDeque::new(),
            durable_end: None,
            records_end: 0,
            recheck_at: None,
            is_final: false,
        };
        match shard.take(inspected) {
            Err(error) if is_missing_file(&error) => shard.rescan()?,
            taken => taken?,
        }
        Ok(shard)
    }

    fn scan(&self) -> Result<Inspected, OpenError> {
        let ShardDir { fs, dir, identity, .. } = &self.shard_dir;
        scan_whole(fs, dir, identity)
    }

    /// Takes over a scan, and looks for marks from the start of the newest segment on. Fails with
    /// `NotFound` if the writer has deleted that segment since: then nothing is taken over.
    fn take(&mut self, inspected: Inspected) -> Result<(), OpenError> {
        let end = inspected.end();
        let mut segments = inspected.scan.segments;
        let newest = match segments.last_mut() {
            Some(last) => {
                last.next_sequence = None;
                Some(OpenSegment::open(&self.shard_dir, *last, u64::MAX, CHUNK_BYTES)?)
            }
            None => None,
        };
        self.durable_below = self.durable_below.max(inspected.scan.durable_below);
        (self.records_end, self.segments, self.newest) = (end, segments, newest);
        self.durable_end = None;
        self.ends.clear();
        Ok(())
    }

    /// Scans the shard again. A writer may roll, truncate and delete faster than that, a few times.
    fn rescan(&mut self) -> Result<(), OpenError> {
        let mut rescans = 1;
        loop {
            let inspected = self.scan()?;
            match self.take(inspected) {
                Err(error) if is_missing_file(&error) && rescans < RESCANS_MAX => rescans += 1,
                taken => return taken,
            }
        }
    }

    /// Reads what the writer has added.
    fn look(&mut self) -> Result<(), OpenError> {
        let is_due = self.recheck_at.is_none_or(|at| at <= now());
        if is_due {
            self.recheck_at = now().checked_add(RECHECK);
            self.step_back();
        }
        self.read_frames()?;
        if is_due && self.is_superseded()? {
            self.rescan()?;
            self.read_frames()?;
        }
        Ok(())
    }

    fn read_frames(&mut self) -> Result<(), OpenError> {
        while let Some(newest) = &mut self.newest {
            let number = newest.meta.number;
            let read = newest.frames.grow().and_then(|()| newest.frames.next());
            let path = || self.shard_dir.path(number);
            match read.map_err(|error| OpenError::io("reading", &path())(error))? {
                Ok(frame) => self.note(&frame),
                Err(_) if self.go_to_successor(number)? => {}
                // The end. Or a commit that is being written, or one that was taken back after
                // its frames were read: then the next recheck finds its heir.
                Err(_) => break,
            }
        }
        if let Some(newest) = &mut self.newest {
            // Frees the buffer, whose end is older than the next look.
            newest.frames.back_to(newest.frames.at());
        }
        Ok(())
    }

    /// Looks at the newest segment again from its last durable frame on.
    fn step_back(&mut self) {
        self.ends.clear();
        if let Some(newest) = &mut self.newest {
            let start = (SEGMENT_HEADER_BYTES as u64, newest.meta.first_sequence);
            let (offset, sequence) = self.durable_end.unwrap_or(start);
            newest.frames.back_to(offset);
            self.records_end = sequence;
        }
    }

    /// Takes the durable mark of a frame.
    fn note(&mut self, frame: &Frame) {
        let Some(newest) = &self.newest else { return };
        if let Some(mark) = frame.header.mark() {
            let mark = newest.base().saturating_add_signed(mark);
            self.durable_below = self.durable_below.max(mark);
        }
        if frame.header.kind.advances_sequence() {
            self.records_end = newest.base() + frame.header.next();
            if self.ends.len() < ENDS_MAX {
                self.ends.push_back((frame.end(), self.records_end));
            }
        }
        let durable = self.ends.iter().take_while(|(_, next)| *next <= self.durable_below).count();
        self.durable_end = self.ends.drain(..durable).next_back().or(self.durable_end);
    }

    /// Goes on in the segment after `number`, if the writer has rolled to it.
    fn go_to_successor(&mut self, number: u64) -> Result<bool, OpenError> {
        let Some(header) = self.header(number + 1)? else { return Ok(false) };
        if header.predecessor.number != number {
            return Ok(false);
        }
        if let Some(last) = self.segments.last_mut() {
            last.next_sequence = Some(header.predecessor.next_sequence);
            last.end = header.predecessor.end;
        }
        let meta = SegmentMeta {
            number: number + 1,
            first_sequence: header.first_sequence,
            next_sequence: None,
            end: 0,
            durable: false,
        };
        let opened = OpenSegment::open(&self.shard_dir, meta, u64::MAX, CHUNK_BYTES)?;
        self.segments.push(meta);
        self.newest = Some(opened);
        self.ends.clear();
        self.durable_end = None;
        Ok(true)
    }

    /// The header of a segment. `None` if it is not written yet, or there is no such file.
    fn header(&self, number: u64) -> Result<Option<SegmentHeader>, OpenError> {
        let path = self.shard_dir.path(number);
        let file = match self.shard_dir.fs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(OpenError::io("opening", &path))?,
        };
        let header = read_header(file.as_ref(), &self.shard_dir, number);
        Ok(header.map_err(OpenError::io("reading", &path))?.ok())
    }

    /// Whether a writer that was opened since goes on in another segment.
    fn is_superseded(&self) -> Result<bool, OpenError> {
        let dir = &self.shard_dir.dir;
        let newest = self.segments.last().map_or(0, |last| last.number);
        let names = self.shard_dir.fs.list(dir).map_err(OpenError::io("listing", dir))?;
        for number in names.iter().filter_map(|name| segment_number(name)) {
            if number > newest && self.header(number)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the shard's generation was retired. Its truncation mark goes first.
    fn is_removed(&self) -> bool {
        let mark = mark_path(&self.shard_dir.dir);
        let opened = self.shard_dir.fs.open(&mark, OpenMode::Read);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

impl ShardSource for ShardFiles {
    fn shard_dir(&self) -> &ShardDir {
        &self.shard_dir
    }

    fn durable_below(&mut self) -> Result<u64, OpenError> {
        if self.is_final {
            return Ok(self.durable_below);
        }
        let looked = match self.look() {
            Err(error) if is_missing_file(&error) => self.rescan().and_then(|()| self.look()),
            looked => looked,
        };
        match looked {
            Err(error) if !self.is_removed() => Err(error),
            _ => Ok(self.durable_below.min(self.records_end)),
        }
    }

    fn truncated_below(&mut self) -> Result<u64, OpenError> {
        if self.is_removed() {
            return Ok(ALL_TRUNCATED);
        }
        let ShardDir { fs, dir, identity, .. } = &self.shard_dir;
        Ok(truncation_mark::load(fs.as_ref(), dir, identity)?.below)
    }

    fn segment(&mut self, sequence: u64) -> Result<Option<SegmentMeta>, OpenError> {
        Ok(self.segments.iter().find(|meta| meta.reaches(sequence)).copied())
    }

    /// No writer wakes it: the follower looks again after a while.
    fn poll_advanced(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        Poll::Pending
    }

    fn end_generation(&mut self) -> Result<bool, OpenError> {
        if self.is_final || self.is_removed() {
            return Ok(self.is_final);
        }
        let inspected = self.scan()?;
        // The open that began the next generation has made all of it durable.
        self.durable_below = inspected.end();
        self.segments = inspected.scan.segments;
        (self.newest, self.is_final) = (None, true);
        Ok(true)
    }

    fn would_deadlock(&self) -> Option<Cause> {
        None
    }
}

/// Scans a shard. Corruption is an error.
fn scan_whole(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<Inspected, OpenError> {
    let inspected = scan_until_stable(fs, dir, identity, 1)?;
    match inspected.scan.corruption {
        Some(corruption) => Err(OpenError::Corrupted(Box::new(corruption))),
        None => Ok(inspected),
    }
}

/// Whether a file was not there that was listed before.
fn is_missing_file(error: &OpenError) -> bool {
    matches!(error, OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
