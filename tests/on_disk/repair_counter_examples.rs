//! Corruption that an earlier repair could not handle, or handled wrongly.
//!
//! Holds R4 REPAIR (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::sync::Arc;

use crate::raw::{self, Row, config, segment_path};
use crate::support::gate::Gate;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Checkpoint, Repair, RepairReport, ShardedWal};

/// A log of `count` lives, with ten records and a segment each.
fn lives(count: u8) -> SimFileSystem {
    let fs = SimFileSystem::with_dir("/log");
    for life in 0..count {
        let log = ShardedWal::open(config(&fs, 1)).unwrap();
        for record in life * 10..life * 10 + 10 {
            log.append(0, vec![record; 50]).wait().unwrap();
        }
        log.close().unwrap();
    }
    fs
}

fn rot_header(fs: &SimFileSystem, number: u64) {
    let path = segment_path(1, 0, number);
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[50] ^= 1;
    fs.write_file(path, &bytes);
}

fn repair(fs: &SimFileSystem) -> (RepairReport, Vec<Row>) {
    let report = Repair::new("/log").file_system(Arc::new(fs.clone())).run("/out").unwrap();
    let (rows, found) = raw::read(fs).unwrap();
    assert_eq!(found.corruption().count(), 0);
    (report, rows)
}

fn sequences(rows: &[Row]) -> Vec<u64> {
    rows.iter().map(|row| row.2).collect()
}

#[test]
fn a_foreign_newest_segment_is_dropped() {
    let fs = lives(3);
    fs.write_file(segment_path(1, 0, 3), &fs.read_file(segment_path(1, 0, 2)).unwrap());
    let (report, rows) = repair(&fs);
    assert_eq!(report.files, [PathBuf::from(segment_path(1, 0, 3))]);
    assert_eq!(sequences(&rows), Vec::from_iter(0..20));
    assert_eq!(report.lost[0].first_sequence, 20);
    assert!(report.lost[0].next_sequence >= 30, "the records of the segment are reported");
}

#[test]
fn numbers_of_a_newest_segment_without_its_header_are_not_given_again() {
    let fs = lives(3);
    fs.remove_file(segment_path(1, 0, 2));
    rot_header(&fs, 3);
    let (report, _) = repair(&fs);
    assert!(report.lost.iter().any(|lost| lost.next_sequence >= 30), "{report}");
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    assert!(log.append(0, "next").wait().unwrap().sequence >= 30);
}

/// A log of 14 unsynced records. Its second segment begins with this number, and only
/// its header is on the disk.
fn rolled_to(first_sequence: u64) -> SimFileSystem {
    let fs = SimFileSystem::with_dir("/log");
    let os = config(&fs, 1).durability(shardwal::Durability::Buffered);
    let log = ShardedWal::open(os).unwrap();
    for record in 0..14_u8 {
        log.append(0, vec![record; 50]).wait().unwrap();
    }
    let fs = fs.kill();
    drop(log);
    let first = fs.read_file(segment_path(1, 0, 1)).unwrap();
    let mut second = first[..raw::HEADER_BYTES].to_vec();
    let numbers = [2, first_sequence, 1, first.len() as u64, 14];
    for (at, number) in numbers.iter().enumerate() {
        second[40 + at * 8..48 + at * 8].copy_from_slice(&number.to_le_bytes());
    }
    raw::reseal(&mut second, &[]);
    fs.write_file(segment_path(1, 0, 2), &second);
    fs
}

/// No mark says that there were any records.
#[test]
fn a_first_segment_of_zeros_is_created_again() {
    let fs = rolled_to(14);
    let path = segment_path(1, 0, 1);
    let blank = vec![0; fs.read_file(&path).unwrap().len()];
    fs.write_file(&path, &blank);
    let (report, rows) = repair(&fs);
    assert_eq!(report.files, [PathBuf::from(path)]);
    // Records that no mark calls durable are a torn tail, and are not reported as lost.
    assert_eq!(rows, Vec::new());
}

#[test]
fn a_segment_truncated_in_part_is_read_without_its_header() {
    for number in [1, 2] {
        let fs = lives(3);
        let log = ShardedWal::open(config(&fs, 1)).unwrap();
        log.truncate_before(&Checkpoint::new(1, [number * 10 - 5]).of_log(log.id())).unwrap();
        log.close().unwrap();
        rot_header(&fs, number);
        let (report, rows) = repair(&fs);
        assert_eq!(report.lost_sequences(), 0, "{report}");
        assert_eq!(sequences(&rows), Vec::from_iter(number * 10 - 5..30));
    }
}

#[test]
fn a_segment_that_no_header_names_is_copied_before_open_removes_it() {
    let fs = lives(4);
    rot_header(&fs, 2);
    fs.remove_file(segment_path(1, 0, 3));
    let was = fs.read_file(segment_path(1, 0, 2));
    let (report, rows) = repair(&fs);
    assert_eq!(sequences(&rows), Vec::from_iter((0..10).chain(30..40)));
    let copy = report.quarantine.unwrap().join("generation-00001/shard-0000/0000000002.wal");
    assert_eq!(fs.read_file(copy), was);
}

/// The end behind a torn tail comes back. The segment that replaced it, with other
/// records under these sequences, has lost its header.
#[test]
fn cut_records_are_not_replayed_in_place_of_later_ones() {
    let fs = SimFileSystem::with_dir("/log");
    let os = || config(&fs, 1).segment_bytes(4096).durability(shardwal::Durability::Buffered);
    let gate = Gate::default();
    let log = ShardedWal::open(os().file_system(gate.before(&fs))).unwrap();
    // No full segment is synced, or the torn one would be corruption.
    gate.shut();
    for record in 0..90_u8 {
        log.append(0, vec![record; 600]).wait().unwrap();
    }
    let fs = fs.kill();
    gate.open();
    drop(log);
    let path = segment_path(1, 0, 1);
    let mut torn = fs.read_file(&path).unwrap();
    let frame = raw::frames(&torn)[4];
    torn[frame.end() - 1] ^= 1;
    fs.write_file(&path, &torn);
    let old: Vec<_> = raw::files(&fs)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|it| it == "wal"))
        .collect();
    assert!(old.len() > 3);
    for life in 0..2 {
        let log = ShardedWal::open(config(&fs, 1)).unwrap();
        for _ in 0..20 {
            log.append(0, vec![100 + life; 100]).wait().unwrap();
        }
        log.close().unwrap();
    }
    let rows = raw::read(&fs).unwrap().0;
    // The deletions by open were not durable.
    for (path, bytes) in &old {
        assert!(fs.read_file(path).is_none() || path.ends_with("0000000001.wal"));
        fs.write_file(path, bytes);
    }
    assert_eq!(raw::read(&fs).unwrap().0, rows, "the old files do no harm");
    let took_over = old.len() as u64 + 1;
    for is_gone in [false, true] {
        let fs = raw::disk_of(&raw::files(&fs));
        if is_gone {
            fs.remove_file(segment_path(1, 0, took_over));
        } else {
            rot_header(&fs, took_over);
        }
        let (report, now) = repair(&fs);
        let lost = |row: &Row| {
            report.lost.iter().any(|it| (it.first_sequence..it.next_sequence).contains(&row.2))
        };
        let kept: Vec<_> = rows.iter().filter(|row| !lost(row)).cloned().collect();
        assert_eq!(now, kept, "{report}");
        assert!(is_gone || report.lost_sequences() == 0, "{report}");
    }
}

/// No corruption: a roll without room refused some records, and then there was room. A
/// power loss left only the header of the new segment.
#[test]
fn a_log_that_was_torn_behind_refused_numbers_opens_twice() {
    let fs = rolled_to(20);
    for _ in 0..2 {
        let log = ShardedWal::open(config(&fs, 1)).unwrap();
        log.close().unwrap();
        assert_eq!(sequences(&raw::read(&fs).unwrap().0), Vec::from_iter(0..14));
    }
}

/// A variant in which that open changes the shard count. It replays the old shard as
/// far as it goes.
#[test]
fn a_log_that_was_torn_behind_refused_numbers_is_replayed_by_other_shards() {
    let fs = rolled_to(20);
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    assert_eq!(log.recovery().shards[0].next_sequence, 14);
    let found = std::sync::atomic::AtomicU64::new(0);
    let count = |_: &shardwal::Record<'_>| {
        found.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(())
    };
    log.replay(shardwal::ReplayOptions::default(), count).unwrap();
    assert_eq!(found.into_inner(), 14);
    log.close().unwrap();
}

/// A shard's first segment, recreated behind a truncation mark, with new bit rot.
#[test]
fn a_rotten_first_segment_made_by_a_repair_is_repaired_again() {
    let fs = lives(2);
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    log.truncate_before(&Checkpoint::new(1, [5]).of_log(log.id())).unwrap();
    log.close().unwrap();
    fs.remove_file(segment_path(1, 0, 1));
    let (report, rows) = repair(&fs);
    assert_eq!((report.lost_sequences(), sequences(&rows)), (5, Vec::from_iter(10..20)));
    assert_eq!(raw::read(&fs).unwrap().1.shards[0].lost_sequences, 5);
    rot_header(&fs, 1);
    let (report, rows) = repair(&fs);
    assert_eq!((report.lost_sequences(), sequences(&rows)), (0, Vec::from_iter(10..20)));
}
