//! Runs `shardwal tune` as a user does, and tests the rule by which it chooses.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../src/tune/choice.rs"]
mod choice;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::text;
use choice::{Candidate, Spread, choose, reasons};
use serde_json::Value;

/// The throughputs of three rounds, and a P99 latency.
fn candidate(value: usize, rates: [f64; 3], p99: f64) -> Candidate {
    let p99_us = Spread::of(vec![p99 * 0.7, p99, p99 * 1.4]);
    Candidate { value, records_per_s: Spread::of(rates.to_vec()), p50_us: p99_us, p99_us }
}

fn chosen(candidates: &[Candidate]) -> usize {
    candidates[choose(candidates)].value
}

#[test]
fn within_the_noise_the_smallest_candidate_is_chosen() {
    let overlap =
        [candidate(1, [90.0, 100.0, 115.0], 5.0), candidate(2, [110.0, 140.0, 150.0], 5.0)];
    assert_eq!(chosen(&overlap), 1);
    let apart_by_a_hair =
        [candidate(1, [98.0, 100.0, 101.0], 5.0), candidate(2, [102.0, 103.0, 104.0], 5.0)];
    assert_eq!(chosen(&apart_by_a_hair), 1);
    let words = reasons(&overlap, 0, |count| format!("{count} shards"), "the fewer");
    assert_eq!(
        words,
        ["1 shards: 0.71 x the throughput of 2 shards, within the noise, so the fewer"]
    );
}

#[test]
fn differences_outside_the_noise_count() {
    let apart = [candidate(1, [90.0, 100.0, 110.0], 5.0), candidate(2, [111.0, 120.0, 130.0], 5.0)];
    assert_eq!(chosen(&apart), 2);
    let large = [candidate(1, [50.0, 100.0, 160.0], 5.0), candidate(2, [140.0, 150.0, 160.0], 5.0)];
    assert_eq!(chosen(&large), 2);
    let words = reasons(&large, 1, |count| format!("{count} shards"), "the fewer");
    assert_eq!(words, ["1 shards: 0.67 x the throughput of 2 shards, outside the noise"]);
}

#[test]
fn an_equally_fast_candidate_with_a_high_p99_is_not_chosen() {
    let late = [
        candidate(1, [99.0, 100.0, 101.0], 50.0),
        candidate(2, [98.0, 101.0, 102.0], 10.0),
        candidate(4, [99.0, 102.0, 103.0], 9.0),
        candidate(8, [10.0, 11.0, 12.0], 1.0),
    ];
    assert_eq!(chosen(&late), 2);
    let words = reasons(&late, 1, |count| format!("{count} shards"), "the fewer").join("\n");
    assert!(
        words.contains("1 shards: throughput within the noise of 2 shards, but 5.00 x its P99")
    );
    assert!(words.contains("8 shards: 0.11 x the throughput of 4 shards, outside the noise"));
}

fn tune(dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardwal"));
    command
        .args(["tune", "--seconds", "0.3", "--rounds", "1", "--threads", "8", "--dir"])
        .arg(dir)
        .args(more);
    command.output().unwrap()
}

#[test]
fn tune_recommends_a_config_with_its_reasons_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let (new, existing) = (scratch.path().join("new"), scratch.path().join("existing"));
    fs::create_dir(&existing).unwrap();
    let cases = [
        (&new, ["--durability", "sync", "--batch", "1", "--inflight", "1"]),
        (&existing, ["--durability", "interval:10ms", "--batch", "100", "--inflight", "4"]),
    ];
    for (dir, arguments) in cases {
        let existed = dir.exists();
        let output = tune(dir, &arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let output = text(&output.stdout);
        let parts =
            ["4 KiB overwritten", "shards: 8 threads", "queue depth", "because:", "assumed:"];
        assert!(parts.iter().all(|part| output.contains(part)), "{output}");
        let code = format!("Config::new({dir:?})\n        .shards(");
        assert!(output.contains(&code), "{output}");

        let output = tune(dir, &[&arguments[..], &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of =
            |list: &str, value: usize| figures[list][value]["records_per_s"]["median"].as_f64();
        let all = (0..5).map(|n| of("shards", n)).chain((0..3).map(|n| of("depths", n)));
        assert!(
            all.chain((0..2).map(|n| of("check", n))).all(|rate| rate.unwrap() > 0.0),
            "{figures}"
        );
        assert_eq!(figures["device"]["syncs"].as_array().unwrap().len(), 3);
        assert_eq!(dir.exists(), existed, "an existing directory stays, a created one is removed");
        assert!(!existed || fs::read_dir(dir).unwrap().next().is_none());

        // The recommended config opens.
        let config: shardwal::Config = serde_json::from_value(figures["config"].clone()).unwrap();
        let log = shardwal::ShardedWal::open(config).unwrap();
        assert_eq!(Some(log.shards() as u64), figures["config"]["shards"].as_u64());
        log.close().unwrap();
    }
}

#[test]
fn a_directory_with_a_log_or_anything_else_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    shardwal::ShardedWal::open(shardwal::Config::new(&log)).unwrap().close().unwrap();
    let before = fs::read_dir(&log).unwrap().count();
    for (dir, words) in [(log.as_path(), "holds a log"), (scratch.path(), "is not empty")] {
        let refused = tune(dir, &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(words), "{}", text(&refused.stderr));
        assert_eq!(text(&refused.stdout), "");
    }
    assert_eq!(fs::read_dir(&log).unwrap().count(), before);
    assert_eq!(tune(Path::new("/proc/shardwal"), &[]).status.code(), Some(2));
}

/// The directory of a killed command is deleted. A directory that may belong to
/// somebody stays.
#[cfg(target_os = "linux")]
#[test]
fn the_directory_of_a_killed_command_is_deleted_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("new");
    let dir_path = dir.join("measured");
    let mut killed = Command::new(env!("CARGO_BIN_EXE_shardwal"))
        .args(["tune", "--seconds", "60", "--dir"])
        .arg(&dir)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !fs::read_dir(dir_path.join("logs")).is_ok_and(|mut entries| entries.next().is_some()) {
        std::thread::yield_now();
    }
    let refused = |words: &str| {
        let refused = tune(&dir, &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains(words), "{}", text(&refused.stderr));
        assert!(dir_path.join("logs").exists());
    };
    refused("in use by another command");
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::write(dir.join("mine"), "").unwrap();
    refused("is not empty");
    fs::remove_file(dir.join("mine")).unwrap();
    let mark = fs::read(dir_path.join("OWNER")).unwrap();
    fs::write(dir_path.join("OWNER"), "mine").unwrap();
    refused("has no mark");
    fs::write(dir_path.join("OWNER"), mark).unwrap();
    let again = tune(&dir, &[]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
}

/// Files are limited to 1 MiB: enough for the disk's own figures, too little for a log.
#[cfg(target_os = "linux")]
#[test]
fn a_failing_disk_ends_tune_with_an_error_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    for blocks in ["1024", "80000"] {
        let dir = scratch.path().join("new");
        let limited = format!("ulimit -f {blocks}; exec \"$@\"");
        let ended = Command::new("bash")
            .args(["-c", &limited, "bash", env!("CARGO_BIN_EXE_shardwal"), "tune", "--dir"])
            .arg(&dir)
            .args([
                "--seconds",
                "0.5",
                "--threads",
                "8",
                "--batch",
                "1000",
                "--record-bytes",
                "65536",
            ])
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains("File too large"), "{}", text(&ended.stderr));
        assert!(!dir.exists(), "{blocks}");
    }
}
