//! The command line.
//!
//! The parent also writes a command line for its child from these arguments.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use shardwal::{Config, Durability};

/// The recording in the repository.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/node_exporter.remote_write");

/// A server's default for the minimum of free space, which its snapshots use.
const SERVER_HARD_BYTES: u64 = 64 << 20;

/// Upper bound on a server's default for low free space: 4 GiB.
const SOFT_BYTES_MAX: u64 = 4 << 30;

/// Logs a recorded Prometheus remote-write stream, kills itself part-way with SIGKILL, recovers,
/// resumes, and checks every sample. With --listen it is a server for Prometheus remote write and
/// InfluxDB's line protocol. With --dump it prints the samples in a server's log.
#[derive(Clone, Debug, Parser)]
#[command(name = "ingest")]
pub(crate) struct Arguments {
    /// Serve at this address, with the log in --dir
    #[arg(long, requires = "dir")]
    pub(crate) listen: Option<SocketAddr>,

    /// Print every sample of a server's log in the format of `promtool tsdb dump`
    #[arg(long, value_name = "DIR", conflicts_with = "listen")]
    pub(crate) dump: Option<PathBuf>,

    /// Maximum bytes of a request, before and after decompression
    #[arg(long, value_name = "BYTES", default_value = "33554432")]
    pub(crate) request_bytes_max: usize,

    /// Maximum bytes of all requests in flight
    #[arg(long, value_name = "BYTES", default_value = "134217728")]
    pub(crate) in_flight_bytes_max: usize,

    /// Maximum samples in memory, 16 bytes each; the server refuses more
    #[arg(long, default_value = "500000000")]
    pub(crate) samples_max: u64,

    /// Take a snapshot and truncate the log after this number of samples
    #[arg(long, default_value = "50000000")]
    pub(crate) snapshot_samples: NonZero<u64>,

    /// Maximum number of connections at once
    #[arg(long, default_value = "512")]
    pub(crate) connections_max: NonZero<u16>,

    /// The server's replay waits while this file exists; for tests
    #[arg(long, hide = true)]
    pub(crate) replay_hold: Option<PathBuf>,

    /// Number of shards of the log
    #[arg(long, default_value = "4")]
    pub(crate) shards: NonZero<usize>,

    /// Number of client threads that append, and of threads that replay
    #[arg(long, default_value = "4")]
    pub(crate) threads: NonZero<usize>,

    /// What an acknowledgement promises: sync, os or interval:10ms
    #[arg(long, default_value = "sync")]
    pub(crate) durability: Durability,

    /// Report the disk as low below this number of free bytes; a server then truncates its log; 0
    /// for never [default: 0; for a server four times the minimum]
    #[arg(long, value_name = "BYTES")]
    pub(crate) free_space_low_bytes: Option<u64>,

    /// Refuse writes below this number of free bytes; 0 for never; a server needs them for a
    /// snapshot [default: 0; for a server 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) free_space_min_bytes: Option<u64>,

    /// Directory for the log, which is kept; without --listen it must be new or empty [default: a
    /// temporary directory beside this program, removed on success]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,

    /// Number of times to log the stream, each time with later timestamps
    #[arg(long, default_value = "1")]
    pub(crate) repeat: NonZero<u32>,

    /// The recording: requests, each a little-endian u32 length and a body
    #[arg(long, default_value = RECORDING)]
    pub(crate) stream: PathBuf,

    /// Run as the process that ingests and is killed; the parent passes this
    #[arg(long, hide = true, requires = "dir")]
    pub(crate) child: bool,
}

impl Arguments {
    /// Whether the stream is the recording in the repository.
    pub(crate) fn is_known_recording(&self) -> bool {
        self.stream == Path::new(RECORDING)
    }

    /// The configuration of the log in `directory`.
    pub(crate) fn config(&self, directory: &Path) -> Config {
        Config::new(directory)
            .shards(self.shards.get())
            .durability(self.durability)
            .free_space_low_bytes(self.free_space_low_bytes.unwrap_or(0))
            .free_space_min_bytes(self.free_space_min_bytes.unwrap_or(0))
    }

    /// The configuration of a server's log in `directory`.
    pub(crate) fn server_config(&self, directory: &Path) -> Config {
        let hard = self.server_hard_bytes();
        let soft = self
            .free_space_low_bytes
            .unwrap_or(hard.saturating_mul(4).min(SOFT_BYTES_MAX).max(hard));
        self.config(directory).free_space_low_bytes(soft).free_space_min_bytes(hard)
    }

    /// The minimum of free space of a server's log. Snapshots may use that space.
    pub(crate) fn server_hard_bytes(&self) -> u64 {
        self.free_space_min_bytes.unwrap_or(SERVER_HARD_BYTES)
    }

    /// Adds the arguments of a child that ingests into `directory` to `command`.
    pub(crate) fn hand_to_child(&self, command: &mut Command, directory: &Path) {
        command
            .arg("--child")
            .args(["--shards", &self.shards.to_string()])
            .args(["--threads", &self.threads.to_string()])
            .args(["--durability", &self.durability.to_string()])
            .args(["--repeat", &self.repeat.to_string()])
            .args(["--disk-soft-bytes", &self.free_space_low_bytes.unwrap_or(0).to_string()])
            .args(["--disk-hard-bytes", &self.free_space_min_bytes.unwrap_or(0).to_string()])
            .arg("--dir")
            .arg(directory)
            .arg("--stream")
            .arg(&self.stream);
    }
}
