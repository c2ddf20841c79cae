//! Blocks that the disk cannot read: a bad sector, or any flipped bit on a file system
//! with checksums. They are corruption with a position. The rest of the log is
//! verified, dumped and repaired.
//!
//! The victim has two shards with three segments each, of several pages each.
//!
//! Holds R1 REPLAY, R2 EXHAUSTIVE, R4 REPAIR (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::raw::{self, Row, config, disk_of, files, mark_path, segment_path};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Corruption, LogReader, OnCorruption, OpenError, Repair, RepairReport, ShardedWal};

const PAGE: u64 = 4096;
const SEGMENTS: u64 = 3;
/// The lost range of a repair if nothing says how far a segment went.
const UNKNOWN_SEQUENCES: u64 = 1 << 24;

type Files = Vec<(std::path::PathBuf, Vec<u8>)>;

struct Victim {
    files: Files,
    rows: Vec<Row>,
}

impl Victim {
    /// The last life is closed, or ends with its last acknowledgement. In the second
    /// case no frame says that the last record is durable.
    fn new(is_closed: bool) -> Self {
        let fs = SimFileSystem::with_dir("/log");
        for life in 0..SEGMENTS {
            let log = ShardedWal::open(config(&fs, 2)).unwrap();
            for i in life * 40..life * 40 + 40 {
                let bytes = usize::try_from(200 + i * 377 % 1300).unwrap();
                log.append(0, vec![i.to_le_bytes()[0]; bytes]).wait().unwrap();
                log.append(u64::MAX, vec![i.to_le_bytes()[0]; 30]).wait().unwrap();
            }
            if life == SEGMENTS - 1 && !is_closed {
                let killed = fs.kill();
                return Self { files: files(&killed), rows: raw::read(&killed).unwrap().0 };
            }
            log.close().unwrap();
        }
        Self { files: files(&fs), rows: raw::read(&fs).unwrap().0 }
    }

    fn fs(&self) -> SimFileSystem {
        disk_of(&self.files)
    }

    fn segment(&self, number: u64) -> Vec<u8> {
        self.fs().read_file(segment_path(1, 0, number)).unwrap()
    }

    /// The sequences of the first shard's rows in frames of a segment that overlap this
    /// range.
    fn rows_within(&self, number: u64, range: &Range<u64>) -> Vec<u64> {
        let segment = self.segment(number);
        let base = raw::long(&segment, 48);
        let met = |frame: &raw::Frame| {
            u64::try_from(frame.offset).unwrap() < range.end
                && u64::try_from(frame.end()).unwrap() > range.start
        };
        let sequences = |frame: raw::Frame| {
            let first = base + u64::from(frame.first);
            first..first + u64::from(frame.records)
        };
        raw::frames(&segment).into_iter().filter(met).flat_map(sequences).collect()
    }
}

static CLOSED: LazyLock<Victim> = LazyLock::new(|| Victim::new(true));
static KILLED: LazyLock<Victim> = LazyLock::new(|| Victim::new(false));

/// Each page of each segment of the first shard: number and byte range.
fn pages(victim: &Victim) -> Vec<(u64, Range<u64>)> {
    let pages = |number| {
        let bytes = u64::try_from(victim.segment(number).len()).unwrap();
        (0..bytes.div_ceil(PAGE)).map(move |page| (number, page * PAGE..(page + 1) * PAGE))
    };
    (1..=SEGMENTS).flat_map(pages).collect()
}

fn repair(fs: &SimFileSystem) -> Repair {
    Repair::new("/log").file_system(Arc::new(fs.clone()))
}

/// Reads the log: the rows of the first shard, and its corruption. The other shard must
/// be intact.
fn inspect(victim: &Victim, fs: &SimFileSystem) -> (Vec<Row>, Option<Corruption>) {
    let (rows, report) = raw::read(fs).expect("one bad block does not prevent a read");
    let (first, second): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.1 == 0);
    let expected = victim.rows.iter().filter(|row| row.1 == 1);
    assert!(second.iter().eq(expected), "the other shard is whole");
    assert_eq!(report.shards[1].corruption, None);
    (first, report.shards[0].corruption.clone())
}

#[test]
fn an_unreadable_page_is_corruption_with_a_position() {
    for victim in [&*CLOSED, &*KILLED] {
        let all: Vec<_> = victim.rows.iter().filter(|row| row.1 == 0).cloned().collect();
        for (number, range) in pages(victim) {
            let (fs, path) = (victim.fs(), segment_path(1, 0, number));
            fs.make_unreadable(&path, range.clone());
            let before = files(&fs);
            let (rows, corruption) = inspect(victim, &fs);
            let lost = victim.rows_within(number, &range);
            let Some(corruption) = corruption else {
                assert!(lost.is_empty() && rows == all, "{path} {range:?}: records are missing");
                continue;
            };
            assert!(all.starts_with(&rows), "{path} {range:?}: a prefix");
            assert_eq!(corruption.file, Path::new(&path));
            assert!(corruption.offset < range.end, "{corruption}");
            assert!(corruption.what.contains("the disk cannot read"), "{corruption}");
            let first = rows.last().map_or(0, |row| row.2 + 1);
            // Without its header nothing of a segment is read.
            assert_eq!(
                corruption.first_sequence,
                if range.start == 0 { 0 } else { first },
                "{corruption}"
            );
            assert!(
                lost.first().is_none_or(|lost| *lost >= corruption.first_sequence),
                "{corruption}"
            );
            let refused = ShardedWal::open(config(&fs, 2)).unwrap_err();
            assert!(
                matches!(&refused, OpenError::Corrupted(it) if **it == corruption),
                "{refused}"
            );
            let before: Vec<_> =
                before.iter().filter(|(file, _)| !file.ends_with("LOCK")).collect();
            let after = files(&fs);
            let after: Vec<_> = after.iter().filter(|(file, _)| !file.ends_with("LOCK")).collect();
            assert!(after == before, "an open that refuses changes nothing");
        }
    }
}

/// Repairs in both ways, and checks the rules of every repair. Returns the report and
/// the remaining sequences of the first shard.
fn repaired(victim: &Victim, unreadable: &[(u64, Range<u64>)]) -> (RepairReport, Vec<u64>) {
    let corrupted = || {
        let fs = victim.fs();
        for (number, range) in unreadable {
            fs.make_unreadable(segment_path(1, 0, *number), range.clone());
        }
        fs
    };
    let fs = corrupted();
    let before = files(&fs);
    let plan = repair(&fs).plan().unwrap();
    assert!(files(&fs) == before, "a plan changes nothing");
    let report = repair(&fs).run("/log/quarantine").unwrap();
    assert_eq!((&plan.files, &plan.lost), (&report.files, &report.lost));
    check_copies(&fs, &before, &report, unreadable);
    let (rows, none) = inspect(victim, &fs);
    assert_eq!(none, None, "{unreadable:?}");
    let is_lost = |row: &&Row| {
        report.lost.iter().any(|lost| (lost.first_sequence..lost.next_sequence).contains(&row.2))
    };
    let kept: Vec<_> = victim.rows.iter().filter(|row| row.1 == 0 && !is_lost(row)).collect();
    assert!(rows.iter().eq(kept), "{unreadable:?}: {report}");
    assert!(repair(&fs).run("/log/quarantine").unwrap().files.is_empty(), "once more");

    let at_open = corrupted();
    let log =
        ShardedWal::open(config(&at_open, 2).on_corruption(OnCorruption::Quarantine)).unwrap();
    let own = log.recovery().repair.clone().unwrap_or_default();
    assert_eq!((&own.files, &own.lost), (&report.files, &report.lost));
    let at = log.append(0, "after").wait().unwrap();
    assert!(
        victim.rows.iter().all(|row| row.1 == 1 || row.2 < at.sequence),
        "no sequence is used twice"
    );
    log.close().unwrap();
    let sequences = rows.iter().map(|row| row.2).collect();
    (report, sequences)
}

/// The copies equal the old files, with zeros for unreadable bytes. The report lists
/// these ranges.
fn check_copies(
    fs: &SimFileSystem,
    before: &Files,
    report: &RepairReport,
    unreadable: &[(u64, Range<u64>)],
) {
    let Some(directory) = &report.quarantine else { return };
    let said = String::from_utf8(fs.read_file(directory.join("report.txt")).unwrap()).unwrap();
    for file in &report.files {
        let copy = fs.read_file(directory.join(file.strip_prefix("/log").unwrap())).unwrap();
        let (_, mut expected) = before.iter().find(|(path, _)| path == file).unwrap().clone();
        for (number, range) in unreadable {
            if file.as_os_str() != segment_path(1, 0, *number).as_str() {
                continue;
            }
            let at = |offset: u64| usize::try_from(offset).unwrap().min(expected.len());
            let (from, to) = (at(range.start), at(range.end));
            expected[from..to].fill(0);
            assert!(said.contains("its copy has zeros there"), "{said}");
        }
        assert!(copy == expected, "{}", file.display());
    }
}

#[test]
fn a_repair_loses_only_the_records_of_an_unreadable_page() {
    for victim in [&*CLOSED, &*KILLED] {
        let all: Vec<_> = victim.rows.iter().filter(|row| row.1 == 0).map(|row| row.2).collect();
        for (number, range) in pages(victim) {
            let (report, kept) = repaired(victim, &[(number, range.clone())]);
            let lost = victim.rows_within(number, &range);
            let newest_without_header = number == SEGMENTS && range.start == 0;
            if newest_without_header {
                // Nothing says with which sequence the segment begins.
                assert_eq!(report.lost.len(), 1, "{report}");
                continue;
            }
            let expected: Vec<_> = all.iter().filter(|it| !lost.contains(it)).copied().collect();
            assert_eq!(kept, expected, "{number} {range:?}: {report}");
            let is_last = number == SEGMENTS && lost.contains(all.last().unwrap());
            let most = if is_last { UNKNOWN_SEQUENCES } else { 0 } + lost.len() as u64;
            assert!(report.lost_sequences() <= most, "{number} {range:?}: {report}");
        }
    }
}

#[test]
fn two_unreadable_pages_cost_only_their_records() {
    let pages = pages(&CLOSED);
    for (index, first) in pages.iter().enumerate() {
        let second = &pages[(index * 7 + 3) % pages.len()];
        if first == second {
            continue;
        }
        let (report, kept) = repaired(&CLOSED, &[first.clone(), second.clone()]);
        if [first, second].iter().all(|(number, range)| *number < SEGMENTS || range.start > 0) {
            let mut lost = CLOSED.rows_within(first.0, &first.1);
            lost.append(&mut CLOSED.rows_within(second.0, &second.1));
            let all = CLOSED.rows.iter().filter(|row| row.1 == 0).map(|row| row.2);
            let expected: Vec<_> = all.filter(|it| !lost.contains(it)).collect();
            // The frames behind a rotten header show where they begin only if the last
            // one can be read.
            let without_header = first.1.start == 0 || second.1.start == 0;
            assert!(
                kept == expected || (without_header && kept.len() <= expected.len()),
                "{report}"
            );
        }
    }
}

/// Zeros written ahead, behind the end of the log, hold no record.
#[test]
fn an_unreadable_page_of_zeros_behind_the_end_is_no_corruption() {
    let fs = SimFileSystem::with_dir("/log");
    let with_zeros = || {
        let config = config(&fs, 1).segment_bytes(32 << 10);
        fs.set_copy_on_write(false);
        config
    };
    let log = ShardedWal::open(with_zeros()).unwrap();
    for i in 0..20_u64 {
        log.append(0, vec![i.to_le_bytes()[0]; 100]).wait().unwrap();
    }
    let newest = fs.files().into_iter().rfind(|it| it.extension().is_some_and(|it| it == "wal"));
    let newest = newest.unwrap();
    let bytes = fs.read_file(&newest).unwrap();
    let end = u64::try_from(bytes.iter().rposition(|byte| *byte != 0).unwrap()).unwrap();
    let killed = fs.kill();
    drop(log);
    killed.make_unreadable(&newest, (end / PAGE + 2) * PAGE..u64::MAX);
    let (rows, report) = raw::read(&killed).unwrap();
    assert_eq!((rows.len(), report.corruption().count()), (20, 0));
}

#[test]
fn an_unreadable_truncation_mark_or_manifest_is_named() {
    for path in [mark_path(1, 0), "/log/MANIFEST".into()] {
        for range in [0..10, 4096..4100] {
            let fs = CLOSED.fs();
            fs.make_unreadable(&path, range.clone());
            if fs.read_file(&path).unwrap().len() < 4096 && range.start > 0 {
                continue;
            }
            let refused = raw::read(&fs).unwrap_err();
            assert!(
                matches!(&refused, OpenError::Manifest { file, what }
                    if file == Path::new(&path) && what.contains("the disk cannot read")),
                "{refused}"
            );
        }
    }
}

/// A transient error of the call says nothing about the bytes on the disk.
#[test]
fn a_transient_read_error_is_no_corruption() {
    for errno in [12, 24] {
        let fs = CLOSED.fs();
        let fault = Fault { sticky: true, ..Fault::new(Call::Read, 1, FaultKind::Error(errno)) };
        fs.fail(Fault { path_contains: Some("shard-0000".into()), ..fault });
        let failed = LogReader::open_in(Arc::new(fs.clone()), "/log").unwrap_err();
        assert!(matches!(failed, OpenError::Io { .. }), "{failed}");
        assert!(matches!(repair(&fs).plan(), Err(OpenError::Io { .. })));
    }
}
