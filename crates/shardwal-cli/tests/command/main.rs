//! The `shardwal` command, run as a user runs it.

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod backup;
mod cli;
mod follow;
mod holds;
mod tune;
mod verify;
