//! Kills a real process on a real file system with SIGKILL, a hundred times. The fault
//! suite kills two hundred times, or `SHARDWAL_KILLS`.
//!
//! The child appends from several threads and reports each acknowledged record over a
//! pipe. The parent kills it at a random moment, opens the log and looks for every
//! reported record. A kill keeps the page cache. So this covers the order of write and
//! acknowledgement, the recovery of torn commits, and the release of the lock. The
//! simulated file system covers power loss.
//!
//! Holds C2 DURABLE, R1 REPLAY (ARCHITECTURE.md).

#![allow(clippy::print_stdout, reason = "figures are printed")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use shardwal::{Checkpoint, Config, ReplayOptions, ShardedWal};

const CHILD: &str = "SHARDWAL_TEST_KILLED_CHILD";
const NAME: &str = "killed_process::child_appends_until_it_is_killed";
const CYCLES: usize = 120;
const KILLS: usize = 200;
const THREADS: u64 = 4;

fn config(dir: &Path) -> Config {
    Config::new(dir).shards(3).segment_bytes(64 << 10).queue_capacity(64)
}

fn payload(key: u64, number: u64) -> Vec<u8> {
    let length = 1 + (number * 37 + key * 11) % 600;
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|i| (i ^ number ^ key).to_le_bytes()[0]));
    bytes
}

/// The first and last number of each key in the log. Checks that numbers have no gap
/// and that payloads are right.
fn read(log: &ShardedWal, from: Option<&Checkpoint>) -> BTreeMap<u64, (u64, u64)> {
    let seen: Mutex<BTreeMap<u64, (u64, u64)>> = Mutex::default();
    let take = |record: &shardwal::Record<'_>| {
        let number = u64::from_le_bytes(*record.payload().first_chunk().ok_or("too short")?);
        if record.payload() != payload(record.key(), number) {
            return Err("a payload differs");
        }
        let mut seen = seen.lock().map_err(|_| "poisoned")?;
        let range = seen.entry(record.key()).or_insert((number, number));
        if range.1 != number {
            return Err("a record is missing, doubled or out of order");
        }
        range.1 += 1;
        Ok(())
    };
    let options = ReplayOptions::default();
    match from {
        None => log.replay(options, take),
        Some(from) => log.replay_from(from, options, take),
    }
    .expect("the log replays");
    seen.into_inner().expect("no callback panicked")
}

/// The child: appends until it is killed. Does nothing in an ordinary run.
#[test]
fn child_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let log = ShardedWal::open(config(Path::new(&dir))).unwrap();
    let seen = read(&log, None);
    std::thread::scope(|scope| {
        for key in 0..THREADS {
            let (log, first) = (&log, seen.get(&key).map_or(0, |range| range.1));
            scope.spawn(move || {
                for number in first.. {
                    let payload = payload(key, number);
                    if number % 2 == 0 {
                        log.append(key, payload).wait().unwrap();
                    } else {
                        log.append_wait(key, payload).unwrap();
                    }
                    let mut acknowledged = key.to_le_bytes().to_vec();
                    acknowledged.extend(number.to_le_bytes());
                    std::io::stdout().lock().write_all(&acknowledged).unwrap();
                    std::io::stdout().lock().flush().unwrap();
                }
            });
        }
    });
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("a test has a program"))
        .args(["--exact", NAME, "--nocapture", "--quiet"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// Lets the child acknowledge some records, then kills it. Returns the highest number
/// that it reported for each key.
fn run_and_kill(mut child: Child, records: usize) -> BTreeMap<u64, u64> {
    let mut pipe = child.stdout.take().expect("its output is piped");
    // The first line comes from the test runner.
    let mut line = [0];
    let mut newlines = 0;
    while newlines < 2 {
        pipe.read_exact(&mut line).expect("the runner prints what it runs");
        newlines += usize::from(line[0] == b'\n');
    }
    let mut acknowledged = vec![0; records * 16];
    pipe.read_exact(&mut acknowledged).expect("the child reports records until it is killed");
    child.kill().expect("it is killed");
    pipe.read_to_end(&mut acknowledged).expect("the rest of the pipe can be read");
    child.wait().expect("it is reaped");
    let mut highest = BTreeMap::new();
    for record in acknowledged.chunks_exact(16) {
        let (key, number) = record.split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes"));
        let entry = highest.entry(word(key)).or_insert(0);
        *entry = word(number).max(*entry);
    }
    highest
}

/// Counts over all kills. No acknowledged record was lost.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: u64,
    /// Records that were found without a reported acknowledgement.
    unacknowledged: u64,
}

fn kill_again_and_again(cycles: usize) -> Seen {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let dir = scratch.path().join("log");
    let mut seed = seed();
    println!("SHARDWAL_SEED={seed}");
    let mut all = Seen::default();
    // The first number of each key that the next child may report.
    let mut first = BTreeMap::new();
    for cycle in 0..cycles {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let acknowledged = run_and_kill(start(&dir), 1 + (seed >> 33) as usize % 200);
        let log = ShardedWal::open(config(&dir)).expect("the log opens");
        let seen = read(&log, None);
        for (key, number) in &acknowledged {
            let next = seen.get(key).map_or(0, |range| range.1);
            assert!(
                next > *number,
                "cycle {cycle}: key {key}: {number} was acknowledged, {next} is next"
            );
            all.unacknowledged += next - number - 1;
            all.acknowledged += number + 1 - first.get(key).copied().unwrap_or(0);
        }
        first = seen.into_iter().map(|(key, range)| (key, range.1)).collect();
        if cycle % 10 == 9 {
            let checkpoint = log.durable_checkpoint();
            log.truncate_before(&checkpoint).expect("it truncates");
            assert_eq!(read(&log, None), BTreeMap::new(), "no truncated record comes back");
            // The next child starts from 0, because it finds nothing.
            first.clear();
        }
        log.close().expect("it closes");
    }
    assert!(all.acknowledged >= cycles as u64, "each child acknowledges a record");
    all
}

#[test]
fn every_acknowledged_record_survives_a_hundred_kills() {
    println!("{CYCLES} kills: {:?}", kill_again_and_again(CYCLES));
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn every_acknowledged_record_survives_two_hundred_kills_or_more() {
    let asked = std::env::var("SHARDWAL_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills = asked.unwrap_or(KILLS);
    let seen = kill_again_and_again(kills);
    println!("FIGURE kill -9: {kills} kills");
    println!("FIGURE records acknowledged before them: {} records", seen.acknowledged);
    println!("FIGURE of which lost: 0 records");
    println!("FIGURE records found without an acknowledgement: {} records", seen.unacknowledged);
    assert!(kills >= KILLS, "{kills} kills are too few");
}

fn seed() -> u64 {
    let given = std::env::var("SHARDWAL_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()))
}
