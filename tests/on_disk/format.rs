//! The format on the disk does not change. `tests/golden/v1_names` is a log written by
//! version 1. It must open and replay forever. While version 1 is written, equal calls
//! must write equal bytes. `tests/golden/v1` is older than truncation marks in file
//! names; it is only read.
//!
//! `SHARDWAL_WRITE_GOLDEN=1 cargo test --test on_disk format` writes the files again.
//! Only a new format version may need that, and then in another directory.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::raw::{self, Row, config, disk_of, files, frames};
use bytes::Bytes;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, ShardedWal};

const ENOSPC: i32 = 28;
/// Fixes the log's id, which is random otherwise: a manifest without generations.
const LOG_ID: [u8; 16] = *b"golden log of v1";

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1_names")
}

fn payload(i: u64) -> Vec<u8> {
    (0..i * 7 % 200).map(|byte| (byte ^ i).to_le_bytes()[0]).collect()
}

/// Writes a log with every feature: batches, the gap of a refused record, empty
/// payloads, a payload with a length of three bytes, several opens, a truncation, and
/// two generations with different shard counts.
fn write_log() -> (SimFileSystem, Vec<Row>) {
    let fs = SimFileSystem::with_dir("/log");
    fs.write_file("/log/MANIFEST", raw::manifest(LOG_ID, &[]).as_bytes());
    let mut rows = Vec::new();
    for session in 0..3 {
        let log = ShardedWal::open(config(&fs, 2)).unwrap();
        for i in session * 8..session * 8 + 8 {
            append(&log, &mut rows, i, payload(i));
        }
        log.close().unwrap();
    }
    let log = ShardedWal::open(config(&fs, 3)).unwrap();
    log.truncate_before(&Checkpoint::new(1, [5, 3]).of_log(log.id())).unwrap();
    log.truncate_before(&Checkpoint::new(1, [5, 4]).of_log(log.id())).unwrap();
    rows.retain(|row| row.0 != 1 || row.2 >= [5, 4][row.1 as usize]);
    let batch: Vec<_> = (100..120).map(|i| (i, Bytes::from(payload(i)))).collect();
    let mut next = [0; 3];
    for (key, payload) in &batch {
        let shard = log.shard_of(*key);
        rows.push((2, u32::try_from(shard).unwrap(), next[shard], *key, payload.to_vec()));
        next[shard] += 1;
    }
    log.append_batch(batch).wait().unwrap();
    fs.fail(Fault::new(Call::Write, 1, FaultKind::Error(ENOSPC)));
    log.append(1, "no room").wait().unwrap_err();
    append(&log, &mut rows, 1, vec![0xa5; 20_000]);
    append(&log, &mut rows, 1, Vec::new());
    log.close().unwrap();
    rows.sort();
    (fs, rows)
}

fn append(log: &ShardedWal, rows: &mut Vec<Row>, key: u64, payload: Vec<u8>) {
    let position = log.append(key, payload.clone()).wait().unwrap();
    rows.push((position.generation, position.shard, position.sequence, key, payload));
}

/// One record per line, as `shardwal dump` prints it.
fn dump(rows: &[Row]) -> String {
    let mut text = String::new();
    for (generation, shard, sequence, key, payload) in rows {
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let length = payload.len();
        writeln!(text, "{generation} {shard} {sequence} {key} {length} {hex}").unwrap();
    }
    text
}

/// The files of a log without its lock, which holds a process id.
fn log_files(fs: &SimFileSystem) -> Vec<(PathBuf, Vec<u8>)> {
    files(fs).into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect()
}

fn golden_files() -> Vec<(PathBuf, Vec<u8>)> {
    files_below(&golden_dir())
}

fn files_below(golden: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![golden.join("log")];
    while let Some(directory) = dirs.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = Path::new("/log").join(path.strip_prefix(golden.join("log")).unwrap());
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn write_golden(fs: &SimFileSystem, rows: &[Row]) {
    for (path, bytes) in log_files(fs) {
        let path = golden_dir().join("log").join(path.strip_prefix("/log").unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(golden_dir().join("dump.txt"), dump(rows)).unwrap();
}

#[test]
fn equal_calls_write_the_golden_bytes() {
    let (fs, rows) = write_log();
    if std::env::var_os("SHARDWAL_WRITE_GOLDEN").is_some() {
        write_golden(&fs, &rows);
    }
    let golden = golden_files();
    // A shard that is idle for a second writes a seal by itself. A machine that stalled
    // that long may retry.
    let mut written = log_files(&fs);
    for _ in 0..5 {
        if written == golden {
            return;
        }
        written = log_files(&write_log().0);
    }
    let names =
        |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&written), names(&golden));
    for ((path, written), (_, golden)) in written.iter().zip(&golden) {
        if path.extension().is_some_and(|extension| extension == "wal") {
            assert_eq!(frames(written), frames(golden), "the frames of {}", path.display());
        }
        assert_eq!(written, golden, "{}", path.display());
    }
}

#[test]
fn the_golden_log_is_read_as_it_was_written() {
    let expected = fs::read_to_string(golden_dir().join("dump.txt")).unwrap();
    let fs = disk_of(&golden_files());
    let before = files(&fs);
    let (rows, report) = raw::read(&fs).unwrap();
    assert_eq!(dump(&rows), expected);
    assert_eq!(report.corruption().count(), 0);
    assert_eq!(report.torn_bytes(), 0);
    assert_eq!(files(&fs), before, "a reader changed something");

    let log = ShardedWal::open(config(&fs, 3)).unwrap();
    assert_eq!(log.recovery().torn_bytes(), 0);
    let position = log.append(1, "and on").wait().unwrap();
    assert_eq!((position.generation, position.shard, position.sequence), (2, 0, 10));
    log.close().unwrap();
    let (rows, _) = raw::read(&fs).unwrap();
    let more = dump(&rows);
    assert!(more.contains("2 0 10 1 6 616e64206f6e\n"), "{more}");
    assert_eq!(more.lines().count(), expected.lines().count() + 1);
}

/// A log that is older than truncation marks in file names.
#[test]
fn a_log_with_truncation_marks_in_slots_is_read_and_continued() {
    let golden = golden_dir().with_file_name("v1");
    let expected = fs::read_to_string(golden.join("dump.txt")).unwrap();
    let fs = disk_of(&files_below(&golden));
    assert_eq!(dump(&raw::read(&fs).unwrap().0), expected);
    // The first open has no room for files that carry the next mark, so it writes to
    // slots. The second open creates the files.
    for (below, capacity) in [([6, 5], Some(0)), ([7, 6], None)] {
        fs.set_copy_on_write(false);
        fs.fail(Fault {
            path_contains: Some("purge-".into()),
            sticky: capacity.is_some(),
            nth: if capacity.is_some() { 1 } else { u64::MAX },
            ..Fault::new(Call::Open, 1, FaultKind::Error(ENOSPC))
        });
        let log = ShardedWal::open(config(&fs, 3)).unwrap();
        fs.set_copy_on_write(false);
        fs.set_capacity(capacity);
        let writes = fs.calls(Call::Write);
        log.truncate_before(&Checkpoint::new(1, below).of_log(log.id())).unwrap();
        assert_eq!(fs.calls(Call::Write) - writes, if capacity.is_some() { 2 } else { 0 });
        fs.clear_faults();
        fs.set_capacity(None);
        log.close().unwrap();
        let first = |shard| {
            let rows = raw::read(&fs).unwrap().0;
            rows.iter().find(|row| (row.0, row.1) == (1, shard)).map(|row| row.2)
        };
        assert_eq!([first(0), first(1)], [Some(below[0]), Some(below[1])]);
    }
}

#[test]
fn a_record_costs_its_key_its_length_and_a_share_of_a_frame() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    let (batches, records, payload) = (20, 100, 256);
    for batch in 0..batches {
        let record = |i| (batch * records + i, Bytes::from(vec![0x77; payload]));
        log.append_batch((0..records).map(record)).wait().unwrap();
    }
    log.close().unwrap();
    let segment = fs.read_file(raw::segment_path(1, 0, 1)).unwrap();
    let frames = frames(&segment);
    let of_records: Vec<_> = frames.iter().filter(|frame| frame.kind == 1).collect();
    assert_eq!(of_records.len() as u64, batches, "each batch was waited for");
    let bodies: usize = of_records.iter().map(|frame| frame.body as usize).sum();
    let headers = segment.len() - raw::HEADER_BYTES - bodies;
    assert!(headers <= 24 * frames.len(), "{headers} bytes for {} frames", frames.len());
    let total = usize::try_from(batches * records).unwrap();
    let beside_key = bodies - total * (8 + payload);
    assert!(beside_key <= 4 * total, "{beside_key} bytes for {total} records");
    // FORMAT.md promises this, which is better than the requirement.
    assert_eq!(beside_key, 2 * total);
}
