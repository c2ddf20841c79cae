//! A log keeps its directory if the path changes, on the operating system's files.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use shardwal::{Config, ReplayOptions, ShardedWal};

const CHILD: &str = "SHARDWAL_TEST_CHDIR_BELOW";

fn config(dir: impl AsRef<Path>) -> Config {
    Config::new(dir).shards(1).segment_bytes(64 << 10).recycled_segments_max(1)
}

fn append(log: &ShardedWal, count: u64) {
    for index in 0..count {
        log.append_wait(1, index.to_le_bytes().repeat(16)).expect("it is acknowledged");
    }
}

fn records(dir: impl AsRef<Path>) -> u64 {
    let log = ShardedWal::open(config(dir)).expect("it opens");
    let replayed = log.replay(ReplayOptions::default(), |_| Ok::<_, std::io::Error>(()));
    replayed.expect("it replays").records
}

#[test]
fn a_change_of_the_working_directory_leads_to_no_other_log() {
    if let Some(base) = std::env::var_os(CHILD) {
        return change_the_working_directory(Path::new(&base));
    }
    let base = tempfile::tempdir().expect("a scratch directory");
    // In a process of its own, because the working directory belongs to the whole
    // process.
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let name = "moved_directory::a_change_of_the_working_directory_leads_to_no_other_log";
    child.args(["--exact", name]).env(CHILD, base.path());
    let output = child.output().expect("this program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn change_the_working_directory(base: &Path) {
    let enter = |name: &str| {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).expect("it is created");
        std::env::set_current_dir(dir).expect("it is there");
    };
    enter("b");
    let log = ShardedWal::open(config("wal")).expect("it opens");
    append(&log, 4000);
    log.close().expect("it closes");
    enter("a");
    let log = ShardedWal::open(config("wal")).expect("it opens");
    enter("b");
    append(&log, 4000);
    log.truncate_before(&log.durable_checkpoint()).expect("it truncates");
    append(&log, 1000);
    log.close().expect("it closes");
    assert_eq!(records(base.join("b/wal")), 4000, "the other log is unchanged");
    assert_eq!(records(base.join("a/wal")), 1000);
}

#[test]
fn a_renamed_log_keeps_working_and_leaves_a_log_at_its_old_path_alone() {
    let base = tempfile::tempdir().expect("a scratch directory");
    let (old, new) = (base.path().join("wal"), base.path().join("renamed"));
    let renamed = ShardedWal::open(config(&old)).expect("it opens");
    append(&renamed, 100);
    std::fs::rename(&old, &new).expect("it is renamed");
    let other = ShardedWal::open(config(&old)).expect("it opens");
    append(&other, 2000);
    append(&renamed, 3000);
    renamed.close().expect("it closes");
    other.close().expect("it closes");
    assert_eq!((records(&new), records(&old)), (3100, 2000));
}

#[test]
fn a_removed_log_is_noticed_within_a_second() {
    let base = tempfile::tempdir().expect("a scratch directory");
    let dir = base.path().join("wal");
    let log = ShardedWal::open(config(&dir)).expect("it opens");
    append(&log, 10);
    std::fs::remove_dir_all(&dir).expect("it is removed");
    let began = Instant::now();
    let error = loop {
        match log.append_wait(1, "a record") {
            Ok(_) => {
                assert!(began.elapsed() < Duration::from_secs(2), "the removal is not noticed")
            }
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("was removed"), "{error}");
    log.close().expect_err("its records are gone");
}
