//! `shardwal follow`, as a user runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::{run, shardwal, text};
use shardwal::{Checkpoint, Config, HoldLimits, ShardedWal};

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).lines().map(String::from).collect()
}

fn log_of(dir: &Path, records: u64) -> ShardedWal {
    let log = ShardedWal::open(Config::new(dir).shards(2).segment_bytes(4096)).unwrap();
    for index in 0..records {
        log.append_wait(index % 5, format!("record {index}").repeat(10)).unwrap();
    }
    log
}

#[test]
fn follow_prints_what_dump_does_and_the_checkpoint_to_go_on_from() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    log_of(&dir, 200).close().unwrap();
    let path = dir.to_str().unwrap();
    let (mut dumped, mut followed) =
        (lines(&run(&["dump", path])), lines(&run(&["follow", path, "--until-caught-up"])));
    assert_eq!(dumped.len(), 200);
    dumped.sort();
    followed.sort();
    assert_eq!(followed, dumped);
    let json = lines(&run(&["follow", path, "--until-caught-up", "--json"]));
    let json: Vec<serde_json::Value> =
        json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json.len(), 201);
    assert!(json[..200].iter().all(|it| it["payload"].as_str().unwrap().starts_with("7265636f")));
    let end = json[200]["caught_up"].as_str().unwrap();
    assert!(lines(&run(&["follow", path, "--until-caught-up", "--from", end])).is_empty());
}

#[test]
fn follow_prints_records_while_a_writer_appends() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = log_of(&dir, 10);
    let mut follows =
        shardwal(&["follow", dir.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut found = BufReader::new(follows.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        log.append_wait(1, "later").unwrap();
    }
    // The idle writer says within a second that the last one is durable.
    let printed: Vec<_> = found.by_ref().take(13).map(Result::unwrap).collect();
    assert_eq!(printed.iter().filter(|line| line.ends_with("6c61746572")).count(), 3);
    follows.kill().unwrap();
    follows.wait().unwrap();
}

#[test]
fn follow_names_the_checkpoint_to_begin_at_if_records_are_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("log");
    let log = log_of(&dir, 100);
    let early = Checkpoint::new(1, [1, 1]).of_log(log.id()).to_string();
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    log.append_wait(1, "later").unwrap();
    log.close().unwrap();
    let path = dir.to_str().unwrap();
    let refused = run(&["follow", path, "--until-caught-up", "--from", &early]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    let (_, from) = said.trim().rsplit_once("--from ").unwrap();
    assert_eq!(lines(&run(&["follow", path, "--until-caught-up", "--from", from])).len(), 1);
    // Without a checkpoint it begins there, and with a hold at the hold.
    assert_eq!(lines(&run(&["follow", path, "--until-caught-up"])).len(), 1);
    let log = ShardedWal::open(Config::new(&dir).shards(2)).unwrap();
    log.hold("reader", &log.durable_checkpoint(), HoldLimits::default()).unwrap();
    log.append_wait(1, "held").unwrap();
    log.close().unwrap();
    let held = lines(&run(&["follow", path, "--until-caught-up", "--from", "reader"]));
    assert!(held.len() == 1 && held[0].ends_with("68656c64"), "{held:?}");
    let unknown = run(&["follow", path, "--from", "other"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("no hold `other`"));
}
