//! Native histograms: they share commits, cuts, snapshots, replays and limits with the samples.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::codec_rig::{Catalogue, decode, histogram, labels_of, sample};
use crate::prepared_write::block_on;
use crate::retention::now_ms;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::codec::{BatchEncoder, DecodeFault};
use shardwal_timeseries::{
    HISTOGRAM_BYTES_MAX, HistogramSample, Labels, Matcher, Sample, Storage, StorageOptions,
    StorageReader, TimeSeries, WriteError,
};

const ALL: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;

fn options(fs: &SimFileSystem, shards: usize) -> StorageOptions {
    let fs = Arc::new(fs.clone());
    StorageOptions::new(Config::new("/db").file_system(fs).shards(shards).segment_bytes(4096))
}

fn at(timestamp_ms: i64, bytes: &[u8]) -> HistogramSample {
    HistogramSample { timestamp_ms, bytes: bytes.into() }
}

fn labels(host: u64) -> Labels {
    Labels::new([("__name__", "latency"), ("host", &host.to_string())]).expect("they are valid")
}

/// A series with samples, histograms, or both.
fn series(host: u64, samples: &[i64], histograms: &[(i64, &[u8])]) -> TimeSeries {
    let histograms = histograms.iter().map(|(time, bytes)| at(*time, bytes)).collect();
    let samples = samples.iter().map(|time| Sample::new(*time, *time as f64)).collect();
    TimeSeries { histograms, ..TimeSeries::new(labels(host), samples) }
}

/// Both halves of the storage, in all ways of reading it.
fn reads_all(storage: &Storage, expected: &[TimeSeries]) {
    assert_eq!(storage.query(&[], ALL), expected);
    let mut scan = storage.scan(vec![vec![]]);
    let mut scanned = Vec::new();
    while !scan.is_at_end() {
        for (labels, handle) in storage.scan_series(&mut scan) {
            let samples = scan.first_samples(handle, ALL, usize::MAX);
            let histograms = scan.first_histograms(handle, ALL, usize::MAX);
            scanned.push(TimeSeries { labels, samples, histograms });
        }
    }
    scanned.sort_by(|one, other| one.labels.cmp(&other.labels));
    assert_eq!(scanned, expected);
    assert_eq!(storage.series(&[]).len(), expected.len());
}

#[test]
fn histograms_come_back_after_a_replay_and_after_a_snapshot() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs, 3)).unwrap();
    let long = vec![7; HISTOGRAM_BYTES_MAX];
    let written = [
        series(0, &[], &[(2, b"two"), (1, b"one"), (1, b"later one wins"), (i64::MIN, b"")]),
        series(1, &[5, 4], &[(4, b"beside a sample"), (9, &long)]),
        series(2, &[1], &[]),
    ];
    storage.write_batch(&written).unwrap();
    // By the number of a series that exists.
    storage.write(&series(2, &[2], &[(3, b"third")])).unwrap();
    let expected = [
        series(0, &[], &[(i64::MIN, b""), (1, b"later one wins"), (2, b"two")]),
        series(1, &[4, 5], &[(4, b"beside a sample"), (9, &long)]),
        series(2, &[1, 2], &[(3, b"third")]),
    ];
    reads_all(&storage, &expected);
    assert_eq!(storage.samples(), 4 + 6);
    let host = Matcher::equal("host", "1");
    let found = storage.query(&[host], 5..=9);
    assert_eq!(found, [series(1, &[5], &[(9, &long)])]);
    let reader = StorageReader::open_in(Arc::new(fs.clone()), "/db").unwrap();
    assert_eq!(reader.query(&[], ALL), expected);
    drop(storage);

    let storage = Storage::open(options(&fs, 3)).unwrap();
    reads_all(&storage, &expected);
    let report = storage.snapshot().unwrap();
    assert_eq!((report.series, report.samples), (3, 10));
    storage.write(&series(0, &[], &[(3, b"after it")])).unwrap();
    drop(storage);

    // The number of shards may change: the snapshot and the log are read into others.
    let storage = Storage::open(options(&fs, 2)).unwrap();
    let mut expected = expected.to_vec();
    expected[0].histograms.push(at(3, b"after it"));
    reads_all(&storage, &expected);
    assert_eq!(storage.samples_since_snapshot(), 1);
    assert_eq!(storage.lost_batches(), 0);
}

#[test]
fn a_snapshot_of_many_large_histograms_has_many_blocks() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs, 1)).unwrap();
    let bytes = vec![1; 60_000];
    let written: Vec<_> = (0..3)
        .map(|host| {
            let histograms: Vec<_> = (0..60).map(|time| (time, bytes.as_slice())).collect();
            series(host, &[], &histograms)
        })
        .collect();
    storage.write_batch(&written).unwrap();
    assert!(storage.snapshot().unwrap().bytes > 3 * 60 * 60_000);
    drop(storage);
    assert_eq!(Storage::open(options(&fs, 1)).unwrap().query(&[], ALL), written);
}

/// R5 CUT. The samples and the histograms of one write are visible together.
#[test]
fn samples_and_histograms_of_a_write_are_one_commit() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs, 1)).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for time in 0..300 {
                let batch: Vec<_> =
                    (0..20).map(|host| series(host, &[time], &[(time, b"bytes")])).collect();
                storage.write_batch(&batch).unwrap();
            }
        });
        while !writer.is_finished() {
            let found = storage.query(&[], ALL);
            let samples = found.iter().map(|series| series.samples.len()).sum::<usize>();
            let histograms = found.iter().map(|series| series.histograms.len()).sum::<usize>();
            assert_eq!((samples % 20, samples), (0, histograms));
        }
    });
}

/// A histogram counts by its size. What it replaces is given back.
#[test]
fn histograms_count_in_the_limit_of_memory_by_their_size() {
    let fs = SimFileSystem::new();
    let open = || Storage::open(options(&fs, 1).samples_max(100)).unwrap();
    let storage = open();
    let is_full = |bytes: &[u8], time| {
        let written = storage.write(&series(0, &[], &[(time, bytes)]));
        matches!(written, Err(WriteError::MemoryFull { max: 100 }))
    };
    // 56 bytes beside its own, and 16 bytes per sample.
    assert!(is_full(&vec![0; 100 * 16 - 55], 0));
    assert!(!is_full(&vec![0; 50 * 16 - 56], 0));
    assert!(is_full(&vec![0; 51 * 16 - 56], 1));
    // It replaces the first.
    (0..10).for_each(|_| assert!(!is_full(&[0; 40 * 16 - 56], 0)));
    assert!(!is_full(&[0; 60 * 16 - 56], 1));
    assert!(storage.write(&series(0, &[1], &[])).is_err());
    drop(storage);
    let storage = open();
    assert!(storage.write(&series(0, &[1], &[])).is_err());
    assert_eq!(storage.samples(), 2);
}

/// Histograms expire in whole chunks, as samples do, and give their room back.
#[test]
fn expired_histograms_leave_memory() {
    let fs = SimFileSystem::new();
    let (now_ms, old_ms) = (now_ms(), now_ms() - 7_200_000);
    let histograms = |from: i64, count: i64| {
        let all = (from..from + count).map(|time| at(time, b"12345678"));
        all.collect::<Vec<_>>()
    };
    let of = |host, histograms| TimeSeries { histograms, ..TimeSeries::new(labels(host), vec![]) };
    let storage = Storage::open(options(&fs, 1)).unwrap();
    // The second loses its first two chunks of 64.
    let mixed = [histograms(old_ms, 150), histograms(now_ms, 10)].concat();
    storage.write_batch(&[of(0, histograms(old_ms, 100)), of(1, mixed.clone())]).unwrap();
    drop(storage);
    // Each counts as 4 samples.
    let options = options(&fs, 1).retention(Duration::from_secs(3600)).samples_max(4 * 32 + 3);
    let storage = Storage::open(options).unwrap();
    assert_eq!(storage.query(&[], ALL), [of(1, mixed[128..].to_vec())]);
    assert_eq!((storage.samples(), storage.expired_samples()), (32, 228));
    storage.write(&series(2, &[now_ms, now_ms + 1, now_ms + 2], &[])).unwrap();
    assert!(storage.write(&series(2, &[now_ms + 3], &[])).is_err());
}

#[test]
fn a_histogram_that_is_too_large_is_refused_with_its_write() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs, 1)).unwrap();
    let large = vec![0; HISTOGRAM_BYTES_MAX + 1];
    let refused = storage.write_batch(&[series(0, &[1], &[]), series(1, &[], &[(1, &large)])]);
    let Err(refused @ WriteError::HistogramTooLarge { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(refused.to_string().contains("65537 bytes"), "{refused}");
    assert_eq!((storage.samples(), storage.series_count()), (0, 0));
}

/// New series of a write are left out with their histograms. Parts refer to their own labels only.
#[test]
fn a_write_of_new_series_is_cut_into_parts() {
    let fs = SimFileSystem::new();
    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(1).queue_bytes(2000);
    let options = || StorageOptions::new(config.clone()).series_max(50);
    let storage = Storage::open(options()).unwrap();
    let written: Vec<_> = (0..50)
        .map(|host| match host % 3 {
            0 => series(host, &[1, 2], &[(1, b"both")]),
            1 => series(host, &[], &[(1, b"one"), (2, b"two")]),
            _ => series(host, &[3], &[]),
        })
        .collect();
    storage.write_batch(&written).unwrap();
    assert!(storage.log().stats().total.records > 5, "it is cut");
    let mut expected = written;
    expected.sort_by(|one, other| one.labels.cmp(&other.labels));
    reads_all(&storage, &expected);
    let more = [series(100, &[], &[(1, b"new")]), series(0, &[], &[(5, b"known")])];
    let handle = storage.find_handle(&labels(1)).unwrap();
    let by_handle = [(handle, at(9, b"by handle"))];
    let prepared = storage.prepare_write(&[], &by_handle, &more).unwrap();
    assert_eq!(prepared.left_out(), [0]);
    block_on(prepared.write()).unwrap();
    drop(storage);
    for (host, histogram) in [(0, at(5, b"known")), (1, at(9, b"by handle"))] {
        let series = expected.iter_mut().find(|series| series.labels == labels(host));
        series.expect("it is there").histograms.push(histogram);
    }
    reads_all(&Storage::open(options()).unwrap(), &expected);
}

#[test]
fn a_hostile_batch_of_histograms_is_refused() {
    let catalogue = Catalogue::new(labels_of);
    let mut bytes = Vec::new();
    let histograms = [histogram(0, 1, b"bytes"), histogram(1, 2, b"")];
    BatchEncoder::new().encode(true, &[sample(0, 1, 1.0)], &histograms, &catalogue, &mut bytes);
    let decoded = decode(&[&bytes]).unwrap();
    assert_eq!((decoded.samples.len(), decoded.histograms.len()), (1, 2));
    for length in 2..bytes.len() {
        let decoded = decode(&[&bytes[..length]]);
        // Without the block of histograms, the batch is whole.
        assert!(decoded.is_err() || decoded.unwrap().histograms.is_empty(), "{length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        drop(decode(&[flipped]));
    }
    let fault = |bytes: &[u8]| decode(&[bytes]).unwrap_err().fault;
    let none = DecodeFault::OutOfRange { what: "a number of samples", found: 0 };
    assert_eq!(fault(&[1, 0]), none, "kind 1 has no histograms");
    assert_eq!(fault(&[3, 0, 0]), none);
    // One series without labels, one reference, one timestamp, and a length beyond the limit.
    let head = [3, 0, 1, 1, 1, 0, 0, 1, 4];
    let whole: Vec<u8> = [&head[..], &[2, 7, 7]].concat();
    assert_eq!(decode(&[whole]).unwrap().histograms[0].1, at(0, &[7, 7]));
    let large: Vec<u8> = [&head[..], &[0x81, 0x80, 4]].concat();
    let found = HISTOGRAM_BYTES_MAX as u64 + 1;
    assert_eq!(fault(&large), DecodeFault::OutOfRange { what: "a histogram's length", found });
    let cut_off: Vec<u8> = [&head[..], &[0x80, 0x80, 4, 0]].concat();
    assert_eq!(fault(&cut_off), DecodeFault::Truncated);
}
