//! A file that is missing, outdated, in the wrong position or of another version. Open
//! refuses each with its own error text and advice, and a reader reports the same text.
//! Neither changes a file. A harmless file is ignored.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use std::path::PathBuf;

use crate::raw::{self, config, disk_of, files, frames, push_frame, reseal, segment_path};
use crate::support::path_has;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, LogReader, OpenError, ShardedWal};

const MANIFEST: &str = "/log/MANIFEST";

type Files = Vec<(PathBuf, Vec<u8>)>;

fn append(config: Config, keys: std::ops::Range<u64>) {
    let log = ShardedWal::open(config).unwrap();
    keys.for_each(|key| assert!(log.append(key, vec![3; 50]).wait().is_ok()));
    log.close().unwrap();
}

/// A log of two generations, with one shard and with two. The first generation's shard
/// has three segments, those of the second have two each.
fn victim() -> Files {
    let fs = SimFileSystem::with_dir("/log");
    for (shards, keys) in [(1, 0..5), (1, 5..9), (1, 9..12), (2, 12..40), (2, 40..60)] {
        append(config(&fs, shards), keys);
    }
    files(&fs)
}

fn file(files: &Files, path: &str) -> Vec<u8> {
    files.iter().find(|(name, _)| name.as_os_str() == path).unwrap().1.clone()
}

fn with(files: &Files, path: &str, bytes: &[u8]) -> SimFileSystem {
    let fs = disk_of(files);
    fs.write_file(path, bytes);
    fs
}

fn without(files: &Files, path: &str) -> SimFileSystem {
    let fs = disk_of(files);
    fs.remove_file(path);
    fs
}

/// Open must refuse the log with these words in this order. A reader must refuse or
/// report it too.
fn assert_reported(fs: &SimFileSystem, words: &[&str]) -> OpenError {
    let before = files(fs);
    let refused = ShardedWal::open(config(fs, 2)).unwrap_err();
    let read = match LogReader::open_in(std::sync::Arc::new(fs.clone()), "/log") {
        Ok(reader) => reader.report().corruption().next().expect("a reader reports it").to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(files(fs), before, "something was changed");
    for text in [refused.to_string(), read] {
        let mut rest = text.as_str();
        for word in words {
            let (_, behind) = rest.split_once(word).unwrap_or_else(|| panic!("{word:?} in {text}"));
            rest = behind;
        }
    }
    println!("{refused}");
    refused
}

/// The log must open with all its records.
fn assert_harmless(fs: &SimFileSystem, victim: &Files) {
    let expected = raw::read(&disk_of(victim)).unwrap().0;
    assert_eq!(raw::read(fs).unwrap().0, expected);
    ShardedWal::open(config(fs, 2)).unwrap().close().unwrap();
    assert_eq!(raw::read(fs).unwrap().0, expected);
}

#[test]
fn a_missing_segment_is_named_with_the_advice_to_restore_it() {
    let victim = victim();
    for (number, next) in [(1, 5), (2, 9)] {
        let path = segment_path(1, 0, number);
        let below = format!("truncated to sequence {next} or beyond");
        let words =
            ["generation 1 shard 0", "the segment is missing", &path, "put it back", &below];
        assert_reported(&without(&victim, &path), &words);
    }
    let mut none = victim.clone();
    none.retain(|(path, _)| !path.starts_with("/log/generation-00002/shard-0001/0"));
    none.retain(|(path, _)| {
        path.extension().is_none_or(|it| it != "wal") || !path_has(path, "00002/shard-0001")
    });
    assert_reported(
        &disk_of(&none),
        &["generation 2 shard 1", "no segment with a header", "put the shard's directory back"],
    );
}

#[test]
fn a_missing_shard_manifest_or_truncation_mark_file_is_named() {
    let victim = victim();
    let mark_file = raw::mark_path(1, 0);
    let words = [&mark_file, "it is missing", "restore the file from a copy"];
    let error = assert_reported(&without(&victim, &mark_file), &words);
    assert!(matches!(error, OpenError::Manifest { .. }), "{error:?}");
    let words = [MANIFEST, "it is missing, but the directory has generations", "restore"];
    assert_reported(&without(&victim, MANIFEST), &words);
}

/// A copy made during a write is a prefix of the file, perhaps followed by zeros.
#[test]
fn a_stale_copy_of_a_segment_is_distinguished_from_bit_rot() {
    let victim = victim();
    let path = segment_path(1, 0, 2);
    let whole = file(&victim, &path);
    let frames = frames(&whole);
    let end = frames.iter().rfind(|frame| frame.kind == 1).unwrap().end();
    for frame in &frames[2..4] {
        let at = format!("they end at byte {} of {path}", frame.offset);
        let went = format!("its frames went to byte {end};");
        let older = "the file is older than its successor, or was cut short";
        let unlock = "put its latest copy back";
        let has = format!("it has {} bytes", frame.offset);
        let short = with(&victim, &path, &whole[..frame.offset]);
        assert_reported(&short, &[older, &has, &went, &at, unlock]);
        let mut blank = whole.clone();
        blank[frame.offset..].fill(0);
        let zeros = format!("its last {} bytes are zeros", whole.len() - frame.offset);
        assert_reported(&with(&victim, &path, &blank), &[older, &zeros, &went, &at, unlock]);
        // The end is intact, so the file is the latest: this is bit rot.
        let mut rotten = whole.clone();
        rotten[frame.offset + 30] ^= 1;
        let words = ["a frame's body does not match its checksum", "restore the file from a copy"];
        assert_reported(&with(&victim, &path, &rotten), &words);
    }
}

/// A limit that FORMAT.md lists: only the newest segment itself says that it exists.
#[test]
fn a_stale_copy_of_the_newest_segment_reads_as_a_log_that_ended_earlier() {
    let fs = SimFileSystem::with_dir("/log");
    append(config(&fs, 1), 0..8);
    let path = segment_path(1, 0, 1);
    let segment = fs.read_file(&path).unwrap();
    fs.write_file(&path, &segment[..frames(&segment)[5].offset]);
    let (rows, report) = raw::read(&fs).unwrap();
    assert_eq!((rows.len(), report.corruption().next()), (4, None), "the first frame is a seal");
}

#[test]
fn a_segment_of_another_log_is_reported_with_that_logs_id() {
    let (victim, other) = (victim(), victim());
    let path = segment_path(1, 0, 2);
    let foreign = file(&other, &path);
    let id: String = foreign[24..40].iter().map(|byte| format!("{byte:02x}")).collect();
    let of = format!("a segment of another log, {id}");
    let words = [of.as_str(), &path, "move it away", "put the shard's own segment 2 back"];
    assert_reported(&with(&victim, &path, &foreign), &words);
    // If the shard had no segment with this number, it would be the newest.
    let path = segment_path(1, 0, 9);
    let words = [of.as_str(), &path, "move it away", "segment 9 back, if it had one"];
    assert_reported(&with(&victim, &path, &foreign), &words);
}

#[test]
fn a_segment_of_another_generation_shard_or_number_is_reported_with_its_origin() {
    let victim = victim();
    let cases = [
        ((1, 0, 2), (2, 1, 1), "a segment of another generation, 1, shard 0"),
        ((2, 1, 1), (1, 0, 2), "a segment of another generation, 2, shard 1"),
        ((2, 0, 1), (2, 1, 1), "a segment of another shard, 0"),
        ((1, 0, 1), (1, 0, 2), "another segment of the shard, 1"),
    ];
    for (from, to, what) in cases {
        let (from, to) = (segment_path(from.0, from.1, from.2), segment_path(to.0, to.1, to.2));
        let home =
            format!("move it to {} if it is missing there", from.trim_start_matches("/log/"));
        let fs = with(&victim, &to, &file(&victim, &from));
        assert_reported(&fs, &[what, &to, &home, "put the shard's own segment"]);
    }
}

#[test]
fn a_restored_superseded_or_truncated_segment_is_harmless() {
    let fs = SimFileSystem::with_dir("/log");
    append(config(&fs, 1), 0..5);
    // Nothing was appended, so the next open supersedes the segment of this one.
    append(config(&fs, 1), 0..0);
    let superseded = fs.read_file(segment_path(1, 0, 2)).unwrap();
    append(config(&fs, 1), 5..9);
    assert_eq!(fs.read_file(segment_path(1, 0, 2)), None);
    append(config(&fs, 2), 0..9);
    let victim = files(&fs);
    assert_harmless(&with(&victim, &segment_path(1, 0, 2), &superseded), &victim);

    let truncated = file(&victim, &segment_path(2, 0, 1));
    let fs = disk_of(&victim);
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    log.close().unwrap();
    assert_eq!(fs.read_file(segment_path(2, 0, 1)), None);
    let victim = files(&fs);
    assert_harmless(&with(&victim, &segment_path(2, 0, 1), &truncated), &victim);
}

#[test]
fn a_newer_format_is_refused_by_its_version_or_kind_and_an_older_one_by_its_version() {
    let victim = victim();
    let path = segment_path(1, 0, 2);
    let of_version = |version: u8| {
        let mut segment = file(&victim, &path);
        segment[8] = version;
        reseal(&mut segment, &[]);
        with(&victim, &path, &segment)
    };
    let newer = "open it with the version of shardwal that wrote it";
    let error = assert_reported(&of_version(2), &[&path, "its format is version 2", newer]);
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error:?}");
    let older = "read it with a version of shardwal that knows it, and append it to a new log";
    let error = assert_reported(&of_version(0), &[&path, "its format is version 0", older]);
    assert!(matches!(error, OpenError::OlderFormat { .. }), "{error:?}");

    let path = segment_path(2, 1, 2);
    let mut segment = file(&victim, &path);
    let at = format!("a frame of the unknown kind 4 at byte {}", segment.len());
    push_frame(&mut segment, 4, 0, 9, 0, b"");
    assert_reported(&with(&victim, &path, &segment), &[&path, &at, newer]);

    for (version, text) in [("2", newer), ("0", older)] {
        let manifest = format!("shardwal {version}\n");
        let words = [MANIFEST, "its format is version", version, "this is version 1", text];
        assert_reported(&with(&victim, MANIFEST, manifest.as_bytes()), &words);
    }
}

/// A flipped bit turns 1 into 0 or 3, and the checksum shows it.
#[test]
fn bit_rot_in_a_manifests_version_is_not_reported_as_another_version() {
    let victim = victim();
    for bit in [0, 1] {
        let mut manifest = file(&victim, MANIFEST);
        manifest[9] ^= 1 << bit;
        let words = [MANIFEST, "its format version does not match its checksum", "restore"];
        assert_reported(&with(&victim, MANIFEST, &manifest), &words);
    }
}

#[test]
fn a_manifest_from_before_the_last_reshard_is_reported_as_old() {
    let victim = victim();
    let mut log = [0; 16];
    log.copy_from_slice(&file(&victim, &segment_path(1, 0, 1))[24..40]);
    let old = raw::manifest(log, &[(1, 1)]);
    let words = [MANIFEST, "it is older than the log", "generation-00002", "restore the file"];
    assert_reported(&with(&victim, MANIFEST, old.as_bytes()), &words);
}
