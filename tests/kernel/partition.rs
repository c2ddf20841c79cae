//! A log on a full partition of its own, on ext4, XFS and btrfs. No record is lost
//! after a copy that shares blocks, or in the next process. Also a log whose directory
//! is mounted over.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use shardwal::{Cause, Config, ShardedWal};

use crate::faulty_device::Dialog;
use crate::full::{Outcomes, fill, resume};
use crate::mounts::{Mount, Rights, inside, on_each_file_system, run, scratch, text};
use crate::support::ledger::Ledger;
use crate::support::{Found, open, replayed};
use crate::transcript::Transcript;

const SEGMENT_BYTES: u64 = 64 << 10;
const LENGTH: usize = 8000;

fn config(dir: &Path) -> Config {
    Config::new(dir.join("log")).shards(2).segment_bytes(SEGMENT_BYTES)
}

/// Uses all room, down to the last block.
fn take_all(dir: &Path) {
    // Names need room too.
    let files = [1 << 20, 64 << 10, 4096, 512, 1].map(|block| {
        let path = dir.join(format!("ballast-{block}"));
        (File::create(path).expect("there is room yet"), vec![1_u8; block])
    });
    for (mut file, bytes) in files {
        while file.write_all(&bytes).is_ok() {}
        file.sync_all().ok();
    }
}

/// Frees the room. btrfs returns it with the next transaction.
fn free_partition(dir: &Path) {
    for entry in fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ballast")) {
            fs::remove_file(path).expect("it can be removed");
        }
    }
    run(&["sync", "-f", text(dir)]);
}

/// A copy of the live log shares its blocks on XFS and btrfs. On the full file system
/// each write to such a block needs room that does not exist.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_full_partition_refuses_appends_until_there_is_room_also_after_a_copy_of_the_log() {
    let name = "partition::a_full_partition_refuses_appends_until_there_is_room_also_after_a_copy_of_the_log";
    if !inside(name, Rights::Root) {
        return;
    }
    let mut outcomes = Outcomes::default();
    let lived = on_each_file_system(name, |system, dir| {
        println!("a full {}, its log copied", system.name);
        let mut ledger = Ledger::default();
        let log = open(config(dir));
        for key in 0..24 {
            ledger.append(&log, key % 8, LENGTH).expect("there is room");
        }
        let mut copy = Command::new("cp");
        copy.args(["-r", "--reflink=auto", text(&dir.join("log")), text(&dir.join("copy"))]);
        let copied = copy.status().expect("cp runs");
        assert!(copied.success());
        take_all(dir);
        fill(&log, &mut ledger, LENGTH, &mut outcomes);
        ledger.check(&replayed(&log));
        free_partition(dir);
        resume(&log, &mut ledger, LENGTH, &mut outcomes);
        ledger.check(&replayed(&log));
        log.close().expect("there is room");
        ledger.check(&replayed(&open(config(dir))));
    });
    println!("FIGURE full partitions after a copy of the log: {lived} file systems");
    println!("FIGURE full partitions after a copy, refused: {} appends", outcomes.refused);
}

/// A process fills the partition and is killed. The next process opens the log without
/// a free byte, reads all of it, truncates, and refuses appends until there is room.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_killed_log_opens_on_its_full_partition() {
    let name = "partition::a_killed_log_opens_on_its_full_partition";
    if !inside(name, Rights::Root) {
        return;
    }
    let mut acknowledged = 0;
    let lived = on_each_file_system(name, |system, dir| {
        println!("a full {}, the process killed", system.name);
        let mut transcript = Transcript::default();
        let mut dialog = Dialog::start(&dir.join("log"));
        let line = format!("open 2 {SEGMENT_BYTES}");
        let opened = dialog.ask(&mut transcript, &line, &["opened", "refused"]);
        assert!(opened.starts_with("opened"), "{opened}");
        (0..20).for_each(|index| drop(dialog.append(&mut transcript, (index % 2 + 1, index / 2))));
        take_all(dir);
        let mut next = [10, 10];
        while transcript.not_written < 4 {
            for key in [1, 2] {
                let index = &mut next[usize::from(key == 2)];
                let answer = dialog.append(&mut transcript, (key, *index));
                assert!(!answer.starts_with("answer open"), "no room is certain: {answer}");
                *index += 1;
            }
        }
        drop(dialog);
        let (log, found) = open_full(dir, &mut transcript);
        assert!(matches!(refusal(&log), Cause::DiskFull(_)));
        // The mark is in file names, so that it needs no block on any of the file systems.
        let truncated = log.truncate_before(&log.durable_checkpoint());
        let truncated = truncated.unwrap_or_else(|error| panic!("{}: {error}", system.name));
        println!("{} segments truncated", truncated.segments);
        free_partition(dir);
        log.append(1, "there is room").wait().expect("there is room again");
        log.append(2, "there is room").wait().expect("there is room again");
        log.close().expect("there is room");
        acknowledged += transcript.acknowledged;
        assert!(found.records.len() as u64 >= transcript.acknowledged);
    });
    println!("FIGURE killed on a full partition and opened there: {lived} file systems");
    println!("FIGURE killed on a full partition, acknowledged: {acknowledged} records");
}

fn open_full(dir: &Path, transcript: &mut Transcript) -> (ShardedWal, Found) {
    let log = ShardedWal::open(config(dir));
    let log = log.unwrap_or_else(|error| panic!("it opens without a free byte: {error}"));
    let found = replayed(&log);
    transcript.check(&found);
    (log, found)
}

/// The reason why a full log refuses a record that is larger than any free extent.
fn refusal(log: &ShardedWal) -> Cause {
    loop {
        let answer = log.append(1, vec![b'x'; 1 << 20]).wait();
        if let Err(error) = answer {
            assert!(error.is_not_written(), "{error}");
            return error.cause().clone();
        }
    }
}

/// The log continues in its directory, and an open of the path creates another log.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_log_that_is_mounted_over_keeps_working_and_leaves_the_other_log_alone() {
    let name = "partition::a_log_that_is_mounted_over_keeps_working_and_leaves_the_other_log_alone";
    if !inside(name, Rights::Tmpfs) {
        return;
    }
    let scratch = scratch();
    let config = || Config::new(scratch.path().join("mount/log")).shards(2).segment_bytes(4096);
    let (mut below, mut above) = (Ledger::default(), Ledger::default());
    let log = open(config());
    let append = |log: &ShardedWal, ledger: &mut Ledger| {
        for key in (0..8).cycle().take(80) {
            ledger.append(log, key, 900).expect("there is room");
        }
    };
    append(&log, &mut below);
    let mount = Mount::tmpfs(scratch.path(), 16 << 10, 1024);
    append(&log, &mut below);
    let other = open(config());
    append(&other, &mut above);
    append(&log, &mut below);
    append(&other, &mut above);
    log.close().expect("its directory is there");
    other.close().expect("its directory is there");
    // The logs hold their directories until they are dropped.
    drop((log, other));
    above.check(&replayed(&open(config())));
    drop(mount);
    below.check(&replayed(&open(config())));
    println!("FIGURE logs mounted over: 1 log, 240 records, none lost");
}
