//! What the targets of bytes on the disk share: a log to begin with, its bytes
//! made right again, and what must hold of whatever is found in them.

#![allow(dead_code, reason = "each target uses its part")]

#[path = "../../tests/raw/mod.rs"]
pub mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use raw::{FRAME_BYTES, HEADER_BYTES, Row, config, crc, frames, int, long};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{OpenError, ShardedWal};

pub type Files = Vec<(PathBuf, Vec<u8>)>;

/// A closed log of one shard: a segment of records and batches, one that went
/// on from it.
pub static VICTIM: LazyLock<Files> = LazyLock::new(|| {
    let fs = SimFileSystem::with_dir("/log");
    for keys in [0..4_u64, 4..6] {
        let log = ShardedWal::open(config(&fs, 1)).expect("a log opens");
        for key in keys {
            let batch = (0..key % 3).map(|i| (key, vec![7; i as usize]));
            log.append(key, vec![7; 20]).wait().expect("it is appended");
            log.append_batch(batch).wait().expect("it is appended");
        }
        log.close().expect("it closes");
    }
    raw::files(&fs)
});

pub fn victim_file(path: &str) -> &'static [u8] {
    let file = VICTIM.iter().find(|(name, _)| name == Path::new(path));
    &file.expect("a file of the victim").1
}

/// Corrects the frames' checksums of a segment with a valid header. It follows the
/// frames' lengths as far as they fit. A reader then gets past the checksums, so that
/// the fuzzer need not guess them.
pub fn seal_frames(segment: &mut [u8]) {
    let (mut at, seed) = (HEADER_BYTES, raw::seed(segment));
    while segment.len() >= at + FRAME_BYTES {
        let room = segment.len() - at - FRAME_BYTES;
        // Half of all lengths are cut to what is there.
        if segment[at + 3] < 0x80 && int(segment, at) as usize > room {
            let length = int(segment, at) as usize % (room + 1);
            let length = u32::try_from(length).expect("inputs are small");
            segment[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        let length = int(segment, at) as usize;
        if length <= room {
            let body = crc(seed, &segment[at + FRAME_BYTES..at + FRAME_BYTES + length]);
            segment[at + 16..at + 20].copy_from_slice(&body.to_le_bytes());
        }
        raw::reseal_header_at(segment, at);
        at += FRAME_BYTES + length;
    }
}

/// The records of a segment by FORMAT.md, up to the first frame that is none:
/// sequence, key, payload.
pub fn told(segment: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut rows = Vec::new();
    if segment.len() < HEADER_BYTES {
        return rows;
    }
    let base = long(segment, 48);
    for frame in frames(segment).into_iter().filter(|frame| frame.kind == 1) {
        let body = &segment[frame.offset + FRAME_BYTES..frame.end()];
        let mut at = 0;
        for sequence in (u64::from(frame.first)..).take(frame.records.into()) {
            let Some((key, payload, end)) = record(body, at) else { return rows };
            rows.push((base.wrapping_add(sequence), key, payload));
            at = end;
        }
    }
    rows
}

fn record(body: &[u8], at: usize) -> Option<(u64, Vec<u8>, usize)> {
    let key = long(body.get(at..at + 8)?, 0);
    let (mut at, mut length) = (at + 8, 0_usize);
    for shift in (0..35).step_by(7) {
        let byte = *body.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let payload = body.get(at..at.checked_add(length)?)?;
            return Some((key, payload.to_vec(), at + length));
        }
    }
    None
}

/// Reads the log, and says what is in it: rows that rise strictly in each
/// shard. Changes nothing.
pub fn read(fs: &SimFileSystem) -> Result<Vec<Row>, OpenError> {
    let before = raw::files(fs);
    let read = raw::read(fs);
    assert_eq!(raw::files(fs), before, "a reader changes nothing");
    let (rows, _report) = read?;
    let mut last = BTreeMap::new();
    for (generation, shard, sequence, ..) in &rows {
        if let Some(before) = last.insert((generation, shard), sequence) {
            assert!(before < sequence, "{sequence} after {before}");
        }
    }
    Ok(rows)
}

/// Opens the log for writing, appends, and opens it again. What was found by
/// reading is there, or it is refused and left as it is.
pub fn write(fs: &SimFileSystem, read: &Result<Vec<Row>, OpenError>) {
    let before = raw::files(fs);
    let log = match ShardedWal::open(config(fs, 1)) {
        Ok(log) => log,
        Err(OpenError::Io { .. }) => return,
        Err(_) => {
            let mut after = raw::files(fs);
            let is_lock = |path: &Path| path.ends_with("LOCK");
            after.retain(|(path, _)| !is_lock(path));
            let is_kept = |(path, _): &&(PathBuf, Vec<u8>)| !is_lock(path);
            assert!(before.iter().filter(is_kept).eq(&after), "a refused log is left as it is");
            return;
        }
    };
    // Numbers may stand so high that there are none above them.
    let appended = log.append(1, "one more").wait().is_ok();
    log.close().expect("a log that was opened closes");
    drop(log);
    let expected = match read {
        Ok(rows) => rows.len(),
        // Where there was no log, open has made one.
        Err(OpenError::NotALog { .. }) => 0,
        Err(error) => panic!("a reader says {error}, and it opens"),
    };
    let rows = self::read(fs).expect("a log that was closed is readable");
    assert_eq!(rows.len(), expected + usize::from(appended));
    let before = read.as_deref().unwrap_or(&[]);
    assert_eq!(&rows[..expected], before, "an open keeps what was read");
}

/// Whether the log of this input is also appended to: one input in eight, because
/// that starts threads.
pub fn is_written(data: &[u8]) -> bool {
    crc(0, data) % 8 == 0
}
