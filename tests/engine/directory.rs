//! An open log keeps its own directory, whatever becomes of the path. It touches no
//! file of another log, and notices that it was removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, ShardedWal};

use super::support::{DIR, append_all, config, must_end, open, payload, replayed};

const SHARD: &str = "/wal/generation-00001/shard-0000";
const EINVAL: i32 = 22;
const EROFS: i32 = 30;

fn at(fs: &SimFileSystem, dir: &str) -> Config {
    Config::new(dir)
        .file_system(Arc::new(fs.clone()))
        .shards(1)
        .segment_bytes(4096)
        .recycled_segments_max(0)
}

#[test]
fn a_renamed_log_keeps_working_and_leaves_a_log_at_its_old_path_alone() {
    let fs = SimFileSystem::new();
    let renamed = open(at(&fs, DIR));
    append_all(&renamed, 1, 0..20, 500);
    fs.move_path(DIR, "/renamed");
    let other = open(at(&fs, DIR));
    append_all(&other, 2, 0..100, 500);
    // Both logs roll many times, with equal segment numbers.
    append_all(&renamed, 1, 20..100, 500);
    append_all(&other, 2, 100..200, 500);
    renamed.close().expect("it closes in its own directory");
    other.close().expect("so does the other one");
    let all = |count| (0..count).collect::<Vec<u64>>();
    assert_eq!(replayed(&open(at(&fs, "/renamed"))).of(1), all(100));
    assert_eq!(replayed(&open(at(&fs, DIR))).of(2), all(200));
}

#[test]
fn a_renamed_log_replays_and_truncates_its_own_segments() {
    let fs = SimFileSystem::new();
    let renamed = open(at(&fs, DIR));
    append_all(&renamed, 1, 0..50, 500);
    fs.move_path(DIR, "/renamed");
    let other = open(at(&fs, DIR));
    append_all(&other, 2, 0..50, 500);
    // Closed, so that its threads change nothing any more.
    other.close().expect("it closes");
    let others_files = files_below(&fs, DIR);
    assert_eq!(replayed(&renamed).of(1).len(), 50);
    let truncated = renamed.truncate_before(&renamed.durable_checkpoint()).expect("it truncates");
    assert!(truncated.segments > 1, "{truncated:?}");
    assert!(files_below(&fs, DIR) == others_files, "the other log's files stay");
    drop(other);
    assert_eq!(replayed(&open(at(&fs, DIR))).of(2).len(), 50);
}

#[test]
fn a_shard_keeps_working_in_its_renamed_directory() {
    let fs = SimFileSystem::new();
    go_on_in_a_renamed_directory(&fs);
}

#[test]
fn a_reopened_shard_keeps_working_in_its_renamed_directory() {
    let fs = SimFileSystem::new();
    drop(open(at(&fs, DIR)));
    go_on_in_a_renamed_directory(&fs);
}

fn go_on_in_a_renamed_directory(fs: &SimFileSystem) {
    let log = open(at(fs, DIR));
    append_all(&log, 1, 0..10, 500);
    fs.move_path(SHARD, "/wal/generation-00001/aside");
    append_all(&log, 1, 10..50, 500);
    log.close().expect("it closes");
    fs.move_path("/wal/generation-00001/aside", SHARD);
    assert_eq!(replayed(&open(at(fs, DIR))).of(1).len(), 50);
}

#[test]
fn a_foreign_file_is_neither_removed_nor_replaced() {
    for recycled_max in [0, 2] {
        let fs = SimFileSystem::new();
        let log = open(
            at(&fs, DIR).recycled_segments_max(recycled_max).preallocated_segments(recycled_max),
        );
        append_all(&log, 1, 0..2, 500);
        let taken: Vec<_> = (2..40).map(|number| format!("{SHARD}/{number:010}.wal")).collect();
        let free = taken.iter().filter(|path| fs.read_file(path).is_none());
        let foreign = payload(9, 9, 2000);
        let taken: Vec<_> = free.inspect(|path| fs.write_file(path, &foreign)).collect();
        let refused = (2..1000).find_map(|index| {
            log.append_wait(1, payload(1, index, 500)).err().map(|error| (index, error))
        });
        let (acknowledged, error) = refused.expect("there is no name for the next segment");
        let Cause::Poisoned(cause) = error.cause() else { panic!("{error}") };
        assert!(cause.to_string().contains("move it away"), "{cause}");
        for path in &taken {
            assert_eq!(fs.read_file(path).as_deref(), Some(&*foreign), "{path}");
            fs.remove_file(path);
        }
        drop(log);
        assert!(replayed(&open(at(&fs, DIR))).of(1).len() as u64 >= acknowledged);
    }
}

#[test]
fn a_blank_file_of_a_failed_attempt_is_replaced() {
    let fs = SimFileSystem::new();
    let log = open(at(&fs, DIR));
    fs.write_file(format!("{SHARD}/0000000002.wal"), &[0; 100]);
    append_all(&log, 1, 0..50, 500);
    assert_eq!(replayed(&log).of(1).len(), 50);
}

/// Appends until the shard refuses, which must be within a second of `removed`.
fn refused_within_a_second(log: &ShardedWal) -> Cause {
    let began = Instant::now();
    loop {
        if let Err(error) = log.append_wait(1, "a record") {
            return error.cause().clone();
        }
        // Two seconds, because other tests load the machine.
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "records of a removed log are still acknowledged"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_removed(cause: &Cause) {
    let Cause::Poisoned(error) = cause else { panic!("{cause:?}") };
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("removed"), "{error}");
}

#[test]
fn a_removed_log_is_noticed_within_a_second() {
    must_end("a removed log", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).segment_bytes(1 << 20));
        append_all(&log, 1, 0..10, 100);
        fs.remove_tree(DIR);
        assert_removed(&refused_within_a_second(&log));
        let closed = log.close().expect_err("its records are gone");
        assert_removed(&closed.cause);
    });
}

#[test]
fn a_removed_segment_is_noticed_by_an_idle_shard() {
    must_end("a removed segment", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2).segment_bytes(1 << 20));
        let keys = [0, 1].map(|shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap());
        log.append_wait(keys[0], "first").expect("the segment still exists");
        fs.remove_file(format!("{SHARD}/0000000001.wal"));
        std::thread::sleep(Duration::from_millis(1500));
        let refused = log.try_append(keys[0], "later").expect_err("the shard has stopped");
        assert_removed(&refused.cause);
        log.append_wait(keys[1], "beside it").expect("the other shard goes on");
    });
}

#[test]
fn a_log_is_created_below_a_directory_that_cannot_be_synced() {
    for errno in [EINVAL, EROFS] {
        let fs = SimFileSystem::with_dir("/mount/point");
        let ancestors = 3;
        for nth in 1..=ancestors {
            fs.fail(Fault::new(Call::SyncDir, nth, FaultKind::Error(errno)));
        }
        let log = open(at(&fs, "/mount/point/wal"));
        assert_eq!(fs.fired(), ancestors);
        append_all(&log, 1, 0..3, 100);
        drop(log);
        assert_eq!(replayed(&open(at(&fs, "/mount/point/wal"))).of(1), [0, 1, 2]);
    }
    // The log's own directory must be synced, or its names would not last.
    let fs = SimFileSystem::with_dir("/mount/point");
    let own = Fault {
        path_contains: Some("wal".into()),
        ..Fault::new(Call::SyncDir, 1, FaultKind::Error(EINVAL))
    };
    fs.fail(own);
    ShardedWal::open(at(&fs, "/mount/point/wal")).expect_err("it cannot be made durable");
}

fn files_below(fs: &SimFileSystem, dir: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = fs.files().into_iter().filter(|path| path.starts_with(dir));
    files.map(|path| (path.clone(), fs.read_file(&path).expect("it is listed"))).collect()
}
