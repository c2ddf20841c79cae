//! The ingest server's life cycle: what it prints, its snapshots, and how it ends.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use crate::server_support::{Server, dump, request, wait_until};

const SNAPSHOT: [&str; 2] = ["--snapshot-samples", "20"];

fn write(server: &Server, times: std::ops::Range<i64>) {
    let samples: Vec<_> = times.map(|at| (at, 0.5)).collect();
    assert_eq!(server.write(&request(&["up"], &samples)).status, 204);
}

/// Takes snapshots, and ends in order.
fn check_that_work_goes_on(server: Server, directory: &Path) {
    let snapshot = directory.join("snapshot");
    for round in 0..2 {
        std::fs::remove_file(&snapshot).ok();
        write(&server, round * 30..round * 30 + 30);
        wait_until("a snapshot is taken", || snapshot.exists());
    }
    assert_eq!(server.stop("-TERM").code(), Some(0));
}

/// Regression: `println!` panicked. No snapshot was taken ever again, and SIGTERM ended in 101.
#[test]
fn an_output_whose_reader_leaves_does_not_end_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &SNAPSHOT);
    server.stop_listening();
    check_that_work_goes_on(server, directory.path());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_does_not_end_the_work() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_printing_to(directory.path(), &SNAPSHOT, full(), full());
    check_that_work_goes_on(server, directory.path());
    // The replay reports its progress.
    let server = Server::start_printing_to(directory.path(), &SNAPSHOT, full(), full());
    assert_eq!(server.count("up"), 60);
    assert_eq!(server.stop("-TERM").code(), Some(0));
}

/// The pipe has no room for a single byte, and its reader never reads.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_never_read_does_not_delay_the_work() {
    const PIPE_BYTES: usize = 64 << 10;
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'.'; PIPE_BYTES]).unwrap();
    let (output, error) = (writer.try_clone().unwrap().into(), writer.into());
    let server = Server::start_printing_to(directory.path(), &SNAPSHOT, output, error);
    check_that_work_goes_on(server, directory.path());
    drop(reader);
}

/// Regression: each start began to count at 0, so that no snapshot was ever due.
#[test]
fn samples_of_earlier_runs_count_towards_the_next_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--snapshot-samples", "10000"];
    let snapshot = directory.path().join("snapshot");
    let taken = || snapshot.metadata().and_then(|found| found.modified()).ok();
    for round in 0..4_i64 {
        let before = taken();
        assert_eq!(before.is_some(), round >= 2, "one snapshot per two runs");
        let server = Server::start(directory.path(), &arguments);
        write(&server, round * 6_000..round * 6_000 + 6_000);
        if round % 2 == 1 {
            wait_until("a snapshot is taken", || taken() != before);
        }
        assert_eq!(server.stop("-TERM").code(), Some(0));
    }
}

/// Regression: a dump wrote into the log, and was refused beside a running server.
#[test]
fn a_dump_works_beside_a_running_server_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.write(&request(&["up"], &[(1, 2.0_f64.powi(-24)), (2, 0.5)])).status, 204);
    let files = || -> Vec<_> {
        let shards = (0..2).flat_map(|shard| {
            let shard = directory.path().join(format!("log/generation-00001/shard-{shard:04}"));
            std::fs::read_dir(shard).unwrap().map(|file| file.unwrap().path())
        });
        let top = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
        let mut all: Vec<_> = shards.chain(top).collect();
        all.sort();
        let changed = |path: &std::path::PathBuf| path.metadata().unwrap().modified().unwrap();
        all.into_iter().map(|path| (changed(&path), path)).collect()
    };
    let before = files();
    let labels = r#"{__name__="up", job="a \"test\"\\"}"#;
    let expected = [format!("{labels} 5.960464477539063e-08 1"), format!("{labels} 0.5 2")];
    assert_eq!(dump(directory.path()), expected);
    assert_eq!(files(), before);
    assert_eq!(server.write(&request(&["up"], &[(3, 1.0)])).status, 204);
    assert_eq!(dump(directory.path()).len(), 3);
}

/// Samples older than the retention leave memory without a restart.
#[test]
fn expired_samples_leave_memory_and_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--retention", "60s"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let day_ms = 24 * 3_600_000;
    let recent = [(now_ms - 1, 1.0), (now_ms + day_ms, 2.0)];
    assert_eq!(server.write(&request(&["old"], &[(now_ms - day_ms, 1.0)])).status, 204);
    assert_eq!(server.write(&request(&["recent"], &recent)).status, 204);
    wait_until("the old sample leaves", || server.count("old") == 0);
    assert_eq!(server.count("recent"), 2);
    let status = server.get_json("/status.json");
    assert_eq!((&status["samples_in_memory"], &status["samples_expired"]), (&2.into(), &1.into()));
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.lines().any(|line| line == "ingest_samples_expired_total 1"), "{metrics}");
    assert_eq!(server.stop("-TERM").code(), Some(0));
}

/// A series that left for want of samples comes back, although its name was cached. No write with
/// it is refused for ever.
#[test]
fn a_series_that_expired_comes_back_and_is_kept_by_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--retention", "60s", "--series-max", "2"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let old_ms = now_ms - 24 * 3_600_000;
    for round in 0..3 {
        let old = request(&["back"], &[(old_ms + round, 1.0)]);
        wait_until("it is written", || server.write(&old).status == 204);
        wait_until("it expires", || server.count("back") == 0);
        // It leaves its place with the next call.
        let other = request(&[&format!("other{round}")], &[(old_ms + round, 1.0)]);
        wait_until("the other has a place", || server.write(&other).status == 204);
    }
    let recent = request(&["back"], &[(now_ms + 3_600_000, 2.0)]);
    wait_until("it is written", || server.write(&recent).status == 204);
    assert_eq!(server.count("back"), 1);
    assert_eq!(server.stop("-TERM").code(), Some(0));
    let server = Server::start(directory.path(), &["--retention", "60s"]);
    // The log has the old samples too, and they are in its chunk.
    assert_eq!(server.count("back"), 4);
    assert_eq!(server.stop("-TERM").code(), Some(0));
}
