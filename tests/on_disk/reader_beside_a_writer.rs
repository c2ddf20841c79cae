//! A reader beside a live writer. Changes during the read are not reported as
//! corruption, and real corruption is.
//!
//! The writer acts at a chosen call of the reader, so that each race happens every
//! time: a truncation between the truncation mark and the listing, a commit between the
//! last frame and the check behind it, a reshard between the manifest and the shards.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::raw::{self, files, push_frame, segment_path};
use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::{Config, LogReader, OpenError, RecoveryReport, ReplayOptions, ShardedWal};

const SHARD: &str = "/log/generation-00001/shard-0000";

/// An action of the writer, run once before the reader's n-th such call.
struct Meanwhile {
    call: &'static str,
    path: String,
    nth: usize,
    act: Option<Box<dyn FnOnce() + Send>>,
}

/// The file system of the reader.
#[derive(Clone)]
struct Watched {
    fs: SimFileSystem,
    meanwhile: Arc<Mutex<Vec<Meanwhile>>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

impl Watched {
    fn new(fs: &SimFileSystem) -> Self {
        Self { fs: fs.clone(), meanwhile: Arc::default() }
    }

    fn before(
        self,
        call: &'static str,
        path: &str,
        nth: usize,
        act: impl FnOnce() + Send + 'static,
    ) -> Self {
        let act: Option<Box<dyn FnOnce() + Send>> = Some(Box::new(act));
        let meanwhile = Meanwhile { call, path: path.into(), nth, act };
        self.meanwhile.lock().unwrap().push(meanwhile);
        self
    }

    fn came_to(&self, call: &str, path: &Path) {
        let mut due = Vec::new();
        for meanwhile in self.meanwhile.lock().unwrap().iter_mut() {
            if meanwhile.call == call && Path::new(&meanwhile.path) == path && meanwhile.nth > 0 {
                meanwhile.nth -= 1;
                due.extend(if meanwhile.nth == 0 { meanwhile.act.take() } else { None });
            }
        }
        due.into_iter().for_each(|act| act());
    }

    /// Reads the log. Every planned action must have run.
    fn read(&self) -> Result<(Vec<u64>, RecoveryReport), OpenError> {
        let reader = LogReader::open_in(Arc::new(self.clone()), "/log")?;
        let left = self.meanwhile.lock().unwrap().iter().filter(|one| one.act.is_some()).count();
        assert_eq!(left, 0, "the reader never came to that call");
        let keys = Mutex::new(Vec::new());
        let replayed = reader.replay(ReplayOptions::default().threads(1), |record| {
            keys.lock().unwrap().push(record.key());
            Ok::<_, std::convert::Infallible>(())
        });
        replayed.unwrap();
        Ok((keys.into_inner().unwrap(), reader.report().clone()))
    }
}

impl FileSystem for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        assert_eq!(mode, OpenMode::Read, "a reader only reads");
        self.came_to("open", path);
        self.fs.open(path, mode)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.came_to("list", path);
        self.fs.list(path)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        panic!("a reader only reads")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        panic!("a reader only reads")
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("a reader only reads")
    }
    fn unlink(&self, _: &Path) -> io::Result<()> {
        panic!("a reader only reads")
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        panic!("a reader only reads")
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn FileHandle>> {
        panic!("a reader only reads")
    }
}

/// One shard and the smallest segments. Zeros are written ahead, so that files do not
/// grow with each commit.
fn config(fs: &SimFileSystem, shards: usize) -> Config {
    Config::new("/log").file_system(Arc::new(fs.clone())).shards(shards).segment_bytes(4096)
}

/// A log that stays open, with records of the keys `0..records`.
fn live(records: u64) -> (SimFileSystem, Arc<ShardedWal>) {
    let fs = SimFileSystem::with_dir("/log");
    let log = Arc::new(ShardedWal::open(config(&fs, 1)).unwrap());
    append(&log, 0..records);
    (fs, log)
}

fn append(log: &ShardedWal, keys: std::ops::Range<u64>) {
    for key in keys {
        log.append(key, vec![5; 200]).wait().unwrap();
    }
}

fn truncate(log: &ShardedWal) {
    let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
    assert!(report.segments > 0, "nothing was truncated");
}

fn assert_intact(report: &RecoveryReport) {
    assert_eq!(report.corruption().next(), None);
}

#[test]
fn a_truncation_after_the_mark_was_read_is_no_corruption() {
    let (fs, log) = live(100);
    let watched = Watched::new(&fs).before("list", SHARD, 2, move || truncate(&log));
    let (keys, report) = watched.read().unwrap();
    assert_intact(&report);
    assert_eq!(keys, [0; 0], "all of it was truncated");
}

#[test]
fn a_segment_deleted_after_the_listing_is_no_failure() {
    let (fs, log) = live(100);
    let oldest = segment_path(1, 0, 1);
    let watched = Watched::new(&fs).before("open", &oldest, 1, move || truncate(&log));
    let (keys, report) = watched.read().unwrap();
    assert_intact(&report);
    assert_eq!(keys, [0; 0], "all of it was truncated");
}

#[test]
fn a_segment_missing_in_two_scans_is_reported() {
    let (fs, _log) = live(100);
    let (again, gone) = (fs.clone(), segment_path(1, 0, 2));
    let victim = gone.clone();
    let watched = Watched::new(&fs).before("open", &gone, 1, move || again.remove_file(victim));
    let (_, report) = watched.read().unwrap();
    let corruption = report.corruption().next().expect("it is missing");
    assert_eq!(corruption.file, Path::new(&gone));
}

/// A log whose second segment has its name and no content yet. A reader finds a blank
/// header, and records by the time it searches the segment.
fn a_header_that_comes_while_it_is_missed() -> (Arc<ShardedWal>, Watched) {
    // The last of these records fills half of the first segment, which requests the
    // second.
    let (fs, log) = live(9);
    let second = segment_path(1, 0, 2);
    while fs.read_file(&second).is_none() {
        std::thread::yield_now();
    }
    let (writer, files, third) = (log.clone(), fs.clone(), segment_path(1, 0, 3));
    let fill_it = move || {
        for key in 9.. {
            append(&writer, key..key + 1);
            if files.read_file(&third).is_some_and(|bytes| bytes.first().is_some_and(|b| *b != 0)) {
                break;
            }
        }
    };
    (log, Watched::new(&fs).before("open", &second, 2, fill_it))
}

/// The second scan lists the segment, and a truncation removes it before the scan opens
/// it. The truncation comes at the third segment, which the first scan did not know.
#[test]
fn a_segment_with_a_late_header_that_is_then_deleted_is_no_failure() {
    let (log, watched) = a_header_that_comes_while_it_is_missed();
    let watched = watched.before("open", &segment_path(1, 0, 3), 1, move || truncate(&log));
    let (_, report) = watched.read().unwrap();
    assert_intact(&report);
}

/// The second scan does not list the segment, and read the truncation mark too early to
/// know why. Each scan lists the directory twice: for marks in file names, then for
/// segments.
#[test]
fn a_segment_with_a_late_header_that_is_then_unlisted_is_no_corruption() {
    let (log, watched) = a_header_that_comes_while_it_is_missed();
    let watched = watched.before("list", SHARD, 4, move || truncate(&log));
    let (_, report) = watched.read().unwrap();
    assert_intact(&report);
}

/// The reader reads the header, then the frames. The third read checks the bytes behind
/// the last frame.
#[test]
fn commits_after_the_end_of_the_scan_are_no_corruption() {
    let (fs, log) = live(3);
    let segment = segment_path(1, 0, 1);
    let watched = Watched::new(&fs).before("open", &segment, 3, move || append(&log, 3..8));
    let (keys, report) = watched.read().unwrap();
    assert_intact(&report);
    assert!(keys.len() >= 3, "{keys:?}");
    assert_eq!(report.torn_bytes(), 0, "later writes are no torn tail");
}

#[test]
fn segments_added_during_a_read_are_no_corruption() {
    for nth in 1..=3 {
        let (fs, log) = live(3);
        let segment = segment_path(1, 0, 1);
        let watched = Watched::new(&fs).before("open", &segment, nth, move || append(&log, 3..90));
        let (keys, report) = watched.read().unwrap();
        assert_intact(&report);
        assert!(keys.len() >= 3 && keys.iter().copied().eq(0..keys.len() as u64), "{keys:?}");
    }
}

#[test]
fn a_reshard_during_a_read_is_not_reported_as_an_old_manifest() {
    let (fs, log) = live(10);
    let again = fs.clone();
    let watched = Watched::new(&fs).before("list", SHARD, 2, move || {
        log.close().unwrap();
        let log = ShardedWal::open(config(&again, 2)).unwrap();
        append(&log, 10..20);
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        append(&log, 20..30);
        log.close().unwrap();
    });
    let (mut keys, report) = watched.read().unwrap();
    assert_intact(&report);
    keys.sort_unstable();
    assert!(keys.iter().copied().eq(20..30), "{keys:?}");
    assert_eq!(report.shards.len(), 3);
}

#[test]
fn corruption_beside_a_writer_is_reported_with_its_position() {
    let (fs, log) = live(100);
    let path = segment_path(1, 0, 2);
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[1000] ^= 1;
    fs.write_file(&path, &bytes);
    let newest = segment_path(1, 0, 3);
    let watched = Watched::new(&fs).before("open", &newest, 1, move || append(&log, 100..110));
    let (_, report) = watched.read().unwrap();
    let corruption = report.corruption().next().expect("a bit was flipped");
    assert_eq!(corruption.file, Path::new(&path));
    assert!((88..=1000).contains(&corruption.offset), "{corruption}");
}

/// A second scan must not accept a frame that contradicts the log as a new one. Open
/// refuses it too.
#[test]
fn a_frame_that_contradicts_the_log_is_corruption_to_a_reader_too() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(raw::config(&fs, 1)).unwrap();
    append(&log, 0..6);
    log.close().unwrap();
    let path = segment_path(1, 0, 1);
    let mut segment = fs.read_file(&path).unwrap();
    let end = segment.len() as u64;
    push_frame(&mut segment, 1, 1, 2, 0, &[&9_u64.to_le_bytes()[..], &[2], b"ab"].concat());
    push_frame(&mut segment, 2, 0, 20, 0, b"");
    fs.write_file(&path, &segment);
    let before = files(&fs);
    let refused = ShardedWal::open(raw::config(&fs, 1)).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupted(_)), "{refused}");
    let (keys, report) = Watched::new(&fs).read().unwrap();
    let corruption = report.corruption().next().expect("open refuses it");
    assert_eq!((corruption.offset, corruption.first_sequence), (end, 6));
    assert_eq!(keys, [0, 1, 2, 3, 4, 5]);
    assert_eq!(files(&fs), before);
}
