//! Segments in recycled files of truncated segments. The old bytes are never read as
//! records, and never count as a torn tail or as corruption, for any power loss and any
//! reader.
//!
//! Holds R3 FRESH (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::delegate::delegate;
use crate::support::ledger::Ledger;
use crate::support::{DIR, Random, config, must_end, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::{
    Config, Durability, LogReader, OnCorruption, OpenError, Repair, ReplayError, ReplayOptions,
    ShardedWal,
};

const SHARD: &str = "/wal/generation-00001/shard-0000";

fn files(fs: &SimFileSystem, extension: &str) -> Vec<PathBuf> {
    let mut files = fs.files();
    files.retain(|path| path.extension().is_some_and(|it| it == extension));
    files
}

fn append(log: &ShardedWal, ledger: &mut Ledger, records: usize, length: usize) {
    (0..records).for_each(|_| ledger.append(log, 1, length).expect("a sound disk"));
}

fn truncate(log: &ShardedWal, ledger: &mut Ledger) {
    let checkpoint = log.durable_checkpoint();
    ledger.truncated(&replayed(log).below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
}

/// At least four records of this length per segment: several times the bytes that are
/// blanked when a file is recycled.
fn config_for(fs: &SimFileSystem, length: usize) -> Config {
    config(fs).segment_bytes((4 * length as u64).max(16_384))
}

/// A log whose live segment is in a recycled file, with old bytes behind its records.
/// The number of attempts depends on the housekeeping thread.
fn log_in_a_recycled_file(fs: &SimFileSystem, ledger: &mut Ledger, length: usize) -> ShardedWal {
    let log = open(config_for(fs, length));
    for _ in 0..10_000 {
        append(&log, ledger, 1, length);
        std::thread::yield_now();
        if log.stats().total.rolls > 3 && stale_bytes(fs) > 2 * length {
            return log;
        }
        truncate(&log, ledger);
    }
    panic!("no recycled segment was used: {:?}", fs.files());
}

/// The segment that is being written; the one after it may be prepared.
fn live_segment(fs: &SimFileSystem) -> (PathBuf, Vec<u8>) {
    let read = |path: PathBuf| (path.clone(), fs.read_file(path).expect("it is there"));
    let begun = |(_, bytes): &(_, Vec<u8>)| bytes.starts_with(b"shardwal");
    files(fs, "wal").into_iter().map(read).rfind(begun).expect("there is a segment")
}

/// The number of nonzero bytes after the first 24 zeros of the segment.
fn stale_bytes(fs: &SimFileSystem) -> usize {
    let (_, bytes) = live_segment(fs);
    let blank = bytes.windows(24).position(|window| window == [0; 24]);
    blank.map_or(0, |blank| bytes[blank..].iter().filter(|byte| **byte != 0).count())
}

/// Commits with direct I/O, at either block size, and through the cache.
fn file_systems() -> [SimFileSystem; 3] {
    [Some(512), Some(4096), None].map(|block| {
        let fs = SimFileSystem::new();
        fs.set_direct_io_alignment(block);
        fs
    })
}

#[test]
fn old_bytes_of_a_recycled_file_are_no_record_no_torn_tail_and_no_corruption() {
    for fs in file_systems() {
        for length in [300, 1000, 5000] {
            let fs = fs.copy();
            let mut ledger = Ledger::default();
            let log = log_in_a_recycled_file(&fs, &mut ledger, length);
            let live = LogReader::open_in(Arc::new(fs.clone()), DIR).unwrap();
            assert_eq!((live.report().torn_bytes(), live.report().corruption().next()), (0, None));
            let after = fs.crash(&mut || false);
            drop(log);
            let log = open(config_for(&after, length));
            let shard = &log.recovery().shards[0];
            assert_eq!((shard.torn_bytes, shard.torn_records), (0, 0));
            ledger.check(&replayed(&log));
        }
    }
}

/// One more commit, torn in every way that 4,000 random draws find.
#[test]
fn a_torn_commit_over_old_bytes_is_cut_and_earlier_records_stay() {
    let mut random = Random::new(seed());
    for fs in file_systems() {
        let mut ledger = Ledger::default();
        let log = log_in_a_recycled_file(&fs, &mut ledger, 1000);
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
        ledger.append(&log, 1, 1500).unwrap_err();
        for _ in 0..4000 {
            let after = fs.crash(&mut || random.flip());
            let reader = LogReader::open_in(Arc::new(after.clone()), DIR).unwrap();
            assert_eq!(reader.report().corruption().next(), None);
            let torn = reader.report().torn_bytes();
            assert!(torn <= 1500 + 88 + 24 + 24, "{torn} torn bytes of one commit");
            if random.below(40) == 0 {
                let log = open(config_for(&after, 1000));
                ledger.clone().check(&replayed(&log));
            }
        }
    }
}

#[test]
fn a_power_loss_at_any_call_while_a_file_is_recycled_loses_nothing() {
    let mut random = Random::new(seed());
    for fs in file_systems() {
        for nth in 1.. {
            let (fs, mut ledger) = (fs.copy(), Ledger::default());
            let log = open(config(&fs));
            append(&log, &mut ledger, 9, 1500);
            truncate(&log, &mut ledger);
            fs.fail(Fault::new(Call::Any, nth, FaultKind::TornPowerCut));
            let answers = [(); 12].map(|()| ledger.append(&log, 1, 1500).is_ok());
            for survives in [0, 1, 2, 2, 2, 2, 2, 2, 2] {
                let after = fs.crash(&mut || survives == 1 || survives == 2 && random.flip());
                let log = open(config(&after));
                let mut ledger = ledger.clone();
                ledger.check(&replayed(&log));
                ledger.append(&log, 1, 1500).unwrap();
                ledger.check(&replayed(&log));
            }
            if !answers.contains(&false) {
                break;
            }
        }
    }
}

#[test]
fn bit_rot_in_a_recycled_file_is_corruption_and_repair_ignores_old_bytes() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_in_a_recycled_file(&fs, &mut ledger, 1000);
    let (newest, _) = live_segment(&fs);
    append(&log, &mut ledger, 2, 1000);
    let found = replayed(&log);
    let fs = fs.crash(&mut || false);
    drop(log);
    let bytes = fs.read_file(&newest).unwrap();
    for at in [3, 88 + 5, 88 + 500] {
        let mut rotten = bytes.clone();
        rotten[at] ^= 4;
        let fs = fs.copy();
        fs.write_file(&newest, &rotten);
        let config = config_for(&fs, 1000);
        let refused = ShardedWal::open(config.clone());
        assert!(matches!(refused, Err(OpenError::Corrupted(_))), "byte {at}");
        let log = open(config.on_corruption(OnCorruption::Quarantine));
        let left = replayed(&log).records;
        assert!(at == 3 || left.len() + 2 > found.records.len(), "byte {at}: {}", left.len());
        assert!(left.iter().all(|record| found.records.contains(record)), "byte {at}");
    }
}

mod kept_over_an_open {
    use super::*;

    /// A closed log with two recycled segments. A segment requested during the close
    /// may have taken one.
    pub(super) fn with_recycled() -> (SimFileSystem, Ledger) {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        for _ in 0..1000 {
            let log = open(config(&fs));
            append(&log, &mut ledger, 15, 1500);
            truncate(&log, &mut ledger);
            log.close().unwrap();
            if files(&fs, "spare").len() == 2 {
                return (fs, ledger);
            }
        }
        panic!("no segment is kept for recycling: {:?}", fs.files());
    }

    /// Appends until no recycled segment is left.
    fn use_up(fs: &SimFileSystem, log: &ShardedWal, ledger: &mut Ledger) {
        for _ in 0..1000 {
            if files(fs, "spare").is_empty() {
                return;
            }
            append(log, ledger, 1, 1500);
        }
        panic!("recycled segments are not used: {:?}", fs.files());
    }

    #[test]
    fn recycled_segments_are_used_by_the_next_process() {
        let (fs, mut ledger) = with_recycled();
        let log = open(config(&fs));
        assert_eq!(files(&fs, "spare").len(), 2);
        use_up(&fs, &log, &mut ledger);
        ledger.check(&replayed(&log));
        // New files get unused names.
        truncate(&log, &mut ledger);
        use_up(&fs, &log, &mut ledger);
        ledger.check(&replayed(&log));
    }

    #[test]
    fn recycled_segments_above_the_limit_are_removed() {
        for (recycled_max, left) in [(2, 2), (1, 1), (0, 0)] {
            let (fs, mut ledger) = with_recycled();
            let log = open(config(&fs).recycled_segments_max(recycled_max));
            assert_eq!(files(&fs, "spare").len(), left);
            for _ in 0..20 {
                append(&log, &mut ledger, 3, 1500);
                truncate(&log, &mut ledger);
            }
            // A file that becomes a segment keeps its old name for a moment.
            log.close().unwrap();
            assert!(files(&fs, "spare").len() <= recycled_max);
        }
    }

    #[test]
    fn recycled_segments_are_removed_in_buffered_mode_and_on_copy_on_write() {
        let (fs, _) = with_recycled();
        drop(open(config(&fs).durability(Durability::Buffered)));
        assert_eq!(files(&fs, "spare").len(), 0);
        let (fs, _) = with_recycled();
        fs.set_copy_on_write(true);
        drop(open(config(&fs)));
        assert_eq!(files(&fs, "spare").len(), 0);
    }

    #[test]
    fn recycled_segments_of_an_earlier_generation_are_removed() {
        let (fs, mut ledger) = with_recycled();
        let log = open(config(&fs).shards(2));
        assert_eq!(files(&fs, "spare").len(), 0);
        ledger.check(&replayed(&log));
    }

    #[test]
    fn recycled_segments_of_another_size_are_not_used() {
        for segment_bytes in [16_384, 4096] {
            let (fs, mut ledger) = with_recycled();
            for (number, recycled) in files(&fs, "spare").into_iter().enumerate() {
                fs.write_file(recycled, &vec![7; [4095, 5 * 16_384][number]]);
            }
            let log = open(config(&fs).segment_bytes(segment_bytes));
            use_up(&fs, &log, &mut ledger);
            append(&log, &mut ledger, 30, 1500);
            for path in files(&fs, "wal") {
                assert!(fs.read_file(&path).unwrap().len() < 5 * 16_384, "{path:?}");
            }
            ledger.check(&replayed(&log));
        }
    }

    /// The file name marks it as no segment, whatever its content.
    #[test]
    fn the_content_of_a_recycled_segment_is_ignored() {
        let (fs, mut ledger) = with_recycled();
        let segment = fs.read_file(files(&fs, "wal").pop().unwrap()).unwrap();
        for recycled in files(&fs, "spare") {
            let mut bytes = segment.clone();
            bytes.resize(5000, 0xff);
            fs.write_file(recycled, &bytes);
        }
        let log = open(config(&fs));
        ledger.check(&replayed(&log));
        use_up(&fs, &log, &mut ledger);
        let after = fs.crash(&mut || false);
        ledger.check(&replayed(&open(config(&after))));
    }
}

mod where_room_is_scarce {
    use super::*;

    #[test]
    fn no_segment_is_kept_for_recycling() {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(config(&fs));
        append(&log, &mut ledger, 20, 1500);
        // One page plus one segment is not enough room.
        fs.set_capacity(Some(0));
        truncate(&log, &mut ledger);
        assert_eq!(files(&fs, "spare").len(), 0);
    }

    #[test]
    fn recycled_segments_are_deleted() {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(config(&fs).free_space_low_bytes(1));
        while files(&fs, "spare").is_empty() {
            append(&log, &mut ledger, 3, 1500);
            truncate(&log, &mut ledger);
        }
        fs.set_capacity(Some(0));
        must_end("housekeeping", move || {
            while !files(&fs, "spare").is_empty() {
                std::thread::yield_now();
            }
            // Not earlier, because housekeeping ends with the log.
            drop(log);
        });
    }

    #[test]
    fn open_deletes_recycled_segments_and_uses_their_room() {
        let (fs, mut ledger) = kept_over_an_open::with_recycled();
        let plenty = 1 << 30;
        fs.set_capacity(Some(plenty));
        let free = fs.free_bytes(DIR.as_ref()).unwrap().unwrap();
        fs.set_capacity(Some(plenty - free));
        let log = open(config(&fs));
        assert_eq!(files(&fs, "spare").len(), 0);
        append(&log, &mut ledger, 1, 1500);
        ledger.check(&replayed(&log));
    }

    /// A name longer than the old one may need a block of the directory.
    #[test]
    fn a_segment_that_cannot_be_recycled_is_deleted() {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(config(&fs));
        append(&log, &mut ledger, 20, 1500);
        let no_room = Fault::new(Call::Rename, 1, FaultKind::Error(crate::support::ENOSPC));
        fs.fail(Fault { sticky: true, ..no_room });
        let before = files(&fs, "wal").len();
        truncate(&log, &mut ledger);
        assert_eq!(files(&fs, "spare").len(), 0);
        assert!(files(&fs, "wal").len() < before);
        fs.clear_faults();
        append(&log, &mut ledger, 20, 1500);
        ledger.check(&replayed(&log));
    }
}

mod ready_when_open_returns {
    use super::*;

    #[test]
    fn the_first_commits_go_to_preallocated_segments() {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let big = 1 << 20;
        let config = |fs: &SimFileSystem| {
            let config = Config::new(DIR).file_system(Arc::new(fs.clone())).shards(1);
            config.segment_bytes(big).recycled_segments_max(3).preallocated_segments(2)
        };
        let log = open(config(&fs));
        let recycled_max = files(&fs, "spare");
        assert_eq!(recycled_max.len(), 2);
        assert!(recycled_max.iter().all(|path| fs.read_file(path).unwrap() == vec![0; 1 << 20]));
        let wait_for_the_roll = |ledger: &mut Ledger| {
            while log.stats().total.rolls == 0 {
                ledger.append(&log, 1, 100).unwrap();
            }
        };
        wait_for_the_roll(&mut ledger);
        assert!(files(&fs, "spare").len() <= 1);
        let segments = files(&fs, "wal");
        assert_eq!(fs.read_file(&segments[1]).unwrap().len() as u64, big);
        log.close().unwrap();
        drop(open(config(&fs)));
        assert_eq!(files(&fs, "spare").len(), 2, "open preallocates one more");
        ledger.check(&replayed(&open(config(&fs))));
    }

    /// Preallocated segments only improve speed.
    #[test]
    fn an_open_that_cannot_preallocate_segments_continues_without_them() {
        let fs = SimFileSystem::with_dir(DIR);
        let fault =
            crate::support::fault_at(".spare", Call::Write, FaultKind::Error(crate::support::EIO));
        // One error with direct I/O, one through the cache.
        fs.fail(Fault { sticky: true, ..fault });
        let log = open(config(&fs).preallocated_segments(1));
        assert_eq!((fs.fired(), files(&fs, "spare").len()), (2, 0));
        append(&log, &mut Ledger::default(), 9, 1500);
    }

    #[test]
    fn more_preallocated_than_recycled_segments_are_refused() {
        let fs = SimFileSystem::with_dir(DIR);
        let asked = ShardedWal::open(config(&fs).recycled_segments_max(1).preallocated_segments(2));
        assert!(matches!(
            asked,
            Err(OpenError::InvalidConfig { setting: "preallocated_segments", .. })
        ));
    }
}

mod beside_a_reader {
    use super::*;

    /// A reader opens the file by name, and the content changes under it. The segment
    /// is gone, which is no corruption.
    /// Whether the segment is recycled before the replay has opened it depends on the thread that
    /// prepares segments. If it is not, the replay has every record.
    #[test]
    fn a_replay_of_a_segment_recycled_meanwhile_reports_it_as_gone() {
        assert!((0..20).any(|_| is_reported_as_gone()), "it never was");
    }

    fn is_reported_as_gone() -> bool {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = Arc::new(open(config(&fs).segment_bytes(1 << 17)));
        append(&log, &mut ledger, 100, 5000);
        let acted = AtomicBool::new(false);
        let options = ReplayOptions::default().threads(1).memory_bytes(1);
        let replayed = log.replay(options, |record| {
            // Not in the first segment, which the writer left before it was full.
            if record.position().sequence >= 20 && !acted.swap(true, Relaxed) {
                log.truncate_before(&log.durable_checkpoint()).unwrap();
                // Until every recycled file is full again.
                let rolls = log.stats().total.rolls + 32;
                while log.stats().total.rolls < rolls {
                    log.append(1, vec![7; 5000]).wait().unwrap();
                }
            }
            Ok::<_, std::convert::Infallible>(())
        });
        match replayed {
            Err(ReplayError::Log(OpenError::Io { path, source, .. })) => {
                assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
                assert!(path.starts_with(Path::new(SHARD)));
                true
            }
            Ok(report) => {
                assert_eq!(report.records, 100);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A file system that does not report its free bytes, as for a user with a quota.
#[derive(Debug)]
struct Mute(SimFileSystem);

impl FileSystem for Mute {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.0.open(path, mode)
    }

    delegate!(self => self.0);

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        self.0.copy_on_write(path)
    }
}

#[test]
fn a_truncation_frees_room_under_an_unreported_quota() {
    for keeps_some_already in [false, true] {
        let fs = SimFileSystem::new();
        let config = config_for(&fs, 1000).file_system(Arc::new(Mute(fs.clone())));
        let log = open(config.clone());
        let mut ledger = Ledger::default();
        append(&log, &mut ledger, 60, 1000);
        if keeps_some_already {
            truncate(&log, &mut ledger);
        }
        drop(log);
        let log = open(config);
        let used = |fs: &SimFileSystem| -> u64 {
            let pages = |path: PathBuf| fs.read_file(path).map_or(0, |it| it.len().div_ceil(4096));
            fs.files().into_iter().map(|path| pages(path) as u64 * 4096).sum()
        };
        fs.set_capacity(Some(used(&fs)));
        ledger.append(&log, 1, 6000).expect_err("the quota is used up");
        truncate(&log, &mut ledger);
        // At once, not at the next round of the housekeeping thread.
        assert_eq!(files(&fs, "spare").len(), 0, "the truncation keeps files");
        let taken = (0..1000).any(|_| {
            std::thread::yield_now();
            ledger.append(&log, 1, 3000).is_ok()
        });
        assert!(taken, "the truncation frees no room");
    }
}

#[test]
fn a_recycled_segment_with_a_reused_number_is_not_used() {
    let fs = SimFileSystem::new();
    let config = config_for(&fs, 1000);
    let (log, mut ledger) = (open(config.clone()), Ledger::default());
    // Until a recycled file was segment 3.
    let was = |path: &PathBuf| fs.read_file(path).and_then(|it| it.get(40).copied());
    let third = || files(&fs, "spare").into_iter().find(|path| was(path) == Some(3));
    let third = loop {
        append(&log, &mut ledger, 1, 1000);
        truncate(&log, &mut ledger);
        if let Some(third) = third() {
            break fs.read_file(third).unwrap();
        }
    };
    drop(log);
    files(&fs, "wal").iter().for_each(|path| fs.unlink(path).unwrap());
    Repair::new(DIR).file_system(Arc::new(fs.clone())).run("/wal/quarantine").unwrap();
    assert_eq!(files(&fs, "spare"), Vec::<PathBuf>::new(), "numbers begin again");
    // The file is not used either if it is put back by hand.
    fs.write_file(Path::new(SHARD).join("0000000001.spare"), &third);
    for round in 0..40 {
        let log = open(config.clone());
        log.append(1, vec![round; 1000]).wait().unwrap();
        drop(log);
    }
}

/// As on Windows, where a write to a recycled file could change a backup.
#[test]
fn where_links_cannot_be_counted_nothing_is_recycled() {
    let (fs, mut ledger) = (SimFileSystem::with_dir(DIR), Ledger::default());
    let config = || config_for(&fs, 1000).recycled_segments_max(2).preallocated_segments(2);
    open(config()).close().unwrap();
    assert_eq!(files(&fs, "spare").len(), 2, "they are counted");
    fs.set_counts_links(false);
    let log = open(config());
    for _ in 0..5 {
        assert_eq!(files(&fs, "spare"), Vec::<PathBuf>::new());
        append(&log, &mut ledger, 40, 1000);
        truncate(&log, &mut ledger);
    }
    append(&log, &mut ledger, 40, 1000);
    log.close().unwrap();
    ledger.check(&replayed(&open(config())));
}

#[test]
fn a_hard_linked_file_is_not_overwritten() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backup = scratch.path().join("backup");
    std::fs::create_dir(&backup).unwrap();
    let config = Config::new(scratch.path().join("log")).shards(1).segment_bytes(16 << 10);
    let log = ShardedWal::open(config).unwrap();
    for _ in 0..100 {
        log.append_wait(1, &[1; 1000]).unwrap();
    }
    let shard = scratch.path().join("log/generation-00001/shard-0000");
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(shard).unwrap() {
        let path = entry.unwrap().path();
        let copy = backup.join(path.file_name().unwrap());
        if path.extension().is_some_and(|it| it == "wal") {
            std::fs::hard_link(&path, &copy).unwrap();
            kept.push((copy.clone(), std::fs::read(&copy).unwrap()));
        }
    }
    kept.sort();
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    for _ in 0..200 {
        log.append_wait(1, &[2; 1000]).unwrap();
    }
    log.close().unwrap();
    // The last segment was live or prepared when it was linked.
    let finished = kept.len() - 2;
    for (path, bytes) in kept.into_iter().take(finished) {
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{} was written over", path.display());
    }
}
