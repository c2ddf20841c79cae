//! Samples older than the retention leave memory, the snapshot and the log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::{
    HistogramSample, Labels, Matcher, Sample, Storage, StorageOptions, TimeSeries, WriteError,
    Writing,
};

use crate::prepared_write::block_on;

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
    assert_eq!(storage.find_handle(&old.labels), None);
    // Any number of calls leaves the series to the scan, which has not selected it yet.
    for n in 0..5 {
        storage.drop_expired();
        storage.write(&series(&n.to_string(), now_ms(), 1)).unwrap();
    }
    let mut found = Vec::new();
    let mut scan = scan;
    while !scan.is_at_end() {
        found.append(&mut storage.scan_series(&mut scan));
    }
    let labels: Vec<_> = found.iter().map(|(labels, _)| labels).collect();
    assert!(labels.contains(&&old.labels), "{labels:?}");
    assert_eq!(scan.first_samples(handle, i64::MIN..=i64::MAX, 1000), old.samples);
    assert_eq!(storage.series_count(), 5);
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

/// One shard and one segment, so that numbers are used again within a period of the codec.
fn one_shard(fs: &SimFileSystem) -> StorageOptions {
    StorageOptions::new(Config::new("/db").file_system(Arc::new(fs.clone())).shards(1))
}

fn old(host: &str) -> TimeSeries {
    series(host, now_ms() - 2 * HOUR_MS, 1)
}

fn recent(host: &str) -> TimeSeries {
    series(host, now_ms(), 1)
}

#[test]
fn series_without_samples_leave_the_index_with_the_next_call() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(one_shard(&fs).retention(HOUR).series_max(10)).unwrap();
    let batch: Vec<_> = (0..10).map(|host| old(&host.to_string())).collect();
    storage.write_batch(&batch).unwrap();
    assert_eq!((storage.drop_expired(), storage.expired_series()), (10, 10));
    assert_eq!((storage.series_count(), storage.count_series(&[])), (0, 0), "nothing finds them");
    let full = storage.write(&recent("new")).unwrap_err();
    assert!(matches!(full, WriteError::TooManySeries { max: 10 }), "{full}");
    // One comes back in time, and keeps its place.
    storage.write(&recent("7")).expect("it has its place");
    storage.drop_expired();
    let batch: Vec<_> = (10..19).map(|host| recent(&host.to_string())).collect();
    storage.write_batch(&batch).expect("nine have left");
    assert_eq!((storage.series_count(), storage.expired_series()), (10, 10));
    let full = storage.write(&recent("new")).unwrap_err();
    assert!(matches!(full, WriteError::TooManySeries { max: 10 }), "{full}");
    storage.close().unwrap();
    drop(storage);
    let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
    assert_eq!(storage.series_count(), 10);
    assert!(batch.iter().all(|series| storage.find_handle(&series.labels).is_some()));
}

/// S3 COMPLETE: the encoder knows series by number, and the numbers are used again.
#[test]
fn a_series_that_got_the_number_of_another_is_defined_in_the_log() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
    storage.write_batch(&["a", "b"].map(old)).unwrap();
    storage.drop_expired();
    storage.drop_expired();
    // One is defined by its write, and one gets its number before.
    let registered = recent("c");
    let handle = storage.series_handle(&registered.labels).unwrap();
    storage.write_samples(&[(handle, registered.samples[0])]).unwrap().wait().unwrap();
    storage.write(&recent("d")).unwrap();
    storage.close().unwrap();
    drop(storage);
    let storage = Storage::open(one_shard(&fs)).unwrap();
    let counts = ["a", "b", "c", "d"].map(|host| times(&storage, host).len());
    assert_eq!(counts, [1; 4], "S3 COMPLETE");
    assert!(times(&storage, "c")[0] > now_ms() - HOUR_MS);
}

#[test]
fn a_handle_of_a_series_that_left_is_refused() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
    let kept = storage.series_handle(&old("kept").labels).unwrap();
    storage.write_batch(&["kept", "a", "b"].map(old)).unwrap();
    let [a, b] = ["a", "b"].map(|host| storage.find_handle(&old(host).labels).unwrap());
    let write = |handle| {
        let samples = [(handle, Sample::new(now_ms(), 1.0))];
        storage.write_samples(&samples).map(|writing| writing.wait().unwrap())
    };
    let is_gone = |handle| {
        let refused = write(handle);
        assert!(matches!(refused, Err(WriteError::SeriesGone)), "{refused:?}");
        assert_eq!((storage.labels(handle), storage.is_current(handle)), (None, false));
    };
    storage.drop_expired();
    is_gone(a);
    // It is defined again before it has left, so it is the same series.
    storage.write(&recent("b")).unwrap();
    write(b).expect("it is the series");
    storage.drop_expired();
    is_gone(a);
    storage.write(&recent("c")).unwrap();
    is_gone(a);
    let histogram = HistogramSample { timestamp_ms: now_ms(), bytes: [1].into() };
    let refused = storage.prepare_write(&[], &[(a, histogram)], &[]);
    assert!(matches!(refused, Err(WriteError::SeriesGone)), "{refused:?}");
    assert_eq!(times(&storage, "c").len(), 1, "it has the number, and not the samples");
    // A series that was registered stays, and so does its handle.
    assert_eq!(times(&storage, "kept"), []);
    write(kept).expect("it is registered");
    assert_eq!(times(&storage, "kept").len(), 1);
    assert!(storage.is_current(kept) && storage.is_current(b));
}

/// A write that was admitted keeps the number of its series until it is applied, and a series that
/// gets samples is found at once.
#[test]
fn a_write_that_was_admitted_before_its_series_expired_finds_it() {
    for calls in 1..4 {
        let fs = SimFileSystem::new();
        let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
        storage.write(&old("a")).unwrap();
        let handle = storage.find_handle(&old("a").labels).unwrap();
        let recent = Sample::new(now_ms(), 1.0);
        let prepared = storage.prepare_write(&[(handle, recent)], &[], &[]).unwrap();
        for n in 0..calls {
            storage.drop_expired();
            storage.write(&old(&n.to_string())).unwrap();
        }
        block_on(prepared.write()).expect("there is room");
        assert_eq!(times(&storage, "a"), [recent.timestamp_ms], "after {calls} calls");
        drop(storage);
        let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
        let kept = times(&storage, "a");
        assert_eq!(kept.last(), Some(&recent.timestamp_ms), "S3 COMPLETE: {kept:?}");
    }
}

/// A sample of a host that is too old to be kept. Its value names both.
fn old_sample(host: i64, old_ms: i64, time: i64) -> TimeSeries {
    let mut one = series(&host.to_string(), old_ms + time, 1);
    one.samples[0].value = (host * 1000 + time) as f64;
    one
}

/// Writes to three hosts in turn, and leaves each alone for a while. Returns how often a handle was
/// of a series that had left.
fn come_and_go(storage: &Storage, writer: i64, old_ms: i64) -> u64 {
    let (mut handles, mut gone) = ([None; 3], 0);
    for time in 0..300 {
        let turn = time / 25 % 3;
        let one = old_sample(writer * 3 + turn, old_ms, time);
        let handle = &mut handles[usize::try_from(turn).expect("it is below 3")];
        let writing = handle.map(|handle| storage.write_samples(&[(handle, one.samples[0])]));
        let waited = |writing: Writing<'_>| writing.wait().expect("there is room");
        match writing.map(|writing| writing.map(waited)) {
            Some(Ok(())) => continue,
            Some(Err(WriteError::SeriesGone)) => gone += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
        storage.write(&one).expect("there is room");
        *handle = storage.find_handle(&one.labels);
    }
    gone
}

/// S3 COMPLETE: series expire, leave and come back all the time, by handles and by labels. The log
/// has every acknowledged sample of every series.
#[test]
fn a_log_has_all_samples_of_series_that_came_and_went() {
    const WRITERS: i64 = 4;
    let fs = SimFileSystem::new();
    let storage = Storage::open(one_shard(&fs).retention(HOUR)).unwrap();
    let old_ms = now_ms() - 5 * HOUR_MS;
    let gone: u64 = std::thread::scope(|scope| {
        let storage = &storage;
        let writer = |writer| scope.spawn(move || come_and_go(storage, writer, old_ms));
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            storage.drop_expired();
            assert!(storage.query(&[], 0..=i64::MAX).len() <= 12);
        }
        writers.into_iter().map(|writer| writer.join().expect("no panic")).sum()
    });
    assert!(gone > 0, "no handle was of a series that left");
    for _ in 0..2 {
        storage.drop_expired();
    }
    assert_eq!((storage.samples(), storage.series_count()), (0, 0));
    storage.close().unwrap();
    drop(storage);
    let storage = Storage::open(one_shard(&fs)).unwrap();
    for host in 0..WRITERS * 3 {
        let found = storage.query(&[Matcher::equal("host", host.to_string())], 0..=i64::MAX);
        let times = (0..300).filter(|time| host % 3 == time / 25 % 3);
        let expected: Vec<_> = times.flat_map(|t| old_sample(host, old_ms, t).samples).collect();
        assert_eq!(found[0].samples, expected, "S3 COMPLETE: host {host}");
    }
}
