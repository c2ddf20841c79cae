//! Writes during a snapshot: how long they take, beside those before it, and what memory it takes.
//!
//!     cargo bench -p shardwal-timeseries --bench snapshot -- [--series N] [--samples N]
//!         [--threads T] [--shards S] [--durability D] [--shuffled] [--snapshots N]
//!
//! Each thread writes a request and waits, again and again, and each series gets a sample in turn.
//! Prints percentiles of the writes' durations in milliseconds.

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use shardwal::{Config, Durability};
use shardwal_timeseries::{Labels, Sample, SeriesHandle, Storage, StorageOptions};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 1_000_000)]
    series: u32,
    /// Samples per series before the first snapshot
    #[arg(long, default_value_t = 20)]
    samples: i64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 2)]
    shards: usize,
    /// Samples per write
    #[arg(long, default_value_t = 2000)]
    request: usize,
    #[arg(long, default_value = "buffered")]
    durability: Durability,
    /// Write to series in any order, not in that of their creation
    #[arg(long)]
    shuffled: bool,
    #[arg(long, default_value_t = 1)]
    snapshots: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const INTERVAL_MS: i64 = 15_000;

/// When a write began, and how long it took.
type Write = (Instant, Duration);

fn main() {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let config = Config::new(dir.path().join("db"))
        .durability(arguments.durability)
        .shards(arguments.shards);
    let storage = Storage::open(StorageOptions::new(config).series_max(u32::MAX));
    let storage = storage.expect("the storage opens");
    let handles = handles(&storage, &arguments);
    let next = AtomicU64::new(0);
    let requests = handles.len().div_ceil(arguments.request) as u64;
    for _ in 0..requests * arguments.samples.unsigned_abs() {
        write(&storage, &handles, &arguments, &next);
    }
    measure(&storage, &handles, &arguments, &next);
}

/// The handles, in the order of the writes.
fn handles(storage: &Storage, arguments: &Arguments) -> Vec<SeriesHandle> {
    let handle = |number: u32| {
        let labels = [
            ("__name__", format!("metric_{}", number % 1000)),
            ("host", format!("host-{}", number / 1000)),
            ("job", "node".to_owned()),
        ];
        let labels = Labels::new(labels).expect("they are valid");
        storage.series_handle(&labels).expect("there is room")
    };
    let mut handles: Vec<_> = (0..arguments.series).map(handle).collect();
    if arguments.shuffled {
        // A fixed permutation, so that runs compare.
        let mut state = 1_u64;
        for at in (1..handles.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            handles.swap(at, (state >> 33) as usize % (at + 1));
        }
    }
    handles
}

/// Writes the next request.
fn write(storage: &Storage, handles: &[SeriesHandle], arguments: &Arguments, next: &AtomicU64) {
    let requests = handles.len().div_ceil(arguments.request) as u64;
    let turn = next.fetch_add(1, Ordering::Relaxed);
    let round = (turn / requests).cast_signed();
    let at = usize::try_from(turn % requests).expect("below a length");
    let some = handles.iter().skip(at * arguments.request).take(arguments.request);
    // A step per round, so that values compress as counters do.
    let sample = Sample::new(1_700_000_000_000 + round * INTERVAL_MS, (round * 7) as f64);
    let samples: Vec<_> = some.map(|handle| (*handle, sample)).collect();
    let writing = storage.write_samples(&samples).expect("there is room");
    writing.wait().expect("the scratch disk holds it");
}

fn measure(storage: &Storage, handles: &[SeriesHandle], arguments: &Arguments, next: &AtomicU64) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = || {
            let mut writes: Vec<Write> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                write(storage, handles, arguments, next);
                writes.push((began, began.elapsed()));
            }
            writes
        };
        let writers: Vec<_> = (0..arguments.threads).map(|_| scope.spawn(writer)).collect();
        std::thread::sleep(Duration::from_secs(1));
        let mut times = Vec::new();
        for _ in 0..arguments.snapshots {
            let quiet = Instant::now();
            std::thread::sleep(Duration::from_secs(2));
            let (before, written) = (resident_bytes("VmRSS"), storage.samples());
            reset_peak();
            let began = Instant::now();
            let report = storage.snapshot().expect("the scratch disk holds it");
            times.push((quiet, began, Instant::now()));
            let peak = resident_bytes("VmHWM");
            println!(
                "{} series, {} samples, {} MiB in {:.2} s; {} samples written meanwhile; resident \
                 {} MiB before, {} MiB more at most",
                report.series,
                report.samples,
                report.bytes >> 20,
                began.elapsed().as_secs_f64(),
                storage.samples() - written,
                before >> 20,
                (peak - before) >> 20,
            );
        }
        stop.store(true, Ordering::Relaxed);
        let writes = writers.into_iter().flat_map(|writer| writer.join().expect("it is well"));
        let writes: Vec<_> = writes.collect();
        for (quiet, began, ended) in times {
            print(&writes, "before", quiet..began);
            print(&writes, "during", began..ended);
        }
    });
}

/// Prints the durations of the writes that overlap with a time.
fn print(writes: &[Write], what: &str, time: std::ops::Range<Instant>) {
    let within = writes.iter().filter(|(at, took)| *at < time.end && *at + *took > time.start);
    let mut took: Vec<_> = within.map(|(_, took)| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took.get(took.len().saturating_sub(1) * part / 1000).unwrap_or(&0.0);
    let (p50, p99, p999, most) = (at(500), at(990), at(999), at(1000));
    println!(
        "    {what}: {} writes, P50 {p50:.2}, P99 {p99:.2}, P99.9 {p999:.2}, longest {most:.2} ms",
        took.len()
    );
}

/// Makes the peak of the resident memory its present value. Linux only.
fn reset_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

/// A memory figure of this process, from Linux.
fn resident_bytes(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
