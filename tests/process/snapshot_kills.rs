//! The snapshot recipes of `examples/` beside SIGKILL: no acknowledged record is lost, and
//! the state machine counts none twice. The number of shards changes from round to round.
//!
//! The child appends from several threads, takes snapshots, and reports each record that it
//! has acknowledged to its own caller. It applies a record some time after the log has
//! acknowledged it. That is when a checkpoint of the log is ahead of the state.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

#[path = "../../examples/applied.rs"]
#[allow(clippy::print_stdout, dead_code, reason = "an example has a main function")]
mod applied;
#[path = "../../examples/snapshots.rs"]
#[allow(clippy::print_stdout, dead_code, reason = "an example has a main function")]
mod snapshots;

const CHILD: &str = "SHARDWAL_TEST_SNAPSHOT_CHILD";
const SHARDS: &str = "SHARDWAL_TEST_SNAPSHOT_SHARDS";
const THREADS: u64 = 4;
const ROUNDS: usize = 8;
/// From the log's answer to the change of the state.
const APPLY_TIME: Duration = Duration::from_millis(3);
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(15);

fn report(key: u64, number: u64) {
    let mut line = key.to_le_bytes().to_vec();
    line.extend(number.to_le_bytes());
    let mut out = std::io::stdout().lock();
    out.write_all(&line).unwrap();
    out.flush().unwrap();
}

/// The directory and the number of shards, in a child.
fn asked() -> Option<(String, usize)> {
    let dir = std::env::var(CHILD).ok()?;
    Some((dir, std::env::var(SHARDS).unwrap().parse().unwrap()))
}

/// Runs `append` for each key and number until the process is killed, and `snapshot` beside
/// it.
fn serve(first: impl Fn(u64) -> u64, append: impl Fn(u64, u64) + Sync, snapshot: impl Fn()) {
    thread::scope(|scope| {
        for key in 0..THREADS {
            let (append, first) = (&append, first(key));
            scope.spawn(move || {
                for number in first.. {
                    append(key, number);
                    report(key, number);
                }
            });
        }
        loop {
            thread::sleep(SNAPSHOT_INTERVAL);
            snapshot();
        }
    });
}

/// A child: counts events in a state machine. Does nothing in an ordinary run.
#[test]
fn child_counts_until_it_is_killed() {
    let Some((dir, shards)) = asked() else { return };
    let service = snapshots::Service::open(Path::new(&dir), shards).unwrap();
    let count = |key, _number| {
        service.count(key).unwrap();
    };
    serve(|key| service.counted(key) + 1, count, || drop(service.snapshot().unwrap()));
}

/// A child: keeps values in a map outside of the log. Does nothing in an ordinary run.
#[test]
fn child_stores_until_it_is_killed() {
    let Some((dir, shards)) = asked() else { return };
    let store = applied::Store::open(Path::new(&dir), shards).unwrap();
    let put = |thread, number| {
        let (key, value) = (key_of(thread, number), 7_u64);
        let position = store.log.append_wait(key, &value.to_le_bytes()).unwrap();
        thread::sleep(APPLY_TIME);
        store.apply(position, key, value);
    };
    serve(|thread| stored(&store, thread) + 1, put, || drop(store.snapshot().unwrap()));
}

/// Each record has a key of its own, so that no later value hides a lost one.
fn key_of(thread: u64, number: u64) -> u64 {
    number * THREADS + thread
}

/// The last number of a thread before its first missing one.
fn stored(store: &applied::Store, thread: u64) -> u64 {
    let values = store.values();
    let missing = (1..).find(|number| !values.contains_key(&key_of(thread, *number)));
    missing.unwrap() - 1
}

fn start(name: &str, dir: &Path, shards: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("snapshot_kills::{name}"), "--nocapture", "--quiet"])
        .env(CHILD, dir)
        .env(SHARDS, shards.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge some records, then kills it. Returns the last number that it
/// reported for each key.
fn run_and_kill(mut child: Child, records: usize) -> BTreeMap<u64, u64> {
    let mut pipe = child.stdout.take().unwrap();
    let (mut byte, mut newlines) = ([0], 0);
    while newlines < 2 {
        // The first line comes from the test runner.
        pipe.read_exact(&mut byte).unwrap();
        newlines += usize::from(byte[0] == b'\n');
    }
    let mut reported = vec![0; records * 16];
    pipe.read_exact(&mut reported).unwrap();
    child.kill().unwrap();
    pipe.read_to_end(&mut reported).unwrap();
    child.wait().unwrap();
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    reported.chunks_exact(16).map(|it| (word(&it[..8]), word(&it[8..]))).collect()
}

/// Kills a child in each round, with 2, 3, 1, 2, .. shards. `read` opens the state with the
/// number of shards of the next round, and returns the last number of each key.
fn kill_rounds(name: &str, read: impl Fn(&Path, usize) -> BTreeMap<u64, u64>) {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let shards = |round: usize| [2, 3, 1][round % 3];
        let records = 40 + 37 * round % 61;
        acknowledged.extend(run_and_kill(start(name, scratch.path(), shards(round)), records));
        let found = read(scratch.path(), shards(round + 1));
        for (key, number) in &acknowledged {
            let found = found.get(key).copied().unwrap_or(0);
            // One more may be in the log: the child was killed before it reported that.
            assert!(
                found == *number || found == number + 1,
                "round {round}: key {key}: {number} was acknowledged, {found} was found"
            );
        }
    }
    assert_eq!(acknowledged.len(), usize::try_from(THREADS).unwrap());
}

/// S2 APPLY: a snapshot of state machines holds each record below its checkpoint once.
#[test]
fn a_state_machine_counts_every_acknowledged_record_once_through_kills() {
    kill_rounds("child_counts_until_it_is_killed", |dir, shards| {
        let service = snapshots::Service::open(dir, shards).unwrap();
        let found = (0..THREADS).map(|key| (key, service.counted(key))).collect();
        service.close().unwrap();
        found
    });
}

#[test]
fn a_store_outside_the_log_keeps_every_acknowledged_value_through_kills() {
    kill_rounds("child_stores_until_it_is_killed", |dir, shards| {
        let store = applied::Store::open(dir, shards).unwrap();
        store.log.close().unwrap();
        (0..THREADS).map(|thread| (thread, stored(&store, thread))).collect()
    });
}
