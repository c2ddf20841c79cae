//! Behaviour that only shows from outside a process: the command, the lock, bounded
//! memory.

#[path = "../support/mod.rs"]
mod support;

mod bounded_memory;
mod descriptors;
mod forked;
mod lock_and_fork;
mod moved_directory;
mod snapshot_kills;
