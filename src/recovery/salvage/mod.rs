//! Salvage: decides which records of a corrupted shard a repair keeps.
//!
//! [`Salvage::plan`] decides and changes nothing; [`Salvage::write`] carries it
//! out. This module knows segments of one shard; it does not know quarantine.
//!
//! A frame after a corrupted place is kept only if there is proof that the log
//! continued there: the successor names the segment's end, or a frame has a
//! durable mark. A sequence is trusted only if the segment's header, or the end
//! that its successor names, says where the segment begins. A lost range becomes
//! a gap frame. Bytes without such proof stay a torn tail.

use std::io;

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::report::LostRange;
use crate::recovery::segment_builder::{PIECE_BYTES, SegmentBuilder};
use crate::recovery::segment_file::absolute;
use crate::segment::frame::FRAME_HEADER_BYTES;
use crate::segment::frame_reader::FrameReader;
use crate::segment::header::{SEGMENT_HEADER_BYTES, SegmentHeader, recycled_number};

mod limit;
mod planner;
mod skeleton;

/// The plan for one shard.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// Segments to rewrite under their own numbers, oldest first.
    rewrites: Vec<Rewrite>,
    /// Segments that cannot be part of the log. They are removed.
    set_aside: Vec<u64>,
    /// The lost ranges, in sequence order.
    pub(crate) lost: Vec<LostRange>,
}

/// A segment to rewrite.
#[derive(Debug)]
struct Rewrite {
    header: SegmentHeader,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// The frames of the old file between two offsets.
    Frames { from: u64, to: u64 },
    /// A gap frame: the records before `next` are lost. `durable` is the highest
    /// durable mark before it.
    Gap { next: u64, durable: u64 },
}

impl Rewrite {
    fn end(&self) -> u64 {
        let bytes = |piece: &Piece| match piece {
            Piece::Frames { from, to } => to - from,
            Piece::Gap { .. } => FRAME_HEADER_BYTES as u64,
        };
        SEGMENT_HEADER_BYTES as u64 + self.pieces.iter().map(bytes).sum::<u64>()
    }
}

impl Salvage {
    /// Makes the plan for one shard. Reads from the disk, not from the cache.
    pub(crate) fn plan(fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<Self, OpenError> {
        planner::plan(fs, shard_dir)
    }

    /// The segments that [`Salvage::write`] changes or removes. The caller copies
    /// them first.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let rewritten = self.rewrites.iter().map(|rewrite| rewrite.header.identity.number);
        rewritten.chain(self.set_aside.iter().copied())
    }

    /// Carries out the plan, oldest segment first. After each step the log is not
    /// more corrupted than before it, so that an interrupted repair can run again.
    pub(crate) fn write(&self, fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<(), OpenError> {
        for rewrite in &self.rewrites {
            rewrite.write(fs, shard_dir)?;
        }
        for number in &self.set_aside {
            let path = shard_dir.path(*number);
            fs.unlink(&path).map_err(OpenError::io("removing", &path))?;
        }
        // After a repair a shard may use numbers again that a recycled file's old
        // frames belong to.
        let names = fs.list(&shard_dir.dir).map_err(OpenError::io("listing", &shard_dir.dir))?;
        for name in names.iter().filter(|name| recycled_number(name).is_some()) {
            let path = shard_dir.dir.join(name);
            fs.unlink(&path).map_err(OpenError::io("removing", &path))?;
        }
        fs.sync_dir(&shard_dir.dir).map_err(OpenError::io("syncing", &shard_dir.dir))
    }
}

impl Rewrite {
    fn write(&self, fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<(), OpenError> {
        let number = self.header.identity.number;
        let path = shard_dir.path(number);
        let mut copy = SegmentBuilder::create(fs, shard_dir, &self.header)?;
        let copying = || OpenError::io("copying from", &path);
        for piece in &self.pieces {
            match *piece {
                Piece::Gap { next, durable } => copy.gap(next, durable).map_err(copying())?,
                Piece::Frames { from, to } => {
                    let file = fs.open(&path, OpenMode::Read).map_err(copying())?;
                    let seed = shard_dir.seed(number);
                    let mut frames = FrameReader::new(file, seed, from, to, PIECE_BYTES);
                    self.frames(&mut frames, to, &mut copy).map_err(copying())?;
                }
            }
        }
        copy.replace(fs, shard_dir)?;
        fs.sync_dir(&shard_dir.dir).map_err(OpenError::io("syncing", &shard_dir.dir))
    }

    fn frames(
        &self,
        frames: &mut FrameReader,
        to: u64,
        copy: &mut SegmentBuilder,
    ) -> io::Result<()> {
        let base = self.header.first_sequence;
        while frames.at() < to {
            let frame = frames.next()?.map_err(|stop| {
                io::Error::other(format!("it changed since it was scanned: {stop:?}"))
            })?;
            let mark = frame.header.mark().map_or(0, |mark| absolute(base, mark));
            copy.frame(&frame, base + u64::from(frame.header.first), mark)?;
        }
        Ok(())
    }
}
