//! `shardwal bench`: appends to a new log for some seconds and prints throughput and
//! latency. Deletes the log afterwards.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use shardwal::{Config, Durability, ShardStats, ShardedWal};

use crate::load::{Load, Tally};
use crate::scratch::Scratch;
use crate::{Ended, Failed, Outcome, seconds};

#[derive(Args, Serialize)]
pub(crate) struct Settings {
    /// The directory for the log, empty or new
    #[arg(long)]
    dir: PathBuf,
    /// Number of shards
    #[arg(long, default_value_t = 4)]
    shards: usize,
    /// Number of threads that append
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: u16,
    /// Payload bytes per record
    #[arg(long, default_value_t = 256)]
    record_bytes: usize,
    /// Records per append. More than one are appended as a batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    batch: u32,
    /// Appends in flight per thread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    inflight: u32,
    /// When appends are acknowledged: sync, buffered, or an interval, such as interval:10ms
    #[arg(long, default_value = "sync")]
    durability: Durability,
    /// Seconds to append
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Figures<'a> {
    settings: &'a Settings,
    elapsed_s: f64,
    appends_per_s: f64,
    records_per_s: f64,
    /// MiB of payloads per second.
    mib_per_s: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    commits: u64,
    syncs: u64,
    /// User and system time of the process, in seconds. `null` if it is unknown.
    cpu_s: Option<f64>,
}

pub(crate) fn run(settings: &Settings) -> Ended {
    let scratch = Scratch::claim(&settings.dir)?;
    let config = Config::new(scratch.logs_dir().join("log"));
    let config = config.shards(settings.shards).durability(settings.durability);
    let log = ShardedWal::open(config)?;
    let cpu_before = cpu_seconds();
    let began = Instant::now();
    let tally = settings.load().run_on(&log, Duration::from_secs_f64(settings.seconds))?;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    let stats = log.stats().total;
    log.close()?;
    drop(log);
    scratch.remove()?;
    let figures = Figures::of(&tally, settings, elapsed, &stats, cpu)?;
    let mut out = io::stdout().lock();
    if settings.json {
        serde_json::to_writer(&mut out, &figures).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{figures}")?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

impl Settings {
    fn load(&self) -> Load {
        let Self { threads, record_bytes, batch, inflight, .. } = *self;
        Load { threads, record_bytes, batch, inflight, appends_max: u64::MAX }
    }
}

impl<'a> Figures<'a> {
    fn of(
        tally: &Tally,
        settings: &'a Settings,
        elapsed_s: f64,
        stats: &ShardStats,
        cpu_s: Option<f64>,
    ) -> Result<Self, Failed> {
        let appends = tally.appends as f64;
        let records = appends * f64::from(settings.batch);
        Ok(Self {
            settings,
            elapsed_s,
            appends_per_s: appends / elapsed_s,
            records_per_s: records / elapsed_s,
            mib_per_s: records * settings.record_bytes as f64 / elapsed_s / f64::from(1 << 20),
            p50_us: tally.quantile_micros(0.5)?,
            p90_us: tally.quantile_micros(0.9)?,
            p99_us: tally.quantile_micros(0.99)?,
            p999_us: tally.quantile_micros(0.999)?,
            max_us: tally.max_micros(),
            commits: stats.commits,
            syncs: stats.syncs,
            cpu_s,
        })
    }
}

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appends_per_s, records_per_s, mib_per_s, .. } = self;
        writeln!(
            f,
            "{appends_per_s:.0} appends/s, {records_per_s:.0} records/s, {mib_per_s:.1} MiB/s"
        )?;
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self;
        writeln!(
            f,
            "latency: p50 {p50_us:.1} us, p90 {p90_us:.1}, p99 {p99_us:.1}, p99.9 {p999_us:.1}, max {max_us:.1}"
        )?;
        let Self { commits, syncs, elapsed_s, .. } = self;
        write!(f, "{commits} commits, {syncs} syncs in {elapsed_s:.2} s")?;
        match self.cpu_s {
            Some(cpu_s) => writeln!(f, ", {cpu_s:.2} s of CPU"),
            None => writeln!(f),
        }
    }
}

/// User and system time of this process, in seconds. Linux reports hundredths of a
/// second.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold any character.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}
