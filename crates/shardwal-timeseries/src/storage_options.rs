//! [`StorageOptions`]: the log, its replay, and the limits of memory.

use std::time::Duration;

use shardwal::{Config, ReplayOptions};

/// How to open a [`Storage`](crate::Storage).
#[derive(Clone, Debug)]
pub struct StorageOptions {
    pub(super) log: Config,
    pub(super) replay: ReplayOptions,
    pub(super) series_max: u32,
    pub(super) samples_max: u64,
    pub(super) retention: Option<Duration>,
}

impl StorageOptions {
    /// Options for a storage in the directory `log.dir`. The log itself is in the subdirectory
    /// `log`. The defaults are 1 million series per shard and 500 million samples in memory. These
    /// take 1.4 GB if they compress as those of node_exporter do, and at most 9.5 GB.
    #[must_use]
    pub fn new(log: Config) -> Self {
        let replay = ReplayOptions::default();
        Self { log, replay, series_max: 1_000_000, samples_max: 500_000_000, retention: None }
    }

    /// How `open` replays the log, including the progress callback.
    #[must_use]
    pub fn replay(mut self, options: ReplayOptions) -> Self {
        self.replay = options;
        self
    }

    /// Limits the number of series per shard. A write that needs more is refused. Series that are
    /// queued count. The limit does not apply to what the log already holds at `open`.
    ///
    /// A series counts once more for each whole KiB of its labels, in their canonical encoding. The
    /// limit therefore bounds the memory of labels too: at about 1 KiB and 100 bytes per series.
    #[must_use]
    pub fn series_max(mut self, series: u32) -> Self {
        self.series_max = series;
        self
    }

    /// Limits the number of samples in memory. A write that would exceed the limit is refused as a
    /// whole. Queued samples count, and each counts as new until it is applied.
    ///
    /// The limit does not apply to what the log already holds at `open`. A storage that opens above
    /// the limit refuses writes.
    #[must_use]
    pub fn samples_max(mut self, samples: u64) -> Self {
        self.samples_max = samples;
        self
    }

    /// Keeps samples for this time only: see [`Storage::drop_expired`]. Without it, the default,
    /// samples are kept for ever.
    ///
    /// [`Storage::drop_expired`]: crate::Storage::drop_expired
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }
}
