//! `shardwal-ingest`, run as a user runs it, and its parts.

#[path = "../server_support/mod.rs"]
mod server_support;

// Modules of the program. They refer to each other as siblings, and to `stream` from the root.
#[path = "../../src/demo/record.rs"]
mod record;
#[path = "../../src/stream.rs"]
mod stream;
#[path = "../../src/demo/workload.rs"]
mod workload;

mod ingest;
mod server;
mod server_parts;
mod server_requests;
mod server_room;
mod service;
