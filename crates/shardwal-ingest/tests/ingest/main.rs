//! The programs of `examples/`, run as a user runs them, and their parts.

#[path = "../server_support/mod.rs"]
mod server_support;

// Modules of `ingest`. They refer to each other by paths from the root.
#[path = "../../src/record.rs"]
mod record;
#[path = "../../src/stream.rs"]
mod stream;
#[path = "../../src/workload.rs"]
mod workload;

mod ingest;
mod server;
mod server_parts;
mod server_requests;
mod server_room;
