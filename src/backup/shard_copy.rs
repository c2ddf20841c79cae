//! Copies one shard for a backup.
//!
//! It reads the truncation mark first, then the segment chain, then the segments.
//! So the chain is complete for that mark. If a segment is missing, it was
//! truncated later: the copy reads the shard again, and keeps the segments that it
//! has. A segment with a successor never changes under its name. The newest one is
//! copied up to its last whole frame. This file does not know other shards.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::BackupError;
use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, read_full, unlink_if_exists, write_full};
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark;
use crate::recovery::SegmentChain;
use crate::segment::frame_reader::FrameReader;
use crate::segment::header::{SEGMENT_HEADER_BYTES, SegmentIdentity, segment_path};
use crate::space::recycle::Recycler;
use crate::util::sync::Arc;

const PIECE_BYTES: usize = 1 << 20;
/// Attempts per shard at most. Each new attempt follows a truncation that removed a
/// segment during the copy.
const ATTEMPTS_MAX: usize = 1_000;

/// Counts of copied segments, by method.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copied {
    pub(super) sharing: bool,
    pub(super) cloned: u64,
    pub(super) linked: u64,
    pub(super) copied: u64,
    pub(super) bytes: u64,
}

pub(super) struct ShardCopy<'a> {
    pub(super) fs: &'a Arc<dyn FileSystem>,
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
    pub(super) identity: SegmentIdentity,
}

impl ShardCopy<'_> {
    pub(super) fn run(&self, copied: &mut Copied) -> Result<(), BackupError> {
        let mut full = BTreeSet::new();
        for _ in 1..ATTEMPTS_MAX {
            match self.attempt(&mut full, copied) {
                Err(gone) if gone.is_gone() => {}
                result => return result,
            }
        }
        self.attempt(&mut full, copied)
    }

    /// Copies the shard's current segments. `full` has the numbers of segments that
    /// were copied before and have a successor.
    fn attempt(&self, full: &mut BTreeSet<u64>, copied: &mut Copied) -> Result<(), BackupError> {
        let mark = truncation_mark::load(self.fs.as_ref(), self.from, &self.identity)?;
        let shard_dir = ShardDir {
            fs: self.fs.clone(),
            dir: self.from.to_path_buf(),
            identity: self.identity,
            truncated_below: mark.below,
            recycler: Recycler::default(),
        };
        let chain = SegmentChain::read(self.fs.as_ref(), &shard_dir)?;
        if let Some(corruption) = chain.corruption {
            return Err(BackupError::Log(OpenError::Corrupted(Box::new(corruption))));
        }
        let numbers: Vec<_> = chain.links.iter().map(|link| link.header.identity.number).collect();
        // These were truncated meanwhile. The copy's mark covers them.
        let gone: Vec<_> = full.iter().filter(|it| !numbers.contains(it)).copied().collect();
        for number in gone {
            self.remove(number)?;
            full.remove(&number);
        }
        let successors = chain.links.iter().skip(1).map(Some).chain([None]);
        for (number, successor) in numbers.into_iter().zip(successors) {
            match successor {
                Some(_) if full.contains(&number) => {}
                Some(successor) => {
                    self.copy_full(number, successor.header.predecessor.end, copied)?;
                    full.insert(number);
                }
                None => self.copy_newest(number, copied)?,
            }
        }
        truncation_mark::create_copy(self.fs.as_ref(), self.to, &self.identity, mark)
            .map_err(BackupError::io("writing the truncation mark in", self.to))
    }

    fn remove(&self, number: u64) -> Result<(), BackupError> {
        let path = segment_path(self.to, number);
        unlink_if_exists(self.fs.as_ref(), &path).map_err(BackupError::io("removing", &path))
    }

    /// Copies a segment that has a successor. `end` is the end that the successor
    /// names.
    fn copy_full(&self, number: u64, end: u64, copied: &mut Copied) -> Result<(), BackupError> {
        self.remove(number)?;
        let (from, to) = (segment_path(self.from, number), segment_path(self.to, number));
        if copied.sharing {
            let shared = match self.fs.clone_file(&from, &to) {
                Ok(()) => Some(&mut copied.cloned),
                Err(_) => self.fs.link(&from, &to).is_ok().then_some(&mut copied.linked),
            };
            if let Some(number) = shared {
                *number += 1;
                let mut file =
                    self.fs.open(&to, OpenMode::Write).map_err(BackupError::io("opening", &to))?;
                file.sync_data().map_err(BackupError::io("syncing", &to))?;
                return self.check_exists(&from);
            }
        }
        self.copy_bytes(&from, &to, end, copied)
    }

    /// Copies the newest segment up to its last whole frame.
    fn copy_newest(&self, number: u64, copied: &mut Copied) -> Result<(), BackupError> {
        self.remove(number)?;
        let (from, to) = (segment_path(self.from, number), segment_path(self.to, number));
        let segment_scan = || BackupError::io("reading", &from);
        let file = self.fs.open(&from, OpenMode::Read).map_err(segment_scan())?;
        file.drop_cache();
        let length = file.len().map_err(segment_scan())?;
        let seed = self.identity.with_number(number).seed();
        let start = SEGMENT_HEADER_BYTES as u64;
        let mut frames = FrameReader::new(file, seed, start, length, PIECE_BYTES);
        while frames.next().map_err(segment_scan())?.is_ok() {}
        let end = frames.at();
        self.copy_bytes(&from, &to, end, copied)
    }

    fn copy_bytes(
        &self,
        from: &Path,
        to: &Path,
        end: u64,
        copied: &mut Copied,
    ) -> Result<(), BackupError> {
        let (segment_scan, writing) =
            (|| BackupError::io("reading", from), || BackupError::io("writing", to));
        let source = self.fs.open(from, OpenMode::Read).map_err(segment_scan())?;
        source.drop_cache();
        let mut target = self.fs.open(to, OpenMode::CreateNew).map_err(writing())?;
        let (mut at, mut piece) = (0, vec![0; PIECE_BYTES]);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read =
                read_full(source.as_ref(), &mut piece[..wanted], at).map_err(segment_scan())?;
            if read == 0 {
                break;
            }
            write_full(target.as_mut(), &piece[..read], at).map_err(writing())?;
            at += read as u64;
        }
        target.sync_data().map_err(writing())?;
        copied.copied += 1;
        copied.bytes += at;
        self.check_exists(from)
    }

    /// Checks that a segment still has its name. A segment that was truncated during
    /// the copy may have been recycled, and its file now holds another segment.
    fn check_exists(&self, path: &Path) -> Result<(), BackupError> {
        self.fs.open(path, OpenMode::Read).map(drop).map_err(BackupError::io("opening", path))
    }
}
