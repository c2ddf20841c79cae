//! The log as built, on the kernel as it is. The simulated disk is stricter
//! than any real one; here it is held against the system calls themselves.
//!
//! | file | what |
//! |---|---|
//! | `inject.rs` | each system call that a trace shows fails, with each errno, at each occurrence |
//! | `killed.rs` | the process is killed at each call that changes a file |
//! | `seen.rs` | what the kernel saw: no acknowledgement before its sync, no name before its directory's, no read of an open from the cache |
//! | `full.rs` | file systems that are really full, and go on once there is room |
//! | `partition.rs` | ext4, XFS and btrfs partitions that are full: the log copied with shared blocks, the process killed; a log that is mounted over |
//! | `below.rs` | a device that fails under ext4, and what the next process makes of it |
//! | `journal.rs` | a commit of ext4's journal that fails, and the syncs of the other files that it holds |
//! | `promises.rs` | file systems that keep less than they say: `data=journal`, `nobarrier`, `volatile`, and a flipped bit under btrfs |
//! | `power.rs` | power cuts below ext4, XFS and btrfs, on a device with a volatile cache: `logged_device.rs` |
//! | `child.rs`, `workload.rs`, `story.rs` | the process that this happens to, what it does, and what it has thereby promised |
//! | `strace.rs`, `mounts.rs` | the tools |
//!
//! A device that lies, `strace -e inject=fdatasync:retval=0`, is beyond any
//! promise (docs/durability.md) and not tested.
//!
//! Where a tool, or root, is missing a test says SKIPPED.
//!
//! Holds C2 DURABLE, W2 STICKY, R1 REPLAY, R3 FRESH (ARCHITECTURE.md).

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the counts are printed")]

#[path = "../second_opinion/mod.rs"]
mod second_opinion;
#[path = "../support/mod.rs"]
mod support;

mod below;
mod child;
mod full;
mod inject;
mod journal;
mod killed;
mod logged_device;
mod mounts;
mod partition;
mod power;
mod promises;
mod seen;
mod story;
mod strace;
mod workload;
