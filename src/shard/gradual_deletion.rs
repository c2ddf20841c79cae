//! Deletes the files of truncated segments, piece by piece.
//!
//! Some disks serve nothing else while they discard the blocks of a file, which takes them
//! milliseconds per 64 MiB. So a large file is cut from its end in pieces, and the shards
//! commit in between. It is renamed before, to the name of an unfinished segment, which
//! every open deletes. So no reader meets a segment that is cut in half.
//!
//! This file knows files, and whether shards are busy. It does not know truncation marks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::TruncateError;
use crate::fs::{FileSystem, OpenMode, unlink_if_exists};
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::header::unfinished_path;
use crate::segment::writer::cut_unless_linked;
use crate::shard::shard::WalShard;
use crate::util::sync::{Arc, now, wait_until};

/// Bytes that are freed at a time, and the size of a file that is deleted at once.
const PIECE_BYTES: u64 = 8 << 20;
/// Number of commits after which a pause ends. So fewer than 1 in 100 meet a piece, unless a
/// commit takes long.
const PAUSE_COMMITS: u64 = 512;
/// A pause is at most this many times as long as what was before it.
const PAUSE_FACTOR: u32 = 32;
/// How long a pause lasts at most, so that a caller need not wait for minutes.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long a pause lasts before the shards are asked again whether they are busy.
const POLL: Duration = Duration::from_micros(500);

/// The renamed files of truncated segments, oldest first within a shard.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    files: Vec<(Arc<dyn FileSystem>, PathBuf)>,
}

impl Deletion {
    /// Renames a truncated segment's file, to delete it later. The rename is as durable as an
    /// unlink. If this returns false, the file has its name still, and the caller must delete
    /// it: it is small, or cannot be renamed, or a cut might need room.
    pub(super) fn take(&mut self, shard_dir: &ShardDir, segment: &SegmentMeta) -> bool {
        let ShardDir { fs, dir, .. } = shard_dir;
        if segment.end <= PIECE_BYTES || fs.copy_on_write(dir) {
            return false;
        }
        let name = unfinished_path(dir, segment.number);
        let is_renamed = fs.rename_new(&shard_dir.path(segment.number), &name).is_ok();
        if is_renamed {
            self.files.push((fs.clone(), name));
        }
        is_renamed
    }

    /// Deletes the files. Blocks until all are deleted. The caller has synced the directories.
    ///
    /// # Errors
    /// The first file that could not be deleted. The next open deletes it.
    pub(super) fn run(self, mut pace: Pace<'_>) -> Result<(), TruncateError> {
        let mut result = Ok(());
        for (fs, path) in self.files {
            cut_gradually(fs.as_ref(), &path, &mut pace);
            let deleted = unlink_if_exists(fs.as_ref(), &path);
            result = result.and(deleted.map_err(TruncateError::io("deleting", &path)));
            pace.pause();
        }
        result
    }
}

/// Cuts a file down to one piece. If that fails, the file is deleted as it is. A hard link
/// that is made meanwhile has the new name, which no backup needs. Each cut is synced by
/// itself: a journal could discard many pieces at once. Nothing depends on the sync, so its
/// error is ignored.
fn cut_gradually(fs: &dyn FileSystem, path: &std::path::Path, pace: &mut Pace<'_>) {
    let Ok(mut file) = fs.open(path, OpenMode::Write) else { return };
    let Ok(mut length) = file.len() else { return };
    while length > PIECE_BYTES && !pace.is_urgent() {
        length = (length - 1) / PIECE_BYTES * PIECE_BYTES;
        if !cut_unless_linked(file.as_mut(), length) {
            return;
        }
        drop(file.sync_data());
        pace.pause();
    }
}

/// Pauses between pieces while the shards of the log are busy.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    shards: &'a [Arc<WalShard>],
    /// When the last pause ended.
    began: Instant,
    /// What the shards had done by then.
    before: Done,
}

/// What the shards have done since open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    commits: u64,
    /// Bytes of payloads that were committed.
    bytes: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn of(shards: &'a [Arc<WalShard>]) -> Self {
        Self { shards, began: now(), before: Done::by(shards) }
    }

    /// Pauses after a piece, and begins the next.
    fn pause(&mut self) {
        self.wait();
        (self.began, self.before) = (now(), Done::by(self.shards));
    }

    /// Returns at once if the log is idle. Else returns after a number of commits, but no
    /// later than a multiple of the time that the last piece took. Returns earlier once half
    /// of its bytes have been committed, because a truncation must be faster than the log
    /// grows.
    fn wait(&self) {
        let end =
            now() + (now().saturating_duration_since(self.began) * PAUSE_FACTOR).min(PAUSE_MAX);
        while self.is_busy() && !self.is_urgent() {
            let done = Done::by(self.shards);
            let left = end.saturating_duration_since(now());
            if left.is_zero()
                || done.commits - self.before.commits >= PAUSE_COMMITS
                || done.bytes - self.before.bytes >= PIECE_BYTES / 2
            {
                return;
            }
            wait_until(now() + left.min(POLL));
        }
    }

    /// Whether a shard has committed since the last pause, or has records to commit.
    fn is_busy(&self) -> bool {
        let is_behind = |shard: &Arc<WalShard>| {
            let committer = shard.committer();
            committer.progress.acknowledged() < committer.queue.tail()
        };
        Done::by(self.shards) != self.before || self.shards.iter().any(is_behind)
    }

    /// Whether room is needed, or the log is being closed.
    fn is_urgent(&self) -> bool {
        self.shards.iter().any(|shard| {
            let committer = shard.committer();
            committer.queue.is_closed()
                || committer.progress.is_disk_full()
                || shard.shard_dir().recycler.is_space_low()
        })
    }
}

impl Done {
    fn by(shards: &[Arc<WalShard>]) -> Self {
        let counts = shards.iter().map(|shard| shard.recorder().committed_so_far());
        counts.fold(Self { commits: 0, bytes: 0 }, |sum, (commits, bytes)| Self {
            commits: sum.commits + commits,
            bytes: sum.bytes + bytes,
        })
    }
}
