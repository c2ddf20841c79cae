//! Bytes with valid checksums that no version of this format writes: from a later
//! version, an attacker or a restored copy. A CRC is no signature, so such bytes must
//! not cause a panic.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::raw::{self, config, disk_of, files, frames, int, push_frame, reseal, segment_path};
use shardwal::fs::FileSystem;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, OpenError, ShardedWal};

/// A closed log of one shard with six records, and its one segment.
fn victim() -> (SimFileSystem, Vec<u8>) {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    for key in 0..6_u64 {
        log.append(key, vec![7; 40]).wait().unwrap();
    }
    log.close().unwrap();
    let segment = fs.read_file(segment_path(1, 0, 1)).unwrap();
    (fs, segment)
}

fn keys(fs: &SimFileSystem) -> Vec<u64> {
    raw::read(fs).unwrap().0.iter().map(|row| row.3).collect()
}

/// The body of one record.
fn body(key: u64) -> Vec<u8> {
    [&key.to_le_bytes()[..], &[2], b"ab"].concat()
}

#[test]
fn a_frame_that_may_be_skipped_is_skipped_with_its_body() {
    let (fs, mut segment) = victim();
    for kind in [0x80, 0xff] {
        push_frame(&mut segment, kind, 0, 6, 0, b"what only a later version understands");
    }
    push_frame(&mut segment, 1, 1, 6, 0, &body(77));
    fs.write_file(segment_path(1, 0, 1), &segment);
    assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5, 77]);
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    assert_eq!(log.append(8, "on").wait().unwrap().sequence, 7);
    log.close().unwrap();
    assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5, 77, 8]);
}

/// Found by fuzzing: replay trusted the seal and ended there, while open kept the bytes
/// behind it.
#[test]
fn a_seal_beyond_the_last_record_hides_no_record() {
    let (fs, mut segment) = victim();
    push_frame(&mut segment, 2, 0, 0xf700_0000, u32::MAX, &[]);
    push_frame(&mut segment, 1, 1, 6, 0, &body(77));
    fs.write_file(segment_path(1, 0, 1), &segment);
    assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5, 77]);
    ShardedWal::open(config(&fs, 1)).unwrap().close().unwrap();
    assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5, 77]);
}

#[test]
fn a_frame_that_claims_records_and_must_not_hold_any_is_invalid() {
    for (kind, records, body) in [(2, 1, body(66)), (0x80, 1, body(66)), (2, 0, body(66))] {
        let (fs, mut segment) = victim();
        push_frame(&mut segment, kind, records, 6, 0, &body);
        fs.write_file(segment_path(1, 0, 1), &segment);
        assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5], "kind {kind}");
    }
}

#[test]
fn files_of_a_later_version_are_refused_with_their_version() {
    let (fs, segment) = victim();
    let mut later_kind = segment.clone();
    push_frame(&mut later_kind, 4, 1, 6, 0, &body(66));
    let mut later_version = segment;
    later_version[8] = 2;
    reseal(&mut later_version, &[]);
    for bytes in [later_kind, later_version] {
        fs.write_file(segment_path(1, 0, 1), &bytes);
        let before = files(&fs);
        let error = ShardedWal::open(config(&fs, 1)).unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");
        assert_eq!(files(&fs), before);
    }
    for text in ["shardwal 2\n", "shardwal 1\nlog 00\n"] {
        fs.write_file("/log/MANIFEST", text.as_bytes());
        let error = ShardedWal::open(config(&fs, 1)).unwrap_err();
        assert_eq!(matches!(error, OpenError::NewerFormat { .. }), text.contains('2'), "{error}");
    }
}

/// Opens, appends, reads and closes. Any error is accepted.
fn use_it(fs: &SimFileSystem, what: &str) {
    let used = catch_unwind(AssertUnwindSafe(|| {
        let read = raw::read(fs).map(|(rows, _)| rows.len());
        let Ok(log) = ShardedWal::open(config(fs, 1)) else { return };
        let position = log.append(1, "on").wait().unwrap();
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        log.close().unwrap();
        assert!(position.sequence < 1 << 63, "{what}: {position}, read {read:?}");
        ShardedWal::open(config(fs, 1)).unwrap().close().unwrap();
    }));
    assert!(used.is_ok(), "{what}");
}

#[test]
fn no_number_with_a_valid_checksum_causes_a_panic() {
    let mut numbers = vec![0, 1, 7, 88, 1 << 31, u64::from(u32::MAX) - 1, u64::from(u32::MAX)];
    numbers.extend([1 << 32, 1 << 61, (1 << 62) + 1, 1 << 63, u64::MAX - 1, u64::MAX]);
    let (fs, segment) = victim();
    let (whole, all) = (files(&fs), frames(&segment));
    let path = segment_path(1, 0, 1);
    for number in numbers {
        for at in [48, 56, 64, 72] {
            let mut bytes = segment.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            reseal(&mut bytes, &[]);
            let fs = disk_of(&whole);
            fs.write_file(&path, &bytes);
            use_it(&fs, &format!("{number} at byte {at} of a segment's header"));
        }
        let low = u32::try_from(number & 0xffff_ffff).unwrap();
        for frame in &all {
            for (at, width) in [(0, 4), (6, 2), (8, 4), (12, 4)] {
                let at = frame.offset + at;
                let mut bytes = segment.clone();
                bytes[at..at + width].copy_from_slice(&low.to_le_bytes()[..width]);
                // With a changed length there is no body to check.
                let claimed = raw::Frame { body: int(&bytes, frame.offset), ..*frame };
                let fits = claimed.body <= frame.body;
                reseal(&mut bytes, if fits { std::slice::from_ref(&claimed) } else { &[] });
                raw::reseal_header_at(&mut bytes, frame.offset);
                let fs = disk_of(&whole);
                fs.write_file(&path, &bytes);
                use_it(&fs, &format!("{low} at byte {at}, frame {frame:?}"));
            }
        }
    }
}

#[test]
fn a_record_longer_than_its_frame_is_invalid() {
    let lengths: [&[u8]; 4] = [&[3], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80]];
    for length in lengths {
        let (fs, mut segment) = victim();
        let body = [&6_u64.to_le_bytes()[..], length].concat();
        push_frame(&mut segment, 1, 1, 6, 0, &body);
        fs.write_file(segment_path(1, 0, 1), &segment);
        assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5], "{length:?}");
        use_it(&fs, &format!("{length:?}"));
    }
}

#[test]
fn the_later_readable_truncation_mark_counts() {
    let (fs, segment) = victim();
    let (path, seed) = (raw::mark_path(1, 0), raw::mark_seed(&segment));
    let slots = |low: [u8; 32], high: [u8; 32]| {
        let mut bytes = vec![0; 8192];
        bytes[..32].copy_from_slice(&low);
        bytes[4096..4128].copy_from_slice(&high);
        bytes
    };
    let junk = [0xee; 32];
    let mark = |epoch, below| raw::mark_slot(seed, epoch, below);
    for (low, high, first) in [
        (mark(2, 4), mark(1, 2), 4),
        (junk, mark(1, 2), 2),
        (mark(2, 4), junk, 4),
        ([0; 32], junk, 0),
    ] {
        fs.write_file(&path, &slots(low, high));
        assert_eq!(keys(&fs).first(), Some(&first));
    }
    let of_another_shard = raw::mark_slot(seed ^ 1, 9, 9);
    for (low, high) in [(junk, junk), (junk, of_another_shard), (mark(u64::MAX, 1), junk)] {
        fs.write_file(&path, &slots(low, high));
        let before = files(&fs);
        let error = ShardedWal::open(config(&fs, 1)).unwrap_err();
        assert!(error.to_string().contains(&path), "{error}");
        assert_eq!(files(&fs), before);
    }
    let whole = files(&fs);
    for below in [u64::MAX, u64::MAX - 1, (1 << 62) + 1, 1 << 61] {
        let fs = disk_of(&whole);
        fs.write_file(&path, &slots(mark(2, below), [0; 32]));
        use_it(&fs, &format!("a truncation mark of {below}"));
    }
}

#[test]
fn the_latest_truncation_mark_in_names_and_slots_counts() {
    let (fs, segment) = victim();
    let (path, seed) = (raw::mark_path(1, 0), raw::mark_seed(&segment));
    let dir = path.strip_suffix("/purge").unwrap();
    let name = |carrier, seed, epoch, below| raw::mark_name(dir, carrier, seed, epoch, below);
    let whole = files(&fs);
    let mut slots = vec![0; 8192];
    slots[..32].copy_from_slice(&raw::mark_slot(seed, 2, 3));
    for (names, first) in [
        (vec![], 3),
        (vec![name(1, seed, 1, 5)], 3),
        (vec![name(1, seed, 3, 5)], 5),
        (vec![name(1, seed, 3, 4), name(0, seed, 4, 5)], 5),
        (vec![name(1, seed, 3, 5), name(0, seed, 2, 3)], 5),
        // The mark of another shard, one that was never written, and an invalid one.
        (vec![name(1, seed ^ 1, 3, 5)], 3),
        (vec![name(0, seed, (1 << 62) + 1, 5)], 3),
        (vec![name(0, seed, 4, (1 << 62) + 1)], 3),
        (vec![format!("{}0", name(0, seed, 4, 5))], 3),
    ] {
        let fs = disk_of(&whole);
        fs.write_file(&path, &slots);
        names.iter().for_each(|name| fs.write_file(name, &[]));
        assert_eq!(keys(&fs).first(), Some(&first), "{names:?}");
        use_it(&fs, &format!("{names:?}"));
    }
}

/// A manifest from a backup, beside newer segments.
#[test]
fn a_manifest_older_than_its_log_is_refused_and_no_generation_deleted() {
    let (fs, _) = victim();
    let old = fs.read_file("/log/MANIFEST").unwrap();
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    log.append(1, "of the second generation").wait().unwrap();
    log.close().unwrap();
    fs.write_file("/log/MANIFEST", &old);
    let before = files(&fs);
    // Both opens would have lost that record, the second for good.
    for shards in [1, 2] {
        let error = ShardedWal::open(config(&fs, shards)).unwrap_err();
        assert!(matches!(error, OpenError::Manifest { .. }), "{error}");
        assert_eq!(files(&fs), before);
    }
    // The rule also holds after the first generation was truncated.
    let fs = disk_of(&before);
    let newest = raw::manifest(log_id(&old), &[(1, 1), (2, 2)]);
    fs.write_file("/log/MANIFEST", newest.as_bytes());
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    log.truncate_before(&Checkpoint::new(2, [0, 0]).of_log(log.id())).unwrap();
    log.close().unwrap();
    fs.write_file("/log/MANIFEST", &old);
    let error = ShardedWal::open(config(&fs, 1)).unwrap_err();
    assert!(error.to_string().contains("was truncated"), "{error}");
}

fn log_id(manifest: &[u8]) -> [u8; 16] {
    let hex = std::str::from_utf8(&manifest[15..47]).unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    std::array::from_fn(|i| byte(2 * i))
}

#[test]
fn a_generation_missing_from_the_manifest_is_created_again() {
    let (fs, _) = victim();
    fs.fail(Fault { path_contains: Some("MANIFEST.tmp".into()), ..power_cut(Call::Open) });
    ShardedWal::open(config(&fs, 2)).unwrap_err();
    let after = fs.crash(&mut || true);
    assert!(after.list("/log/generation-00002".as_ref()).is_ok(), "the directory is created");
    let log = ShardedWal::open(config(&after, 2)).unwrap();
    log.append(1, "on").wait().unwrap();
    log.close().unwrap();
    assert_eq!(keys(&after).len(), 7);
}

fn power_cut(call: Call) -> Fault {
    Fault::new(call, 1, FaultKind::PowerCut)
}

/// Found by the fuzz target `frame_reader`. Sequences continued from this frame, and
/// later records were acknowledged. The next open could not reach them.
#[test]
fn a_frame_without_records_that_skips_sequences_is_invalid() {
    let (fs, mut segment) = victim();
    push_frame(&mut segment, 1, 0, 0xffff_0000, u32::MAX, b"");
    fs.write_file(segment_path(1, 0, 1), &segment);
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    assert_eq!(log.append(6, "on").wait().unwrap().sequence, 6);
    log.close().unwrap();
    assert_eq!(keys(&fs), [0, 1, 2, 3, 4, 5, 6]);
}
