//! `shardwal-ingest load`: sends the recorded remote-write stream to a server, on many connections.
//!
//! ```text
//! cargo run --release -p shardwal-ingest -- load --to 127.0.0.1:9291 --repeat 50
//! ```
//!
//! Each connection has one request in flight. Without `--rate`, it sends the next request after
//! each response, and retries a request refused with 503 until it succeeds. This measures the
//! sustainable load. With `--rate`, requests follow a schedule, regardless of the responses, and
//! refused requests are dropped. This creates overload.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::diagnostics::say;
use crate::{Failure, RECORDING};
use bodies::Body;
use client::Connection;

mod bodies;
mod client;
mod version_2;

/// A version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Version {
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
}

impl Version {
    /// The headers of a request, each with its line end.
    fn headers(self) -> &'static str {
        match self {
            Self::One => {
                "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n\
                 X-Prometheus-Remote-Write-Version: 0.1.0\r\n"
            }
            Self::Two => {
                "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf;\
                 proto=io.prometheus.write.v2.Request\r\n\
                 X-Prometheus-Remote-Write-Version: 2.0.0\r\n"
            }
        }
    }
}

/// Pause before a refused request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Interval between two readings of the server's memory.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of the server, host:port
    #[arg(long, default_value = "127.0.0.1:9291")]
    to: String,

    /// Number of rounds of the recording to send, each with later timestamps
    #[arg(long, default_value = "20")]
    repeat: NonZero<u32>,

    /// Number of connections, each with one request in flight
    #[arg(long, default_value = "16")]
    connections: NonZero<usize>,

    /// Send for this number of seconds, and start over when all is sent [default: send all once]
    #[arg(long, requires = "rate")]
    seconds: Option<u32>,

    /// Samples per second to offer, regardless of the responses
    #[arg(long, requires = "seconds")]
    rate: Option<NonZero<u32>>,

    /// Version of remote write
    #[arg(long, value_enum, default_value = "1")]
    remote_write: Version,

    /// Process id of the server, to show its memory and its processor time
    #[arg(long)]
    pid: Option<u32>,

    /// The recording to send
    #[arg(long, default_value = RECORDING)]
    stream: PathBuf,
}

/// Sends all requests, and prints what was acknowledged, refused and measured. Blocks.
///
/// # Errors
/// The recording cannot be read, the server is not there, or it responds with another status than
/// 204 and 503.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let bodies =
        bodies::prepare(&arguments.stream, arguments.repeat.get(), arguments.remote_write)?;
    let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
    say!("prepared {} requests of {} bytes", bodies.len(), bytes / bodies.len());
    let load = Load::new(arguments, &bodies);
    let began = Instant::now();
    let tallies = thread::scope(|scope| {
        let watch = scope.spawn(|| load.watch_memory());
        let senders: Vec<_> = (0..arguments.connections.get())
            .map(|_| scope.spawn(|| load.send_all(began)))
            .collect();
        let tallies: Vec<_> = senders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Relaxed: the watcher reads it again soon.
        load.done.store(true, Ordering::Relaxed);
        watch.join().map_err(|_| "the watcher panicked")?;
        let tallies = tallies.into_iter().map(|tally| tally.map_err(|_| "a sender panicked")?);
        tallies.collect::<Result<Vec<Tally>, Failure>>()
    })?;
    report(&load, tallies, began.elapsed());
    Ok(())
}

/// What the senders share.
struct Load<'run> {
    arguments: &'run Arguments,
    bodies: &'run [Body],
    /// The next request. Relaxed: each sender needs only a distinct number.
    next: AtomicUsize,
    /// Peak memory of the server, in KiB. Relaxed: it is shown at the end.
    memory_max: AtomicU64,
    done: AtomicBool,
    /// Interval between two requests, if there is a rate.
    pace: Option<Duration>,
    /// Seconds of processor time that the server had used before, if its process is known.
    processor_before: Option<f64>,
}

/// What one sender has counted.
#[derive(Debug, Default)]
struct Tally {
    samples: u64,
    offered: u64,
    refused: u64,
    broken: u64,
    /// Latencies of successful requests, in microseconds.
    latencies: Vec<u64>,
}

impl<'run> Load<'run> {
    fn new(arguments: &'run Arguments, bodies: &'run [Body]) -> Self {
        let samples: u64 = bodies.iter().map(|body| body.samples).sum();
        let pace = arguments.rate.map(|rate| {
            let requests = f64::from(rate.get()) * bodies.len() as f64 / samples as f64;
            Duration::from_secs_f64(1.0 / requests)
        });
        Self {
            arguments,
            bodies,
            next: AtomicUsize::new(0),
            memory_max: AtomicU64::new(0),
            done: AtomicBool::new(false),
            pace,
            processor_before: arguments.pid.and_then(processor_seconds),
        }
    }

    /// Returns the next request when it is due, or `None` after the last. Blocks until then.
    fn take(&self, began: Instant) -> Option<&'run Body> {
        // Relaxed: see the field.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (Some(pace), Some(seconds)) = (self.pace, self.arguments.seconds) else {
            return self.bodies.get(number);
        };
        let due = pace.mul_f64(number as f64);
        let now = began.elapsed();
        if due.max(now) >= Duration::from_secs(seconds.into()) {
            return None;
        }
        thread::sleep(due.saturating_sub(now));
        Some(&self.bodies[number % self.bodies.len()])
    }

    fn send_all(&self, began: Instant) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let mut connection = Connection::open(&self.arguments.to)?;
        let headers = self.arguments.remote_write.headers();
        while let Some(body) = self.take(began) {
            tally.offered += body.samples;
            let sent = Instant::now();
            loop {
                let answer = connection.send("POST", "/api/v1/write", headers, &body.bytes);
                let Ok(answer) = answer else {
                    // The request may or may not have been written. Retry it, as any client does.
                    tally.broken += 1;
                    connection = Connection::open(&self.arguments.to)?;
                    continue;
                };
                match answer.status {
                    204 => {
                        tally.samples += body.samples;
                        tally.latencies.push(u64::try_from(sent.elapsed().as_micros())?);
                        break;
                    }
                    503 => tally.refused += 1,
                    status => {
                        let reason = String::from_utf8_lossy(&answer.body).into_owned();
                        return Err(format!("the server responded {status}: {reason}").into());
                    }
                }
                if self.pace.is_some() {
                    break;
                }
                thread::sleep(RETRY_PAUSE);
            }
        }
        Ok(tally)
    }

    fn watch_memory(&self) {
        let Some(pid) = self.arguments.pid else { return };
        // Relaxed: see `run`.
        while !self.done.load(Ordering::Relaxed) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = resident.and_then(|text| text.trim_end_matches("kB").trim().parse().ok());
            // Relaxed: see the field.
            self.memory_max.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
            thread::sleep(MEMORY_PAUSE);
        }
    }
}

fn report(load: &Load<'_>, tallies: Vec<Tally>, took: Duration) {
    let mut all = Tally::default();
    for tally in tallies {
        all.samples += tally.samples;
        all.offered += tally.offered;
        all.refused += tally.refused;
        all.broken += tally.broken;
        all.latencies.extend(tally.latencies);
    }
    all.latencies.sort_unstable();
    let seconds = took.as_secs_f64();
    let percentile = |percent: usize| {
        let rank = (all.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        all.latencies.get(rank).map_or(0.0, |micros| *micros as f64 / 1e3)
    };
    say!(
        "{} samples acknowledged in {seconds:.2} s: {:.0} samples/s; offered {:.0}/s; \
         {} requests succeeded, {} refused with 503; {} connections, broken {} times",
        all.samples,
        all.samples as f64 / seconds,
        all.offered as f64 / seconds,
        all.latencies.len(),
        all.refused,
        load.arguments.connections,
        all.broken,
    );
    say!(
        "request P50 {:.2} ms, P99 {:.2} ms, max {:.2} ms",
        percentile(50),
        percentile(99),
        percentile(100)
    );
    if let Some(pid) = load.arguments.pid {
        // Relaxed: the watcher has ended.
        let kib = load.memory_max.load(Ordering::Relaxed);
        say!("the server's resident memory was {:.1} MiB at most", kib as f64 / 1024.0);
        if let (Some(before), Some(after)) = (load.processor_before, processor_seconds(pid)) {
            let rate = all.samples as f64 / (after - before);
            say!("{rate:.0} samples per second of the server's processor time");
        }
    }
}

/// Seconds of processor time that a process has used so far.
fn processor_seconds(pid: u32) -> Option<f64> {
    /// The kernel counts in hundredths of a second for programs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may contain spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    Some(ticks.sum::<Result<f64, _>>().ok()? / TICKS_PER_SECOND)
}
