//! Tests of the built log on the real kernel. The simulated file system is stricter
//! than a real one; these tests check it against the system calls.
//!
//! | file | content |
//! |---|---|
//! | `inject.rs` | each system call of a trace fails, with each errno, at each occurrence |
//! | `killed.rs` | the process is killed at each call that changes a file |
//! | `syscall_trace.rs` | the trace: syncs before their acknowledgement, reads of an open past the cache |
//! | `full.rs` | full file systems, and appends after room was made |
//! | `partition.rs` | full ext4, XFS and btrfs partitions; a log that is mounted over |
//! | `faulty_device.rs` | a device that fails under ext4, and the next process |
//! | `journal.rs` | a failed commit of ext4's journal, and the other files in it |
//! | `promises.rs` | `data=journal`, `nobarrier`, `volatile`, and a flipped bit under btrfs |
//! | `power.rs`, `logged_device.rs` | power cuts below ext4, XFS and btrfs |
//! | `descriptors.rs` | a process without a free descriptor on ext4, XFS and btrfs |
//! | `child.rs`, `workload.rs`, `transcript.rs` | the child process, its commands, its promises |
//! | `strace.rs`, `mounts.rs` | the tools |
//!
//! A device that lies, `strace -e inject=fdatasync:retval=0`, is outside every promise
//! (docs/durability.md) and not tested.
//!
//! A test prints SKIPPED if a tool is missing or it does not run as root.
//!
//! Holds C2 DURABLE, W2 STICKY, R1 REPLAY, R3 FRESH (ARCHITECTURE.md).

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the counts are printed")]

#[path = "../second_opinion/mod.rs"]
mod second_opinion;
#[path = "../support/mod.rs"]
mod support;

mod child;
mod descriptors;
mod faulty_device;
mod full;
mod inject;
mod journal;
mod killed;
mod logged_device;
mod mounts;
mod partition;
mod power;
mod promises;
mod strace;
mod syscall_trace;
mod transcript;
mod workload;
