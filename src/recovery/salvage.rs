//! What can be saved of a damaged shard: decided here, written by
//! [`Salvage::write`]. The decision changes nothing.
//!
//! A frame is believed beyond a damaged place only where something vouches that
//! the log went on there: the successor's word for where the segment ends, or a
//! durable mark. A sequence is believed only if a header, or the successor's
//! word for the last one, says where its segment begins. What is lost becomes a
//! gap in the log; what nothing vouches for is the torn tail that it always was.

use std::io;

use crate::disk::{Disk, OpenMode};
use crate::error::OpenError;
use crate::frame::FRAME_HEADER_BYTES;
use crate::frame_reader::FrameReader;
use crate::recovery::copy::{PIECE_BYTES, SegmentCopy};
use crate::recovery::report::Lost;
use crate::recovery::survey::{Folder, absolute};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, spare_number};

mod planner;
mod spine;

/// What is to become of a shard.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// Segments to write anew under their own numbers, oldest first.
    rewrites: Vec<Rewrite>,
    /// Segments that can be no part of the log.
    set_aside: Vec<u64>,
    /// Where nothing can be read, in the log's order.
    pub(crate) lost: Vec<Lost>,
}

/// A segment that is written anew.
#[derive(Debug)]
struct Rewrite {
    header: SegmentHeader,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// Whole frames, from one offset of the old file to another.
    Frames { from: u64, to: u64 },
    /// Nothing before this sequence, with the mark that was known there.
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
    /// Decides for one shard. Reads past the cache.
    pub(crate) fn plan(disk: &dyn Disk, folder: &Folder) -> Result<Self, OpenError> {
        planner::plan(disk, folder)
    }

    /// The segments that will change or go: what has to be copied before.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let rewritten = self.rewrites.iter().map(|rewrite| rewrite.header.identity.number);
        rewritten.chain(self.set_aside.iter().copied())
    }

    /// Does it, oldest first: after each step the log is as damaged as before
    /// it, or less.
    pub(crate) fn write(&self, disk: &dyn Disk, folder: &Folder) -> Result<(), OpenError> {
        for rewrite in &self.rewrites {
            rewrite.write(disk, folder)?;
        }
        for number in &self.set_aside {
            let path = folder.path(*number);
            disk.unlink(&path).map_err(OpenError::io("removing", &path))?;
        }
        // Numbers may begin again below what a spare once held.
        let names = disk.list(&folder.dir).map_err(OpenError::io("listing", &folder.dir))?;
        for name in names.iter().filter(|name| spare_number(name).is_some()) {
            let path = folder.dir.join(name);
            disk.unlink(&path).map_err(OpenError::io("removing", &path))?;
        }
        disk.sync_dir(&folder.dir).map_err(OpenError::io("syncing", &folder.dir))
    }
}

impl Rewrite {
    fn write(&self, disk: &dyn Disk, folder: &Folder) -> Result<(), OpenError> {
        let number = self.header.identity.number;
        let path = folder.path(number);
        let mut copy = SegmentCopy::create(disk, folder, &self.header)?;
        let copying = || OpenError::io("copying from", &path);
        for piece in &self.pieces {
            match *piece {
                Piece::Gap { next, durable } => copy.gap(next, durable).map_err(copying())?,
                Piece::Frames { from, to } => {
                    let file = disk.open(&path, OpenMode::Read).map_err(copying())?;
                    let seed = folder.seed(number);
                    let mut frames = FrameReader::new(file, seed, from, to, PIECE_BYTES);
                    self.frames(&mut frames, to, &mut copy).map_err(copying())?;
                }
            }
        }
        copy.replace(disk, folder)?;
        disk.sync_dir(&folder.dir).map_err(OpenError::io("syncing", &folder.dir))
    }

    fn frames(&self, frames: &mut FrameReader, to: u64, copy: &mut SegmentCopy) -> io::Result<()> {
        let base = self.header.first_sequence;
        while frames.at() < to {
            let frame = frames.next()?.map_err(|stop| {
                io::Error::other(format!("it has changed since it was looked at: {stop:?}"))
            })?;
            let mark = frame.header.mark().map_or(0, |mark| absolute(base, mark));
            copy.frame(&frame, base + u64::from(frame.header.first), mark)?;
        }
        Ok(())
    }
}
