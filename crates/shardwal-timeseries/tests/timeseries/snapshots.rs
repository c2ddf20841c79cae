//! A snapshot is written by the thread that asks for it. Writes go on, and no failure of that
//! thread harms them or the next snapshot.
//!
//! Holds S3 COMPLETE (ARCHITECTURE.md).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::delegate::delegate;
use crate::support::gate::Gate;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries};

fn open(fs: Arc<dyn FileSystem>) -> Storage {
    let config = Config::new("/db").file_system(fs).shards(2).segment_bytes(4096);
    Storage::open(StorageOptions::new(config)).expect("the storage opens")
}

/// Ten series, each with these times.
fn write(storage: &Storage, times: std::ops::Range<i64>) {
    for host in 0..10 {
        let labels = Labels::new([("host", host.to_string())]).expect("they are valid");
        let samples = times.clone().map(|time| Sample::new(time, time as f64)).collect();
        storage.write(&TimeSeries::new(labels, samples)).expect("there is room");
    }
}

fn times(storage: &Storage) -> Vec<Vec<i64>> {
    let found = storage.query(&[], i64::MIN..=i64::MAX).into_iter();
    found.map(|one| one.samples.iter().map(|sample| sample.timestamp_ms).collect()).collect()
}

#[test]
fn writes_go_on_during_a_snapshot_and_are_not_in_it() {
    let fs = SimFileSystem::new();
    let gate = Gate::at_renames_to("snapshot");
    let storage = open(gate.before(&fs));
    write(&storage, 0..50);
    gate.shut();
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| storage.snapshot());
        gate.wait_for_writer();
        // Same series, new samples, late samples, and samples that replace others.
        write(&storage, 40..100);
        assert_eq!(storage.samples(), 1000, "the writes are answered and applied");
        gate.open();
        let report = snapshot.join().expect("no panic").unwrap();
        assert_eq!((report.series, report.samples), (10, 500));
    });
    assert_eq!(storage.samples_since_snapshot(), 600);
    storage.close().unwrap();
    drop(storage);
    let all: Vec<i64> = (0..100).collect();
    assert_eq!(times(&open(Arc::new(fs))), vec![all; 10], "S3 COMPLETE");
}

/// Panics once as a snapshot gets its name.
#[derive(Debug)]
struct Panicking {
    fs: SimFileSystem,
    panics: AtomicBool,
}

impl FileSystem for Panicking {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.fs.open(path, mode)
    }
    delegate!(self => self.fs);
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_snapshot = to.ends_with("snapshot");
        assert!(!(is_snapshot && self.panics.swap(false, Ordering::SeqCst)), "planned");
        self.fs.rename(from, to)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
}

#[test]
fn a_snapshot_that_panics_loses_nothing_and_stops_no_later_one() {
    let after_panic = || {
        let (fs, panics) = (SimFileSystem::new(), AtomicBool::new(true));
        let storage = open(Arc::new(Panicking { fs: fs.clone(), panics }));
        write(&storage, 0..50);
        assert!(catch_unwind(AssertUnwindSafe(|| storage.snapshot())).is_err(), "it panics");
        assert_eq!(storage.samples_since_snapshot(), 500, "no snapshot covers the log");
        (fs, storage)
    };
    let (fs, _storage) = after_panic();
    let crashed = open(Arc::new(fs.crash(&mut || false)));
    assert_eq!(times(&crashed), vec![(0..50).collect::<Vec<_>>(); 10], "S3 COMPLETE");

    let (fs, storage) = after_panic();
    write(&storage, 50..60);
    let report = storage.snapshot().expect("the next one works");
    assert_eq!(report.samples, 600);
    assert_eq!(storage.samples_since_snapshot(), 0);
    storage.close().unwrap();
    drop(storage);
    assert_eq!(times(&open(Arc::new(fs))), vec![(0..60).collect::<Vec<_>>(); 10]);
}
