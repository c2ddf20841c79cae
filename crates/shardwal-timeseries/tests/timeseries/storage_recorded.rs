//! The stream that a real Prometheus sent, through the storage: all of it is found again, and it
//! takes little space.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::recording::Recording;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_bench::SingleMutexLog;
use shardwal_timeseries::{Labels, SeriesLog, Storage, StorageOptions};

fn options(fs: &SimFileSystem) -> StorageOptions {
    StorageOptions::new(Config::new("/db").file_system(Arc::new(fs.clone())).shards(4))
}

fn write<L: SeriesLog>(storage: &Storage<L>, recording: &Recording) {
    let handle = |labels| storage.series_handle(labels).expect("there is room");
    let handles: Vec<_> = recording.series.iter().map(handle).collect();
    for batch in &recording.batches {
        let sample = |found: &shardwal_timeseries::codec::SeriesSample| {
            (handles[found.series as usize], found.sample)
        };
        let samples: Vec<_> = batch.iter().map(sample).collect();
        storage.write_samples(&samples).expect("there is room").wait().expect("it is written");
    }
}

/// The last sample of each series and timestamp, as bits.
type All = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn sent(recording: &Recording) -> All {
    let mut all = All::new();
    for found in recording.batches.iter().flatten() {
        let labels = &recording.series[found.series as usize];
        let samples = all.entry(labels.clone()).or_default();
        samples.insert(found.sample.timestamp_ms, found.sample.value.to_bits());
    }
    all
}

fn found<L: SeriesLog>(storage: &Storage<L>) -> All {
    let series = storage.query(&[], i64::MIN..=i64::MAX).into_iter();
    let samples = |samples: Vec<shardwal_timeseries::Sample>| {
        samples.into_iter().map(|sample| (sample.timestamp_ms, sample.value.to_bits())).collect()
    };
    series.map(|series| (series.labels, samples(series.samples))).collect()
}

/// Prometheus' own log takes 6.84 bytes per sample for this stream.
#[test]
#[allow(clippy::print_stdout, reason = "the figure is what the test is for")]
fn the_recorded_stream_is_found_again_and_takes_less_than_two_bytes_a_sample() {
    let (fs, recording) = (SimFileSystem::new(), Recording::read());
    let samples: usize = recording.batches.iter().map(Vec::len).sum();
    assert_eq!((recording.series.len(), samples), (5120, 334_000));
    let storage = Storage::open(options(&fs)).expect("it opens");
    write(&storage, &recording);
    let sent = sent(&recording);
    assert!(found(&storage) == sent, "the writer applied something else");
    storage.close().expect("it closes");
    drop(storage);

    let storage = Storage::open(options(&fs)).expect("it opens again");
    assert!(found(&storage) == sent, "the replay found something else");
    let shards = storage.log().recovery().shards.iter();
    let bytes: u64 = shards.map(|shard| shard.bytes).sum();
    let each = bytes as f64 / samples as f64;
    let snapshot = storage.snapshot().expect("it can be taken");
    println!(
        "in the log {each:.3} bytes per sample, all in; in the snapshot {:.3}",
        snapshot.bytes as f64 / snapshot.samples as f64
    );
    assert!(each <= 2.0, "{each:.3} bytes per sample");
    drop(storage);
    let storage = Storage::open(options(&fs)).expect("it opens from the snapshot");
    assert!(found(&storage) == sent, "the snapshot holds something else");
}

/// Swapping the log takes one line.
#[test]
fn the_log_behind_one_mutex_finds_the_same() {
    let (fs, recording) = (SimFileSystem::new(), Recording::read());
    let storage = Storage::<SingleMutexLog>::open_in(options(&fs)).expect("it opens");
    write(&storage, &recording);
    storage.close().expect("it closes");
    drop(storage);
    let storage = Storage::<SingleMutexLog>::open_in(options(&fs)).expect("it opens again");
    assert!(found(&storage) == sent(&recording));
}
