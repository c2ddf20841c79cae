//! The Python reader, written from FORMAT.md alone, and the library read corrupted
//! logs. Both must find the same records, or both must refuse.

#![allow(clippy::print_stdout, reason = "the counts are printed")]

use std::path::Path;
use std::sync::Arc;

use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, Durability, HoldLimits, ShardedWal};

use crate::second_opinion::{Image, Opinion, SecondOpinion};
use crate::support::{DIR, Random, append_all, open, seed};

/// Images per log and run.
const IMAGES: u64 = 1500;

fn library(fs: &SimFileSystem) -> Opinion {
    Opinion::of_the_library(Arc::new(fs.clone()), Path::new(DIR))
}

fn golden() -> Image {
    Image::of_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1_names/log"))
}

/// Logs of several small segments: closed, killed without a seal, truncated, and with
/// recycled files.
fn logs() -> Vec<Image> {
    let config = |fs: &SimFileSystem, durability| {
        let fs = Arc::new(fs.clone());
        Config::new(DIR).file_system(fs).shards(1).segment_bytes(4096).durability(durability)
    };
    let write = |durability, end: fn(ShardedWal)| {
        let fs = SimFileSystem::with_dir(DIR);
        let log = open(config(&fs, durability));
        append_all(&log, 1, 0..9, 900);
        append_all(&log, 2, 0..3, 5000);
        end(log);
        let log = open(config(&fs, durability));
        append_all(&log, 3, 0..9, 900);
        end(log);
        Image::of_sim(&fs, DIR)
    };
    let close = |log: ShardedWal| log.close().expect("a sound disk");
    let kill = |log: ShardedWal| std::mem::forget(log.append(9, "not waited for"));
    let truncate = |log: ShardedWal| {
        let checkpoint = log.durable_checkpoint();
        // Readers of records ignore its file.
        log.hold("mirror", &checkpoint, HoldLimits::default()).expect("a sound disk");
        append_all(&log, 4, 0..6, 1900);
        log.truncate_before(&checkpoint).expect("a sound disk");
        append_all(&log, 5, 0..3, 1900);
    };
    vec![
        golden(),
        write(Durability::Sync, close),
        write(Durability::Sync, truncate),
        write(Durability::Buffered, kill),
        write(Durability::Buffered, truncate),
    ]
}

#[test]
fn both_readers_agree_on_corrupted_logs() {
    let Some(second) = SecondOpinion::start() else {
        return println!("SKIPPED: the second opinion: there is no python3");
    };
    let mut random = Random::new(seed());
    for log in logs() {
        second.compare(&log, &library(&log.to_sim(DIR)));
        for _ in 0..IMAGES {
            let mut image = log.clone();
            for _ in 0..=random.below(2) {
                image.corrupt(&mut |below| random.below(below));
            }
            second.compare(&image, &library(&image.to_sim(DIR)));
        }
    }
    let (read, refused) = (second.read(), second.refused());
    println!("{read} images read by both, {refused} refused by both");
    assert!(read >= IMAGES && refused >= IMAGES, "{read} {refused}");
}

/// Tests the comparison: a reader that misses a record or corruption is reported.
#[test]
fn a_reader_that_is_wrong_is_reported() {
    let Some(second) = SecondOpinion::start() else {
        return println!("SKIPPED: the second opinion: there is no python3");
    };
    let image = golden();
    let Opinion::Log(mut rows) = library(&image.to_sim(DIR)) else { panic!("it is sound") };
    let reported = |opinion: &Opinion| second.difference(&image, opinion).is_some();
    assert!(!reported(&Opinion::Log(rows.clone())));
    assert!(reported(&Opinion::Refused("no reason".into())));
    assert!(reported(&Opinion::NoLog));
    let last = rows.pop().expect("it has records");
    assert!(reported(&Opinion::Log(rows.clone())));
    let (generation, shard, sequence, key, mut payload) = last;
    payload[0] ^= 1;
    rows.push((generation, shard, sequence, key, payload));
    assert!(reported(&Opinion::Log(rows)));
}
