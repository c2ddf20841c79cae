//! A shard with enough segments that several threads read it in parallel. The result
//! equals that of one reader, up to the first corruption.
//!
//! Holds R1 REPLAY (ARCHITECTURE.md).

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use shardwal::{Config, Durability, LogReader, ReplayOptions, ShardedWal};
use tempfile::TempDir;

const RECORD_BYTES: usize = 10_000;
const RECORDS: u64 = 4_000;
const SEGMENT_BYTES: u64 = 2 << 20;

fn payload(number: u64) -> Bytes {
    let mut bytes = vec![number.to_le_bytes()[0]; RECORD_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

fn config(dir: &Path) -> Config {
    Config::new(dir).shards(1).segment_bytes(SEGMENT_BYTES).durability(Durability::Buffered)
}

/// A closed log of one shard, and its segments with records, oldest first.
fn large_shard() -> (TempDir, Vec<PathBuf>) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let log = ShardedWal::open(config(&scratch.path().join("log"))).expect("the log opens");
    for number in 0..RECORDS {
        drop(log.append(1, payload(number)));
    }
    log.close().expect("the log closes");
    let subdir = scratch.path().join("log");
    let mut segments = Vec::new();
    let mut dirs = vec![subdir];
    while let Some(subdir) = dirs.pop() {
        for entry in std::fs::read_dir(subdir).expect("the directory exists") {
            let path = entry.expect("the directory can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|name| name == "wal")
                && path.metadata().expect("the file is there").len() > 0
            {
                segments.push(path);
            }
        }
    }
    segments.sort();
    assert!(segments.len() > 8, "{} segments", segments.len());
    (scratch, segments)
}

/// The number of records that a reader returns. Checks their order and content.
fn replayed(reader: &LogReader) -> u64 {
    let kept: Mutex<Vec<Bytes>> = Mutex::default();
    let options = ReplayOptions::default().memory_bytes(0);
    let replay = reader.replay(options, |record| {
        // A kept payload holds its chunk, so the next chunk goes to other memory.
        kept.lock().expect("no callback panicked").push(record.to_bytes());
        Ok::<_, Infallible>(())
    });
    let kept = kept.into_inner().expect("no callback panicked");
    assert_eq!(replay.expect("what was read can be read again").records, kept.len() as u64);
    for (number, bytes) in (0..).zip(&kept) {
        assert!(*bytes == payload(number), "record {number} differs");
    }
    kept.len() as u64
}

#[test]
fn every_record_of_a_shard_with_many_segments_is_read() {
    let (scratch, segments) = large_shard();
    let reader = LogReader::open(scratch.path().join("log")).unwrap();
    let shard = &reader.report().shards[0];
    assert_eq!((shard.records, shard.next_sequence), (RECORDS, RECORDS));
    assert_eq!((shard.segments, shard.torn_bytes), (segments.len() as u64, 0));
    assert!(shard.corruption.is_none());
    assert_eq!(replayed(&reader), RECORDS);
}

#[test]
fn a_shard_with_many_segments_ends_at_its_first_corruption() {
    let (scratch, segments) = large_shard();
    let offset = SEGMENT_BYTES / 2;
    // Another thread finds the later corruption, and may find it first.
    for corrupted in [segments.len() - 2, segments.len() / 2] {
        let file = OpenOptions::new().read(true).write(true).open(&segments[corrupted]).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[!byte[0]], offset).unwrap();
        file.sync_all().unwrap();
        let reader = LogReader::open(scratch.path().join("log")).unwrap();
        let shard = &reader.report().shards[0];
        let corruption = shard.corruption.as_ref().expect("a record that was durable is gone");
        assert_eq!(corruption.file, segments[corrupted]);
        assert!(corruption.offset <= offset);
        let durable = corruption.first_sequence;
        assert!(durable > 0 && durable < RECORDS);
        assert_eq!((shard.records, shard.next_sequence), (durable, durable));
        assert_eq!(corruption.durable_below, RECORDS, "the later segments confirm it");
        assert_eq!(replayed(&reader), durable);
    }
}

#[test]
fn a_shard_with_many_segments_accepts_appends_after_reopening() {
    let (scratch, segments) = large_shard();
    let log = ShardedWal::open(config(&scratch.path().join("log"))).unwrap();
    assert_eq!(log.recovery().shards[0].records, RECORDS);
    assert_eq!(log.recovery().shards[0].copied_records, 0);
    log.append(1, payload(RECORDS)).wait().unwrap();
    log.close().unwrap();
    let reader = LogReader::open(scratch.path().join("log")).unwrap();
    assert_eq!(reader.report().shards[0].segments, segments.len() as u64 + 1);
    assert_eq!(replayed(&reader), RECORDS + 1);
}
