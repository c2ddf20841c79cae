//! The cost of a shard's files to its callers: one load on segments that grow, are zeroed ahead, or
//! are overwritten; past the page cache and through it; with a thousand rolls and with none.
//! Acknowledged after the sync.
//!
//! `cargo bench --bench segment_preparation -- DIR levers|rolls [ROUNDS [VARIANT]]`;
//! medians of the rounds, in which all variants, or those of this name, take turns.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use shardwal::fs::{FileHandle, FileSystem, OpenMode, OsFileSystem};
use shardwal::{Config, ShardedWal};

#[path = "../tests/support/delegate.rs"]
mod delegate;

use delegate::delegate;

/// The real disk without some of its features.
#[derive(Clone, Copy, Debug)]
struct Without {
    direct: bool,
    zeros: bool,
}

#[derive(Debug)]
struct CachedFile(Box<dyn FileHandle>);

impl FileSystem for Without {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let file = OsFileSystem.open(path, mode)?;
        Ok(if self.direct { Box::new(CachedFile(file)) } else { file })
    }
    delegate!(self => OsFileSystem);
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.zeros || OsFileSystem.copy_on_write(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        OsFileSystem.free_bytes(path)
    }
}

impl FileHandle for CachedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn drop_cache(&self) {
        self.0.drop_cache();
    }
}

/// A load.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    threads: u64,
    /// Records per batch. 1 for single appends.
    batch: usize,
    payload_bytes: usize,
    shards: usize,
    /// Records of all threads.
    records: u64,
}

#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    without: Without,
    segment_bytes: u64,
    recycled_max: usize,
    preallocated: usize,
    /// Interval between truncations, if any.
    truncate_each: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    records: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    cpu: f64,
    rolls: u64,
}

fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn append(log: &ShardedWal, load: &Load, key: u64) {
    if load.batch == 1 {
        log.append(key, vec![b'x'; load.payload_bytes]).wait().expect("a sound disk");
        return;
    }
    // One key, so that the batch goes to one shard undivided.
    let records = (0..load.batch).map(|_| (key, vec![b'x'; load.payload_bytes]));
    log.append_batch(records.collect::<Vec<_>>()).wait().expect("a sound disk");
}

/// Applies the load. Returns the duration of each call, over all threads.
fn drive(log: &ShardedWal, load: &Load, variant: &Variant) -> Vec<u64> {
    let (left, done) = (AtomicU64::new(load.records), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let one = |thread: u64| {
            let mut nanos = Vec::new();
            let of_a_call = load.batch as u64;
            let more = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(of_a_call));
            while more().is_ok() {
                let this = Instant::now();
                append(log, load, thread.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                nanos.push(u64::try_from(this.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            nanos
        };
        if let Some(each) = variant.truncate_each {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    std::thread::sleep(each);
                    log.truncate_before(&log.durable_checkpoint()).expect("a sound disk");
                }
            });
        }
        let threads: Vec<_> =
            (0..load.threads).map(|thread| scope.spawn(move || one(thread))).collect();
        let nanos = threads.into_iter().flat_map(|one| one.join().expect("no panic")).collect();
        done.store(true, Relaxed);
        nanos
    })
}

fn run(dir: &Path, load: &Load, variant: &Variant) -> Figures {
    let dir = dir.join("segments");
    let config = Config::new(&dir)
        .file_system(Arc::new(variant.without))
        .shards(load.shards)
        .segment_bytes(variant.segment_bytes)
        .recycled_segments_max(variant.recycled_max.max(variant.preallocated))
        .preallocated_segments(variant.preallocated);
    let log = ShardedWal::open(config).expect("a new log opens");
    if variant.preallocated > 0 {
        // Fill the log until it uses the preallocated segment.
        while log.stats().total.rolls < load.shards as u64 {
            (0..64).for_each(|key| append(&log, load, key << 58));
        }
    }
    let rolls = log.stats().total.rolls;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut nanos = drive(&log, load, variant);
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_time() - cpu);
    let rolls = log.stats().total.rolls - rolls;
    log.close().expect("a sound disk");
    std::fs::remove_dir_all(&dir).expect("the log is removed");
    nanos.sort_unstable();
    let quantile = |per_mille: usize| {
        let at = nanos.len() * per_mille / 1000;
        nanos[at.min(nanos.len() - 1)] as f64 / 1000.0
    };
    let records = nanos.len() as f64 * load.batch as f64;
    Figures {
        records: records / elapsed,
        p50: quantile(500),
        p99: quantile(990),
        p999: quantile(999),
        max: quantile(1000),
        cpu: cpu * 1e6 / records,
        rolls,
    }
}

fn compare(dir: &Path, load: &Load, variants: &[Variant], rounds: usize) {
    let named = std::env::args().nth(4).filter(|name| name != "--bench").unwrap_or_default();
    let variants: Vec<_> = variants.iter().filter(|one| one.name.contains(&named)).collect();
    println!("{}: records/s (least .. most) | us: P50 P99 P99.9 max | cpu us | rolls", load.name);
    let mut all = vec![Vec::new(); variants.len()];
    for _ in 0..rounds {
        for (variant, all) in variants.iter().copied().zip(&mut all) {
            all.push(run(dir, load, variant));
        }
    }
    for (variant, all) in variants.iter().zip(all) {
        let median = |of: fn(&Figures) -> f64| {
            let mut values: Vec<_> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            (values[values.len() / 2], values[0], values[values.len() - 1])
        };
        let (records, least, most) = median(|figures| figures.records);
        let figures: [fn(&Figures) -> f64; 5] =
            [|it| it.p50, |it| it.p99, |it| it.p999, |it| it.max, |it| it.cpu];
        let [p50, p99, p999, max, cpu] = figures.map(|of| median(of).0);
        println!(
            "  {:<34} {records:>8.0} ({least:>8.0} .. {most:>8.0}) | {p50:>6.0} {p99:>6.0} \
             {p999:>6.0} {max:>7.0} | {cpu:>6.2} | {}",
            variant.name, all[0].rolls
        );
    }
}

const ALL: Without = Without { direct: false, zeros: false };
const CACHED: Without = Without { direct: true, zeros: false };
const GROWING: Without = Without { direct: true, zeros: true };
const MIB: u64 = 1 << 20;

fn levers(dir: &Path, rounds: usize) {
    let variant = |name, without, preallocated, truncated| Variant {
        name,
        without,
        segment_bytes: 64 * MIB,
        recycled_max: if truncated { 4 } else { 0 },
        preallocated,
        truncate_each: if truncated { Some(Duration::from_millis(20)) } else { None },
    };
    let variants = [
        variant("growing", GROWING, 0, false),
        variant("zeroed while it runs, cached", CACHED, 0, false),
        variant("zeroed while it runs", ALL, 0, false),
        variant("ready, cached", CACHED, 3, false),
        variant("ready", ALL, 3, false),
        Variant { segment_bytes: 8 * MIB, ..variant("written over, cached", CACHED, 4, true) },
        Variant { segment_bytes: 8 * MIB, ..variant("written over", ALL, 4, true) },
    ];
    let load = |name, threads, batch, shards, records| Load {
        name,
        threads,
        batch,
        payload_bytes: 256,
        shards,
        records,
    };
    let loads = [
        load("8 threads, batches of 100", 8, 100, 1, 400_000),
        load("64 threads waiting", 64, 1, 1, 60_000),
        load("64 threads waiting, 16 shards", 64, 1, 16, 40_000),
        load("1 thread waiting", 1, 1, 1, 3_000),
    ];
    for load in &loads {
        // With sixteen shards, writing the zeros would dominate.
        let fewer = |variant: &&Variant| {
            load.shards == 1 || variant.segment_bytes < 64 * MIB || variant.preallocated == 0
        };
        let variants: Vec<_> = variants.iter().filter(fewer).copied().collect();
        compare(dir, load, &variants, rounds);
    }
}

fn rolls(dir: &Path, rounds: usize) {
    let variant = |name, segment_bytes, recycled_max, preallocated, truncate_each| Variant {
        name,
        without: ALL,
        segment_bytes,
        recycled_max,
        preallocated,
        truncate_each,
    };
    let each = Some(Duration::from_millis(20));
    let variants = [
        variant("no roll", 640 * MIB, 1, 1, None),
        variant("rolls, new files", MIB / 2, 0, 1, None),
        variant("rolls, new files, truncated", MIB / 2, 0, 1, each),
        variant("rolls, written over", MIB / 2, 40, 40, each),
    ];
    let load = Load {
        name: "8 threads waiting, 4 KiB",
        threads: 8,
        batch: 1,
        payload_bytes: 4096,
        shards: 1,
        records: 128_000,
    };
    compare(dir, &load, &variants, rounds);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [dir, what, rest @ ..] = arguments.as_slice() else {
        println!("usage: segments DIR levers|rolls [ROUNDS [VARIANT]]");
        return;
    };
    let rounds = rest.first().map_or(3, |text| text.parse().expect("a number"));
    match what.as_str() {
        "levers" => levers(Path::new(dir), rounds),
        "rolls" => rolls(Path::new(dir), rounds),
        _ => println!("the second argument must be levers or rolls"),
    }
}
