//! Runs `shardwal verify` as an operator does: its three exit codes, beside a live
//! writer, and without write permission.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use shardwal::{Config, ReplayOptions, ShardedWal};

const SHARDWAL: &str = env!("CARGO_BIN_EXE_shardwal");

fn verify(log: &Path) -> (Option<i32>, Value, Output) {
    let plain = Command::new(SHARDWAL).arg("verify").arg(log).output().unwrap();
    let json = Command::new(SHARDWAL).arg("verify").arg(log).arg("--json").output().unwrap();
    assert_eq!(plain.status.code(), json.status.code(), "two forms, one answer");
    let value = serde_json::from_slice(&json.stdout).unwrap();
    (json.status.code(), value, plain)
}

fn append(log: &ShardedWal, keys: std::ops::Range<u64>) {
    keys.for_each(|key| assert!(log.append(key, vec![1; 100]).wait().is_ok()));
}

/// A closed log with two segments in its one shard.
fn closed_log(dir: &Path) -> PathBuf {
    for keys in [0..10, 10..20] {
        let log = ShardedWal::open(Config::new(dir).shards(1)).unwrap();
        append(&log, keys);
        log.close().unwrap();
    }
    dir.join("generation-00001/shard-0000")
}

fn change(file: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    how(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// The offset of each frame of a segment.
fn frame_ends(segment: &[u8]) -> Vec<usize> {
    let (mut at, mut ends) = (88, Vec::new());
    while let Some(length) = segment.get(at..at + 4) {
        let length = u32::from_le_bytes(length.try_into().unwrap());
        if segment[at + 4] == 0 {
            break;
        }
        at += 24 + usize::try_from(length).unwrap();
        ends.push(at);
    }
    ends
}

#[test]
fn an_intact_log_verifies_and_a_torn_tail_is_reported_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let shard = closed_log(dir.path());
    let (code, reported, plain) = verify(dir.path());
    assert_eq!((code, &reported["verdict"]), (Some(0), &"intact".into()));
    assert!(String::from_utf8(plain.stdout).unwrap().ends_with("intact: 20 records\n"));
    // The newest segment loses its seals and half of its last record.
    change(&shard.join("0000000002.wal"), |bytes| {
        let ends = frame_ends(bytes);
        let last = ends.iter().rposition(|end| end - ends[0] > 0 && bytes[end - 1] == 1).unwrap();
        bytes[ends[last] - 50..].fill(0);
    });
    let (code, reported, plain) = verify(dir.path());
    assert_eq!((code, &reported["verdict"]), (Some(0), &"intact".into()), "{reported}");
    assert!(reported["shards"][0]["torn_bytes"].as_u64().unwrap() > 50, "{reported}");
    assert_eq!(reported["shards"][0]["torn_records"], 1);
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains("bytes that never came whole to the disk"), "{plain}");
}

#[test]
fn corruption_is_reported_with_its_position_sequences_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    let shard = closed_log(dir.path());
    let segment = shard.join("0000000001.wal");
    let at = frame_ends(&fs::read(&segment).unwrap())[3];
    change(&segment, |bytes| bytes[at + 60] ^= 4);
    let (code, reported, plain) = verify(dir.path());
    assert_eq!((code, &reported["verdict"]), (Some(1), &"corrupted".into()));
    let corruption = &reported["shards"][0]["corruption"];
    assert_eq!(corruption["file"].as_str(), segment.to_str());
    assert_eq!(
        (corruption["generation"].as_u64(), corruption["shard"].as_u64()),
        (Some(1), Some(0))
    );
    assert_eq!(corruption["offset"].as_u64(), u64::try_from(at).ok());
    let lost =
        (corruption["first_sequence"].as_u64().unwrap(), corruption["durable_below"].as_u64());
    assert!(lost.0 > 0 && lost.0 < 10 && lost.1 == Some(20), "{corruption}");
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(plain.contains("restore the file from a copy"), "{plain}");
    assert!(plain.contains("\ncorrupted: "), "{plain}");
    let refused = ShardedWal::open(Config::new(dir.path()).shards(1)).unwrap_err();
    assert!(
        plain.contains(corruption["what"].as_str().unwrap()) && !refused.to_string().is_empty()
    );
}

#[test]
fn corruption_is_reported_per_shard() {
    let dir = tempfile::tempdir().unwrap();
    let log = ShardedWal::open(Config::new(dir.path()).shards(4)).unwrap();
    append(&log, 0..40);
    log.close().unwrap();
    for shard in [1, 3] {
        let segment = dir.path().join(format!("generation-00001/shard-000{shard}/0000000001.wal"));
        change(&segment, |bytes| bytes[150] ^= 1);
    }
    let (code, reported, _) = verify(dir.path());
    let corrupted: Vec<_> = reported["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| !it["corruption"].is_null())
        .collect();
    assert_eq!((code, corrupted), (Some(1), vec![false, true, false, true]));
}

#[test]
fn a_missing_or_rotten_manifest_or_truncation_mark_is_corruption() {
    for file in ["MANIFEST", "generation-00001/shard-0000/purge"] {
        let dir = tempfile::tempdir().unwrap();
        closed_log(dir.path());
        let file = dir.path().join(file);
        change(&file, |bytes| {
            [0, 4096].iter().for_each(|at| {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte ^= 8;
                }
            })
        });
        for missing in [false, true] {
            if missing {
                fs::remove_file(&file).unwrap();
            }
            let (code, reported, plain) = verify(dir.path());
            assert_eq!((code, &reported["verdict"]), (Some(1), &"corrupted".into()), "{reported}");
            assert!(
                reported["problem"].as_str().unwrap().contains(file.to_str().unwrap()),
                "{reported}"
            );
            assert!(String::from_utf8(plain.stderr).unwrap().contains("restore"), "{reported}");
        }
    }
}

#[test]
fn a_missing_log_or_another_version_is_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let (code, reported, _) = verify(dir.path());
    assert_eq!((code, &reported["verdict"]), (Some(2), &"unreadable".into()));
    assert!(reported["problem"].as_str().unwrap().contains("there is no log in"), "{reported}");
    assert_eq!(verify(&dir.path().join("nowhere")).0, Some(2));
    closed_log(dir.path());
    fs::write(dir.path().join("MANIFEST"), "shardwal 2\n").unwrap();
    let (code, reported, _) = verify(dir.path());
    assert_eq!((code, &reported["verdict"]), (Some(2), &"unreadable".into()));
    assert!(
        reported["problem"].as_str().unwrap().contains("its format is version 2"),
        "{reported}"
    );
    let usage = Command::new(SHARDWAL).args(["verify", "--loudly", "x"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

/// Segments of 4 KiB roll and are truncated all the time. The writer holds the lock in
/// this process; the verifier is another process.
#[test]
fn a_live_log_verifies_as_intact_every_time_and_is_not_disturbed() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new(dir.path()).shards(2).segment_bytes(4096);
    let log = ShardedWal::open(config()).unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let runs = std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (log, stop, written) = (&log, &stop, &written);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    log.append(thread, vec![1; 300]).wait().unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let truncating = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                log.truncate_before(&log.durable_checkpoint()).unwrap();
            }
        });
        let mut runs = Vec::new();
        // On a busy disk the appends are slower than the verifier.
        while runs.len() < 40 || (written.load(Ordering::Relaxed) <= 100 && runs.len() < 4000) {
            let run = Command::new(SHARDWAL).arg("verify").arg(dir.path()).output().unwrap();
            runs.push((run.status.code(), String::from_utf8(run.stdout).unwrap(), run.stderr));
        }
        stop.store(true, Ordering::Relaxed);
        truncating.join().unwrap();
        runs
    });
    let written = written.into_inner();
    println!("{} looks beside {written} appends", runs.len());
    assert!(written > 100, "{written} appends are no live log");
    for (code, reported, errors) in runs {
        assert_eq!(code, Some(0), "{reported}\n{}", String::from_utf8_lossy(&errors));
    }
    append(&log, 0..10);
    log.close().unwrap();
    let log = ShardedWal::open(config()).unwrap();
    let replayed = log.replay(ReplayOptions::default(), |_| Ok::<_, std::io::Error>(())).unwrap();
    assert!(replayed.records >= 10);
    log.close().unwrap();
}

/// A user without write permission can verify. Root may write anywhere, so the command
/// runs as nobody.
#[cfg(unix)]
#[test]
fn a_log_without_write_permission_is_verified() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    closed_log(&log);
    let mut all = vec![dir.path().to_path_buf()];
    for at in 0.. {
        let Some(path) = all.get(at).cloned() else { break };
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        if path.is_dir() {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // The user nobody may not be able to run the test's binary, so a copy is placed
    // beside the log.
    let mut command = Command::new(SHARDWAL);
    if fs::metadata(&log).unwrap().uid() == 0 {
        let copy = tempfile::tempdir().unwrap().keep();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(SHARDWAL, copy.join("shardwal")).unwrap();
        command = Command::new(copy.join("shardwal"));
        command.uid(65_534).gid(65_534);
    }
    let program = PathBuf::from(command.get_program());
    let ran = command.arg("verify").arg(&log).output();
    if program != Path::new(SHARDWAL) {
        fs::remove_dir_all(program.parent().unwrap()).unwrap();
    }
    let own = |path: &PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    all.iter().for_each(|path| own(path).unwrap());
    match ran {
        Ok(ran) => {
            assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr))
        }
        Err(error) => println!("SKIPPED: nobody cannot run a program here: {error}"),
    }
}

/// A mount that is read-only for every user. Only root can create one.
#[cfg(target_os = "linux")]
#[test]
fn a_log_on_a_read_only_mount_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    closed_log(dir.path());
    let script = r#"
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 1
        echo mounted
        if touch "$1/LOCK" "$1/new" 2>/dev/null; then echo 'it can be written to'; exit 78; fi
        exec "$2" verify "$1""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path()).arg(SHARDWAL);
    let ran = match command.output() {
        Ok(ran) => ran,
        Err(error) => return println!("SKIPPED: no `unshare`: {error}"),
    };
    let (out, errors) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if !out.starts_with("mounted") {
        return println!("SKIPPED: no read-only mount here: {errors}");
    }
    assert_eq!(ran.status.code(), Some(0), "{out}{errors}");
    assert!(out.contains("intact: 20 records"), "{out}");
}
