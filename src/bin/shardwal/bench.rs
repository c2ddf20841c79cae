//! `shardwal bench`: threads that append to a new log for some seconds.
//!
//! A latency is from the call of an append, or of a batch, to its completion
//! as the caller sees it: one that keeps several in flight looks at the oldest
//! first. The log is removed afterwards.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use histogram::Histogram;
use serde::Serialize;
use shardwal::{BatchCompletion, Completion, Config, Durability, ShardedWal};

use crate::{Ended, Failed, Outcome};

/// Percentiles to 1/128, up to 2^40 ns.
const BUCKETS: (u8, u8) = (7, 40);

#[derive(Args, Serialize)]
pub(crate) struct Settings {
    /// Where to put the log: a directory that is empty or not there yet
    #[arg(long)]
    dir: PathBuf,
    /// Shards of the log
    #[arg(long, default_value_t = 4)]
    shards: usize,
    /// Threads that append
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: u16,
    /// Bytes of each record's payload
    #[arg(long, default_value_t = 256)]
    record_bytes: usize,
    /// Records of each append; more than one go as a batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    batch: u32,
    /// Appends that each thread keeps in flight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    inflight: u32,
    /// sync, os, or interval:10ms
    #[arg(long, default_value = "sync")]
    durability: Durability,
    /// How long to append
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let is_sensible = (0.01..=86_400.0).contains(&seconds);
    if is_sensible { Ok(seconds) } else { Err("may be 0.01 to 86400".into()) }
}

#[derive(Serialize)]
struct Figures<'a> {
    settings: &'a Settings,
    elapsed_s: f64,
    appends_per_s: f64,
    records_per_s: f64,
    /// Of payloads.
    mib_per_s: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    commits: u64,
    syncs: u64,
    /// User and system time of the process, `null` where it is not known.
    cpu_s: Option<f64>,
}

pub(crate) fn run(settings: &Settings) -> Ended {
    let scratch = Scratch::claim(&settings.dir)?;
    let config = Config::new(&settings.dir).shards(settings.shards).durability(settings.durability);
    let log = ShardedWal::open(config)?;
    let cpu_before = cpu_seconds();
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(settings.seconds);
    let tally = append_from_threads(&log, settings, end)?;
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    let stats = log.stats().total;
    log.close()?;
    drop(log);
    scratch.remove()?;
    let figures = tally.figures(settings, elapsed, stats.commits, stats.syncs, cpu)?;
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

fn append_from_threads(
    log: &ShardedWal,
    settings: &Settings,
    end: Instant,
) -> Result<Tally, Failed> {
    let payload = Bytes::from(vec![0x5a; settings.record_bytes]);
    let mut all = Tally::new()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=u64::from(settings.threads))
            .map(|thread| {
                let payload = payload.clone();
                scope.spawn(move || append_until(log, settings, &payload, end, thread))
            })
            .collect();
        for thread in threads {
            let tally = thread.join().map_err(|_| "an appending thread has panicked")??;
            all.add(&tally)?;
        }
        Ok(all)
    })
}

/// An append on its way.
enum Pending<'log> {
    One(Completion<'log>),
    Batch(BatchCompletion<'log>),
}

impl Pending<'_> {
    fn wait(self) -> Result<(), Failed> {
        match self {
            Self::One(completion) => drop(completion.wait()?),
            Self::Batch(completion) => completion.wait()?,
        }
        Ok(())
    }
}

fn append_until(
    log: &ShardedWal,
    settings: &Settings,
    payload: &Bytes,
    end: Instant,
    thread: u64,
) -> Result<Tally, Failed> {
    let mut tally = Tally::new()?;
    let mut pending = VecDeque::new();
    let mut keys = Keys(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    loop {
        let now = Instant::now();
        let is_over = now >= end;
        if !is_over {
            let append = if settings.batch == 1 {
                Pending::One(log.append(keys.next(), payload.clone()))
            } else {
                let records = (0..settings.batch).map(|_| (keys.next(), payload.clone()));
                Pending::Batch(log.append_batch(records))
            };
            pending.push_back((now, append));
        }
        if is_over || pending.len() >= settings.inflight as usize {
            let Some((began, append)) = pending.pop_front() else { return Ok(tally) };
            append.wait()?;
            tally.count(began.elapsed())?;
        }
    }
}

/// Random keys: xorshift64.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What the threads have seen.
struct Tally {
    latencies: Histogram,
    appends: u64,
    max_nanos: u64,
}

impl Tally {
    fn new() -> Result<Self, histogram::Error> {
        let latencies = Histogram::new(BUCKETS.0, BUCKETS.1)?;
        Ok(Self { latencies, appends: 0, max_nanos: 0 })
    }

    fn count(&mut self, latency: Duration) -> Result<(), histogram::Error> {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.appends += 1;
        self.max_nanos = self.max_nanos.max(nanos);
        self.latencies.increment(nanos.min((1 << BUCKETS.1) - 1))
    }

    fn add(&mut self, other: &Self) -> Result<(), histogram::Error> {
        self.appends += other.appends;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.latencies = self.latencies.checked_add(&other.latencies)?;
        Ok(())
    }

    fn figures<'a>(
        &self,
        settings: &'a Settings,
        elapsed_s: f64,
        commits: u64,
        syncs: u64,
        cpu_s: Option<f64>,
    ) -> Result<Figures<'a>, Failed> {
        let quantile = |quantile| -> Result<f64, histogram::Error> {
            // A bucket's upper end, which never flatters, but never above the
            // maximum; 0 where nothing was appended.
            let bucket = self.latencies.quantile_bucket(quantile)?;
            Ok(bucket.map_or(0, |bucket| bucket.end().min(self.max_nanos)) as f64 / 1e3)
        };
        let (p50_us, p90_us) = (quantile(0.5)?, quantile(0.9)?);
        let (p99_us, p999_us) = (quantile(0.99)?, quantile(0.999)?);
        let appends = self.appends as f64;
        let records = appends * f64::from(settings.batch);
        Ok(Figures {
            settings,
            elapsed_s,
            appends_per_s: appends / elapsed_s,
            records_per_s: records / elapsed_s,
            mib_per_s: records * settings.record_bytes as f64 / elapsed_s / f64::from(1 << 20),
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us: self.max_nanos as f64 / 1e3,
            commits,
            syncs,
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

/// User and system time of this process, in the hundredths of a second that
/// Linux shows to programs.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in brackets, which may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The directory of the log, which is given back as it was.
struct Scratch<'a> {
    dir: &'a Path,
    existed: bool,
}

impl<'a> Scratch<'a> {
    fn claim(dir: &'a Path) -> Result<Self, Failed> {
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(Self { dir, existed: true }),
            Ok(false) => Err(format!("{} is not empty", dir.display()).into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { dir, existed: false })
            }
            Err(error) => Err(format!("{}: {error}", dir.display()).into()),
        }
    }

    fn remove(self) -> io::Result<()> {
        if !self.existed {
            return fs::remove_dir_all(self.dir);
        }
        for entry in fs::read_dir(self.dir)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }
}
