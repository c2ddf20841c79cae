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
mod line_protocol;
mod line_reference;
mod load;
mod native_histograms;
mod otlp;
mod otlp_json;
mod otlp_messages;
mod packaging;
mod remote_read;
mod remote_write_v2;
mod server;
mod server_admission;
mod server_hostile;
mod server_http;
mod server_influx;
mod server_labels;
mod server_life;
mod server_log;
mod server_names;
mod server_parts;
mod server_reads;
mod server_requests;
mod server_room;
mod server_skipped;
mod server_tenants;
mod server_tls;
mod service;
mod settings;
