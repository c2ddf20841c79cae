//! How shardwal scales, on paper: constants measured here, the model of
//! `scale_model.rs` held against measurements that it was not fitted to, what
//! it says of larger machines, and how often threads sleep at 64 callers.
//!
//! `cargo run --release --bin scale -- [--seconds S] [--rounds R] [--dir D]`
//! prints the tables of docs/scale.md; `--load waiting|pressing --shards N` runs
//! that one load on a disk that swallows, for `perf` to look at.

#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod closed_loop;
#[allow(dead_code, reason = "the command that it belongs to uses all of it")]
#[path = "../../../src/bin/shardwal/tune/device.rs"]
mod device;
mod machine_words;
#[allow(dead_code, reason = "the benchmarks that it belongs to use all of it")]
#[path = "../../support/null_disk.rs"]
mod null_disk;
mod scale_model;
mod scale_tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use closed_loop::Outcome;
use device::Device;
use null_disk::NullDisk;
use scale_model::{Costs, Load, Machine};
use shardwal::Config;

/// What the disk writes for a record: key, length and payload, and as many zeros
/// before, for the window that they overwrite.
const RECORD_BYTES: f64 = 2.0 * (closed_loop::PAYLOAD_BYTES + 12) as f64;
const DEPTH: usize = 8192;
/// What is assumed of the one word that hands out a shard's tickets where many
/// cores want it: a cache line's way from core to core and back. Two cores
/// cannot measure it.
const CLAIM_MICROS: f64 = 0.1;

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

/// Under which load, on which disk.
#[derive(Clone, Copy)]
struct Case {
    threads: usize,
    in_flight: usize,
    shards: usize,
    disk: Disk,
}

#[derive(Clone, Copy, PartialEq)]
enum Disk {
    Real,
    /// Swallows what is written; a sync sleeps so long.
    Null(Duration),
}

const SWALLOWS: Disk = Disk::Null(Duration::ZERO);
const MILLISECOND: Disk = Disk::Null(Duration::from_millis(1));

const fn case(threads: usize, in_flight: usize, shards: usize, disk: Disk) -> Case {
    Case { threads, in_flight, shards, disk }
}

/// What the constants are taken from.
const FITTED: [Case; 4] = [
    case(1, 1, 1, Disk::Real),
    case(64, 1, 1, SWALLOWS),
    case(64, 256, 1, SWALLOWS),
    case(1, 1, 1, MILLISECOND),
];

/// What the model is held against: first what its form was found with, then
/// what nobody had looked at before it stood.
const KNOWN: usize = 20;
const CHECKED: [Case; 26] = [
    case(8, 1, 1, Disk::Real),
    case(64, 1, 1, Disk::Real),
    case(64, 1, 2, Disk::Real),
    case(64, 1, 4, Disk::Real),
    case(64, 1, 16, Disk::Real),
    case(64, 16, 1, Disk::Real),
    case(64, 16, 4, Disk::Real),
    case(2, 256, 1, Disk::Real),
    case(64, 1, 4, SWALLOWS),
    case(64, 1, 1, MILLISECOND),
    case(64, 1, 16, MILLISECOND),
    case(64, 16, 4, MILLISECOND),
    case(16, 1, 1, Disk::Real),
    case(32, 1, 8, Disk::Real),
    case(128, 1, 1, Disk::Real),
    case(32, 4, 2, Disk::Real),
    case(64, 64, 2, Disk::Real),
    case(16, 64, 8, Disk::Real),
    case(128, 1, 8, SWALLOWS),
    case(16, 8, 2, MILLISECOND),
    case(48, 1, 2, Disk::Real),
    case(96, 1, 4, Disk::Real),
    case(4, 64, 1, Disk::Real),
    case(96, 8, 4, Disk::Real),
    case(24, 1, 4, MILLISECOND),
    case(32, 32, 8, MILLISECOND),
];

/// Where sleeps are counted.
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
            Disk::Real => config,
            Disk::Null(sync_latency) => config.disk(Arc::new(NullDisk { sync_latency })),
        };
        closed_loop::run(config.queue_records(DEPTH), self.threads, self.in_flight, elapsed)
    }

    fn load(&self) -> Load {
        Load {
            callers: self.threads as f64,
            in_flight: self.in_flight as f64,
            shards: self.shards as f64,
            depth: DEPTH as f64,
            bytes: RECORD_BYTES,
        }
    }

    fn in_words(&self) -> String {
        let disk = match self.disk {
            Disk::Real => "this disk".into(),
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
    let cases: Vec<_> = FITTED.into_iter().chain(CHECKED).chain(COUNTED).collect();
    let measured = in_turn(&cases, &arguments, &dir);
    let (fitted, rest) = measured.split_at(FITTED.len());
    let (checked, counted) = rest.split_at(CHECKED.len());
    let fit = Fit::of(&devices, fitted);
    fit.print(&devices);
    scale_tables::print_check(&fit, checked);
    scale_tables::print_predictions(&fit);
    scale_tables::print_counters(counted);
}

/// Figures of one case over its rounds.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    cpu: Vec<f64>,
    writer: Vec<f64>,
    caller_sleeps: Vec<f64>,
    writer_sleeps: Vec<f64>,
    held: Vec<f64>,
    mean_micros: Vec<f64>,
    /// Medians of a commit's write and of its sync, added.
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

/// The constants, and what a disk that swallows changes in them.
struct Fit {
    machine: Machine,
    costs: Costs,
    /// What a commit takes whose sync sleeps for a millisecond.
    slept: f64,
    /// CPU of a commit that makes no system call.
    null_commit: f64,
}

impl Fit {
    /// From the disk and the four cases of [`FITTED`].
    fn of(devices: &[Device], fitted: &[Measured]) -> Self {
        let [one, _, sixteen] = [0, 1, 2].map(|index| syncs_per_second(devices, index));
        let (one, sixteen) = (1e6 / one, 16e6 / sixteen);
        let [alone, waiting, pipelined, sleeping] = fitted else {
            unreachable!("four cases are fitted")
        };
        let bandwidth = devices.iter().map(Device::bytes_per_s).collect::<Vec<_>>();
        let machine = Machine {
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
            sync: one,
            sync_more: (sixteen - one) / 15.0,
            bandwidth: median(&bandwidth) / 1e6,
        };
        // One caller pays a whole commit, 64 a part of one each.
        let (paid, share) = (median(&sleeping.cpu), 1.0 / median(&waiting.held));
        let null_commit = ((paid - median(&waiting.cpu)) / (1.0 - share)).max(0.0);
        let per_waiting = median(&waiting.cpu) - null_commit * share;
        let costs = Costs {
            waiting: per_waiting,
            pipelined: median(&pipelined.cpu),
            commit: (median(&alone.cpu) - per_waiting).max(0.0),
            handover: (median(&alone.mean_micros) - one).max(0.0),
            writer_waiting: median(&waiting.writer),
            writer_pipelined: median(&pipelined.writer),
            claim: CLAIM_MICROS,
        };
        let slept = median(&sleeping.mean_micros);
        Self { machine, costs, slept, null_commit }
    }

    /// What a case runs on.
    fn under(&self, disk: Disk) -> (Machine, Costs) {
        match disk {
            Disk::Real => (self.machine, self.costs),
            Disk::Null(latency) => {
                let sync = if latency.is_zero() { 0.0 } else { self.slept };
                let bandwidth = f64::INFINITY;
                let machine = Machine { sync, sync_more: 0.0, bandwidth, ..self.machine };
                let handover = if latency.is_zero() { self.null_commit } else { 0.0 };
                (machine, Costs { commit: self.null_commit, handover, ..self.costs })
            }
        }
    }

    fn print(&self, devices: &[Device]) {
        let Machine { cores, sync, sync_more, bandwidth } = self.machine;
        let Costs { waiting, pipelined, commit, handover, writer_waiting, writer_pipelined, claim } =
            self.costs;
        println!("\n### The constants\n\n| constant | value | measured as |\n|---|---|---|");
        println!("| cores | {cores} | |");
        println!("| a write and its sync, alone | {sync:.0} us | 4 KiB overwritten, 1 file |");
        let four = 4e6 / syncs_per_second(devices, 1);
        let modelled = sync + 3.0 * sync_more;
        println!(
            "| each more at the same time | {sync_more:.1} us | the same in 16 files; in 4 it took {four:.0} us, \
             this says {modelled:.0} |"
        );
        println!("| bandwidth | {bandwidth:.0} MB/s | 1 MiB at a time, each synced, one file |");
        println!("| CPU, a record waited for | {waiting:.2} us | 64 callers, 1 shard, no disk |");
        println!(
            "| CPU, a record of 256 in flight | {pipelined:.2} us | 64 callers, 1 shard, no disk |"
        );
        println!("| CPU, a commit | {commit:.1} us | 1 caller, this disk, less the record's |");
        println!(
            "| a commit beside its sync | {handover:.0} us | latency of 1 caller, this disk, less the sync |"
        );
        println!(
            "| of it without system calls | {:.1} us | 1 caller, syncs that sleep |",
            self.null_commit
        );
        println!(
            "| the writer's thread, a record waited for | {writer_waiting:.2} us | as the CPU |"
        );
        println!("| the same of 256 in flight | {writer_pipelined:.2} us | as the CPU |");
        println!("| between two claims in a shard | {claim} us | assumed |");
    }
}

/// Median of the rounds, for one count of files at once.
fn syncs_per_second(devices: &[Device], index: usize) -> f64 {
    median(&devices.iter().map(|device| device.syncs[index].per_s).collect::<Vec<_>>())
}
