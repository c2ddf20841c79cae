//! `shardwal-ingest serve`: the command line of the server. The server itself is in `server`.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;

use crate::Failure;
use crate::log_arguments::LogArguments;
use crate::server::{self, ServerLimits};

/// The default minimum of free space: 64 MiB. Snapshots may use them.
const FREE_SPACE_MIN_BYTES: u64 = 64 << 20;

/// Upper bound on the default for low free space: 4 GiB.
const FREE_SPACE_LOW_BYTES_MAX: u64 = 4 << 30;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address to listen at
    #[arg(long, default_value = "127.0.0.1:9291")]
    listen: SocketAddr,

    /// Directory for the log and its snapshots
    #[arg(long)]
    dir: PathBuf,

    #[command(flatten)]
    log: LogArguments,

    /// Maximum bytes of a request, before and after decompression
    #[arg(long, value_name = "BYTES", default_value = "33554432")]
    request_bytes_max: usize,

    /// Maximum bytes of all requests in flight
    #[arg(long, value_name = "BYTES", default_value = "134217728")]
    in_flight_bytes_max: usize,

    /// Maximum number of connections at once
    #[arg(long, default_value = "512")]
    connections_max: NonZero<u16>,

    /// Maximum samples in memory, 16 bytes each; the server refuses more
    #[arg(long, default_value = "500000000")]
    samples_max: u64,

    /// Take a snapshot and truncate the log after this number of samples
    #[arg(long, default_value = "50000000")]
    snapshot_samples: NonZero<u64>,

    /// The replay waits while this file exists; for tests
    #[arg(long, hide = true)]
    replay_hold: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT. Blocks.
///
/// # Errors
/// The address is in use, or the log cannot be opened or closed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let log = &arguments.log;
    let min = log.free_space_min_bytes.unwrap_or(FREE_SPACE_MIN_BYTES);
    let low = min.saturating_mul(4).min(FREE_SPACE_LOW_BYTES_MAX).max(min);
    let low = log.free_space_low_bytes.unwrap_or(low);
    let config = log.config(&arguments.dir);
    server::serve(server::Options {
        address: arguments.listen,
        config: config.free_space_low_bytes(low).free_space_min_bytes(min),
        free_space_min_bytes: min,
        samples_max: arguments.samples_max,
        snapshot_samples: arguments.snapshot_samples.get(),
        limits: ServerLimits {
            request_bytes_max: arguments.request_bytes_max,
            in_flight_bytes_max: arguments.in_flight_bytes_max,
            connections_max: arguments.connections_max.get().into(),
        },
        replay_hold: arguments.replay_hold.as_deref(),
    })
}
