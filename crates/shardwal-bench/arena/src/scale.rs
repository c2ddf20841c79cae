//! How shardwal scales: constants measured here (`scale_fit.rs`), and the model of
//! `scale_model.rs`. It compares the model with measurements that it was not fitted to, predicts
//! larger machines, and counts how often threads sleep with 64 callers.
//!
//! `cargo run --release --bin scale -- [--seconds S] [--rounds R] [--dir D]` prints the tables of
//! docs/scale.md. `--load waiting|pressing --shards N` runs only that load, on a disk that
//! discards, for profiling with `perf`.

#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod closed_loop;
#[allow(dead_code, reason = "the command that it belongs to uses all of it")]
#[path = "../../../shardwal-cli/src/tune/device.rs"]
mod device;
mod machine_words;
#[allow(dead_code, reason = "the benchmarks that it belongs to use all of it")]
#[path = "../../../../benches/support/null_disk.rs"]
mod null_disk;
mod scale_fit;
mod scale_model;
mod scale_tables;
mod wake_ups;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use closed_loop::Outcome;
use device::Device;
use null_disk::NullDisk;
use scale_fit::Fit;
use scale_model::Load;
use shardwal::Config;
use wake_ups::WakeUp;

/// Bytes that the disk writes per record: key, length and payload.
const RECORD_BYTES: f64 = (closed_loop::PAYLOAD_BYTES + 12) as f64;
/// Segments of a log that overwrites truncated ones, and the number that open preallocates per
/// shard.
const SEGMENT_BYTES: u64 = 8 << 20;
const READY_SEGMENTS: usize = 4;
const DEPTH: usize = 8192;

struct Arguments {
    rounds: usize,
    run: Duration,
    dir: PathBuf,
    load: Option<String>,
    shards: usize,
}

impl Arguments {
    fn parse() -> Self {
        let (run, dir) = (Duration::from_millis(400), "target".into());
        let mut parsed = Self { rounds: 5, run, dir, load: None, shards: 1 };
        let mut arguments = std::env::args().skip(1);
        while let Some(option) = arguments.next() {
            let value = arguments.next().expect("each option takes a value");
            match option.as_str() {
                "--seconds" => {
                    parsed.run = Duration::from_secs_f64(value.parse().expect("it is a number"));
                }
                "--rounds" => parsed.rounds = value.parse().expect("it is a number"),
                "--shards" => parsed.shards = value.parse().expect("it is a number"),
                "--dir" => parsed.dir = value.into(),
                "--load" => parsed.load = Some(value),
                other => panic!("no such option: {other}"),
            }
        }
        parsed
    }
}

/// A load and a disk.
#[derive(Clone, Copy)]
struct Case {
    threads: usize,
    in_flight: usize,
    shards: usize,
    disk: Disk,
}

#[derive(Clone, Copy, PartialEq)]
enum Disk {
    /// This disk with a new log, which writes zeros before records.
    Zeros,
    /// This disk with a truncated log, which overwrites old segments.
    WrittenOver,
    /// Discards what is written. A sync sleeps for this time.
    Null(Duration),
}

const SWALLOWS: Disk = Disk::Null(Duration::ZERO);
const MILLISECOND: Disk = Disk::Null(Duration::from_millis(1));

const fn case(threads: usize, in_flight: usize, shards: usize, disk: Disk) -> Case {
    Case { threads, in_flight, shards, disk }
}

/// The cases that the constants are derived from.
const FITTED: [Case; 4] = [
    case(1, 1, 1, Disk::Zeros),
    case(64, 1, 1, SWALLOWS),
    case(64, 256, 1, SWALLOWS),
    case(1, 1, 1, MILLISECOND),
];

/// The cases that the model is compared with. The first ones shaped the model. The others were
/// measured after it was fixed.
const KNOWN: usize = 26;
const CHECKED: [Case; 38] = [
    case(8, 1, 1, Disk::Zeros),
    case(64, 1, 1, Disk::Zeros),
    case(64, 1, 2, Disk::Zeros),
    case(64, 1, 4, Disk::Zeros),
    case(64, 1, 16, Disk::Zeros),
    case(64, 16, 1, Disk::Zeros),
    case(64, 16, 4, Disk::Zeros),
    case(2, 256, 1, Disk::Zeros),
    case(64, 1, 4, SWALLOWS),
    case(64, 1, 1, MILLISECOND),
    case(64, 1, 16, MILLISECOND),
    case(64, 16, 4, MILLISECOND),
    case(16, 1, 1, Disk::Zeros),
    case(32, 1, 8, Disk::Zeros),
    case(128, 1, 1, Disk::Zeros),
    case(32, 4, 2, Disk::Zeros),
    case(64, 64, 2, Disk::Zeros),
    case(16, 64, 8, Disk::Zeros),
    case(128, 1, 8, SWALLOWS),
    case(16, 8, 2, MILLISECOND),
    case(48, 1, 2, Disk::Zeros),
    case(96, 1, 4, Disk::Zeros),
    case(4, 64, 1, Disk::Zeros),
    case(96, 8, 4, Disk::Zeros),
    case(24, 1, 4, MILLISECOND),
    case(32, 32, 8, MILLISECOND),
    case(24, 1, 1, Disk::Zeros),
    case(192, 1, 2, Disk::Zeros),
    case(12, 32, 2, Disk::Zeros),
    case(96, 1, 1, MILLISECOND),
    case(24, 16, 4, MILLISECOND),
    case(80, 1, 2, SWALLOWS),
    case(64, 1, 1, Disk::WrittenOver),
    case(64, 1, 4, Disk::WrittenOver),
    case(16, 1, 2, Disk::WrittenOver),
    case(64, 16, 1, Disk::WrittenOver),
    case(2, 256, 1, Disk::WrittenOver),
    case(64, 64, 2, Disk::WrittenOver),
];

/// The cases in which sleeps are counted.
const COUNTED: [Case; 6] = [
    case(64, 1, 1, SWALLOWS),
    case(64, 1, 4, SWALLOWS),
    case(64, 1, 16, SWALLOWS),
    case(64, 256, 1, SWALLOWS),
    case(64, 256, 4, SWALLOWS),
    case(64, 256, 16, SWALLOWS),
];

impl Case {
    fn run(&self, dir: &Path, elapsed: Duration) -> Outcome {
        let scratch = tempfile::tempdir_in(dir).expect("the folder is writable");
        let config = Config::new(scratch.path().join("log")).shards(self.shards);
        let config = match self.disk {
            Disk::Zeros => config,
            Disk::WrittenOver => config
                .segment_bytes(SEGMENT_BYTES)
                .recycled_segments_max(READY_SEGMENTS)
                .preallocated_segments(READY_SEGMENTS),
            Disk::Null(sync_latency) => config.file_system(Arc::new(NullDisk { sync_latency })),
        };
        let (config, truncated) = (config.queue_capacity(DEPTH), self.disk == Disk::WrittenOver);
        closed_loop::run(config, self.threads, self.in_flight, elapsed, truncated)
    }

    fn load(&self) -> Load {
        Load {
            callers: self.threads as f64,
            in_flight: self.in_flight as f64,
            shards: self.shards as f64,
            depth: DEPTH as f64,
            // The zeros double the bytes.
            bytes: if self.disk == Disk::Zeros { 2.0 * RECORD_BYTES } else { RECORD_BYTES },
        }
    }

    fn in_words(&self) -> String {
        let disk = match self.disk {
            Disk::Zeros => "this disk".to_owned(),
            Disk::WrittenOver => "this disk, written over".to_owned(),
            Disk::Null(latency) if latency.is_zero() => "no disk".to_owned(),
            Disk::Null(latency) => format!("syncs that sleep {} ms", latency.as_millis()),
        };
        let Self { threads, in_flight, shards, .. } = self;
        let manner =
            if *in_flight == 1 { "waiting".into() } else { format!("{in_flight} in flight") };
        format!("{threads} x {manner} | {shards} | {disk}")
    }
}

fn main() {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.dir).expect("the folder can be made");
    let dir = arguments.dir.canonicalize().expect("the folder is there");
    if let Some(load) = &arguments.load {
        let in_flight = if load == "waiting" { 1 } else { 256 };
        let outcome = case(64, in_flight, arguments.shards, SWALLOWS).run(&dir, arguments.run);
        println!("{} records, {:.0}/s", outcome.nanos.len(), outcome.per_second);
        return;
    }
    machine_words::describe(&dir, "scale").iter().for_each(|line| println!("- {line}"));
    let scratch = tempfile::tempdir_in(&dir).expect("the folder is writable");
    let devices: Vec<_> = (0..arguments.rounds)
        .map(|_| Device::measure(scratch.path(), arguments.run).expect("the disk can be measured"))
        .collect();
    let wake_ups: Vec<_> = (0..arguments.rounds).map(|_| WakeUp::measure(arguments.run)).collect();
    let cases: Vec<_> = FITTED.into_iter().chain(CHECKED).chain(COUNTED).collect();
    let measured = in_turn(&cases, &arguments, &dir);
    let (fitted, rest) = measured.split_at(FITTED.len());
    let (checked, counted) = rest.split_at(CHECKED.len());
    let fit = Fit::of(&devices, &wake_ups, fitted);
    fit.print(&devices);
    scale_tables::print_check(&fit, checked);
    scale_tables::print_predictions(&fit);
    scale_tables::print_counters(counted);
}

/// The figures of one case over its rounds.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    cpu: Vec<f64>,
    writer: Vec<f64>,
    caller_sleeps: Vec<f64>,
    writer_sleeps: Vec<f64>,
    held: Vec<f64>,
    mean_micros: Vec<f64>,
    /// The sum of the medians of a commit's write and sync.
    synced_micros: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn in_turn(cases: &[Case], arguments: &Arguments, dir: &Path) -> Vec<Measured> {
    let mut all: Vec<Measured> = cases.iter().map(|_| Measured::default()).collect();
    let mut order: Vec<_> = (0..cases.len()).collect();
    for _ in 0..arguments.rounds {
        for &index in &order {
            let outcome = cases[index].run(dir, arguments.run);
            let measured = &mut all[index];
            let nanos: f64 = outcome.nanos.iter().map(|nanos| f64::from(*nanos)).sum();
            measured.per_second.push(outcome.per_second);
            measured.cpu.push(outcome.cpu_micros);
            measured.writer.push(outcome.writer_micros);
            measured.caller_sleeps.push(outcome.caller_sleeps);
            measured.writer_sleeps.push(outcome.writer_sleeps);
            measured.held.push(outcome.stats.records as f64 / outcome.stats.commits as f64);
            let (write, sync) = (outcome.stats.write.p50_nanos, outcome.stats.sync.p50_nanos);
            measured.synced_micros.push((write + sync) as f64 / 1e3);
            measured.mean_micros.push(nanos / outcome.nanos.len() as f64 / 1e3);
        }
        order.reverse();
    }
    all
}
