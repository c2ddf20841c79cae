//! What the command line says.
//!
//! The child gets the parent's arguments again, so what can be given can also
//! be written.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use shardwal::{Config, Durability};

/// The recording that stands in the repository.
const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/node_exporter.remote_write");

/// What a server leaves for snapshots when it is not told.
const SERVER_HARD_BYTES: u64 = 64 << 20;

/// What the soft mark is at most when a server is not told it: 4 GiB.
const SOFT_BYTES_MAX: u64 = 4 << 30;

/// Logs a recorded Prometheus remote-write stream, kills itself half-way with
/// SIGKILL, recovers, carries on, and checks every sample. With --listen it is
/// a server for Prometheus remote write and InfluxDB's line protocol instead;
/// with --dump it prints what a server has logged.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest")]
pub(crate) struct Arguments {
    /// Serve at this address, into the log in --dir
    #[arg(long, requires = "dir")]
    pub(crate) listen: Option<SocketAddr>,

    /// Print every sample of a server's log as `promtool tsdb dump` does
    #[arg(long, value_name = "DIR", conflicts_with = "listen")]
    pub(crate) dump: Option<PathBuf>,

    /// The longest request that a server takes, also when decompressed
    #[arg(long, value_name = "BYTES", default_value = "33554432")]
    pub(crate) request_bytes_max: usize,

    /// What a server holds of all requests in flight together
    #[arg(long, value_name = "BYTES", default_value = "134217728")]
    pub(crate) in_flight_bytes_max: usize,

    /// How many samples a server keeps in memory, 16 bytes each; it takes no
    /// more then
    #[arg(long, default_value = "500000000")]
    pub(crate) samples_max: u64,

    /// A server takes a snapshot and truncates its log after so many samples
    #[arg(long, default_value = "50000000")]
    pub(crate) snapshot_samples: NonZero<u64>,

    /// How many connections a server has at once
    #[arg(long, default_value = "512")]
    pub(crate) connections_max: NonZero<u16>,

    /// The server's replay waits while this file exists; for tests
    #[arg(long, hide = true)]
    pub(crate) replay_hold: Option<PathBuf>,

    /// Shards of the log
    #[arg(long, default_value = "4")]
    pub(crate) shards: NonZero<usize>,

    /// Client threads that append, and threads that replay
    #[arg(long, default_value = "4")]
    pub(crate) threads: NonZero<usize>,

    /// What an acknowledgement promises: sync, os or interval:10ms
    #[arg(long, default_value = "sync")]
    pub(crate) durability: Durability,

    /// Say that the disk is low, and have a server truncate its log, when fewer
    /// bytes are free; 0 for never [default: 0; four times the hard mark for a
    /// server]
    #[arg(long, value_name = "BYTES")]
    pub(crate) disk_soft_bytes: Option<u64>,

    /// Take no more when fewer bytes are free; 0 for never. A server needs that
    /// room for a snapshot [default: 0; 64 MiB for a server]
    #[arg(long, value_name = "BYTES")]
    pub(crate) disk_hard_bytes: Option<u64>,

    /// Directory for the log; it is left there. It must be new or empty but
    /// for --listen [default: a temporary one beside this program, removed if
    /// all is well]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// How many times to take the stream, each time with later timestamps
    #[arg(long, default_value = "1")]
    pub(crate) repeat: NonZero<u32>,

    /// The recording: requests, each a little-endian u32 length and a body
    #[arg(long, default_value = RECORDING)]
    pub(crate) stream: PathBuf,

    /// Be the process that ingests and is killed; the parent gives this
    #[arg(long, hide = true, requires = "dir")]
    pub(crate) child: bool,
}

impl Arguments {
    /// Says whether the stream is the one whose content is known.
    pub(crate) fn is_known_recording(&self) -> bool {
        self.stream == Path::new(RECORDING)
    }

    /// How the log in `directory` is to be opened.
    pub(crate) fn config(&self, directory: &Path) -> Config {
        Config::new(directory)
            .shards(self.shards.get())
            .durability(self.durability)
            .disk_soft_bytes(self.disk_soft_bytes.unwrap_or(0))
            .disk_hard_bytes(self.disk_hard_bytes.unwrap_or(0))
    }

    /// How a server's log in `directory` is to be opened.
    pub(crate) fn server_config(&self, directory: &Path) -> Config {
        let hard = self.server_hard_bytes();
        let soft =
            self.disk_soft_bytes.unwrap_or(hard.saturating_mul(4).min(SOFT_BYTES_MAX).max(hard));
        self.config(directory).disk_soft_bytes(soft).disk_hard_bytes(hard)
    }

    /// The hard watermark of a server's log: what is free below it is for
    /// snapshots.
    pub(crate) fn server_hard_bytes(&self) -> u64 {
        self.disk_hard_bytes.unwrap_or(SERVER_HARD_BYTES)
    }

    /// Gives a command the arguments of a child that ingests into `directory`.
    pub(crate) fn hand_to_child(&self, command: &mut Command, directory: &Path) {
        command
            .arg("--child")
            .args(["--shards", &self.shards.to_string()])
            .args(["--threads", &self.threads.to_string()])
            .args(["--durability", &self.durability.to_string()])
            .args(["--repeat", &self.repeat.to_string()])
            .args(["--disk-soft-bytes", &self.disk_soft_bytes.unwrap_or(0).to_string()])
            .args(["--disk-hard-bytes", &self.disk_hard_bytes.unwrap_or(0).to_string()])
            .arg("--dir")
            .arg(directory)
            .arg("--stream")
            .arg(&self.stream);
    }
}
