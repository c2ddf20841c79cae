//! Unit tests of the cursor, for files that change between two reads.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use crate::error::OpenError;
use crate::follow::cursor::{Cursor, Step};
use crate::follow::scripted::ScriptedShard;
use crate::fs::sim::SimFileSystem;

fn bodies(cursor: &mut Cursor) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    loop {
        match cursor.step().unwrap() {
            Step::Batch(batch) => bodies.push(batch.body.to_vec()),
            Step::CaughtUp => return bodies,
            Step::Gone => panic!("nothing was truncated"),
        }
    }
}

#[test]
fn a_commit_that_was_taken_back_is_not_passed_though_it_was_read() {
    let fs = SimFileSystem::new();
    let shard = ScriptedShard::new(&fs);
    let progress = shard.progress.clone();
    let mut cursor = Cursor::new(Box::new(shard), 0, 1 << 20);
    ScriptedShard::write(&fs, &[b"first", b"taken back"]);
    progress.mark_synced(1);
    // The buffer now holds both frames.
    let passed = match cursor.step().unwrap() {
        Step::Batch(batch) => batch.body,
        other => panic!("{other:?}"),
    };
    assert!(passed.ends_with(b"first"));
    ScriptedShard::write(&fs, &[b"first", b"its heir.."]);
    progress.mark_synced(2);
    let later = bodies(&mut cursor);
    assert_eq!(later.len(), 1);
    assert!(later[0].ends_with(b"its heir.."), "{:?}", String::from_utf8_lossy(&later[0]));
}

#[test]
fn a_file_that_grows_is_read_to_its_new_end() {
    let fs = SimFileSystem::new();
    let shard = ScriptedShard::new(&fs);
    let progress = shard.progress.clone();
    let mut cursor = Cursor::new(Box::new(shard), 0, 1 << 20);
    let long = vec![7; 100_000];
    let payloads: [&[u8]; 3] = [b"first", &long, b"last"];
    for durable in 1..=3 {
        ScriptedShard::write(&fs, &payloads[..durable]);
        progress.mark_synced(durable as u64);
        let found = bodies(&mut cursor);
        assert_eq!(found.len(), 1, "{durable}");
        assert!(found[0].ends_with(payloads[durable - 1]), "{durable}");
    }
}

#[test]
fn durable_records_that_cannot_be_found_are_an_error_and_not_the_end() {
    let fs = SimFileSystem::new();
    let shard = ScriptedShard::new(&fs);
    let progress = shard.progress.clone();
    let mut cursor = Cursor::new(Box::new(shard), 0, 1 << 20);
    ScriptedShard::write(&fs, &[b"first"]);
    progress.mark_synced(2);
    assert!(matches!(cursor.step().unwrap(), Step::Batch(_)));
    for _ in 0..2 {
        match cursor.step() {
            Err(OpenError::Corrupted(corruption)) => {
                assert_eq!((corruption.first_sequence, corruption.durable_below), (1, 2));
            }
            other => panic!("{other:?}"),
        }
    }
    // It stays where it is, and goes on once the records are there.
    ScriptedShard::write(&fs, &[b"first", b"second"]);
    assert_eq!(bodies(&mut cursor).len(), 1);
}
