//! After any corruption, a repair leaves a log that opens. It keeps every record
//! outside the reported lost ranges, and invents none.
//!
//! The victim has two shards and contains batches. Each of its lives began a segment.
//!
//! Holds R4 REPAIR (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use crate::raw::{self, Row, config, disk_of, files, segment_path};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{OnCorruption, OpenError, Repair, RepairReport, ShardedWal};

type Files = Vec<(PathBuf, Vec<u8>)>;

const SEGMENTS: u64 = 5;

struct Victim {
    files: Files,
    rows: Vec<Row>,
}

/// Records of the first shard, and a few of the second. Each open begins a new segment,
/// which is deterministic, unlike a roll.
static VICTIM: LazyLock<Victim> = LazyLock::new(|| {
    let fs = SimFileSystem::with_dir("/log");
    for life in 0..SEGMENTS {
        let log = ShardedWal::open(config(&fs, 2)).unwrap();
        for i in life * 16..life * 16 + 16 {
            let bytes = usize::try_from(60 + i * 37 % 300).unwrap();
            log.append(0, vec![i.to_le_bytes()[0]; bytes]).wait().unwrap();
            if i % 10 == 0 {
                let batch = (0..3).map(|part| (0, vec![part, i.to_le_bytes()[0]]));
                log.append_batch(batch).wait().unwrap();
                log.append(u64::MAX, "the second shard").wait().unwrap();
            }
        }
        log.close().unwrap();
    }
    let rows = raw::read(&fs).unwrap().0;
    let files = files(&fs);
    assert!(has(&files, &segment_path(1, 0, SEGMENTS)));
    assert!(!has(&files, &segment_path(1, 0, SEGMENTS + 1)));
    Victim { files, rows }
});

fn has(files: &Files, path: &str) -> bool {
    files.iter().any(|(file, _)| file.as_os_str() == path)
}

fn repair(fs: &SimFileSystem) -> Repair {
    Repair::new("/log").file_system(Arc::new(fs.clone()))
}

impl Victim {
    fn fs(&self) -> SimFileSystem {
        disk_of(&self.files)
    }

    fn segment(&self, number: u64) -> Vec<u8> {
        self.fs().read_file(segment_path(1, 0, number)).unwrap()
    }

    /// Repairs a copy of this corrupted log in each way that exists, and checks the
    /// rules of every repair.
    fn check(&self, fs: &SimFileSystem, what: &str) -> RepairReport {
        let before = files(fs);
        let plan = repair(fs).plan().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(files(fs), before, "{what}: a plan changes nothing");
        let at_open = disk_of(&before);
        let report = repair(fs).run("/log/quarantine").unwrap();
        assert_eq!((&plan.files, &plan.lost), (&report.files, &report.lost), "{what}");
        assert_eq!(report.quarantine.is_some(), !report.files.is_empty(), "{what}");
        check_copies(fs, &before, &report, what);
        let rows = self.check_rows(fs, &report, what);
        assert!(repair(fs).run("/log/quarantine").unwrap().files.is_empty(), "{what}: once more");

        let opened = ShardedWal::open(config(&at_open, 2).on_corruption(OnCorruption::Quarantine));
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let at_open_report = opened.recovery().repair.clone().unwrap_or_default();
        assert_eq!((&at_open_report, &report), (&report, &at_open_report), "{what}");
        opened.close().unwrap();
        assert_eq!(self.check_rows(&at_open, &report, what), rows, "{what}");
        check_that_it_goes_on(fs, &rows, what);
        report
    }

    /// Every appended record must be there, except for reported losses.
    fn check_rows(&self, fs: &SimFileSystem, report: &RepairReport, what: &str) -> Vec<Row> {
        let (rows, found) = raw::read(fs).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found.corruption().count(), 0, "{what}");
        assert!(rows.iter().is_sorted_by_key(|row| (row.0, row.1, row.2)), "{what}: order");
        let is_lost = |row: &Row| {
            report.lost.iter().any(|lost| {
                (lost.generation, lost.shard) == (row.0, row.1)
                    && (lost.first_sequence..lost.next_sequence).contains(&row.2)
            })
        };
        let kept: Vec<_> = self.rows.iter().filter(|row| !is_lost(row)).cloned().collect();
        // The unconfirmed end of the newest segment may be a torn tail.
        if report.files.is_empty() {
            assert!(kept.starts_with(&rows), "{what}: a prefix");
        } else {
            assert_eq!(rows, kept, "{what}: left: the records found, right: expected");
        }
        rows
    }
}

/// Every replaced file is in quarantine, unchanged.
fn check_copies(fs: &SimFileSystem, before: &Files, report: &RepairReport, what: &str) {
    for file in &report.files {
        let directory = report.quarantine.as_ref().unwrap();
        let copy = directory.join(file.strip_prefix("/log").unwrap());
        let was = before.iter().find(|(path, _)| path == file).map(|(_, bytes)| bytes.clone());
        assert_eq!(fs.read_file(&copy), was, "{what}: {}", copy.display());
    }
    if let Some(directory) = &report.quarantine {
        let said = String::from_utf8(fs.read_file(directory.join("report.txt")).unwrap()).unwrap();
        assert!(said.contains("sequences lost"), "{said}");
    }
    for (path, bytes) in before {
        let stays = !report.files.contains(path) && path.extension().is_some_and(|it| it == "wal");
        assert!(!stays || fs.read_file(path).as_ref() == Some(bytes), "{what}: {path:?}");
    }
}

fn check_that_it_goes_on(fs: &SimFileSystem, rows: &[Row], what: &str) {
    let log = ShardedWal::open(config(fs, 2)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let at = log.append(0, "after").wait().unwrap();
    log.close().unwrap();
    let last = rows.iter().filter(|row| row.1 == at.shard).map(|row| row.2).max();
    assert!(last.is_none_or(|last| at.sequence > last), "{what}: no sequence is used twice");
    let mut expected = rows.to_vec();
    expected.push((at.generation, at.shard, at.sequence, 0, b"after".to_vec()));
    expected.sort();
    let mut found = raw::read(fs).unwrap().0;
    found.sort();
    assert_eq!(found, expected, "{what}");
}

#[test]
fn an_intact_log_needs_no_repair_and_is_left_alone() {
    let fs = VICTIM.fs();
    let report = VICTIM.check(&fs, "whole");
    assert_eq!(report, RepairReport::default());
    assert!(!has(&files(&fs), "/log/quarantine/0001/report.txt"));
}

#[test]
fn a_rotten_frame_is_the_only_loss() {
    for number in 1..=SEGMENTS {
        let path = segment_path(1, 0, number);
        let bytes = VICTIM.segment(number);
        for frame in raw::frames(&bytes) {
            for at in [frame.offset, frame.offset + 10, frame.end() - 1] {
                let fs = VICTIM.fs();
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x10;
                fs.write_file(&path, &bytes);
                let report = VICTIM.check(&fs, &format!("byte {at} of segment {number}"));
                // The last frame is a seal, or looks like a torn tail.
                assert!(report.lost_sequences() <= u64::from(frame.records), "{report}");
            }
        }
    }
}

#[test]
fn two_rotten_frames_cost_two_records_and_not_the_intact_one_between() {
    let fs = VICTIM.fs();
    let mut bytes = VICTIM.segment(1);
    let frames = raw::frames(&bytes);
    let records: Vec<_> = frames.iter().filter(|frame| frame.records == 1).collect();
    for frame in [records[2], records[4]] {
        bytes[frame.end() - 1] ^= 1;
    }
    fs.write_file(segment_path(1, 0, 1), &bytes);
    let report = VICTIM.check(&fs, "two frames");
    assert_eq!((report.lost.len(), report.lost_sequences(), report.files.len()), (2, 2, 1));
    let (_, found) = raw::read(&fs).unwrap();
    assert_eq!(found.shards[0].lost_sequences, 2, "the log says so from then on");
}

#[test]
fn a_missing_or_foreign_segment_is_the_only_loss() {
    for number in 1..SEGMENTS {
        let path = segment_path(1, 0, number);
        let fs = VICTIM.fs();
        fs.remove_file(&path);
        let report = VICTIM.check(&fs, &format!("segment {number} is missing"));
        assert_eq!(report.files, [PathBuf::from(&path)]);
        assert!(report.lost_sequences() > 2);

        let fs = VICTIM.fs();
        fs.write_file(&path, &fs.read_file(segment_path(1, 1, 1)).unwrap());
        let report = VICTIM.check(&fs, &format!("segment {number} is foreign"));
        assert_eq!(report.files, [PathBuf::from(&path)]);
    }
}

#[test]
fn a_segment_with_a_rotten_header_is_read_without_it() {
    for number in 1..SEGMENTS {
        let fs = VICTIM.fs();
        let mut bytes = VICTIM.segment(number);
        bytes[50] ^= 1;
        fs.write_file(segment_path(1, 0, number), &bytes);
        let report = VICTIM.check(&fs, &format!("the header of segment {number}"));
        assert_eq!((report.lost_sequences(), report.files.len()), (0, 1), "{report}");
    }
}

/// A segment without records has no room for a frame that names a loss before it. A repair makes
/// such a segment from one whose records no later one continues.
#[test]
fn a_segment_without_records_may_follow_a_loss() {
    let put = |bytes: &mut [u8], at: usize, number: u64| {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    let mut header = VICTIM.segment(3)[..raw::HEADER_BYTES].to_vec();
    let mut third = VICTIM.segment(3);
    // Segment 3 becomes number 7, and one without records comes before it.
    let (number, end, next) = (40, 64, 72);
    put(&mut third, number, 7);
    put(&mut third, 56, 3);
    put(&mut third, end, raw::HEADER_BYTES as u64);
    let frames = raw::frames(&VICTIM.segment(3));
    raw::reseal(&mut third, &frames);
    raw::reseal(&mut header, &[]);
    assert_eq!(raw::long(&third, next), raw::long(&header, 48), "no record is between them");
    let whole = VICTIM.fs();
    for number in 4..=SEGMENTS {
        whole.remove_file(segment_path(1, 0, number));
    }
    whole.write_file(segment_path(1, 0, 3), &header);
    whole.write_file(segment_path(1, 0, 7), &third);
    let whole = files(&whole);
    let rows = raw::read(&disk_of(&whole)).unwrap().0;
    assert!(rows.len() > 40, "the forged log is intact: {}", rows.len());
    let numbers = [1, 2, 3, 7];
    for lost in 0..1 << numbers.len() {
        for is_removed in [false, true] {
            let fs = disk_of(&whole);
            for number in (0..4).filter(|at| lost & 1 << at != 0).map(|at| numbers[at]) {
                let path = segment_path(1, 0, number);
                let mut bytes = fs.read_file(&path).unwrap();
                bytes[68..80].fill(7);
                if is_removed { fs.remove_file(path) } else { fs.write_file(path, &bytes) }
            }
            check_loosely(&fs, &format!("segments {lost:b}, removed: {is_removed}"));
        }
    }
}

#[test]
fn a_segment_cut_at_any_length_keeps_its_earlier_records() {
    for number in 1..SEGMENTS {
        let bytes = VICTIM.segment(number);
        for length in (0..bytes.len()).step_by(53) {
            let fs = VICTIM.fs();
            fs.write_file(segment_path(1, 0, number), &bytes[..length]);
            VICTIM.check(&fs, &format!("{length} bytes of segment {number}"));
        }
    }
}

#[test]
fn a_shard_without_any_segment_begins_again() {
    let fs = VICTIM.fs();
    for number in 1..=SEGMENTS {
        fs.remove_file(segment_path(1, 0, number));
    }
    let before = files(&fs);
    let report = repair(&fs).run("/log/quarantine").unwrap();
    assert_eq!(report.files.len(), 1);
    let rows = raw::read(&fs).unwrap().0;
    let second: Vec<_> = VICTIM.rows.iter().filter(|row| row.1 == 1).cloned().collect();
    assert_eq!(rows, second, "the other shard is unchanged");
    assert!(before.iter().all(|(path, bytes)| fs.read_file(path).as_ref() == Some(bytes)));
    check_that_it_goes_on(&fs, &rows, "no segment");
}

/// Corrupts several positions at once, in several ways, for each seed.
#[test]
fn random_corruption_is_repaired_or_needs_no_repair() {
    let mut seed = raw::seed_of_this_run();
    let mut below = |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 11).unwrap() % limit
    };
    let mut repaired = 0;
    for round in 0..400 {
        let fs = VICTIM.fs();
        let mut did = Vec::new();
        for _ in 0..1 + below(3) {
            let number = 1 + below(5) as u64;
            let path = segment_path(1, 0, number);
            let Some(mut bytes) = fs.read_file(&path).filter(|bytes| bytes.len() > 1) else {
                continue;
            };
            let at = below(bytes.len());
            let to = (at + 1 + below(600)).min(bytes.len());
            let kind = below(5);
            match kind {
                0 => bytes[at] ^= 1 << below(8),
                1 => bytes[at..to].fill(0),
                2 => bytes.truncate(at),
                3 => bytes[at..to].reverse(),
                _ => {}
            }
            fs.write_file(&path, &bytes);
            if kind == 4 {
                fs.remove_file(&path);
            }
            did.push((number, kind, at, to));
        }
        let what = format!("round {round}, {did:?}");
        // Corruption at the end of the newest segment is a torn tail, which open cuts.
        let newest = did.iter().any(|(number, ..)| *number == SEGMENTS);
        if newest {
            check_loosely(&fs, &what);
        } else {
            repaired += usize::from(!VICTIM.check(&fs, &what).files.is_empty());
        }
    }
    println!("{repaired} repaired in full");
    assert!(repaired > 100);
}

/// Checks a log whose newest segment may have lost its end unnoticed.
fn check_loosely(fs: &SimFileSystem, what: &str) {
    let report =
        repair(fs).run("/log/quarantine").unwrap_or_else(|error| panic!("{what}: {error}"));
    let (rows, found) = raw::read(fs).unwrap();
    assert_eq!(found.corruption().count(), 0, "{what}");
    assert!(rows.iter().all(|row| VICTIM.rows.contains(row)), "{what}: a wrong record; {report}");
    assert!(rows.iter().is_sorted_by_key(|row| (row.0, row.1, row.2)), "{what}");
    check_that_it_goes_on(fs, &rows, what);
}

/// Bit rot, a missing segment and a rotten header in one shard, and bit rot in the
/// other.
fn much_corruption() -> SimFileSystem {
    let fs = VICTIM.fs();
    let rot = |path: String, at: usize| {
        let mut bytes = fs.read_file(&path).unwrap();
        bytes[at] ^= 1;
        fs.write_file(path, &bytes);
    };
    rot(segment_path(1, 0, 1), raw::frames(&VICTIM.segment(1))[3].end() - 1);
    rot(segment_path(1, 0, 2), 20);
    fs.remove_file(segment_path(1, 0, 4));
    rot(segment_path(1, 1, 1), 130);
    fs
}

#[test]
fn a_repair_interrupted_at_any_call_is_finished_by_the_next() {
    let whole = much_corruption();
    let report = repair(&whole).run("/log/quarantine").unwrap();
    let expected = raw::read(&whole).unwrap().0;
    assert_eq!(report.files.len(), 4, "{report}");
    let calls = {
        let fs = much_corruption();
        repair(&fs).run("/log/quarantine").unwrap();
        fs.calls(Call::Any)
    };
    for kind in [FaultKind::PowerCut, FaultKind::TornPowerCut, FaultKind::Error(28)] {
        let mut died = 0;
        for nth in 1..=calls {
            for survives in [false, true] {
                let fs = much_corruption();
                fs.fail(Fault::new(Call::Any, nth, kind));
                died += u64::from(repair(&fs).run("/log/quarantine").is_err());
                let after = fs.crash(&mut || survives);
                repair(&after).run("/log/quarantine").unwrap();
                let (rows, found) = raw::read(&after).unwrap();
                assert_eq!(found.corruption().count(), 0);
                assert_eq!(rows, expected, "{kind:?} at call {nth}, unsynced {survives}");
            }
        }
        assert!(died > calls, "{kind:?}: {died} of {calls} calls, twice each");
    }
}

#[test]
fn repair_refuses_a_missing_log_an_unreadable_mark_and_an_open_log() {
    let fs = SimFileSystem::with_dir("/log");
    let refused = repair(&fs).run("/out").unwrap_err();
    assert!(matches!(refused, OpenError::NotALog { .. }), "{refused}");
    assert!(files(&fs).is_empty(), "nothing is created where there is no log");

    let fs = much_corruption();
    fs.write_file(raw::mark_path(1, 0), &[7; 8192]);
    let before = files(&fs);
    let refused = repair(&fs).run("/out").unwrap_err();
    assert!(matches!(refused, OpenError::Manifest { .. }), "{refused}");
    let changed: Vec<_> = files(&fs).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(changed.iter().all(|(path, _)| path.ends_with("LOCK")), "{changed:?}");

    let fs = much_corruption();
    let log = ShardedWal::open(config(&fs, 2).on_corruption(OnCorruption::Quarantine)).unwrap();
    let refused = repair(&fs).run("/out").unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    log.close().unwrap();
}

#[test]
fn two_repairs_use_separate_quarantine_directories() {
    let fs = much_corruption();
    let first = repair(&fs).run("/log/quarantine").unwrap();
    let mut bytes = fs.read_file(segment_path(1, 0, 1)).unwrap();
    let at = raw::frames(&bytes)[1].end() - 1;
    bytes[at] ^= 1;
    fs.write_file(segment_path(1, 0, 1), &bytes);
    let second = repair(&fs).run("/log/quarantine").unwrap();
    assert_eq!(first.quarantine, Some("/log/quarantine/0001".into()));
    assert_eq!(second.quarantine, Some("/log/quarantine/0002".into()));
    assert_eq!(second.lost_sequences(), 1, "a gap that is there already is not lost again");
}
