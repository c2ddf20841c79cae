//! `shardwal-ingest dump`: prints every sample of a server's log, in the format of
//! `promtool tsdb dump`.
//!
//! ```text
//! {__name__="up", job="node"} 1 1795367005066
//! ```
//!
//! Series are sorted by their labels, their samples by time. Values are printed like Go's `%g`, so
//! that the output can be compared with Prometheus' line by line. This file does not know the log's
//! format.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use shardwal::{Config, LogReader};
use shardwal_timeseries::{Storage, StorageOptions, TimeSeries};

use crate::Failure;
use crate::go_float;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's directory. The server must be stopped
    dir: PathBuf,
}

/// Prints the samples of a log to the standard output.
///
/// # Errors
/// No log exists there, the log cannot be opened, or the output's reader is gone.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = &arguments.dir;
    // Opening with another number of shards would begin a new generation.
    let reader = LogReader::open(directory.join("log"))?;
    let generations = || reader.report().shards.iter().map(|shard| shard.generation);
    let last = generations().max().ok_or("the log has no shard")?;
    let shards = generations().filter(|generation| *generation == last).count();
    let storage = Storage::open(StorageOptions::new(Config::new(directory).shards(shards)))?;
    let mut out = BufWriter::new(io::stdout().lock());
    for series in storage.query(&[], i64::MIN..=i64::MAX) {
        print_series(&mut out, &series)?;
    }
    out.flush()?;
    Ok(storage.close()?)
}

fn print_series(out: &mut impl Write, series: &TimeSeries) -> io::Result<()> {
    let labels = series.labels.to_string();
    for sample in &series.samples {
        writeln!(out, "{labels} {} {}", go_float::print(sample.value), sample.timestamp_ms)?;
    }
    Ok(())
}
