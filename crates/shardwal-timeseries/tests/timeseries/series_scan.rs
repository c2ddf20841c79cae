//! A scan in pieces finds what a query finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use crate::support::gate::Gate;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries};

fn series(host: u64, times: std::ops::Range<i64>) -> TimeSeries {
    let labels = Labels::new([("__name__", "up"), ("host", &host.to_string())]);
    let samples = times.map(|time| Sample::new(time, host as f64)).collect();
    TimeSeries::new(labels.expect("they are valid"), samples)
}

/// All series of a scan, with their samples, read in steps of 10.
fn scanned(storage: &Storage) -> BTreeMap<Labels, Vec<Sample>> {
    let (mut scan, mut found) = (storage.scan(vec![Vec::new()]), BTreeMap::new());
    while !scan.is_at_end() {
        for (labels, handle) in storage.scan_series(&mut scan) {
            let (mut samples, mut from) = (Vec::new(), i64::MIN);
            loop {
                let some = scan.first_samples(handle, from..=i64::MAX, 10);
                let Some(last) = some.last() else { break };
                from = last.timestamp_ms + 1;
                samples.extend(some);
            }
            assert!(found.insert(labels, samples).is_none(), "each once");
        }
    }
    found
}

#[test]
fn a_scan_finds_each_series_once_with_all_of_its_samples() {
    let fs = SimFileSystem::new();
    let config = Config::new("/db").file_system(Arc::new(fs)).shards(3);
    let storage = Storage::open(StorageOptions::new(config)).unwrap();
    assert!(scanned(&storage).is_empty());
    // More than a scan returns at a time.
    let batch: Vec<_> = (0..5_000).map(|host| series(host, 0..3)).collect();
    storage.write_batch(&batch).unwrap();
    storage.write(&series(7, 100..4_000)).unwrap();
    let expected = storage.query(&[], i64::MIN..=i64::MAX);
    let expected: BTreeMap<_, _> = expected.into_iter().map(|s| (s.labels, s.samples)).collect();
    assert!(scanned(&storage) == expected);
    let other = SimFileSystem::new();
    let config = Config::new("/db").file_system(Arc::new(other)).shards(3);
    let other = Storage::open(StorageOptions::new(config)).unwrap();
    let handle = storage.find_handle(&batch[0].labels).unwrap();
    assert!(other.scan(Vec::new()).first_samples(handle, i64::MIN..=i64::MAX, 1).is_empty());
}

/// The number of a series that a commit defines may be another's soon: the commit may fail.
#[test]
fn a_scan_does_not_find_a_series_before_its_first_commit() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = Config::new("/db").file_system(gate.before(&fs)).shards(1);
    let storage = Storage::open(StorageOptions::new(config)).unwrap();
    gate.shut();
    thread::scope(|scope| {
        scope.spawn(|| storage.write(&series(0, 0..3)).unwrap());
        gate.wait_for_writer();
        let found = scanned(&storage);
        gate.open();
        assert!(found.is_empty(), "{found:?}");
    });
    assert_eq!(scanned(&storage).len(), 1);
}

/// Regression: a scan returned 64 MiB of labels at a time.
#[test]
fn a_scan_returns_few_series_with_long_labels_at_a_time() {
    let config = Config::new("/db").file_system(Arc::new(SimFileSystem::new())).shards(1);
    let storage = Storage::open(StorageOptions::new(config)).unwrap();
    let long = "x".repeat(60_000);
    for host in 0..20_u64 {
        let labels = Labels::new([("__name__", long.as_str()), ("host", &host.to_string())]);
        storage.write(&TimeSeries::new(labels.unwrap(), vec![Sample::new(1, 1.0)])).unwrap();
    }
    let (mut scan, mut found) = (storage.scan(vec![Vec::new()]), 0);
    while !scan.is_at_end() {
        let some = storage.scan_series(&mut scan).len();
        assert!(some <= 5, "{some}");
        found += some;
    }
    assert_eq!(found, 20);
}
