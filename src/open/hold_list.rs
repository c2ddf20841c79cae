//! Lists the holds of a log, without opening it.
//!
//! It takes no lock and writes nothing. It reads the names and headers of segments, and not
//! their records. So it takes moments, also beside a live writer.

use std::io;
use std::path::Path;

use crate::checkpoint::{LogId, Reach, ShardReach};
use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, OsFileSystem, open_dir};
use crate::layout::hold_file::load_all;
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark;
use crate::recovery::SegmentChain;
use crate::recovery::inspect::{find_manifest, shards_of};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame_reader::FrameReader;
use crate::segment::header::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity};
use crate::shard::holds::{HeldShard, Holder, describe};
use crate::space::recycle::Recycler;
use crate::util::sync::{Arc, Mutex};

/// Attempts at most. A live writer disturbs only those during which it deletes a segment.
const ATTEMPTS_MAX: u32 = 16;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 16;

impl Holder {
    /// Lists the holds of the log in `dir`, sorted by name. Reads only, takes no lock, and works
    /// beside a live writer. Blocks for the reads. An open log lists its own holds with
    /// [`crate::ShardedWal::holders`].
    ///
    /// # Errors
    /// See [`OpenError`]. [`OpenError::Hold`] names a file that is no whole hold of this log.
    pub fn list(dir: impl AsRef<Path>) -> Result<Vec<Self>, OpenError> {
        Self::list_in(Arc::new(OsFileSystem), dir)
    }

    /// Lists the holds of the log in `dir` of the file system `fs`, like [`Holder::list`].
    ///
    /// # Errors
    /// As for [`Holder::list`].
    pub fn list_in(fs: Arc<dyn FileSystem>, dir: impl AsRef<Path>) -> Result<Vec<Self>, OpenError> {
        let dir = dir.as_ref();
        let fs = match open_dir(&fs, dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotALog { dir: dir.to_path_buf() });
            }
            opened => opened.map_err(OpenError::io("opening the directory", dir))?,
        };
        for _ in 1..ATTEMPTS_MAX {
            match attempt(&fs, dir) {
                // A writer may have deleted a segment meanwhile.
                Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(OpenError::Corrupted(_)) => {}
                listed => return listed,
            }
        }
        attempt(&fs, dir)
    }
}

fn attempt(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<Vec<Holder>, OpenError> {
    let manifest = find_manifest(fs.as_ref(), dir)?
        .ok_or_else(|| OpenError::NotALog { dir: dir.to_path_buf() })?;
    let log = LogId::from(manifest.log);
    if load_all(fs.as_ref(), dir, log)?.is_empty() {
        return Ok(Vec::new());
    }
    let last = manifest.current().map_or(0, |generation| generation.number);
    let (mut shards, mut reach) = (Vec::new(), Reach { log, shards: Vec::new() });
    for (dir, identity) in shards_of(dir, &manifest) {
        let (shard, first) = read_shard(fs, &dir, identity, identity.generation == last)?;
        let SegmentIdentity { generation, shard: number, .. } = identity;
        reach.shards.push(ShardReach { generation, shard: number, first, end: u64::MAX });
        shards.push(shard);
    }
    // After the truncation marks: a hold that advances meanwhile is not below them.
    let holds = load_all(fs.as_ref(), dir, log)?;
    Ok(holds.iter().map(|hold| describe(hold, &shards, &reach)).collect())
}

/// A shard's full segments, and the first sequence that it still has.
fn read_shard(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    identity: SegmentIdentity,
    takes_appends: bool,
) -> Result<(HeldShard, u64), OpenError> {
    let mark = truncation_mark::load(fs.as_ref(), dir, &identity)?;
    let shard_dir = ShardDir {
        fs: fs.clone(),
        dir: dir.to_path_buf(),
        identity,
        truncated_below: mark.below,
        recycler: Recycler::default(),
    };
    let chain = SegmentChain::read(fs.as_ref(), &shard_dir)?;
    if let Some(corruption) = chain.corruption {
        return Err(OpenError::Corrupted(Box::new(corruption)));
    }
    let full = chain.links.windows(2).map(|pair| {
        let end = pair[1].header.predecessor;
        meta(&pair[0].header, end.next_sequence, end.end)
    });
    let mut segments: Vec<_> = full.collect();
    if let Some(last) = chain.links.last().filter(|_| !takes_appends) {
        segments.push(read_last(&shard_dir, &last.header)?);
    }
    let first = if shard_dir.is_all_truncated() { mark.ended() } else { mark.below };
    let segments = Arc::new(Mutex::new(segments.into()));
    Ok((HeldShard { shard_dir, segments }, first))
}

/// Reads the last segment of a shard that takes no appends: no successor says where its records
/// end.
fn read_last(shard_dir: &ShardDir, header: &SegmentHeader) -> Result<SegmentMeta, OpenError> {
    let path = shard_dir.path(header.identity.number);
    let reading = || OpenError::io("reading", &path);
    let file = shard_dir.fs.open(&path, OpenMode::Read).map_err(reading())?;
    let length = file.len().map_err(reading())?;
    let seed = shard_dir.seed(header.identity.number);
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut frames = FrameReader::new(file, seed, start, length, PIECE_BYTES);
    let (mut next, mut end) = (header.first_sequence, start);
    while let Ok(frame) = frames.next().map_err(reading())? {
        if frame.header.kind.advances_sequence() {
            (next, end) = (header.first_sequence + frame.header.next(), frame.end());
        }
    }
    Ok(meta(header, next, end))
}

fn meta(header: &SegmentHeader, next_sequence: u64, end: u64) -> SegmentMeta {
    let (number, first_sequence) = (header.identity.number, header.first_sequence);
    SegmentMeta { number, first_sequence, next_sequence: Some(next_sequence), end, durable: true }
}
