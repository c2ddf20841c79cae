//! The `shardwal` command.

fn main() {}
