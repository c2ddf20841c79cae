//! Runs `shardwal backup` and `shardwal truncate` as an operator does, on the operating
//! system's files.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{run, text};
use serde_json::Value;
use shardwal::{Config, LogReader, ReplayOptions, ShardedWal};

fn config(dir: &Path) -> Config {
    Config::new(dir).shards(2).segment_bytes(64 << 10).recycled_segments_max(4)
}

/// The numbers per key in a log.
fn read(dir: &Path) -> BTreeMap<u64, Vec<u64>> {
    let reader = LogReader::open(dir).unwrap();
    assert_eq!(reader.report().corruption().next(), None);
    let found = Mutex::new(BTreeMap::<u64, Vec<u64>>::new());
    let replayed = reader.replay(ReplayOptions::default(), |record| {
        let number = u64::from_le_bytes(record.payload()[..8].try_into().unwrap());
        found.lock().unwrap().entry(record.key()).or_default().push(number);
        Ok::<_, std::convert::Infallible>(())
    });
    replayed.unwrap();
    found.into_inner().unwrap()
}

fn append(log: &ShardedWal, key: u64, number: u64) {
    log.append_wait(key, number.to_le_bytes().repeat(50)).unwrap();
}

#[test]
#[allow(clippy::too_many_lines, reason = "one scenario in order")]
fn copies_of_a_live_log_stay_whole_while_its_files_are_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let log = ShardedWal::open(config(&log_dir)).unwrap();
    let acknowledged: [AtomicU64; 4] = Default::default();
    let done = AtomicBool::new(false);
    let copies = ["shared", "shared again", "copied"].map(|name| dir.path().join(name));
    let mut known = Vec::new();
    std::thread::scope(|scope| {
        for (key, acknowledged) in acknowledged.iter().enumerate() {
            let (log, done) = (&log, &done);
            scope.spawn(move || {
                for number in 0.. {
                    append(log, key as u64 * 7919, number);
                    acknowledged.store(number + 1, Ordering::Release);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for (nth, copy) in (1_u64..).zip(&copies) {
            while acknowledged.iter().any(|it| it.load(Ordering::Acquire) < nth * 400) {
                std::thread::yield_now();
            }
            known.push(acknowledged.each_ref().map(|it| it.load(Ordering::Acquire)));
            let mut arguments = vec!["backup", log_dir.to_str().unwrap(), copy.to_str().unwrap()];
            arguments.push("--json");
            arguments.extend((nth == 3).then_some("--copy"));
            let output = run(&arguments);
            assert!(output.status.success(), "{}", text(&output.stderr));
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let shared = report["cloned"].as_u64().unwrap() + report["linked"].as_u64().unwrap();
            assert_eq!(shared > 0, nth < 3, "{report}");
            assert_eq!(report["log"], log.id().to_string());
        }
        done.store(true, Ordering::Relaxed);
    });
    // Every file of the log is recycled or deleted.
    for round in 0..3 {
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        (0..400).for_each(|number| append(&log, round, number));
    }
    log.close().unwrap();
    for (copy, known) in copies.iter().zip(known) {
        let found = read(copy);
        for (key, known) in known.into_iter().enumerate() {
            let numbers = &found[&(key as u64 * 7919)];
            assert!(numbers.len() as u64 >= known, "{} of {known}", numbers.len());
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
        }
        let names = fs::read_dir(copy).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.collect();
        assert_eq!(names.len(), 2, "the manifest and a generation: {names:?}");
        // The copy is a log: it accepts appends, and does not touch shared files.
        let log = ShardedWal::open(config(copy)).unwrap();
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        (0..400).for_each(|number| append(&log, 1, number));
        log.close().unwrap();
    }
    assert_eq!(read(&log_dir)[&2].len(), 400);
}

#[test]
fn backup_reports_its_work_and_its_obstacles() {
    let dir = tempfile::tempdir().unwrap();
    let (log_dir, copy) = (dir.path().join("log"), dir.path().join("copy"));
    let log = ShardedWal::open(config(&log_dir)).unwrap();
    (0..10).for_each(|number| append(&log, 1, number));
    let (from, to) = (log_dir.to_str().unwrap(), copy.to_str().unwrap());
    let output = run(&["backup", from, to]);
    let said = text(&output.stdout);
    assert!(said.contains(&format!("checkpoint: {}\n", log.durable_checkpoint())), "{said}");
    let again = run(&["backup", from, to]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    let inside = log_dir.join("copy");
    assert_eq!(run(&["backup", from, inside.to_str().unwrap()]).status.code(), Some(2));
    assert_eq!(run(&["backup", "/nowhere", to]).status.code(), Some(2));
}

#[test]
fn a_closed_log_is_truncated_and_keeps_its_shards() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let config = || config(&log_dir).shards(3);
    let path = log_dir.to_str().unwrap();
    let log = ShardedWal::open(config()).unwrap();
    (0..900).for_each(|number| append(&log, number % 5, number));
    let checkpoint = log.durable_checkpoint();
    (0..7).for_each(|number| append(&log, number, number));
    let text_form = checkpoint.to_string();
    let open = run(&["truncate", path, "--before", &text_form]);
    assert_eq!(open.status.code(), Some(2), "it is open here");
    log.close().unwrap();

    let beyond = text_form.replacen('/', "/1", 1);
    for wrong in [&beyond, "-/1/0,0,0", "1/2/3", "0123456789abcdef0123456789abcdef/1/0,0,0"] {
        let refused = run(&["truncate", path, "--before", wrong]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    assert_eq!(run(&["truncate", path]).status.code(), Some(2));
    let all = LogReader::open(&log_dir).unwrap().report().records();
    assert_eq!(all, 907);

    let json = dir.path().join("checkpoint.json");
    fs::write(&json, serde_json::to_vec(&checkpoint).unwrap()).unwrap();
    let truncated = run(&["truncate", path, "--before-json", json.to_str().unwrap(), "--json"]);
    assert!(truncated.status.success(), "{}", text(&truncated.stderr));
    let report: Value = serde_json::from_slice(&truncated.stdout).unwrap();
    assert!(report["segments"].as_u64().unwrap() > 0, "{report}");
    let again = run(&["truncate", path, "--before", &text_form]);
    assert!(text(&again.stdout).starts_with("truncated below "), "{}", text(&again.stdout));
    let reader = LogReader::open(&log_dir).unwrap();
    assert_eq!(reader.checkpoint().sequences().len(), 3);
    let left = reader.replay_from(&checkpoint, ReplayOptions::default(), |_| {
        Ok::<_, std::convert::Infallible>(())
    });
    assert_eq!(left.unwrap().records, 7);

    let nowhere = dir.path().join("nowhere");
    let none = run(&["truncate", nowhere.to_str().unwrap(), "--before", &text_form]);
    assert_eq!(none.status.code(), Some(2));
    assert!(!nowhere.exists(), "nothing is created where there is no log");
}
