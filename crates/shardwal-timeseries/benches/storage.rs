//! The storage on the recorded stream: the sharded log against the log behind one mutex, with
//! identical code, and the replay of many samples.
//!
//!     cargo bench --bench storage -- [--seconds S] [--rounds R] [--threads T]
//!     cargo bench --bench storage -- --replay-samples 100000000
//!
//! Prints samples per second (median, lowest and highest of the rounds, the contenders in turn),
//! and for the replay its rate and peak memory.

#![expect(clippy::print_stdout, reason = "it prints figures")]

#[path = "../tests/recording/mod.rs"]
#[expect(dead_code, reason = "the codec's tests use the rest")]
mod recording;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use recording::Recording;
use shardwal::{Config, Durability, ShardedWal};
use shardwal_bench::SingleMutexLog;
use shardwal_timeseries::codec::SeriesSample;
use shardwal_timeseries::{Sample, SeriesHandle, SeriesLog, Storage, StorageOptions};

#[derive(Parser)]
struct Arguments {
    /// Duration of each run, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads that each write a request and wait for it
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Instead, write this number of samples, reopen the storage, and report the cost
    #[arg(long)]
    replay_samples: Option<u64>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Offset between two repetitions of the stream, in milliseconds.
const REPETITION_MS: i64 = 3_600_000;

fn main() {
    let arguments = Arguments::parse();
    let recording = Recording::read();
    match arguments.replay_samples {
        Some(samples) => replay(&recording, samples),
        None => compare(&recording, &arguments),
    }
}

fn compare(recording: &Recording, arguments: &Arguments) {
    for durability in [Durability::Sync, Durability::Buffered] {
        let mut rates = vec![Vec::new(); 4];
        for _ in 0..arguments.rounds {
            let rate = |shards| run::<ShardedWal>(recording, arguments, durability, shards);
            rates[0].push(run::<SingleMutexLog>(recording, arguments, durability, 1));
            rates[1].push(rate(1));
            rates[2].push(rate(2));
            rates[3].push(rate(4));
        }
        println!("\n{durability}, {} threads, each waits [samples/s]", arguments.threads);
        let names = ["one mutex, one file", "1 shard", "2 shards", "4 shards"];
        for (name, mut rates) in names.into_iter().zip(rates) {
            rates.sort_by(f64::total_cmp);
            let (least, most) = (rates[0], rates[rates.len() - 1]);
            println!("    {name:24} {:12.0}   {least:.0} .. {most:.0}", rates[rates.len() / 2]);
        }
    }
}

fn open<L: SeriesLog>(dir: &Path, durability: Durability, shards: usize) -> Storage<L> {
    let config = Config::new(dir.join("db")).durability(durability).shards(shards);
    Storage::open_in(StorageOptions::new(config)).expect("the storage opens")
}

/// The stream's requests by handle, so that only the storage is measured.
type Prepared = Vec<Vec<(SeriesHandle, Sample)>>;

fn prepare<L: SeriesLog>(storage: &Storage<L>, recording: &Recording) -> Prepared {
    let handle = |labels| storage.series_handle(labels).expect("there is room for it");
    let handles: Vec<_> = recording.series.iter().map(handle).collect();
    let of = |batch: &Vec<SeriesSample>| {
        batch.iter().map(|found| (handles[found.series as usize], found.sample)).collect()
    };
    recording.batches.iter().map(of).collect()
}

fn shifted(request: &[(SeriesHandle, Sample)], repetition: u64) -> Vec<(SeriesHandle, Sample)> {
    let later = REPETITION_MS * i64::try_from(repetition).expect("the run is short");
    let shift = |(handle, sample): &(SeriesHandle, Sample)| {
        (*handle, Sample::new(sample.timestamp_ms + later, sample.value))
    };
    request.iter().map(shift).collect()
}

fn run<L: SeriesLog>(
    recording: &Recording,
    arguments: &Arguments,
    durability: Durability,
    shards: usize,
) -> f64 {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let storage = open::<L>(dir.path(), durability, shards);
    let prepared = prepare(&storage, recording);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let count = prepared.len() as u64;
                    let request = usize::try_from(turn % count).expect("below a length");
                    let samples = shifted(&prepared[request], turn / count);
                    let writing = storage.write_samples(&samples).expect("there is room");
                    writing.wait().expect("the scratch disk holds it");
                }
            });
        }
        std::thread::sleep(Duration::from_secs_f64(arguments.seconds));
        stop.store(true, Ordering::Relaxed);
    });
    storage.samples() as f64 / began.elapsed().as_secs_f64()
}

fn replay(recording: &Recording, samples: u64) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let storage = open::<ShardedWal>(dir.path(), Durability::Buffered, 4);
    let prepared = prepare(&storage, recording);
    let mut repetition = 0;
    while storage.samples() < samples {
        for request in &prepared {
            let writing = storage.write_samples(&shifted(request, repetition));
            writing.expect("there is room").wait().expect("the scratch disk holds it");
        }
        repetition += 1;
    }
    storage.close().expect("it closes");
    drop((storage, prepared));
    let before = resident_bytes("VmRSS");
    let began = Instant::now();
    let storage = open::<ShardedWal>(dir.path(), Durability::Buffered, 4);
    let seconds = began.elapsed().as_secs_f64();
    let (held, log) = (storage.samples(), storage.log().recovery());
    let bytes: u64 = log.shards.iter().map(|shard| shard.bytes).sum();
    println!(
        "{held} samples replayed in {seconds:.2} s: {:.2} M samples/s; the log has {:.3} bytes a sample; \
         resident before {} MiB, at most {} MiB, {:.1} bytes a sample",
        held as f64 / seconds / 1e6,
        bytes as f64 / held as f64,
        before >> 20,
        resident_bytes("VmHWM") >> 20,
        resident_bytes("VmRSS") as f64 / held as f64,
    );
}

/// A memory figure of this process, from Linux.
fn resident_bytes(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
