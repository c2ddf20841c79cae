//! A log larger than memory replays in bounded memory: 2 GiB in a process with a limit
//! of 256 MiB of address space.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use shardwal::{Config, Durability, ReplayOptions, ShardedWal};

const CHILD: &str = "SHARDWAL_TEST_BOUNDED_CHILD";
const RECORD_BYTES: usize = 64 << 10;
const RECORDS: u64 = (2 << 30) / RECORD_BYTES as u64;
const LIMIT_KIB: u64 = 256 << 10;

fn config(dir: &Path) -> Config {
    Config::new(dir).shards(2).durability(Durability::Buffered)
}

/// The child: replays under its limit. Does nothing in an ordinary run.
#[test]
fn child_replays_under_its_limit() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let log = ShardedWal::open(config(Path::new(&dir))).unwrap();
    let options = ReplayOptions::default().threads(2).memory_bytes(8 << 20);
    let report = log
        .replay(options, |record| {
            let whole = record.payload().len() == RECORD_BYTES && record.payload()[0] == 3;
            if whole { Ok(()) } else { Err("a payload differs") }
        })
        .unwrap();
    assert_eq!(report.records, RECORDS);
}

#[test]
#[cfg(target_os = "linux")]
fn two_gibibytes_replay_in_256_mebibytes() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = scratch.path().join("log");
    let log = ShardedWal::open(config(&dir)).unwrap();
    let payload = Bytes::from(vec![3; RECORD_BYTES]);
    for key in 0..RECORDS {
        drop(log.append(key, payload.clone()));
    }
    log.close().unwrap();
    drop(log);
    // The limit is on address space, so the allocator must not reserve an arena per
    // thread.
    let limited = Command::new("sh")
        .args(["-c", &format!("ulimit -v {LIMIT_KIB} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "bounded_memory::child_replays_under_its_limit", "--nocapture"])
        .env(CHILD, &dir)
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&limited.stderr);
    assert!(limited.status.success(), "{said}");
}
