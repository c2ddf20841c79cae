//! The `shardwal` command, as a user runs it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    reason = "a test fails by a panic and prints its seed"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{run, shardwal, text};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1_names")
}

/// Copies the golden log, so that a test can corrupt it.
fn golden_copy(to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut dirs = vec![(golden().join("log"), to.to_path_buf())];
    while let Some((from, to)) = dirs.pop() {
        for entry in fs::read_dir(from).unwrap() {
            let (path, to) = {
                let e = entry.unwrap();
                (e.path(), to.join(e.file_name()))
            };
            if path.is_dir() {
                fs::create_dir(&to).unwrap();
                dirs.push((path, to));
            } else {
                fs::copy(path, to).unwrap();
            }
        }
    }
}

fn bytes_below(dir_path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut dirs, mut found) = (vec![dir_path.to_path_buf()], Vec::new());
    while let Some(dir_path) = dirs.pop() {
        for entry in fs::read_dir(dir_path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn dump_prints_what_was_written_in_order() {
    let log = golden().join("log").display().to_string();
    let expected = fs::read_to_string(golden().join("dump.txt")).unwrap();
    let whole = run(&["dump", &log]);
    assert_eq!(text(&whole.stdout), expected);
    assert_eq!(whole.status.code(), Some(0));

    let three: String = expected.split_inclusive('\n').take(3).collect();
    assert_eq!(text(&run(&["dump", &log, "--limit", "3"]).stdout), three);
    assert_eq!(text(&run(&["dump", &log, "--limit", "0"]).stdout), "");
    let of_key = |line: &&str| line.split(' ').nth(3) == Some("1");
    let of_key: String = expected.split_inclusive('\n').filter(of_key).collect();
    assert!(of_key.lines().count() >= 2);
    assert_eq!(text(&run(&["dump", &log, "--key", "1"]).stdout), of_key);
}

/// Shows that FORMAT.md suffices. Skipped without Python.
#[test]
fn a_reader_written_from_the_format_alone_prints_equal_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for golden in [golden(), golden().with_file_name("v1")] {
        let python = Command::new("python3")
            .arg(root.join("../../tests/format_reader.py"))
            .arg(golden.join("log"))
            .output();
        let Ok(python) = python else {
            eprintln!("no python3: skipped");
            return;
        };
        assert!(python.status.success(), "{}", text(&python.stderr));
        assert_eq!(text(&python.stdout), fs::read_to_string(golden.join("dump.txt")).unwrap());
    }
}

/// The golden log with one rotten record. The Python reader, which knows lost ranges
/// from FORMAT.md, reads the remaining records as the library does.
#[test]
fn repair_prints_its_plan_carries_it_out_and_leaves_a_log_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    golden_copy(&log);
    let rotten = log.join("generation-00001/shard-0000/0000000002.wal");
    let mut bytes = fs::read(&rotten).unwrap();
    bytes[400] ^= 1;
    fs::write(&rotten, &bytes).unwrap();
    let before = bytes_below(&log);
    let arguments = ["repair", log.to_str().unwrap(), "--quarantine", out.to_str().unwrap()];
    assert_eq!(run(&["verify", arguments[1]]).status.code(), Some(1));

    let planned = run(&[arguments.as_slice(), &["--dry-run"]].concat());
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned.stderr));
    assert_eq!(bytes_below(&log), before, "a dry run changes nothing");
    assert!(!out.exists());
    let done = run(&[arguments.as_slice(), &["--json"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    for lost in report["lost"].as_array().unwrap() {
        let range = format!("{}..{} are lost", lost["first_sequence"], lost["next_sequence"]);
        assert!(text(&planned.stdout).contains(&range), "{report}");
    }
    let copy = out.join("0001/generation-00001/shard-0000/0000000002.wal");
    assert_eq!(fs::read(copy).unwrap(), bytes);

    let verified = run(&["verify", arguments[1]]);
    assert_eq!(verified.status.code(), Some(0));
    assert!(text(&verified.stdout).contains("were lost in a repair"));
    assert_eq!(text(&run(&arguments).stdout), "nothing to repair\n");
    let left = text(&run(&["dump", arguments[1]]).stdout);
    let whole = fs::read_to_string(golden().join("dump.txt")).unwrap();
    assert!(left.lines().count() < whole.lines().count());
    assert!(left.lines().all(|line| whole.contains(line)));
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/format_reader.py");
    if let Ok(python) = Command::new("python3").arg(reader).arg(&log).output() {
        assert_eq!(text(&python.stdout), left, "{}", text(&python.stderr));
    }
}

#[test]
fn verify_distinguishes_intact_and_corrupted_logs_and_changes_neither() {
    let scratch = tempfile::tempdir().unwrap();
    golden_copy(scratch.path());
    let log = scratch.path().display().to_string();
    let before = bytes_below(scratch.path());
    let whole = run(&["verify", &log]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    assert!(text(&whole.stdout).contains("generation"), "{}", text(&whole.stdout));
    let report: Value = serde_json::from_slice(&run(&["verify", &log, "--json"]).stdout).unwrap();
    assert_eq!(report["shards"].as_array().map(Vec::len), Some(5));
    assert_eq!(bytes_below(scratch.path()), before);

    let segment = scratch.path().join("generation-00002/shard-0000/0000000001.wal");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let before = bytes_below(scratch.path());
    let corrupted = run(&["verify", &log]);
    assert_eq!(corrupted.status.code(), Some(1));
    let position = "generation 2 shard 0: a frame's body does not match its checksum at byte 112";
    assert!(text(&corrupted.stdout).contains(position), "{}", text(&corrupted.stdout));
    let corrupted = run(&["verify", &log, "--json"]);
    let report: Value = serde_json::from_slice(&corrupted.stdout).unwrap();
    assert_eq!(report["shards"][2]["corruption"]["offset"], 112);
    let dumped = run(&["dump", &log]);
    assert_eq!(dumped.status.code(), Some(1));
    assert!(text(&dumped.stderr).contains(position), "{}", text(&dumped.stderr));
    assert_eq!(bytes_below(scratch.path()), before);
}

#[test]
fn unreadable_or_unknown_input_exits_with_2() {
    let scratch = tempfile::tempdir().unwrap();
    let empty = scratch.path().display().to_string();
    let wrong: [&[&str]; 8] = [
        &[],
        &["frobnicate"],
        &["dump"],
        &["dump", &empty],
        &["verify", &empty],
        &["verify", "/nonexistent"],
        &["bench", "--dir", "/nonexistent/x/y", "--durability", "fast"],
        &["bench", "--dir", "/proc/shardwal", "--seconds", "0.1"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
        assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let scratch = tempfile::tempdir().unwrap();
    let log = golden().join("log").display().to_string();
    let errors = scratch.path().join("errors");
    for arguments in [&["dump", &log][..], &["verify", &log], &["verify", &log, "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = shardwal(arguments)
            .stdout(writer)
            .stderr(File::create(&errors).unwrap())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{arguments:?}");
        assert_eq!(fs::read_to_string(&errors).unwrap(), "", "{arguments:?}");
    }
    // The reader closes a full pipe too.
    let mut child = shardwal(&["dump", &log]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn bench_prints_its_figures_and_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let new = scratch.path().join("new/log");
    let existing = scratch.path().join("existing");
    fs::create_dir(&existing).unwrap();
    fs::create_dir(scratch.path().join("new")).unwrap();
    let cases = [
        (&new, "sync", "1", "1"),
        (&existing, "os", "10", "8"),
        (&new, "interval:10ms", "1", "64"),
    ];
    for (dir, durability, batch, inflight) in cases {
        let dir = dir.display().to_string();
        let output = run(&[
            "bench",
            "--dir",
            &dir,
            "--shards",
            "2",
            "--threads",
            "3",
            "--record-bytes",
            "100",
            "--batch",
            batch,
            "--inflight",
            inflight,
            "--durability",
            durability,
            "--seconds",
            "0.2",
            "--json",
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figure =
            |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name}: {figures}"));
        let records = figure("appends_per_s") * batch.parse::<f64>().unwrap();
        assert!(figure("appends_per_s") > 0.0);
        assert!((figure("records_per_s") - records).abs() < 1e-3 * records);
        assert!((figure("mib_per_s") * 1_048_576.0 / 100.0 - records).abs() < 1e-3 * records);
        let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(figure);
        assert!(latencies.is_sorted() && latencies[0] > 0.0, "{figures}");
        assert!(figure("commits") > 0.0 && (figure("syncs") > 0.0 || durability == "os"));
        assert!(figure("elapsed_s") >= 0.2 && figure("cpu_s") >= 0.0, "{figures}");
    }
    assert!(!new.exists(), "the command removes the directory that it created");
    assert_eq!(fs::read_dir(&existing).unwrap().count(), 0, "the existing directory stays");

    fs::write(existing.join("precious"), "data").unwrap();
    let dir = existing.display().to_string();
    let refused = run(&["bench", "--dir", &dir, "--seconds", "0.1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("is not empty"), "{}", text(&refused.stderr));
    assert_eq!(fs::read_dir(&existing).unwrap().count(), 1);
}
