//! Followers beside 64 threads that wait for their appends: the throughput with and without them,
//! and how far they lag. Then, how fast a follower reads the past, beside a replay.
//!
//! `cargo bench --bench follow -- DIR [FOLLOWERS] [ROUNDS]`. The variants take turns of one
//! second; each line has the median of the rounds and their range.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shardwal::{Checkpoint, Config, Durability, Followed, Follower, ReplayOptions, ShardedWal};

const THREADS: u64 = 64;
const RECORD_BYTES: usize = 256;
const TURN: Duration = Duration::from_secs(1);
const PAST_RECORDS: u64 = 2_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let number = |index: usize, otherwise: usize| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let Some(dir) = arguments.first().map(Path::new) else {
        println!("follow DIR [FOLLOWERS] [ROUNDS]");
        return;
    };
    let (followers, rounds) = (number(1, 8), number(2, 5));
    beside_writers(&dir.join("present"), followers, rounds);
    past(&dir.join("past"), rounds);
}

/// What one turn measured.
struct Turn {
    records_per_second: f64,
    /// P99 of a commit, and of the time from the append to the follower, in microseconds.
    append_p99: f64,
    lag_p99: f64,
}

fn beside_writers(dir: &Path, followers: usize, rounds: usize) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        without.push(turn(&dir.join(format!("{round}-0")), 0));
        with.push(turn(&dir.join(format!("{round}-{followers}")), followers));
    }
    let pairs = || with.iter().zip(&without);
    let ratios =
        pairs().map(|(with, without)| with.records_per_second / without.records_per_second);
    show(&format!("throughput with {followers} followers / without"), ratios);
    show(
        "append P99 with / without",
        pairs().map(|(with, without)| with.append_p99 / without.append_p99),
    );
    show("lag P99 / append P99, with", with.iter().map(|turn| turn.lag_p99 / turn.append_p99));
    show("k appends/s without", without.iter().map(|turn| turn.records_per_second / 1e3));
    show("lag P99 in us", with.iter().map(|turn| turn.lag_p99));
}

/// 64 threads append and wait. Each payload begins with the time of its append.
fn turn(dir: &Path, followers: usize) -> Turn {
    let log = ShardedWal::open(Config::new(dir)).expect("the log opens");
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    let (mut appends, mut lags) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let follow = |_| {
            let follower = log.follow(&Checkpoint::start()).expect("it is a log");
            scope.spawn(move || lags_of(follower, began))
        };
        let follows: Vec<_> = (0..followers).map(follow).collect();
        let append = |key| {
            let (log, is_over) = (&log, &is_over);
            scope.spawn(move || append_until(log, key, is_over, began))
        };
        let writers: Vec<_> = (0..THREADS).map(append).collect();
        thread::sleep(TURN);
        is_over.store(true, Ordering::Relaxed);
        for writer in writers {
            appends.extend(writer.join().expect("it does not panic"));
        }
        log.close().expect("the disk works");
        for follow in follows {
            let own = follow.join().expect("it does not panic");
            assert_eq!(own.len(), appends.len(), "each record once");
            lags.extend(own);
        }
    });
    std::fs::remove_dir_all(dir).expect("it was made above");
    Turn {
        records_per_second: appends.len() as f64 / TURN.as_secs_f64(),
        append_p99: p99(appends),
        lag_p99: if lags.is_empty() { 0.0 } else { p99(lags) },
    }
}

/// Microseconds since the beginning.
fn micros_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Follows to the end of the log. Returns the age of each record in microseconds.
fn lags_of(follower: Follower, began: Instant) -> Vec<u64> {
    let mut lags = Vec::new();
    for answer in follower {
        if let Followed::Advanced(batch) = answer.expect("it can be read") {
            let at = micros_since(began);
            for record in &batch {
                let sent = record.payload()[..8].try_into().map(u64::from_le_bytes);
                lags.push(at - sent.expect("eight bytes"));
            }
        }
    }
    lags
}

/// Appends and waits. Returns the time of each append in microseconds.
fn append_until(log: &ShardedWal, key: u64, is_over: &AtomicBool, began: Instant) -> Vec<u64> {
    let (mut payload, mut took) = ([7; RECORD_BYTES], Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let at = micros_since(began);
        payload[..8].copy_from_slice(&at.to_le_bytes());
        log.append_wait(key, &payload[..]).expect("the disk works");
        took.push(micros_since(began) - at);
    }
    took
}

fn p99(mut micros: Vec<u64>) -> f64 {
    micros.sort_unstable();
    micros[(micros.len() - 1) * 99 / 100].max(1) as f64
}

/// One thread replays a log in the page cache, and one follower reads it.
fn past(dir: &Path, rounds: usize) {
    let config = Config::new(dir).shards(1).durability(Durability::Buffered);
    let log = ShardedWal::open(config).expect("the log opens");
    for _ in 0..PAST_RECORDS {
        drop(log.append(1, &[7; RECORD_BYTES][..]));
    }
    log.flush().wait().expect("the disk works");
    let ratios: Vec<_> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            let replayed = log.replay(ReplayOptions::default().threads(1), |record| {
                std::hint::black_box(record.payload());
                Ok::<_, Infallible>(())
            });
            assert_eq!(replayed.expect("it can be read").records, PAST_RECORDS);
            let replay = began.elapsed();
            let began = Instant::now();
            let (mut follower, mut records) =
                (log.follow(&Checkpoint::start()).expect("it is a log"), 0);
            while let Followed::Advanced(batch) = follower.try_next().expect("it can be read") {
                for record in &batch {
                    std::hint::black_box(record.payload());
                    records += 1;
                }
            }
            assert_eq!(records, PAST_RECORDS);
            replay.as_secs_f64() / began.elapsed().as_secs_f64()
        })
        .collect();
    show("rate of a follower in the past / of a replay", ratios.into_iter());
    drop(log);
    std::fs::remove_dir_all(dir).expect("it was made above");
}

/// Prints the median and the range.
fn show(what: &str, values: impl Iterator<Item = f64>) {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return };
    println!("{what}: {:.2} ({least:.2} .. {most:.2})", values[values.len() / 2]);
}
