//! `shardwal tune`: measures a disk, and logs on it under the caller's load, and
//! recommends a `Config`.
//!
//! Candidates run in turn, and odd rounds run backwards, so that other load on the
//! machine affects all alike. Each run uses a new log and deletes it. Numbers of
//! shards are measured under the given load. Queue depths are measured with full
//! queues, because otherwise the depth has no effect. At the end the recommended
//! config runs beside the default one.

mod advice;
mod choice;
mod device;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use shardwal::{Config, Durability, ShardedWal};

use crate::load::Load;
use crate::scratch::Scratch;
use crate::{Ended, Failed, Outcome, seconds};
use advice::{Advice, Section};
use choice::{Candidate, Spread};
use device::Device;

#[derive(Args, Serialize)]
pub(crate) struct Settings {
    /// The directory to measure in, empty or new, on the disk of the future log
    #[arg(long)]
    dir: PathBuf,
    /// Number of threads that append
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: u16,
    /// Payload bytes per record
    #[arg(long, default_value_t = 256)]
    record_bytes: usize,
    /// Records per append. More than one are appended as a batch. A queue of the
    /// default depth must hold the batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8192))]
    batch: u32,
    /// Appends in flight per thread. With 1, the thread waits for each append
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    inflight: u32,
    /// When appends are acknowledged: sync, buffered, or an interval, such as interval:10ms
    #[arg(long, default_value = "sync")]
    durability: Durability,
    /// Seconds to measure. Opening and deleting logs takes more time on top
    #[arg(long, default_value_t = 120.0, value_parser = seconds)]
    seconds: f64,
    /// Number of runs per candidate
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Print one JSON object
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Shares of the time for the disk, the shards, the depths and the final check.
const SHARES: [f64; 4] = [0.12, 0.45, 0.25, 0.18];
/// Machines with more cores try more.
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
const DEPTHS: [usize; 5] = [64, 256, 1024, 4096, 16_384];
/// A run ends early after these bytes, so that the disk does not fill up.
const RUN_BYTES_MAX: u64 = 1 << 30;

/// All measurements, and the recommendation.
#[derive(Serialize)]
struct Figures<'a> {
    settings: &'a Settings,
    device: Device,
    shards: Vec<Candidate>,
    depths: Vec<Candidate>,
    /// The default config, then the recommended one.
    check: Vec<Candidate>,
    #[serde(flatten)]
    advice: Advice,
}

pub(crate) fn run(settings: &Settings) -> Ended {
    let scratch = Scratch::claim(&settings.dir)?;
    let figures = settings.measure(&scratch.logs_dir())?;
    scratch.remove()?;
    let mut out = io::stdout().lock();
    if settings.json {
        serde_json::to_writer_pretty(&mut out, &figures).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", figures.advice)?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

impl Settings {
    fn measure(&self, scratch_dir: &Path) -> Result<Figures<'_>, Failed> {
        let [for_device, for_shards, for_depths, for_check] =
            SHARES.map(|share| Duration::from_secs_f64(self.seconds * share));
        let device = Device::measure(scratch_dir, for_device)?;
        self.say(&device)?;

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let path = scratch_dir.join("log");
        let config = || Config::new(&path).durability(self.durability);
        let load = self.load(self.inflight);
        let mut shards = SHARDS.to_vec();
        shards.extend([32, 64, 128].into_iter().filter(|shards| *shards <= cores));
        let trial = |value: &usize| Trial { value: *value, config: config().shards(*value), load };
        let trials: Vec<_> = shards.iter().map(trial).collect();
        let shards = run_trials(&path, &trials, for_shards, self.rounds)?;
        self.say(&Section::Shards { load: &self.in_words(), candidates: &shards })?;
        let best = shards[choice::choose(&shards)].value;

        let deep_enough = |depth: &&usize| **depth >= self.batch as usize;
        let trial = |depth: &usize| Trial {
            value: *depth,
            config: config().shards(best).queue_capacity(*depth),
            load: self.load(self.inflight_to_fill(best, *depth)),
        };
        let trials: Vec<_> = DEPTHS.iter().filter(deep_enough).map(trial).collect();
        let depths = run_trials(&path, &trials, for_depths, self.rounds)?;
        self.say(&Section::Depths { shards: best, candidates: &depths })?;

        let mut advice = Advice::new(self, &device, &shards, &depths, cores);
        let recommended = Trial { value: 1, config: advice.on(&path)?, load };
        let trials = [Trial { value: 0, config: config(), load }, recommended];
        let check = run_trials(&path, &trials, for_check, self.rounds)?;
        advice.check(self, &check[0], &check[1]);
        Ok(Figures { settings: self, device, shards, depths, check, advice })
    }

    /// Prints a table as soon as it is measured. With `--json` the command prints
    /// everything at the end instead.
    fn say(&self, section: &impl std::fmt::Display) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{section}")?;
        out.flush()
    }

    fn load(&self, inflight: u32) -> Load {
        let Self { threads, record_bytes, batch, .. } = *self;
        let append_bytes = (record_bytes as u64).max(1) * u64::from(batch);
        let appends_max = (RUN_BYTES_MAX / append_bytes / u64::from(threads)).max(1);
        Load { threads, record_bytes, batch, inflight, appends_max }
    }

    /// Appends in flight per thread that together fill the queues.
    fn inflight_to_fill(&self, shards: usize, depth: usize) -> u32 {
        let appends = depth * shards / usize::from(self.threads) / self.batch as usize;
        u32::try_from(appends).unwrap_or(u32::MAX).max(1)
    }

    /// The maximum number of records in flight.
    fn in_flight(&self) -> usize {
        usize::from(self.threads) * self.inflight as usize * self.batch as usize
    }

    fn in_words(&self) -> String {
        let Self { threads, record_bytes, batch, inflight, durability, .. } = self;
        let manner = match inflight {
            1 => "each waiting for its append".to_owned(),
            _ => format!("each with {inflight} appends in flight"),
        };
        let append = match batch {
            1 => format!("a record of {record_bytes} bytes"),
            _ => format!("a batch of {batch} records of {record_bytes} bytes"),
        };
        format!("{threads} threads, {manner}; an append is {append}; durability {durability}")
    }
}

/// A candidate before it is measured.
struct Trial {
    /// The number of shards, the queue depth, or the index of one of two configs.
    value: usize,
    config: Config,
    load: Load,
}

/// Runs each trial once per round, each time with a new log at `path`. All runs
/// together take about `elapsed`.
fn run_trials(
    path: &Path,
    trials: &[Trial],
    elapsed: Duration,
    rounds: u8,
) -> Result<Vec<Candidate>, Failed> {
    let each = elapsed / (u32::from(rounds) * u32::try_from(trials.len())?);
    // Per trial: records per second, P50 and P99 of each round.
    let mut measured = vec![[const { Vec::new() }; 3]; trials.len()];
    let mut order: Vec<_> = (0..trials.len()).collect();
    for _ in 0..rounds {
        for &index in &order {
            let figures = run_trial(path, &trials[index], each)?;
            measured[index].iter_mut().zip(figures).for_each(|(all, one)| all.push(one));
        }
        order.reverse();
    }
    let candidate = |(trial, figures): (&Trial, [Vec<f64>; 3])| {
        let [records_per_s, p50_us, p99_us] = figures.map(Spread::of);
        Candidate { value: trial.value, records_per_s, p50_us, p99_us }
    };
    Ok(trials.iter().zip(measured).map(candidate).collect())
}

/// Measures one run: records per second, P50 and P99. Deletes the log afterwards.
fn run_trial(path: &Path, trial: &Trial, elapsed: Duration) -> Result<[f64; 3], Failed> {
    let Trial { config, load, .. } = trial;
    let log = ShardedWal::open(config.clone())?;
    let began = Instant::now();
    let tally = load.run_on(&log, elapsed)?;
    let seconds = began.elapsed().as_secs_f64();
    log.close()?;
    drop(log);
    std::fs::remove_dir_all(path)?;
    let records = tally.appends as f64 * f64::from(load.batch);
    let [p50, p99] = [tally.quantile_micros(0.5)?, tally.quantile_micros(0.99)?];
    Ok([records / seconds, p50, p99])
}
