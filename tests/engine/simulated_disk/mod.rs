//! Tests of the simulated file system itself, one per rule of `fs::sim`. Every other
//! test of crashes and faults relies on these rules.

mod corruption;
mod failed_sync;
mod faults;
mod files;
mod names;
mod power_loss;
mod process_death;
mod space_and_time;

use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{EIO, ENOSPC, assert_is};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileHandle, FileSystem, OpenMode};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn create(fs: &SimFileSystem, at: &str) -> Box<dyn FileHandle> {
    let file = fs.open(path(at), OpenMode::CreateNew);
    file.expect("a new file")
}

fn open(fs: &SimFileSystem, at: &str) -> Box<dyn FileHandle> {
    let file = fs.open(path(at), OpenMode::Write);
    file.expect("an existing file")
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn assert_dead<T>(result: io::Result<T>) {
    let message = result.err().expect("the machine is dead").to_string();
    assert!(message.contains("lost its power"), "{message}");
}

fn lose_all(fs: &SimFileSystem) -> SimFileSystem {
    fs.crash(&mut || false)
}

fn keep_all(fs: &SimFileSystem) -> SimFileSystem {
    fs.crash(&mut || true)
}

/// A disk with one durable file `/a` of these bytes.
fn disk_with(bytes: &[u8]) -> SimFileSystem {
    let fs = SimFileSystem::new();
    fs.write_file("/a", bytes);
    fs
}

/// Every state that a crash of this disk may leave.
fn all_crashes(fs: &SimFileSystem) -> Vec<SimFileSystem> {
    let count = fs.unsynced();
    assert!(count <= 12, "{count} changes are too many to try all");
    (0..1u32 << count)
        .map(|subset| {
            let mut asked = 0;
            let after = fs.crash(&mut || {
                asked += 1;
                subset >> (asked - 1) & 1 == 1
            });
            assert_eq!(asked, count, "choice is called once for each change");
            after
        })
        .collect()
}

fn numbers(seed: u32) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    }
}

#[test]
fn a_copy_crashes_alone() {
    let fs = disk_with(&[1; 600]);
    let mut file = open(&fs, "/a");
    file.write_at(&[2; 600], 0).expect("room");
    let copy = fs.copy();
    assert_eq!(copy.unsynced(), fs.unsynced());
    assert_eq!(lose_all(&copy).read_file("/a"), Some(vec![1; 600]));
    assert_eq!(copy.read_file("/a"), Some(vec![2; 600]));
    assert_dead(copy.list(path("/")));
    // The original disk lives on; its copy stays behind.
    file.write_at(&[3; 600], 0).expect("room");
    file.sync_data().expect("no fault");
    assert_eq!(lose_all(&fs).read_file("/a"), Some(vec![3; 600]));
    assert_eq!(lose_all(&copy).read_file("/a"), Some(vec![1; 600]));
}
