//! An open ends for any bytes on the disk. It returns appended records in order without
//! a gap, or an error that names the position. It never panics or returns a wrong
//! record, and an open that refuses changes nothing.
//!
//! The victim is a closed log with about 16 KiB in its first segment and a few hundred
//! bytes in its second. This file and FORMAT.md under "Limits" list every loss that
//! causes no error.
//!
//! Holds R2 EXHAUSTIVE (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::raw::{self, Row, config, disk_of, files, frames, segment_path};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{OpenError, ShardedWal};

type Files = Vec<(PathBuf, Vec<u8>)>;

/// A closed log with two segments and its rows. A reopen began the second segment.
struct Victim {
    files: Files,
    rows: Vec<Row>,
    /// Counts the images: one in sixteen is opened too.
    opens: AtomicU64,
}

static VICTIM: LazyLock<Victim> = LazyLock::new(|| write_victim(60, 8));

fn write_victim(in_the_first: u64, in_the_second: u64) -> Victim {
    let fs = SimFileSystem::with_dir("/log");
    for (from, to) in [(0, in_the_first), (in_the_first, in_the_first + in_the_second)] {
        let log = ShardedWal::open(config(&fs, 1)).unwrap();
        for i in from..to {
            let bytes = usize::try_from(i * 37 % 500).unwrap();
            log.append(i, vec![i.to_le_bytes()[0]; bytes]).wait().unwrap();
        }
        log.close().unwrap();
    }
    let rows = raw::read(&fs).unwrap().0;
    assert_eq!(rows.len() as u64, in_the_first + in_the_second);
    Victim { files: files(&fs), rows, opens: AtomicU64::new(0) }
}

const OLD: &str = "/log/generation-00001/shard-0000/0000000001.wal";
const NEW: &str = "/log/generation-00001/shard-0000/0000000002.wal";

/// The outcome for one corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// All records are there.
    Whole,
    /// The first records are there, up to this number.
    Prefix(usize),
    /// Open refused the log and named the position.
    Refused,
}

impl Victim {
    fn file(&self, path: &str) -> Vec<u8> {
        let found = self.files.iter().find(|(name, _)| name.as_os_str() == path);
        found.unwrap_or_else(|| panic!("{path} is there")).1.clone()
    }

    /// The log with the bytes of this file replaced.
    fn with(&self, path: &str, bytes: &[u8]) -> SimFileSystem {
        let fs = disk_of(&self.files);
        fs.write_file(path, bytes);
        fs
    }

    fn without(&self, path: &str) -> SimFileSystem {
        let fs = disk_of(&self.files);
        fs.remove_file(path);
        fs
    }

    fn fate_with(&self, path: &str, bytes: &[u8], what: &str) -> Fate {
        self.fate(&self.with(path, bytes), what)
    }

    /// Reads and opens the corrupted log, and checks the general rules.
    fn fate(&self, fs: &SimFileSystem, what: &str) -> Fate {
        let fate = catch_unwind(AssertUnwindSafe(|| self.read_fate(fs, what)));
        fate.unwrap_or_else(|_| panic!("a panic, or what precedes: {what}"))
    }

    fn read_fate(&self, fs: &SimFileSystem, what: &str) -> Fate {
        let before = files(fs);
        let read = raw::read(fs);
        assert_eq!(files(fs), before, "{what}: a reader changed something");
        let (rows, report) = match read {
            Ok(read) => read,
            Err(error) => {
                assert_refuses(fs, what);
                return check_position(&error, what);
            }
        };
        for shard in &report.shards {
            let of = |rows: &[Row]| -> Vec<Row> {
                let at = |row: &&Row| (row.0, row.1) == (shard.generation, shard.shard);
                rows.iter().filter(at).cloned().collect()
            };
            let (found, written) = (of(&rows), of(&self.rows));
            assert!(written.starts_with(&found), "{what}: no prefix, {} rows", found.len());
        }
        if report.corruption().next().is_some() {
            if self.opens.fetch_add(1, Relaxed).is_multiple_of(16) {
                assert_refuses(fs, what);
            }
            return Fate::Refused;
        }
        if rows.len() == self.rows.len() { Fate::Whole } else { Fate::Prefix(rows.len()) }
    }

    /// Opens the log only. If it opens, it must accept appends and replay what the
    /// reader found.
    fn fate_of_open(&self, fs: &SimFileSystem, what: &str) -> Fate {
        let fate = self.fate(fs, what);
        if fate == Fate::Refused {
            return fate;
        }
        let (mut expected, _) = raw::read(fs).unwrap();
        let log = ShardedWal::open(config(fs, 1)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let at = log.append(1, "and on").wait().unwrap();
        log.close().unwrap();
        expected.push((at.generation, at.shard, at.sequence, 1, b"and on".to_vec()));
        assert_eq!(raw::read(fs).unwrap().0, expected, "{what}");
        fate
    }
}

/// An open that refuses changes nothing.
fn assert_refuses(fs: &SimFileSystem, what: &str) {
    let before = files(fs);
    let refused = ShardedWal::open(config(fs, 1));
    check_position(&refused.err().unwrap_or_else(|| panic!("{what}: opened")), what);
    assert_eq!(files(fs), before, "{what}: open refused and changed something");
}

fn check_position(error: &OpenError, what: &str) -> Fate {
    let file = match error {
        OpenError::Corrupted(corruption) => &corruption.file,
        OpenError::Manifest { file, .. } | OpenError::NewerFormat { file, .. } => file,
        OpenError::Io { path, .. } => path,
        OpenError::NotALog { dir } => dir,
        error => panic!("{what}: {error}"),
    };
    assert!(file.starts_with("/log"), "{what}: {error}");
    Fate::Refused
}

#[test]
fn every_flipped_bit_of_a_segment_with_a_successor_is_refused_or_harmless() {
    let victim = &*VICTIM;
    let segment = victim.file(OLD);
    // The last frame is a seal without records.
    let seal = frames(&segment).last().unwrap().offset;
    assert!((12 << 10..20 << 10).contains(&segment.len()), "{} bytes", segment.len());
    // Covers every bit of the segment header and of six frame headers. Covers one bit
    // per byte of the other frame headers, and of every third byte of the bodies,
    // because debug builds take a millisecond for each.
    let all = frames(&segment);
    let offsets: Vec<_> = all.iter().map(|frame| frame.offset).collect();
    let is_in = |headers: &[usize], at: usize| {
        headers.iter().any(|header| (*header..header + raw::FRAME_BYTES).contains(&at))
    };
    let (first, last) = (&offsets[..3], &offsets[offsets.len() - 3..]);
    for at in 0..segment.len() {
        let bits = match at {
            at if at < raw::HEADER_BYTES || is_in(first, at) || is_in(last, at) => 0..8,
            at if is_in(&offsets, at) || at % 3 == 0 => at % 8..at % 8 + 1,
            _ => 0..0,
        };
        for bit in bits {
            let mut bytes = segment.clone();
            bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            let fate = victim.fate_with(OLD, &bytes, &what);
            let expected = if at < seal { Fate::Refused } else { Fate::Whole };
            assert!(fate == expected || fate == Fate::Refused, "{what}: {fate:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_the_newest_segment_before_its_last_seal_is_refused() {
    let victim = &*VICTIM;
    let segment = victim.file(NEW);
    let seal = frames(&segment).last().unwrap().offset;
    for at in 0..segment.len() {
        let bits = if at < seal - 100 { at % 8..at % 8 + 1 } else { 0..8 };
        for bit in bits {
            let mut bytes = segment.clone();
            bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            let fate = victim.fate_with(NEW, &bytes, &what);
            let expected = if at < seal { Fate::Refused } else { Fate::Whole };
            assert_eq!(fate, expected, "{what}");
        }
    }
}

/// No successor says where the newest segment ends. So a cut that removes the last seal
/// too cannot be detected.
#[test]
fn every_truncated_length_of_the_newest_segment_leaves_a_prefix() {
    let victim = &*VICTIM;
    let segment = victim.file(NEW);
    let frames = frames(&segment);
    for length in 0..segment.len() {
        let what = format!("{length} bytes left");
        let whole = frames.iter().filter(|frame| frame.kind == 1 && frame.end() <= length).count();
        let fs = victim.with(NEW, &segment[..length]);
        let fate = victim.fate_of_open(&fs, &what);
        let kept = 60 + whole;
        let expected = if kept == victim.rows.len() { Fate::Whole } else { Fate::Prefix(kept) };
        assert_eq!(fate, expected, "{what}");
    }
}

#[test]
fn every_truncated_length_of_a_segment_with_a_successor_is_refused() {
    let victim = &*VICTIM;
    let segment = victim.file(OLD);
    for length in 0..segment.len() {
        let what = format!("{length} bytes left");
        let fate = victim.fate_with(OLD, &segment[..length], &what);
        // All records are before the seal.
        let seal = frames(&segment).last().unwrap().offset;
        assert!(
            fate == Fate::Refused || (length >= seal && fate == Fate::Whole),
            "{what}: {fate:?}"
        );
    }
}

#[test]
fn sectors_zeroed_swapped_and_doubled_are_refused() {
    const SECTOR: usize = 512;
    let victim = &*VICTIM;
    let segment = victim.file(OLD);
    let sectors = segment.len() / SECTOR;
    for first in 0..sectors {
        let at = first * SECTOR..(first + 1) * SECTOR;
        let mut zeroed = segment.clone();
        zeroed[at.clone()].fill(0);
        let what = format!("sector {first} zeroed");
        assert_eq!(victim.fate_with(OLD, &zeroed, &what), Fate::Refused, "{what}");
        for second in (0..sectors).filter(|second| *second != first) {
            let mut doubled = segment.clone();
            doubled.copy_within(at.clone(), second * SECTOR);
            let mut swapped = doubled.clone();
            swapped[at.clone()].copy_from_slice(&segment[second * SECTOR..][..SECTOR]);
            for (bytes, how) in [(doubled, "copied over"), (swapped, "swapped with")] {
                if bytes == segment {
                    continue;
                }
                let what = format!("sector {first} {how} {second}");
                assert_eq!(victim.fate_with(OLD, &bytes, &what), Fate::Refused, "{what}");
            }
        }
    }
}

#[test]
fn segments_in_a_wrong_position_are_refused() {
    let victim = &*VICTIM;
    let other = write_victim(60, 8);
    // A log with equal calls: only ids and checksums differ.
    let cases = [
        ("the newest of another log", NEW, other.file(NEW)),
        ("an old one of another log", OLD, other.file(OLD)),
        ("the newest in the place of the old", OLD, victim.file(NEW)),
        ("the old in the place of the newest", NEW, victim.file(OLD)),
        ("the newest once more as the next", &segment_path(1, 0, 3), victim.file(NEW)),
    ];
    for (what, path, bytes) in cases {
        assert_eq!(victim.fate_with(path, &bytes, what), Fate::Refused, "{what}");
    }
    assert_eq!(victim.fate(&victim.without(OLD), "the old one missing"), Fate::Refused);
    // Only the newest segment itself says that it exists.
    assert_eq!(victim.fate(&victim.without(NEW), "the newest missing"), Fate::Prefix(60));
    // Names that no segment has, and a number that none can have.
    for name in ["1.wal", "0000000000.wal", "0000000001.wal.old", "+000000003.wal"] {
        let path = format!("/log/generation-00001/shard-0000/{name}");
        assert_eq!(victim.fate_of_open(&victim.with(&path, b"junk"), name), Fate::Whole);
    }
    // After the largest number there is no next one.
    for (number, fate) in [(u64::MAX, Fate::Whole), (1 << 62, Fate::Refused)] {
        let fs = victim.with(&segment_path(1, 0, number), b"");
        assert_eq!(victim.fate_of_open(&fs, "the last number"), fate, "{number}");
    }
}

#[test]
fn exchanged_shards_and_generations_are_refused() {
    let fs = SimFileSystem::with_dir("/log");
    for shards in [2, 3, 2] {
        let log = ShardedWal::open(config(&fs, shards)).unwrap();
        (0..12_u64).for_each(|key| {
            log.append(key, vec![9; 50]).wait().unwrap();
        });
        log.close().unwrap();
    }
    let rows = raw::read(&fs).unwrap().0;
    let all = Victim { files: files(&fs), rows, opens: AtomicU64::new(0) };
    let segments = [segment_path(1, 0, 1), segment_path(1, 1, 1), segment_path(2, 0, 1)];
    for to in &segments {
        for from in segments.iter().filter(|from| *from != to) {
            let what = format!("{from} as {to}");
            assert_eq!(all.fate_with(to, &all.file(from), &what), Fate::Refused, "{what}");
        }
        assert_eq!(all.fate(&all.without(to), to), Fate::Refused, "without {to}");
    }
    let mark_file = raw::mark_path(1, 1);
    assert_eq!(all.fate(&all.without(&mark_file), "no mark file"), Fate::Refused);
}

#[test]
fn a_changed_manifest_is_refused() {
    const MANIFEST: &str = "/log/MANIFEST";
    let victim = &*VICTIM;
    let text = victim.file(MANIFEST);
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone();
            bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            assert_eq!(victim.fate_with(MANIFEST, &bytes, &what), Fate::Refused, "{what}");
        }
        let what = format!("{at} bytes left");
        assert_eq!(victim.fate_with(MANIFEST, &text[..at], &what), Fate::Refused, "{what}");
    }
    let mut random = raw::seed_of_this_run();
    for round in 0..200 {
        let byte = |_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random.to_le_bytes()[0]
        };
        let bytes: Vec<u8> = (0..round * 7).map(byte).collect();
        let what = format!("random bytes, round {round}");
        assert_eq!(victim.fate_with(MANIFEST, &bytes, &what), Fate::Refused, "{what}");
    }
    assert_eq!(victim.fate(&victim.without(MANIFEST), "no manifest"), Fate::Refused);
}
