//! A commit of ext4's journal contains the metadata of many files. If it fails, the
//! kernel reports the error to one sync only. The log must not trust the other syncs.
//!
//! Holds C2 DURABLE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io;
use std::path::Path;
use std::time::Duration;

use shardwal::fs::{FileHandle, FileSystem, OpenMode, OsFileSystem};

use crate::mounts::{FaultyDevice, scratch};

const BLOCK: usize = 4096;

/// A block at an address that any device accepts.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

/// A new file with one block on the disk, ready for direct I/O. A direct write is on
/// the device at once. The metadata to read it back is in the journal's running
/// transaction.
fn file(dir: &Path, name: &str) -> Box<dyn FileHandle> {
    let mut file = OsFileSystem.open(&dir.join(name), OpenMode::CreateNew).unwrap();
    assert_eq!(file.direct_io_alignment(), Some(BLOCK));
    write(file.as_mut(), 0).unwrap();
    file.sync_data().unwrap();
    file
}

fn write(file: &mut dyn FileHandle, block: u64) -> io::Result<()> {
    let bytes = Block([7; BLOCK]);
    file.write_direct(&bytes.0, block * BLOCK as u64).map(|written| assert_eq!(written, BLOCK))
}

fn new_dir(device: &FaultyDevice) -> std::path::PathBuf {
    let dir = device.dir();
    OsFileSystem.create_dir(&dir).unwrap();
    OsFileSystem.sync_dir(dir.parent().unwrap()).unwrap();
    dir
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_sync_after_a_failed_journal_commit_of_another_sync_fails() {
    if !FaultyDevice::is_ready(
        "journal::a_sync_after_a_failed_journal_commit_of_another_sync_fails",
    ) {
        return;
    }
    let scratch = scratch();
    let mut device = FaultyDevice::new(scratch.path());
    let dir = new_dir(&device);
    let (mut first, mut second) = (file(&dir, "first"), file(&dir, "second"));
    // Both files grow in one transaction.
    write(first.as_mut(), 1).unwrap();
    write(second.as_mut(), 1).unwrap();
    device.set_failing(true);
    first.sync_data().expect_err("the commit fails");
    device.set_failing(false);
    let error = second.sync_data().expect_err("its size was in that commit");
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
    OsFileSystem.sync_dir(&dir).expect_err("the journal has failed");
    drop((first, second));
    device.mount_again();
    // Shows why the sync had to fail.
    let second = OsFileSystem.open(&dir.join("second"), OpenMode::Read).unwrap();
    assert_eq!(second.len().unwrap(), BLOCK as u64, "the growth is gone");
}

/// The kernel commits by itself every five seconds, and reports errors to no caller.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_sync_after_a_failed_journal_commit_by_the_kernel_fails() {
    if !FaultyDevice::is_ready("journal::a_sync_after_a_failed_journal_commit_by_the_kernel_fails")
    {
        return;
    }
    let scratch = scratch();
    let device = FaultyDevice::new(scratch.path());
    let dir = new_dir(&device);
    let mut alone = file(&dir, "alone");
    write(alone.as_mut(), 1).unwrap();
    device.set_failing(true);
    std::thread::sleep(Duration::from_secs(8));
    device.set_failing(false);
    alone.sync_data().expect_err("its size was in a commit that failed");
}

/// A write over synced zeros needs no journal commit. It is durable although the
/// journal has failed.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn overwrites_of_synced_blocks_are_durable_without_the_journal() {
    if !FaultyDevice::is_ready(
        "journal::overwrites_of_synced_blocks_are_durable_without_the_journal",
    ) {
        return;
    }
    let scratch = scratch();
    let mut device = FaultyDevice::new(scratch.path());
    let dir = new_dir(&device);
    let (mut grown, mut whole) = (file(&dir, "grown"), file(&dir, "whole"));
    write(grown.as_mut(), 1).unwrap();
    let bytes = Block([9; BLOCK]);
    assert_eq!(whole.write_direct(&bytes.0, 0).unwrap(), BLOCK);
    device.set_failing(true);
    grown.sync_data().expect_err("the commit fails");
    device.set_failing(false);
    whole.sync_data().expect("the file needs no journal commit");
    drop((grown, whole));
    device.mount_again();
    let whole = OsFileSystem.open(&dir.join("whole"), OpenMode::Read).unwrap();
    let mut found = vec![0; BLOCK];
    whole.read_at(&mut found, 0).unwrap();
    assert!(found == bytes.0, "it is on the disk");
}
