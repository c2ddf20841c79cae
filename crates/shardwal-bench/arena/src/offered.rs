//! Throughput and latency against offered load, up to saturation and beyond.
//!
//! `cargo run --release --bin offered -- [--only sync|os] [--rounds R] [--seconds S] [--dir D]
//! [--csv FILE] [--svg FILE] [--from CSV]...`. First it finds each log's saturation: the load is
//! raised until the log answers less. Then it offers 10 to 150 % of that, in turn. `--from`, which
//! may be repeated, draws earlier runs and measures nothing.
//!
//! **Open loop**: two threads produce records as a Poisson process, regardless of earlier answers.
//! A latency is **from when a record was due** until its answer was seen. It includes waiting for a
//! late thread, or for room in a full queue. Beyond saturation, the latency grows with the length
//! of the run, so a run is capped. All records due in its time are offered and answered, and P99
//! shows how long that took. The runs of the first round are verified by replay.

mod arguments;
mod curves;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod figures;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod load;
mod log_plot;
mod machine_words;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod peer;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod peers;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod picture;
mod poisson;

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use arguments::Arguments;
use figures::Row;
use peer::{Durability, Kind, Offered, Record};
use poisson::Poisson;

/// Offered loads, in percent of saturation.
pub const LOADS: [usize; 8] = [10, 25, 50, 75, 90, 100, 125, 150];
/// Number of threads that produce records.
const THREADS: usize = 2;
/// The factor by which the load is raised, and the share that a log must answer in time to keep up.
const MORE: f64 = 1.25;
const KEEPS_UP: f64 = 0.85;
/// A log may miss that once, because of a disturbance.
const MISSED_MAX: usize = 2;
const SATURATING_RUNS_MAX: usize = 12;

/// A peer, its number of shards, and whether the caller appends all due records as one batch and
/// waits for it, as callers of a blocking log do.
type Contender = (&'static Kind, usize, bool);

const SYNC: &[Contender] = &[
    (&peers::shardwal::KIND, 1, false),
    (&peers::shardwal::KIND, 1, true),
    (&peers::shardwal::KIND, 2, false),
    (&peers::shardwal::KIND, 16, false),
    (&peers::group_commit::ZERO_FILLED, 1, false),
    (&peers::okaywal::KIND, 1, true),
];
const OS: &[Contender] = &[
    (&peers::shardwal::KIND, 1, false),
    (&peers::shardwal::KIND, 1, true),
    (&peers::shardwal::KIND, 2, false),
    (&peers::shardwal::KIND, 16, false),
    (&peers::mutexes::ONE, 1, true),
    (&peers::mutexes::FOUR, 4, true),
];

fn main() {
    Arguments::parse().answer(measure_all, curves::draw);
}

fn measure_all(arguments: &Arguments) -> (Vec<String>, Vec<Row>) {
    std::fs::create_dir_all(&arguments.dir).expect("the folder can be made");
    let dir = arguments.dir.canonicalize().expect("the folder is there");
    let head = machine_words::describe(&dir, "offered");
    let mut rows = Vec::new();
    let settings = [("sync", Durability::Sync, SYNC), ("os", Durability::Buffered, OS)];
    for (name, durability, contenders) in settings {
        if !name.contains(&arguments.only) {
            continue;
        }
        let seconds = arguments.run.as_secs_f64();
        let series = |&(kind, shards, batches): &Contender| Series {
            kind,
            shards,
            batches,
            durability,
            saturation: 0.0,
            seconds,
        };
        let mut series: Vec<_> = contenders.iter().map(series).collect();
        series.iter_mut().for_each(|series| series.saturate(&dir));
        for round in 0..arguments.rounds {
            let mut runs: Vec<_> =
                series.iter().flat_map(|one| LOADS.map(|load| (one, load))).collect();
            if round % 2 == 1 {
                runs.reverse();
            }
            for (one, load) in runs {
                rows.extend(one.rows(name, round, load, &dir));
            }
        }
    }
    (head, rows)
}

/// A log with a number of shards, and its saturation.
struct Series {
    kind: &'static Kind,
    shards: usize,
    /// Whether all due records are appended as one batch.
    batches: bool,
    durability: Durability,
    saturation: f64,
    seconds: f64,
}

/// The result of one run.
struct Outcome {
    offered_per_second: f64,
    per_second: f64,
    /// P50, P99 and the maximum.
    micros: [f64; 3],
    /// Share of appends that met a full queue.
    blocked: f64,
    /// Their mean wait for room, in microseconds.
    blocked_micros: f64,
}

impl Series {
    /// Finds the saturation. The first run offers everything at once. That rate is too low, because
    /// a thread is woken for each record's room. The load is then raised until the log answers
    /// less. The result is the highest rate answered.
    fn saturate(&mut self, dir: &Path) {
        let mut offered = self.run(f64::INFINITY, dir, false).per_second;
        self.saturation = offered;
        let mut missed = 0;
        for _ in 0..SATURATING_RUNS_MAX {
            let answered = self.run(offered, dir, false).per_second;
            self.saturation = self.saturation.max(answered);
            missed += usize::from(answered < offered * KEEPS_UP);
            if missed == MISSED_MAX {
                break;
            }
            offered *= MORE;
        }
        eprintln!("{} {}: saturates at {:.0}/s", self.name(), self.shards, self.saturation);
    }

    fn name(&self) -> String {
        let batches = if self.batches { ", what is due as a batch" } else { "" };
        format!("{}{batches}", self.kind.name)
    }

    fn rows(&self, name: &str, round: usize, load: usize, dir: &Path) -> Vec<Row> {
        let outcome = self.run(self.saturation * load as f64 / 100.0, dir, round == 0);
        let [p50, p99, max] = outcome.micros;
        let figures = [
            ("offered_per_second", outcome.offered_per_second),
            ("per_second", outcome.per_second),
            ("p50_us", p50),
            ("p99_us", p99),
            ("max_us", max),
            ("blocked_per_million", outcome.blocked * 1e6),
            ("blocked_us", outcome.blocked_micros),
        ];
        let workload = format!("{name}-{load}");
        eprintln!("{round} {workload} {} {}: {figures:?}", self.name(), self.shards);
        let row = |(metric, value): (&str, f64)| Row {
            round,
            workload: workload.clone(),
            peer: self.name(),
            shards: self.shards,
            metric: metric.into(),
            value,
        };
        figures.map(row).into()
    }

    fn run(&self, per_second: f64, dir: &Path, verify: bool) -> Outcome {
        let scratch =
            tempfile::Builder::new().prefix("offered-").tempdir_in(dir).expect("it is writable");
        let peer = (self.kind.open)(scratch.path(), self.shards, self.durability);
        load::wait_for_writeback(scratch.path());
        let start = Barrier::new(THREADS);
        let lasts = Duration::from_secs_f64(self.seconds);
        let offer = |thread| {
            let (peer, start) = (&*peer, &start);
            move || {
                // Makes a sleep end on time, not about 50 us later.
                rustix::thread::set_current_timer_slack(NonZeroU64::new(1))
                    .expect("a thread may sleep exactly");
                load::pool();
                start.wait();
                let mut poisson = Poisson::new(thread, per_second / THREADS as f64, lasts);
                let offered = if self.batches {
                    let append_batch = |records: &[Record]| peer.append_batch(thread, records);
                    peer::offer_batches(&append_batch, &mut poisson)
                } else {
                    peer.offer(thread, &mut poisson)
                };
                (poisson.began, poisson.count, offered)
            }
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(offer(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no append failed")).collect()
        });
        let elapsed = done[0].0.elapsed();
        peer.close();
        if verify {
            let counts: Vec<_> = done.iter().map(|(_, count, _)| *count).collect();
            load::verify(self.kind, self.shards, scratch.path(), &counts);
        }
        outcome(done.into_iter().map(|(_, _, offered)| offered), elapsed, lasts)
    }
}

fn outcome(offered: impl Iterator<Item = Offered>, elapsed: Duration, lasts: Duration) -> Outcome {
    let (mut nanos, mut blocked, mut blocked_for) = (Vec::new(), 0, Duration::ZERO);
    for thread in offered {
        nanos.extend(thread.nanos);
        blocked += thread.blocked;
        blocked_for += thread.blocked_for;
    }
    nanos.sort_unstable();
    let at = |share: f64| {
        let last = nanos.len().saturating_sub(1);
        let nanos = nanos.get((nanos.len() as f64 * share) as usize).or(nanos.get(last));
        f64::from(nanos.copied().unwrap_or(0)) / 1e3
    };
    Outcome {
        offered_per_second: nanos.len() as f64 / lasts.as_secs_f64(),
        per_second: nanos.len() as f64 / elapsed.as_secs_f64(),
        micros: [at(0.5), at(0.99), at(1.0)],
        blocked: blocked as f64 / nanos.len().max(1) as f64,
        blocked_micros: blocked_for.as_secs_f64() * 1e6 / (blocked as f64).max(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_waits_for_a_late_caller_is_late() {
        let mut poisson = Poisson::new(0, 1000.0, Duration::from_millis(200));
        let slow = |_: &[Record]| std::thread::sleep(Duration::from_millis(20));
        let offered = peer::offer_batches(&slow, &mut poisson);
        // Measured from when they were sent, almost none would take longer than a batch.
        let late = offered.nanos.iter().filter(|nanos| **nanos > 25_000_000).count();
        assert!(late * 2 > offered.nanos.len(), "{late} of {}", offered.nanos.len());
    }
}
