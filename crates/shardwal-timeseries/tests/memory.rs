//! Memory of the codec and the storage. Samples of known series allocate nothing.
//! Hostile bytes get no more memory than their number justifies. A refused write leaves
//! nothing behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

mod codec_rig;
#[expect(dead_code, reason = "the codec's tests use the rest")]
mod recording;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use codec_rig::{Catalogue, labels_of, sample};
use recording::Recording;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Config, Durability};
use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, BatchSink, DecodeFault, SeriesHistogram, SeriesSample,
};
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries};

/// Counts allocations per thread, the live bytes and their maximum. Signed, because a
/// thread may free what another has allocated.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator with unchanged arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.set(LIVE.get() + bytes_of(layout));
        MOST.set(MOST.get().max(LIVE.get()));
        // SAFETY: the caller upholds the contract of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - bytes_of(layout));
        // SAFETY: the caller upholds the contract of this call.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn bytes_of(layout: Layout) -> isize {
    // A layout's size is at most `isize::MAX`.
    layout.size().cast_signed()
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps nothing, counts everything.
#[derive(Default)]
struct Count {
    series: usize,
    label_bytes: usize,
    samples: usize,
}

impl BatchSink for Count {
    fn series(&mut self, _reference: u32, labels: Labels) {
        self.series += 1;
        self.label_bytes += labels.canonical().len();
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        self.samples += samples.len();
    }

    fn histograms(&mut self, histograms: &[SeriesHistogram]) {
        self.samples += histograms.len();
    }
}

#[test]
fn samples_of_known_series_allocate_nothing() {
    let scrape = |round: u32| -> Vec<SeriesSample> {
        // Each round in another order, with values that no linear prediction fits.
        let number = |i: u32| (i + round * 7) % 1000;
        (0..1000)
            .map(|i| sample(number(i), i64::from(round) * 999, f64::from(i * i) / 7.0))
            .collect()
    };
    let rounds: Vec<_> = (0..30).map(scrape).collect();
    let catalogue = Catalogue::new(labels_of);
    let (mut encoder, mut decoder) = (BatchEncoder::new(), BatchDecoder::new());
    let (mut out, mut count) = (Vec::new(), Count::default());
    let mut allocated = Vec::new();
    for round in &rounds {
        let before = ALLOCATIONS.get();
        out.clear();
        encoder.encode(false, round, &[], &catalogue, &mut out);
        decoder.decode(&out, &mut count).unwrap();
        allocated.push(ALLOCATIONS.get() - before);
    }
    assert_eq!((count.series, count.samples), (1000, 30_000));
    println!("allocations by batch: {allocated:?}");
    assert!(allocated[0] > 1000, "the counter counts");
    assert_eq!(allocated[10..], [0; 20]);
}

/// Decodes a batch that may be invalid; returns the maximum memory used.
fn memory_of(bytes: &[u8], count: &mut Count) -> usize {
    let before = LIVE.get();
    MOST.set(before);
    let outcome = BatchDecoder::new().decode(bytes, count);
    let most = (MOST.get() - before).unsigned_abs();
    println!("{} bytes took {most}: {outcome:?}", bytes.len());
    most
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let longest = [0xff, 0xff, 0x03];
    let string = [&[1, 1, 1, 1, 1, 0, 0][..], &longest].concat();
    let samples = [1, 0xff, 0x1f, 0xff, 0x1f];
    for bytes in [&string[..], &samples] {
        assert!(memory_of(bytes, &mut Count::default()) < 4096);
    }
}

#[test]
fn few_bytes_expand_to_no_more_labels_than_the_limit() {
    // Series 0 has 4,000 bytes of labels. 4,095 more series of two bytes each share
    // them.
    let pairs: Vec<_> = (0..40).map(|i| (format!("l{i}"), "v".repeat(92))).collect();
    let shared = Labels::new(pairs).unwrap();
    let catalogue = Catalogue::new(|_| shared.clone());
    let mut bytes = Vec::new();
    let samples: Vec<_> = (0..4096).map(|series| sample(series, 0, 0.0)).collect();
    BatchEncoder::new().encode(true, &samples, &[], &catalogue, &mut bytes);
    let mut count = Count::default();
    let most = memory_of(&bytes, &mut count);
    assert_eq!(count.series, 4096);
    assert!(count.label_bytes / bytes.len() <= 2048, "{} of {}", count.label_bytes, bytes.len());
    assert!(most < 128 * bytes.len(), "{most} of {}", bytes.len());
}

#[test]
fn large_labels_must_be_encoded_in_full() {
    let large = |number: usize| {
        let mut pairs: Vec<_> = (0..50).map(|i| (format!("l{i}"), "v".repeat(92))).collect();
        pairs.push(("number".to_owned(), number.to_string()));
        Labels::new(pairs).unwrap()
    };
    let catalogue = Catalogue::new(|series| large(series as usize));
    let mut bytes = Vec::new();
    let samples: Vec<_> = (0..100).map(|series| sample(series, 0, 0.0)).collect();
    BatchEncoder::new().encode(true, &samples, &[], &catalogue, &mut bytes);
    let mut count = Count::default();
    memory_of(&bytes, &mut count);
    assert_eq!((count.series, count.samples), (100, 100));
    assert!(count.label_bytes < bytes.len() * 2, "{} of {}", count.label_bytes, bytes.len());

    // The batch again, with a second series that shares all labels of the first: the
    // first is declared again, then comes shape 1 without new labels.
    let mut one = Vec::new();
    BatchEncoder::new().encode(true, &samples[..1], &[], &catalogue, &mut one);
    let first = &one[3..one.len() - 3];
    let forged = [&[1, 2, 2], first, &[1, 0], &[2, 2 << 2, 0x20]].concat();
    let mut count = Count::default();
    let refused = BatchDecoder::new().decode(&forged, &mut count).unwrap_err();
    assert!(matches!(refused.fault, DecodeFault::OutOfRange { what: "shared labels", .. }));
    assert_eq!((count.series, count.samples), (1, 0));
}

#[test]
fn a_batch_expands_to_no_more_samples_than_its_blocks_hold() {
    let catalogue = Catalogue::new(labels_of);
    let mut bytes = Vec::new();
    let same: Vec<_> = (0..1 << 20).map(|_| sample(0, 0, 0.0)).collect();
    BatchEncoder::new().encode(true, &same, &[], &catalogue, &mut bytes);
    let mut count = Count::default();
    let most = memory_of(&bytes, &mut count);
    assert_eq!(count.samples, 1 << 20);
    assert!(count.samples / bytes.len() <= 4096 / 8, "{} bytes", bytes.len());
    assert!(most < 256 << 10, "one block and its state, not {most}");
}

/// An encoder keeps strings beyond their period, because they may occur again. Here none does.
#[test]
fn strings_of_earlier_periods_do_not_pile_up() {
    const SERIES: u32 = 5_000;
    let number = Cell::new(0);
    let labels = |series: u32| {
        let id = series + number.get() * SERIES;
        Labels::new([("__name__", format!("m{}", id / 100)), ("id", format!("{id:032x}"))]).unwrap()
    };
    let catalogue = Catalogue::new(labels);
    let mut encoder = BatchEncoder::new();
    let samples: Vec<_> = (0..SERIES).map(|series| sample(series, 0, 0.0)).collect();
    let mut period = || {
        number.set(number.get() + 1);
        let mut bytes = Vec::new();
        encoder.encode(true, &samples, &[], &catalogue, &mut bytes);
        LIVE.get()
    };
    let early = (0..5).map(|_| period()).max().unwrap();
    let late = (0..60).map(|_| period()).max().unwrap();
    let more = (late - early) / (60 * SERIES as isize);
    println!("{more} bytes per string of an earlier period");
    assert!(more < 4, "{more} bytes per string");
}

/// Names and values are stored once, and a series is the numbers of its labels. One label has a
/// value of its own in each series, and one in each ten.
#[test]
fn a_series_of_ten_labels_takes_at_most_300_bytes() {
    const SERIES: usize = 200_000;
    let fs = SimFileSystem::new();
    let config = Config::new("/db").file_system(Arc::new(fs)).shards(1);
    let storage = Storage::open(StorageOptions::new(config)).unwrap();
    let before = LIVE.get();
    for n in 0..SERIES {
        let shared =
            (0..7).map(|i| (format!("label_{i}"), format!("a_longer_value_{}", n % 50 + i)));
        let own = [
            ("__name__".to_owned(), format!("metric_{}_total", n % 300)),
            ("instance".to_owned(), format!("10.0.{}.{}:9100", n / 10 % 256, n / 2560)),
            ("id".to_owned(), format!("{n:032x}")),
        ];
        storage.series_handle(&Labels::new(shared.chain(own)).unwrap()).unwrap();
    }
    let each = (LIVE.get() - before).unsigned_abs() / SERIES;
    println!("{each} bytes per series");
    assert!(each <= 300, "{each} bytes");
}

/// The bytes that a storage holds for samples, and their number. `write` writes them. The storage
/// is opened again, from a snapshot: this thread then allocates all of it.
fn memory_of_samples(series: &[Labels], write: impl Fn(&Storage)) -> (usize, usize) {
    let fs = SimFileSystem::new();
    let open = |dir: &str| {
        let config = Config::new(dir).file_system(Arc::new(fs.clone())).shards(1);
        Storage::open(StorageOptions::new(config.durability(Durability::Buffered))).unwrap()
    };
    let storage = open("/db");
    write(&storage);
    storage.snapshot().unwrap();
    storage.close().unwrap();
    drop(storage);
    let held = |dir: &str| {
        let before = LIVE.get();
        let storage = open(dir);
        if dir == "/labels" {
            series.iter().for_each(|labels| {
                storage.series_handle(labels).unwrap();
            });
        }
        (LIVE.get() - before, storage)
    };
    let (all, storage) = held("/db");
    assert_eq!(storage.series_count(), series.len());
    let (labels, _) = held("/labels");
    ((all - labels).unsigned_abs(), usize::try_from(storage.samples()).unwrap())
}

/// The recorded stream has 65 samples per series, so that each column is one chunk that is open.
/// In later rounds of the stream the values repeat, but not the times.
#[test]
fn a_sample_of_the_recorded_stream_takes_at_most_4_bytes() {
    let recording = Recording::read();
    for (rounds, bytes_max) in [(1, 4.0), (10, 3.0)] {
        let (bytes, samples) = memory_of_samples(&recording.series, |storage| {
            let handle = |labels| storage.series_handle(labels).unwrap();
            let handles: Vec<_> = recording.series.iter().map(handle).collect();
            for batch in (0..rounds).flat_map(|round| {
                recording.batches.iter().map(move |batch| (round * 3_600_000_i64, batch))
            }) {
                let (later, batch) = batch;
                let sample = |found: &SeriesSample| {
                    let Sample { timestamp_ms, value } = found.sample;
                    (handles[found.series as usize], Sample::new(timestamp_ms + later, value))
                };
                let samples: Vec<_> = batch.iter().map(sample).collect();
                storage.write_samples(&samples).unwrap().wait().unwrap();
            }
        });
        let each = bytes as f64 / samples as f64;
        println!("{rounds} rounds: {samples} samples of {each:.2} bytes");
        assert!(each <= bytes_max, "{rounds} rounds: {each} bytes per sample");
    }
}

/// Series with few samples are many. Before samples were compressed, ten took 376 bytes.
#[test]
fn a_series_with_few_samples_takes_little_memory() {
    const SERIES: usize = 50_000;
    let labels = |n: usize| Labels::new([("__name__", "few"), ("id", &n.to_string())]).unwrap();
    let series: Vec<_> = (0..SERIES).map(labels).collect();
    for (count, bytes_max) in [(1, 200), (10, 300)] {
        let (bytes, samples) = memory_of_samples(&series, |storage| {
            // Values that share few bits.
            let value = |n: usize, at: i64| (n as f64).sqrt() + at as f64 / 7.0;
            let samples_of = |n| (0..count).map(move |at| Sample::new(at * 15_000, value(n, at)));
            let write = |n: usize| TimeSeries::new(series[n].clone(), samples_of(n).collect());
            let batch: Vec<_> = (0..SERIES).map(write).collect();
            storage.write_batch(&batch).unwrap();
        });
        assert_eq!(samples, SERIES * usize::try_from(count).unwrap());
        let each = bytes / SERIES;
        println!("{count} samples: {each} bytes per series");
        assert!(each <= bytes_max, "{count} samples: {each} bytes per series");
    }
}

/// The bytes that this thread keeps after `writes` refused writes, each of another
/// series, beyond those after a tenth of them.
fn kept_of_refused(storage: &Storage, writes: u64) -> isize {
    let write = |host: u64| {
        let labels = Labels::new([("__name__", "refused"), ("host", &host.to_string())]).unwrap();
        let refused = storage.write(&TimeSeries::new(labels, vec![Sample::new(1, 1.0)]));
        refused.expect_err("it is refused");
    };
    (0..writes / 10).for_each(write);
    let before = LIVE.get();
    (writes / 10..writes).for_each(write);
    LIVE.get() - before
}

/// Regression: 300,000 refused series held 164 MiB. After a million, each new series
/// was refused until a restart.
#[test]
fn refused_series_keep_no_memory_and_no_series_slots() {
    let up = TimeSeries::new(Labels::new([("__name__", "up")]).unwrap(), vec![Sample::new(1, 1.0)]);
    let open = |limit: &str| {
        let fs = SimFileSystem::new();
        fs.set_capacity(Some(1 << 40));
        let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(1);
        let config = config.durability(Durability::Buffered);
        let config =
            if limit == "free space" { config.free_space_min_bytes(1 << 50) } else { config };
        let options = StorageOptions::new(config).series_max(1000);
        let options = if limit == "samples" { options.samples_max(1) } else { options };
        let storage = Storage::open(options).unwrap();
        if limit != "free space" {
            storage.write(&up).unwrap();
        }
        if limit == "room" {
            let full = Fault::new(Call::Write, 1, FaultKind::Error(28));
            fs.fail(Fault { sticky: true, path_contains: Some("/db/log".into()), ..full });
        }
        if limit == "closed" {
            storage.close().unwrap();
        }
        (fs, storage)
    };
    for limit in ["samples", "free space", "closed", "room"] {
        let (fs, storage) = open(limit);
        let kept = kept_of_refused(&storage, if limit == "room" { 20_000 } else { 300_000 });
        println!("{limit}: {kept} bytes");
        assert!(kept < 64 << 10, "{limit}: {kept} bytes are kept");
        assert_eq!(storage.series_count(), usize::from(limit != "free space"), "{limit}");
        if limit == "room" {
            fs.clear_faults();
            let labels = Labels::new([("__name__", "new")]).unwrap();
            storage.write(&TimeSeries { labels, ..up.clone() }).expect("there is a place");
        }
    }
}
