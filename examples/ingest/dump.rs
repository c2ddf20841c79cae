//! Prints every sample of a server's log as `promtool tsdb dump` does.
//!
//! ```text
//! {__name__="up", job="node"} 1 1795367005066
//! ```
//!
//! Series come sorted by their labels, each with its samples by time. Values
//! are written as Go's `%g` writes them, so that the output can be compared
//! with Prometheus' own line by line.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use shardwal::timeseries::{Storage, StorageOptions, TimeSeries};
use shardwal::{Config, LogReader};

use crate::Failure;
use crate::go_float;

/// Prints a log's samples to the standard output.
///
/// # Errors
/// If there is no log, it cannot be opened, or nobody reads any longer.
pub(crate) fn dump(directory: &Path) -> Result<(), Failure> {
    // To be opened with as many shards as it has: with another number it would
    // begin a generation.
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
