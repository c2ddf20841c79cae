//! Regressions that an independent review of the storage found, each a sequence of calls that broke
//! the promise.
//!
//! Holds S3 COMPLETE (ARCHITECTURE.md).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::gate::Gate;
use shardwal::fs::FileSystem;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, ShardedWal};
use shardwal_bench::SingleMutexLog;
use shardwal_timeseries::{
    Labels, Sample, SeriesLog, Storage, StorageError, StorageOptions, TimeSeries, WriteError,
};

fn options(fs: Arc<dyn FileSystem>) -> StorageOptions {
    StorageOptions::new(Config::new("/db").file_system(fs).shards(1).segment_bytes(4096))
}

fn open_in<L: SeriesLog>(fs: &SimFileSystem) -> Storage<L> {
    Storage::open_in(options(Arc::new(fs.clone()))).expect("the storage opens")
}

fn open(fs: &SimFileSystem) -> Storage {
    open_in(fs)
}

fn series(host: u64, samples: impl IntoIterator<Item = (i64, f64)>) -> TimeSeries {
    let labels = Labels::new([("__name__", "up"), ("host", &host.to_string())]);
    let samples = samples.into_iter().map(|(time, value)| Sample::new(time, value)).collect();
    TimeSeries::new(labels.expect("they are valid"), samples)
}

fn write(storage: &Storage, times: std::ops::Range<i64>) {
    for time in times {
        storage.write(&series(0, [(time, 1.0)])).expect("there is room");
    }
}

/// S3 COMPLETE, regression: close returned during a snapshot. The next owner of the directory took
/// its own, and the old one was renamed over it.
#[test]
fn a_storage_is_not_closed_before_its_snapshot_has_ended() {
    let fs = SimFileSystem::new();
    let gate = Gate::at_renames_to("snapshot");
    let storage = Storage::open(options(gate.before(&fs))).unwrap();
    write(&storage, 0..50);
    gate.shut();
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| storage.snapshot());
        gate.wait_for_writer();
        let closing = scope.spawn(|| {
            storage.close().unwrap();
            closed.store(true, Ordering::SeqCst);
        });
        // Time enough to close, if close did not wait.
        (0..1000).for_each(|_| std::thread::yield_now());
        let next = Storage::open(options(Arc::new(fs.clone()))).map(drop);
        let was_closed = closed.load(Ordering::SeqCst);
        gate.open();
        assert!(matches!(next, Err(StorageError::Log(_))), "it is locked: {next:?}");
        assert!(!was_closed, "S3 COMPLETE: closed amid its snapshot");
        snapshot.join().expect("no panic").unwrap();
        closing.join().expect("no panic");
    });
    let next = open(&fs);
    write(&next, 100..150);
    next.snapshot().unwrap();
    next.close().unwrap();
    drop(next);
    assert_eq!(open(&fs).samples(), 100, "S3 COMPLETE");
}

/// Regression: the size of a definition was computed from its labels alone. A batch of new series
/// with many labels exceeded the log's limit and stopped its shard. These labels are too long to
/// share anything with earlier ones.
fn many_wide_series_stop_no_shard<L: SeriesLog>() {
    let fs = SimFileSystem::new();
    let storage = open_in::<L>(&fs);
    let label = |name: usize, host: u64| (format!("l{name}"), format!("{name}-{host:060x}"));
    let wide = |host: u64| {
        let labels = Labels::new((0..64).map(|name| label(name, host)));
        TimeSeries::new(labels.expect("they are valid"), vec![Sample::new(1, 1.0)])
    };
    let wide: Vec<_> = (0..16_200).map(wide).collect();
    storage.write_batch(&wide).expect("the storage splits it");
    storage.write(&series(0, [(1, 1.0)])).expect("its shard goes on");
    assert_eq!(storage.samples(), 16_201);
    drop(storage);
    assert_eq!(open_in::<L>(&fs).samples(), 16_201);
}

#[test]
fn many_wide_series_stop_no_shard_of_the_sharded_log() {
    many_wide_series_stop_no_shard::<ShardedWal>();
}

#[test]
fn many_wide_series_do_not_stop_the_log_behind_one_mutex() {
    many_wide_series_stop_no_shard::<SingleMutexLog>();
}

/// Regression: a snapshot that failed for want of space left its file, and the next open had no
/// space.
#[test]
fn a_snapshot_that_found_no_room_gives_it_back() {
    let fs = SimFileSystem::new();
    let storage = open(&fs);
    let mut state = 1_u64;
    let mut noise = |times: std::ops::Range<i64>| {
        let samples: Vec<_> = times
            .map(|time| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (time, f64::from_bits(state >> 2))
            })
            .collect();
        storage.write(&series(0, samples))
    };
    noise(0..20_000).unwrap();
    let files = || fs.files().into_iter().filter_map(|path| fs.read_file(path));
    let used: usize = files().map(|bytes| bytes.len()).sum();
    fs.set_capacity(Some(used as u64 + 60_000));
    storage.snapshot().expect_err("there is no room for it");
    assert_eq!(fs.read_file("/db/snapshot.unfinished"), None);
    // A file left by a killed process is removed before anything needs space.
    fs.set_capacity(None);
    fs.write_file("/db/snapshot.unfinished", &[7; 100_000]);
    drop(storage);
    fs.set_capacity(Some(used as u64 + 60_000));
    let storage = open(&fs);
    assert_eq!(fs.read_file("/db/snapshot.unfinished"), None);
    assert_eq!(storage.samples(), 20_000);
}

/// Regression: the log was lost, but not the snapshot. New samples got positions that the snapshot
/// covers, and the next open skipped them.
#[test]
fn a_snapshot_beyond_the_logs_end_or_of_another_log_is_refused() {
    let fs = SimFileSystem::new();
    let storage = open(&fs);
    write(&storage, 0..20);
    storage.close().unwrap();
    drop(storage);
    let storage = open(&fs);
    write(&storage, 20..50);
    // The log before the snapshot truncates it, without its last segment.
    let mut log: Vec<_> = fs.files();
    log.retain(|path| path.starts_with("/db/log"));
    let log = log.into_iter().filter_map(|path| Some((fs.read_file(&path)?, path)));
    let log: Vec<_> = log.collect();
    storage.snapshot().unwrap();
    storage.close().unwrap();
    let snapshot = fs.read_file("/db/snapshot").expect("it was taken");

    let without_log = SimFileSystem::with_dir("/db");
    without_log.write_file("/db/snapshot", &snapshot);
    let refused = Storage::open(options(Arc::new(without_log))).map(drop);
    assert!(matches!(refused, Err(StorageError::ForeignSnapshot { .. })), "{refused:?}");

    let shorter = fs.crash(&mut || true);
    // A truncation mark may be a file's name, so remove the later files first.
    let later = shorter.files().into_iter().filter(|path| path.starts_with("/db/log"));
    later.for_each(|path| shorter.remove_file(path));
    log.iter().for_each(|(bytes, path)| shorter.write_file(path, bytes));
    let is_segment = |path: &&std::path::PathBuf| path.extension().is_some_and(|it| it == "wal");
    let last = shorter.files().iter().filter(is_segment).max().cloned();
    shorter.remove_file(last.expect("there are segments"));
    let refused = Storage::open(options(Arc::new(shorter))).map(drop);
    assert!(matches!(refused, Err(StorageError::LogTooShort { .. })), "{refused:?}");
}

/// Regression: a handle kept across a reopening named another series, and a handle of another
/// storage stopped the shard.
#[test]
fn a_handle_of_another_storage_is_refused_and_nothing_is_queued() {
    let file_systems = [SimFileSystem::new(), SimFileSystem::new()];
    let [one, other] = file_systems.each_ref().map(open);
    one.write(&series(7, [(1, 7.0)])).unwrap();
    let own = one.series_handle(&series(7, []).labels).unwrap();
    let foreign = other.series_handle(&series(8, []).labels).unwrap();
    let samples = [(own, Sample::new(2, 2.0)), (foreign, Sample::new(2, 2.0))];
    let refused = one.write_samples(&samples).map(drop);
    assert!(matches!(refused, Err(WriteError::ForeignHandle)), "{refused:?}");
    let refused = one.try_write_samples(&samples).map(drop);
    assert!(matches!(refused, Err(WriteError::ForeignHandle)), "{refused:?}");
    assert_eq!(one.query(&[], 0..=9), [series(7, [(1, 7.0)])]);
    one.close().unwrap();
    drop(one);
    let one = open(&file_systems[0]);
    let refused = one.write_samples(&[(own, Sample::new(2, 2.0))]).map(drop);
    assert!(matches!(refused, Err(WriteError::ForeignHandle)), "{refused:?}");
}

/// Regression: the limit on series is per shard. With fewer shards, the series exceeded it, and the
/// storage did not open.
#[test]
fn fewer_shards_open_all_series() {
    let fs = SimFileSystem::new();
    let sharded = |shards: usize| {
        let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(shards);
        Storage::open(StorageOptions::new(config).series_max(10)).expect("it opens")
    };
    let storage = sharded(4);
    let written = (0..30).filter(|host| storage.write(&series(*host, [(1, 1.0)])).is_ok()).count();
    assert!(written > 10);
    drop(storage);
    assert_eq!(sharded(1).series(&[]).len(), written);
}
