//! The arguments that `serve` and `demo` share: how the log is configured.

use std::num::NonZero;
use std::path::Path;
use std::process::Command;

use clap::Args;
use shardwal::{Config, Durability};

/// How the log is configured.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogArguments {
    /// Number of shards of the log
    #[arg(long, default_value = "4")]
    pub(crate) shards: NonZero<usize>,

    /// What an acknowledgement promises: sync, buffered or an interval, such as interval:10ms
    #[arg(long, default_value = "sync")]
    pub(crate) durability: Durability,

    /// Report the disk as low below this number of free bytes, and truncate a server's log; 0 for
    /// never [default: demo 0, serve four times the minimum]
    #[arg(long, value_name = "BYTES")]
    pub(crate) free_space_low_bytes: Option<u64>,

    /// Refuse writes below this number of free bytes; 0 for never; a server's snapshots use them
    /// [default: demo 0, serve 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) free_space_min_bytes: Option<u64>,
}

impl LogArguments {
    /// The configuration of the log in `directory`. A limit that is not given is 0.
    pub(crate) fn config(&self, directory: &Path) -> Config {
        Config::new(directory)
            .shards(self.shards.get())
            .durability(self.durability)
            .free_space_low_bytes(self.free_space_low_bytes.unwrap_or(0))
            .free_space_min_bytes(self.free_space_min_bytes.unwrap_or(0))
    }

    /// Adds these arguments to the command line of a child.
    pub(crate) fn pass_on(&self, command: &mut Command) {
        command
            .args(["--shards", &self.shards.to_string()])
            .args(["--durability", &self.durability.to_string()]);
        let limits = [
            ("--free-space-low-bytes", self.free_space_low_bytes),
            ("--free-space-min-bytes", self.free_space_min_bytes),
        ];
        for (name, bytes) in limits {
            command.args(bytes.map(|bytes| format!("{name}={bytes}")));
        }
    }
}
