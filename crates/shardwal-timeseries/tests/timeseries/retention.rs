//! Samples older than the retention leave memory, the snapshot and the log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::{
    Labels, Matcher, Sample, Storage, StorageOptions, TimeSeries, WriteError,
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

fn options(fs: &SimFileSystem) -> StorageOptions {
    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(2);
    StorageOptions::new(config.segment_bytes(4096))
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_millis()).expect("it is before the year 292,000,000")
}

/// `count` samples of a series, which end at `last_ms`, one per second.
fn series(host: &str, last_ms: i64, count: i64) -> TimeSeries {
    let labels = Labels::new([("__name__", "up"), ("host", host)]).expect("they are valid");
    let sample = |n| Sample::new(last_ms - (count - 1 - n) * 1000, n as f64);
    TimeSeries::new(labels, (0..count).map(sample).collect())
}

fn times(storage: &Storage, host: &str) -> Vec<i64> {
    let found = storage.query(&[Matcher::equal("host", host)], i64::MIN..=i64::MAX);
    found.iter().flat_map(|series| &series.samples).map(|sample| sample.timestamp_ms).collect()
}

#[test]
fn expired_samples_leave_memory_and_the_next_snapshot() {
    let fs = SimFileSystem::new();
    let now_ms = now_ms();
    let (old_ms, recent_ms) = (now_ms - 2 * HOUR_MS, now_ms - HOUR_MS / 2);
    let storage = Storage::open(options(&fs).samples_max(2000)).unwrap();
    // Old, recent, and both. In the last two chunks are old, and one in part.
    let both = series("both", now_ms - HOUR_MS + 150_000, 500);
    let all = [series("old", old_ms, 500), series("recent", recent_ms, 500), both.clone()];
    storage.write_batch(&all).unwrap();
    assert_eq!((storage.drop_expired(), storage.samples()), (0, 1500), "there is no retention");
    storage.close().unwrap();
    drop(storage);

    let open = || Storage::open(options(&fs).samples_max(2000).retention(HOUR)).unwrap();
    let storage = open();
    assert_eq!(storage.samples(), 500 + 260, "open drops them");
    assert_eq!(times(&storage, "old"), []);
    assert_eq!(storage.series_count(), 2, "and the series that has none left");
    assert_eq!(storage.find_handle(&all[0].labels), None);
    assert_eq!(times(&storage, "recent").len(), 500);
    let kept: Vec<_> = both.samples[240..].iter().map(|sample| sample.timestamp_ms).collect();
    assert_eq!(times(&storage, "both"), kept, "a chunk that is old in part stays");
    assert_eq!(storage.drop_expired(), 0);
    storage.write(&series("recent", recent_ms, 1)).unwrap();

    // Room that was dropped can be used again.
    storage.write(&series("more", recent_ms, 1240)).unwrap();
    let refused = storage.write(&series("more", recent_ms + 1000, 1)).unwrap_err();
    assert!(matches!(refused, WriteError::MemoryFull { max: 2000 }), "{refused}");

    let report = storage.snapshot().unwrap();
    assert_eq!((report.series, report.samples), (3, 2000));
    storage.close().unwrap();
    drop(storage);
    let storage = Storage::open(options(&fs)).unwrap();
    assert_eq!((storage.samples(), storage.series_count()), (2000, 3), "the log has lost them too");
}

/// A read that has begun finds what was there.
#[test]
fn a_scan_keeps_the_samples_that_expire_after_it_began() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).retention(HOUR)).unwrap();
    let old = series("old", now_ms() - 2 * HOUR_MS, 300);
    storage.write(&old).unwrap();
    let handle = storage.find_handle(&old.labels).unwrap();
    let scan = storage.scan(vec![Vec::new()]);
    assert_eq!(storage.drop_expired(), 300);
    assert_eq!(scan.first_samples(handle, i64::MIN..=i64::MAX, 1000), old.samples);
    assert_eq!(times(&storage, "old"), []);
    // The handle is still that of the series.
    let recent = Sample::new(now_ms(), 1.0);
    storage.write_samples(&[(handle, recent)]).unwrap().wait().unwrap();
    assert_eq!(times(&storage, "old"), [recent.timestamp_ms]);
}

#[test]
fn all_series_of_a_shard_expire() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).retention(HOUR)).unwrap();
    let old_ms = now_ms() - 2 * HOUR_MS;
    let batch: Vec<_> = (0..20_000).map(|host| series(&host.to_string(), old_ms, 1)).collect();
    storage.write_batch(&batch).unwrap();
    assert_eq!((storage.drop_expired(), storage.samples()), (20_000, 0));
    assert_eq!(storage.series(&[]), []);
    assert_eq!(storage.expired_samples(), 20_000);
}
