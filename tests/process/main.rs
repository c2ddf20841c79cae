//! What shows from outside of a process only: the command, the lock, memory
//! that is bounded.

#[path = "../support/mod.rs"]
mod support;

mod backup;
mod bounded_memory;
mod cli;
mod descriptors;
mod forked;
mod lock_and_fork;
mod moved_directory;
mod tune;
mod verify;
