//! Retention: which full segments are beyond a limit of the whole log, in bytes or in age.
//!
//! It makes a checkpoint, and [`super::truncate`] truncates there. It does not know holds.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::checkpoint::{Checkpoint, LogId};
use crate::error::TruncateError;
use crate::segment::catalogue::SegmentMeta;
use crate::shard::holds::HeldShard;

/// How much of a log [`crate::ShardedWal::retain`] keeps. Without a limit it keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    max_bytes: Option<u64>,
    max_age: Option<Duration>,
}

impl Retention {
    /// No limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps at most this number of bytes in the full segments of all shards together. The
    /// segments that appends go to stay and do not count: one per shard.
    #[must_use]
    pub fn bytes(self, max: u64) -> Self {
        Self { max_bytes: Some(max), ..self }
    }

    /// Keeps full segments that were last written to at most this long ago. So records of this
    /// age are kept, and some older ones of their segments.
    #[must_use]
    pub fn age(self, max: Duration) -> Self {
        Self { max_age: Some(max), ..self }
    }

    /// The position of a truncation that leaves what is to be kept. `None` if that is
    /// everything.
    ///
    /// # Errors
    /// The age of a segment is needed, and the file system does not report it.
    pub(crate) fn checkpoint(
        self,
        log: LogId,
        shards: &[HeldShard],
    ) -> Result<Option<Checkpoint>, TruncateError> {
        let mut shards: Vec<_> = shards.iter().map(Remaining::of).collect();
        let mut bytes: u64 = shards.iter().map(|shard| shard.bytes).sum();
        let mut generation = None;
        while let Some(oldest) = self.oldest(&mut shards)? {
            let is_beyond = self.max_bytes.is_some_and(|max| bytes > max)
                || self.max_age.is_some_and(|max| oldest.age() > max);
            if !is_beyond {
                break;
            }
            bytes -= oldest.leave();
            generation = Some(oldest.generation());
        }
        let of = |generation| {
            let below = shards.iter().filter(|shard| shard.generation() == generation);
            Checkpoint::new(generation, below.map(|shard| shard.below)).of_log(log)
        };
        Ok(generation.map(of))
    }

    /// The shard whose next segment is the oldest: of the oldest generation, then by time. If
    /// two were written at one time, the shard with more bytes.
    fn oldest<'shards, 'log>(
        self,
        shards: &'shards mut [Remaining<'log>],
    ) -> Result<Option<&'shards mut Remaining<'log>>, TruncateError> {
        let first = shards.iter().filter(|shard| !shard.segments.is_empty());
        let Some(generation) = first.map(Remaining::generation).min() else { return Ok(None) };
        let of_generation = |shard: &&mut Remaining<'_>| {
            shard.generation() == generation && !shard.segments.is_empty()
        };
        let mut found: Option<((SystemTime, Reverse<u64>), &mut Remaining<'_>)> = None;
        for shard in shards.iter_mut().filter(of_generation) {
            let key = (shard.modified(self.max_age.is_some())?, Reverse(shard.bytes));
            if found.as_ref().is_none_or(|(oldest, _)| key < *oldest) {
                found = Some((key, shard));
            }
        }
        Ok(found.map(|(_, shard)| shard))
    }
}

/// The full segments of a shard that are not beyond the limits so far.
struct Remaining<'log> {
    shard: &'log HeldShard,
    segments: VecDeque<SegmentMeta>,
    bytes: u64,
    /// The sequence after the last segment that left.
    below: u64,
    /// When the oldest of the segments was last written, once it is known.
    modified: Option<SystemTime>,
}

impl<'log> Remaining<'log> {
    fn of(shard: &'log HeldShard) -> Self {
        let segments = shard.segments.lock();
        let full = segments.iter().take_while(|meta| meta.next_sequence.is_some());
        let segments: VecDeque<_> = full.copied().collect();
        let bytes = segments.iter().map(|meta| meta.end).sum();
        Self { shard, segments, bytes, below: 0, modified: None }
    }

    fn generation(&self) -> u32 {
        self.shard.shard_dir.identity.generation
    }

    /// When the oldest segment was last written. If that is unknown and not `needed`, it counts
    /// as the beginning of time.
    fn modified(&mut self, needed: bool) -> Result<SystemTime, TruncateError> {
        if let Some(modified) = self.modified {
            return Ok(modified);
        }
        let number = self.segments.front().map_or(0, |meta| meta.number);
        let path = self.shard.shard_dir.path(number);
        let modified = self.shard.shard_dir.fs.modified(&path);
        let modified = match modified {
            Ok(Some(modified)) => modified,
            Ok(None) | Err(_) if !needed => UNIX_EPOCH,
            failed => {
                let error = failed.err().unwrap_or_else(|| std::io::ErrorKind::Unsupported.into());
                return Err(TruncateError::io("reading the time of", &path)(error));
            }
        };
        self.modified = Some(modified);
        Ok(modified)
    }

    /// Time since the oldest segment was last written. Zero if that is in the future.
    fn age(&self) -> Duration {
        let modified = self.modified.unwrap_or(UNIX_EPOCH);
        self.shard.shard_dir.fs.time().duration_since(modified).unwrap_or_default()
    }

    /// Lets the oldest segment go. Returns its bytes.
    fn leave(&mut self) -> u64 {
        let Some(oldest) = self.segments.pop_front() else { return 0 };
        self.below = oldest.next_sequence.unwrap_or(self.below);
        self.modified = None;
        self.bytes -= oldest.end;
        oldest.end
    }
}
