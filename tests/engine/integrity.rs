//! Many threads and many shards on one log: each record appears once, in order per key.
//!
//! Holds Q2 ORDER, Q4 WAKE (ARCHITECTURE.md).

use std::collections::HashMap;
use std::sync::Mutex;

use shardwal::{Config, Durability, ReplayOptions, ShardedWal};

const THREADS: u64 = 64;
const KEYS_EACH: u64 = 8;
const RECORDS_EACH: u64 = 2_000;

#[test]
fn sixty_four_threads_on_sixteen_shards_lose_double_and_swap_nothing() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = || {
        // Small queues and segments, so that full rings and rolls are common.
        Config::new(scratch.path().join("log"))
            .shards(16)
            .queue_capacity(32)
            .segment_bytes(16 << 10)
            .durability(Durability::Sync)
    };
    let log = ShardedWal::open(config()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || append(log, thread));
        }
    });
    let stats = log.stats();
    assert_eq!(stats.total.records, THREADS * RECORDS_EACH);
    assert!(stats.total.rolls > 16, "{} rolls", stats.total.rolls);
    log.close().unwrap();

    let log = ShardedWal::open(config()).unwrap();
    check(&log);
}

/// A key belongs to one thread, which numbers its records.
fn append(log: &ShardedWal, thread: u64) {
    let mut window = std::collections::VecDeque::new();
    for number in 0..RECORDS_EACH {
        let key = (thread * KEYS_EACH + number % KEYS_EACH) * 16;
        window.push_back(log.append(key, (number / KEYS_EACH).to_le_bytes().to_vec()));
        if window.len() > 16 {
            let oldest = window.pop_front().expect("the window is not empty");
            oldest.wait().expect("it is acknowledged");
        }
    }
    for completion in window {
        completion.wait().expect("it is acknowledged");
    }
}

fn check(log: &ShardedWal) {
    let next: Mutex<HashMap<u64, u64>> = Mutex::default();
    let report = log
        .replay(ReplayOptions::default().threads(2), |record| {
            let number = u64::from_le_bytes(*record.payload().first_chunk().ok_or("short")?);
            let mut next = next.lock().map_err(|_| "poisoned")?;
            let expected = next.entry(record.key()).or_insert(0);
            if number != *expected {
                return Err("a record is missing, doubled or out of order");
            }
            *expected += 1;
            Ok(())
        })
        .expect("the log replays");
    assert_eq!(report.records, THREADS * RECORDS_EACH);
    let next = next.into_inner().expect("no callback panicked");
    assert_eq!(next.len() as u64, THREADS * KEYS_EACH);
    assert!(next.values().all(|count| *count == RECORDS_EACH / KEYS_EACH));
}
