//! `shardwal holds` and `shardwal release`, as a user runs them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::time::Duration;

use crate::{run, text};
use serde_json::Value;
use shardwal::{Config, HoldLimits, HoldPolicy, ShardedWal};

/// A log with the hold `mirror-b` at its end.
fn held(dir: &Path) -> ShardedWal {
    let log = ShardedWal::open(Config::new(dir).shards(2)).unwrap();
    for key in 0..10_u64 {
        log.append_wait(key, "a record").unwrap();
    }
    let limits = HoldLimits {
        max_bytes: Some(1 << 20),
        max_age: Some(Duration::from_secs(60)),
        beyond: HoldPolicy::Drop,
    };
    log.hold("mirror-b", &log.durable_checkpoint(), limits).unwrap();
    log
}

#[test]
fn holds_are_listed_beside_a_writer_and_released_once_it_has_closed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = held(&dir);
    let at = log.durable_checkpoint().to_string();
    let dir = dir.to_str().unwrap();
    let listed = run(&["holds", dir]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    let expected = format!(
        "mirror-b: held at {at}\n  keeps 0 full segments, 0 bytes\n  at most 1048576 bytes, 60 s; \
         beyond that it is dropped\n"
    );
    assert_eq!(text(&listed.stdout), expected);
    let json: Value = serde_json::from_slice(&run(&["holds", dir, "--json"]).stdout).unwrap();
    assert_eq!(json[0]["checkpoint"], at.as_str());
    assert_eq!((&json[0]["max_age_ms"], &json[0]["beyond"]), (&60_000.into(), &"drop".into()));

    let locked = run(&["release", dir, "mirror-b"]);
    assert_eq!(locked.status.code(), Some(2), "the log is open");
    log.close().unwrap();
    let unknown = run(&["release", dir, "mirror-c"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there is no hold `mirror-c`"));
    let released = run(&["release", dir, "mirror-b"]);
    assert_eq!(text(&released.stdout), "released mirror-b\n", "{}", text(&released.stderr));
    assert_eq!(text(&run(&["holds", dir]).stdout), "no holds\n");
    let log = ShardedWal::open(Config::new(dir).keep_shards()).unwrap();
    assert_eq!((log.shards(), log.holders().len()), (2, 0));
}

#[test]
fn a_rotten_hold_and_a_missing_log_are_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    held(&dir).close().unwrap();
    std::fs::write(dir.join("hold-mirror-b"), "rotten").unwrap();
    let dir = dir.to_str().unwrap();
    for arguments in [&["holds", dir][..], &["release", dir, "mirror-b"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.contains("hold-mirror-b") && error.contains("delete it"), "{error}");
    }
    // Its records can be read without it.
    assert_eq!(run(&["verify", dir]).status.code(), Some(0));
    assert_eq!(text(&run(&["dump", dir]).stdout).lines().count(), 10);
    let missing = run(&["holds", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn truncate_names_the_holds_that_kept_segments_from_it() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = ShardedWal::open(Config::new(&dir).shards(1).segment_bytes(4096)).unwrap();
    for _ in 0..20 {
        log.append_wait(1, vec![1; 1000]).unwrap();
    }
    let at = log.durable_checkpoint();
    let start = shardwal::Checkpoint::start();
    log.hold("mirror-b", &start, HoldLimits::default()).unwrap();
    log.close().unwrap();
    let dir = dir.to_str().unwrap();
    let truncated = run(&["truncate", dir, "--before", &at.to_string()]);
    let out = text(&truncated.stdout);
    assert!(out.contains(" 0 segments, 0 bytes deleted\n"), "{out}");
    assert!(out.contains("the hold mirror-b keeps "), "{out}");
}
