//! The `shardwal` command, run as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../../../tests/support/mod.rs"]
mod support;

mod backup;
mod cli;
mod follow;
mod holds;
mod tune;
mod verify;

use std::process::{Command, Output};

fn shardwal(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardwal"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    shardwal(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
