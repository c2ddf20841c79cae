//! Flips every bit of a 64 KiB segment, and truncates it at every length. The result
//! must be the whole log, a prefix where nothing says more, or an error that names the
//! position. Every image is read; a sample is opened for writing.
//!
//! `hostile_bytes.rs` covers other corruption of a smaller log.
//!
//! Holds R2 EXHAUSTIVE (ARCHITECTURE.md).

#![allow(clippy::print_stdout, reason = "the counts are printed")]

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use crate::raw::{self, Row, config, disk_of, files, frames, segment_path};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{OpenError, ShardedWal};

const SEGMENT_BYTES: usize = 64 << 10;
/// One image per this number is opened for writing too.
const OPENED_ONE_IN: usize = 1000;

/// A closed log. Segment 1 has at least this size, and segment 2 is small.
struct Victim {
    files: Vec<(PathBuf, Vec<u8>)>,
    rows: Vec<Row>,
}

fn write_victim() -> Victim {
    let fs = SimFileSystem::with_dir("/log");
    for (from, to) in [(0, 32), (32, 36)] {
        let log = ShardedWal::open(config(&fs, 1)).expect("a sound disk");
        for index in from..to {
            // Zeros, in which corruption is hardest to see, with nonzero bytes at each
            // end.
            let mut payload = vec![0; 2060 + index * 37 % 60];
            payload[..8].copy_from_slice(&index.to_le_bytes());
            payload.extend([0xff; 8]);
            log.append(index as u64, payload).wait().expect("a sound disk");
        }
        log.close().expect("a sound disk");
    }
    let rows = raw::read(&fs).expect("a sound log").0;
    assert_eq!(rows.len(), 36);
    Victim { files: files(&fs), rows }
}

/// The number of images per outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fates {
    whole: usize,
    prefix: usize,
    refused: usize,
}

impl Victim {
    fn segment(&self, number: u64) -> Vec<u8> {
        let path = PathBuf::from(segment_path(1, 0, number));
        let found = self.files.iter().find(|(name, _)| *name == path);
        found.expect("a segment of the victim").1.clone()
    }

    /// Reads the log with these bytes as the segment `number`.
    fn enter(&self, fs: &SimFileSystem, number: u64, bytes: &[u8], what: &str, fates: &mut Fates) {
        fs.write_file(segment_path(1, 0, number), bytes);
        let corrupted = match raw::read(fs) {
            Err(error) => {
                assert_says_where(&error, what);
                true
            }
            Ok((rows, report)) => {
                assert!(self.rows.starts_with(&rows), "{what}: {} rows, no prefix", rows.len());
                let corrupted = report.corruption().next().is_some();
                fates.whole += usize::from(!corrupted && rows.len() == self.rows.len());
                fates.prefix += usize::from(!corrupted && rows.len() < self.rows.len());
                corrupted
            }
        };
        fates.refused += usize::from(corrupted);
        if corrupted && fates.refused.is_multiple_of(OPENED_ONE_IN) {
            let before = files(fs);
            let refused = ShardedWal::open(config(fs, 1)).err();
            assert_says_where(&refused.unwrap_or_else(|| panic!("{what}: opened")), what);
            assert_eq!(files(fs), before, "{what}: open refused and changed something");
        }
    }

    /// An open must refuse these bytes at its first scan. A reader scans several times
    /// before it reports corruption, because a writer may be at work.
    fn refuse(&self, fs: &SimFileSystem, number: u64, bytes: &[u8], what: &str, fates: &mut Fates) {
        fs.write_file(segment_path(1, 0, number), bytes);
        let refused = ShardedWal::open(config(fs, 1)).err();
        assert_says_where(&refused.unwrap_or_else(|| panic!("{what}: opened")), what);
        fates.refused += 1;
    }

    /// Runs each index of `range` on one of two threads, each with a file system of its
    /// own.
    fn each(
        &self,
        range: Range<usize>,
        run: impl Fn(&SimFileSystem, usize, &mut Fates) + Sync,
    ) -> Fates {
        let half = range.start.midpoint(range.end);
        let flip_range = |range: Range<usize>| {
            let fs = disk_of(&self.files);
            let mut fates = Fates::default();
            range.for_each(|at| run(&fs, at, &mut fates));
            fates
        };
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| flip_range(half..range.end));
            let own = flip_range(range.start..half);
            (own, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        Fates {
            whole: a.whole + b.whole,
            prefix: a.prefix + b.prefix,
            refused: a.refused + b.refused,
        }
    }
}

fn assert_says_where(error: &OpenError, what: &str) {
    let file = match error {
        OpenError::Corrupted(corruption) => &corruption.file,
        OpenError::NewerFormat { file, .. } => file,
        error => panic!("{what}: {error}"),
    };
    assert!(file.to_string_lossy().ends_with(".wal"), "{what}: {error}");
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn every_flipped_bit_of_a_64_kib_segment_is_detected() {
    let (began, victim) = (Instant::now(), write_victim());
    let segment = victim.segment(1);
    let seal = frames(&segment).last().expect("a seal").offset;
    assert!(seal >= SEGMENT_BYTES, "{} bytes", segment.len());
    let fates = victim.each(0..SEGMENT_BYTES, |fs, at, fates| {
        let mut bytes = segment.clone();
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            if at % 64 == 0 {
                victim.enter(fs, 1, &bytes, &what, fates);
            } else {
                victim.refuse(fs, 1, &bytes, &what, fates);
            }
            bytes[at] ^= 1 << bit;
        }
    });
    println!("FIGURE flipped bits: {} of a segment", 8 * SEGMENT_BYTES);
    println!("{} flipped bits in {:.0?}: {fates:?}", 8 * SEGMENT_BYTES, began.elapsed());
    // A record follows each bit, and the next segment confirms the last one.
    assert_eq!(fates, Fates { whole: 0, prefix: 0, refused: 8 * SEGMENT_BYTES });
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn every_truncated_length_of_a_64_kib_segment_is_detected() {
    let (began, victim) = (Instant::now(), write_victim());
    let segment = victim.segment(1);
    let seal = frames(&segment).last().expect("a seal").offset;
    let fates = victim.each(0..seal, |fs, length, fates| {
        let what = format!("{length} bytes left");
        victim.refuse(fs, 1, &segment[..length], &what, fates);
    });
    println!("FIGURE truncated lengths: {seal} of a segment");
    println!("{seal} truncated lengths in {:.0?}: {fates:?}", began.elapsed());
    assert_eq!(fates, Fates { refused: seal, ..Fates::default() });
}

/// Only the content of the newest segment says where it ends.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn every_truncated_length_of_a_newest_64_kib_segment_leaves_a_prefix() {
    let (began, victim) = (Instant::now(), write_victim());
    let segment = victim.segment(1);
    let mut victim = Victim { rows: victim.rows[..32].to_vec(), ..victim };
    victim.files.retain(|(path, _)| path.as_os_str() != segment_path(1, 0, 2).as_str());
    let seal = frames(&segment).last().expect("a seal").offset;
    let fates = victim.each(0..segment.len(), |fs, length, fates| {
        victim.enter(fs, 1, &segment[..length], &format!("{length} bytes left"), fates);
    });
    println!("{} truncated lengths in {:.0?}: {fates:?}", segment.len(), began.elapsed());
    // A segment without a header is no segment, and is refused.
    assert_eq!(fates.refused, raw::HEADER_BYTES);
    assert_eq!(fates.whole, segment.len() - seal);
}
