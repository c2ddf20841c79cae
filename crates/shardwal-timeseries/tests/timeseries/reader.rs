//! A reader beside the writer: it changes nothing, and misses nothing that was acknowledged.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use crate::support::delegate::delegate;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal_timeseries::{
    Labels, Sample, Storage, StorageError, StorageOptions, StorageReader, TimeSeries,
};

fn open(fs: &SimFileSystem) -> Storage {
    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(2);
    Storage::open(StorageOptions::new(config.segment_bytes(4096))).expect("it opens")
}

fn read(fs: &SimFileSystem) -> Result<Vec<TimeSeries>, StorageError> {
    let reader = StorageReader::open_in(Arc::new(fs.clone()), "/db")?;
    assert_eq!((reader.report().corruption().count(), reader.lost_batches()), (0, 0));
    Ok(reader.query(&[], i64::MIN..=i64::MAX))
}

fn write(storage: &Storage, time: i64) {
    let labels = |host: i64| Labels::new([("host", host.to_string())]).expect("they are valid");
    let samples = vec![Sample::new(time, 0.5)];
    let one = |host| TimeSeries::new(labels(host), samples.clone());
    storage.write_batch(&(0..4).map(one).collect::<Vec<_>>()).expect("there is room");
}

fn files(fs: &SimFileSystem) -> Vec<(std::path::PathBuf, Option<Vec<u8>>)> {
    fs.files().into_iter().map(|path| (path.clone(), fs.read_file(path))).collect()
}

#[test]
fn a_reader_finds_what_the_storage_has_and_changes_nothing() {
    let fs = SimFileSystem::with_dir("/db");
    assert!(matches!(read(&fs), Err(StorageError::Log(_))), "there is no log");
    let storage = open(&fs);
    (0..20).for_each(|time| write(&storage, time));
    storage.snapshot().unwrap();
    (20..40).for_each(|time| write(&storage, time));
    let before = files(&fs);
    assert_eq!(read(&fs).unwrap(), storage.query(&[], i64::MIN..=i64::MAX));
    storage.close().unwrap();
    drop(storage);
    assert_eq!(read(&fs).unwrap().iter().map(|series| series.samples.len()).sum::<usize>(), 160);
    assert!(before.iter().all(|(path, _)| fs.files().contains(path)));
    // A log that was truncated has no beginning without its snapshot.
    let without = fs.crash(&mut || true);
    without.remove_file("/db/snapshot");
    assert!(matches!(read(&without), Err(StorageError::SnapshotTooOld { .. })));
}

/// The writer truncates the log while the reader reads it.
#[test]
fn a_reader_beside_snapshots_finds_what_was_acknowledged() {
    let fs = SimFileSystem::with_dir("/db");
    let storage = open(&fs);
    write(&storage, 0);
    let (written, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for time in 1.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                write(&storage, time);
                written.store(time, Ordering::Relaxed);
                if time % 20 == 0 {
                    storage.snapshot().unwrap();
                }
            }
        });
        for _ in 0..50 {
            let acknowledged = written.load(Ordering::Relaxed);
            let found = read(&fs).unwrap_or_else(|error| panic!("{error}"));
            for series in &found {
                let times = series.samples.iter().map(|sample| sample.timestamp_ms);
                let expected = 0..i64::try_from(series.samples.len()).unwrap();
                assert!(times.eq(expected), "{}", series.labels);
                assert!(series.samples.len() as i64 > acknowledged, "{}", series.labels);
            }
            assert_eq!(found.len(), 4);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Opens the snapshot three times only after another one was taken.
#[derive(Debug)]
struct SnapshotFirst {
    fs: SimFileSystem,
    storage: Arc<Storage>,
    opens: AtomicI64,
}

impl FileSystem for SnapshotFirst {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        if path.ends_with("snapshot") {
            let time = self.opens.fetch_add(1, Ordering::Relaxed);
            if time <= 3 {
                write(&self.storage, time);
                self.storage.snapshot().expect("there is room");
            }
        }
        self.fs.open(path, mode)
    }
    delegate!(self => self.fs);
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
}

/// The reader has read the log, and the snapshot covers more.
#[test]
fn a_reader_begins_again_if_a_snapshot_is_taken_meanwhile() {
    let fs = SimFileSystem::with_dir("/db");
    let storage = Arc::new(open(&fs));
    write(&storage, 0);
    let beside = SnapshotFirst { fs, storage: storage.clone(), opens: AtomicI64::new(1) };
    let reader = StorageReader::open_in(Arc::new(beside), "/db").unwrap();
    let found = reader.query(&[], i64::MIN..=i64::MAX);
    assert_eq!(found.iter().map(|series| series.samples.len()).collect::<Vec<_>>(), [4; 4]);
}
