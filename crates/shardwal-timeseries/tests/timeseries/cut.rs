//! R5 CUT: a read sees each shard between two commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, Durability};
use shardwal_timeseries::{Labels, Matcher, Sample, Storage, StorageOptions, TimeSeries};

/// Series that are new in the first batch, and known in the others.
const SERIES: u64 = 200;

fn open() -> Storage {
    let config = Config::new("/db").file_system(Arc::new(SimFileSystem::new())).shards(1);
    Storage::open(StorageOptions::new(config.durability(Durability::Buffered))).expect("it opens")
}

/// A sample for each series of a group.
fn batch(group: u64, time: i64) -> Vec<TimeSeries> {
    let labels = |host: u64| {
        let pairs = [("group", group.to_string()), ("host", host.to_string())];
        Labels::new(pairs).expect("they are valid")
    };
    let one = |host| TimeSeries::new(labels(host), vec![Sample::new(time, 1.0)]);
    (0..SERIES).map(one).collect()
}

/// Regression: a query took the lock per series, and found a part of a batch.
#[test]
fn a_query_finds_all_of_a_batch_or_nothing() {
    let (storage, stop) = (open(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for group in 0..40 {
                (0..25).for_each(|time| storage.write_batch(&batch(group, time)).unwrap());
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            for matchers in [vec![], vec![Matcher::matches("group", "1?[0-9]").unwrap()]] {
                let found = storage.query(&matchers, i64::MIN..=i64::MAX);
                let samples: usize = found.iter().map(|series| series.samples.len()).sum();
                let batch = usize::try_from(SERIES).unwrap();
                assert_eq!((found.len() % batch, samples % batch), (0, 0), "{matchers:?}");
            }
        }
    });
}

#[test]
fn a_scan_finds_what_was_there_when_it_began() {
    let storage = open();
    (0..3).for_each(|time| storage.write_batch(&batch(0, time)).unwrap());
    let mut scan = storage.scan(vec![vec![Matcher::equal("group", "0")], vec![]]);
    storage.write_batch(&batch(0, 1)).unwrap();
    storage.write_batch(&batch(0, 3)).unwrap();
    storage.write_batch(&batch(1, 0)).unwrap();
    let mut found = 0;
    while !scan.is_at_end() {
        for (labels, series) in storage.scan_series(&mut scan) {
            let samples = scan.first_samples(series, i64::MIN..=i64::MAX, usize::MAX);
            let times: Vec<i64> = samples.iter().map(|sample| sample.timestamp_ms).collect();
            let expected: &[i64] = if labels.get("group") == Some("0") { &[0, 1, 2] } else { &[] };
            assert_eq!(times, expected, "{labels}");
            found += usize::from(!times.is_empty());
        }
    }
    assert_eq!(found as u64, SERIES);
}
