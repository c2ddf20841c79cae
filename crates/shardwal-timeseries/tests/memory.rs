//! Memory of the codec and the storage. Samples of known series allocate nothing.
//! Hostile bytes get no more memory than their number justifies. A refused write leaves
//! nothing behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

mod codec_rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use codec_rig::{Catalogue, labels_of, sample};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Config, Durability};
use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, BatchSink, DecodeFault, SeriesSample,
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
        encoder.encode(false, round, &catalogue, &mut out);
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
    BatchEncoder::new().encode(true, &samples, &catalogue, &mut bytes);
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
    BatchEncoder::new().encode(true, &samples, &catalogue, &mut bytes);
    let mut count = Count::default();
    memory_of(&bytes, &mut count);
    assert_eq!((count.series, count.samples), (100, 100));
    assert!(count.label_bytes < bytes.len() * 2, "{} of {}", count.label_bytes, bytes.len());

    // The batch again, with a second series that shares all labels of the first: the
    // first is declared again, then comes shape 1 without new labels.
    let mut one = Vec::new();
    BatchEncoder::new().encode(true, &samples[..1], &catalogue, &mut one);
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
    BatchEncoder::new().encode(true, &same, &catalogue, &mut bytes);
    let mut count = Count::default();
    let most = memory_of(&bytes, &mut count);
    assert_eq!(count.samples, 1 << 20);
    assert!(count.samples / bytes.len() <= 4096 / 8, "{} bytes", bytes.len());
    assert!(most < 256 << 10, "one block and its state, not {most}");
}

/// The bytes that this thread keeps after `writes` refused writes, each of another
/// series, beyond those after a tenth of them.
fn kept_of_refused(storage: &Storage, writes: u64) -> isize {
    let write = |host: u64| {
        let labels = Labels::new([("__name__", "refused"), ("host", &host.to_string())]).unwrap();
        let refused = storage.write(&TimeSeries { labels, samples: vec![Sample::new(1, 1.0)] });
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
    let up = TimeSeries {
        labels: Labels::new([("__name__", "up")]).unwrap(),
        samples: vec![Sample::new(1, 1.0)],
    };
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
