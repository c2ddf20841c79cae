//! The segment builder: fills a new segment with frames of other segments.
//!
//! The file has a temporary name that no reader opens. It gets the segment's name
//! once it is complete and durable. The builder does not know which frames to
//! take.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{FileHandle, FileSystem, OpenMode, unlink_if_exists, write_full};
use crate::layout::shard_dir::ShardDir;
use crate::segment::frame::{Encoder, FRAME_HEADER_BYTES, FrameOrigin};
use crate::segment::frame_reader::Frame;
use crate::segment::header::{SegmentHeader, unfinished_path};

/// Bytes per write.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A segment that recovery builds.
pub(crate) struct SegmentBuilder {
    unfinished: PathBuf,
    number: u64,
    file: Box<dyn FileHandle>,
    origin: FrameOrigin,
    encoder: Encoder,
    position: u64,
}

impl SegmentBuilder {
    /// Begins the segment with this header. Deletes the file of an earlier attempt.
    pub(crate) fn create(
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        header: &SegmentHeader,
    ) -> Result<Self, OpenError> {
        let number = header.identity.number;
        let unfinished = unfinished_path(&shard_dir.dir, number);
        let doing = |what: &'static str| OpenError::io(what, &unfinished);
        unlink_if_exists(fs, &unfinished).map_err(doing("removing"))?;
        let file = fs.open(&unfinished, OpenMode::CreateNew).map_err(doing("creating"))?;
        let mut encoder = Encoder::default();
        encoder.begin(&header.encode(), 1);
        let (seed, first_sequence) = (header.identity.seed(), header.first_sequence);
        let origin = FrameOrigin { seed, first_sequence, offset: 0 };
        Ok(Self { unfinished, number, file, origin, encoder, position: 0 })
    }

    /// Adds a frame with `first` as its first sequence and `durable` as its mark.
    /// A frame is never split, so that its batches stay whole.
    pub(crate) fn frame(&mut self, frame: &Frame, first: u64, durable: u64) -> io::Result<()> {
        self.check_reach(first + u64::from(frame.header.records))?;
        self.encoder.copy(&frame.header, &frame.body, &self.origin, first, durable);
        self.write_if_large()
    }

    /// Adds a gap frame: the records before `next` are lost.
    pub(crate) fn gap(&mut self, next: u64, durable: u64) -> io::Result<()> {
        self.check_reach(next)?;
        self.encoder.gap(&self.origin, next, durable);
        self.write_if_large()
    }

    /// Adds a seal: all records below `next`, the next sequence, are durable.
    pub(crate) fn seal(&mut self, next: u64) -> Result<(), OpenError> {
        let sealed = self.check_reach(next);
        sealed.map_err(OpenError::io("writing", &self.unfinished))?;
        self.encoder.seal(&self.origin, next, next);
        Ok(())
    }

    /// Syncs the file and gives it the segment's name, which must be free. Returns
    /// the file and its length. The caller syncs the directory.
    pub(crate) fn publish(
        self,
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
    ) -> Result<(Box<dyn FileHandle>, u64), OpenError> {
        self.publish_by(shard_dir, |from, to| fs.rename_new(from, to))
    }

    /// Syncs the file and renames it over the segment that it repairs. The caller
    /// syncs the directory.
    pub(crate) fn replace(
        self,
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
    ) -> Result<(), OpenError> {
        self.publish_by(shard_dir, |from, to| fs.rename(from, to)).map(drop)
    }

    fn publish_by(
        mut self,
        shard_dir: &ShardDir,
        rename: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> Result<(Box<dyn FileHandle>, u64), OpenError> {
        let durable = self.write().and_then(|()| self.file.sync_data());
        durable.map_err(OpenError::io("writing", &self.unfinished))?;
        let renamed = rename(&self.unfinished, &shard_dir.path(self.number));
        renamed.map_err(OpenError::io("renaming", &self.unfinished))?;
        Ok((self.file, self.position))
    }

    fn write_if_large(&mut self) -> io::Result<()> {
        if self.encoder.len() >= PIECE_BYTES - FRAME_HEADER_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = self.encoder.bytes();
        write_full(self.file.as_mut(), bytes, self.position)?;
        self.position += bytes.len() as u64;
        self.origin.offset = self.position;
        self.encoder.begin(&[], 1);
        Ok(())
    }

    /// Refuses a sequence that a frame cannot express, more than 2^32 above the
    /// segment's first. No writer leaves that number of unsynced records.
    fn check_reach(&self, next: u64) -> io::Result<()> {
        if u32::try_from(next.saturating_sub(self.origin.first_sequence)).is_ok() {
            return Ok(());
        }
        Err(io::Error::other("it has more unsynced sequences than a segment can hold"))
    }
}
