//! Prints every sample of a log as `promtool tsdb dump` does.
//!
//! ```text
//! {__name__="up", job="node"} 1 1795367005066
//! ```
//!
//! Series come in the storage's order, each with its samples by time. Values
//! are written as Go's `%g` writes them, so that the output can be compared
//! with Prometheus' own line by line.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use shardwal::Config;

use crate::Failure;
use crate::go_float;
use crate::storage::{Storage, TimeSeries};

/// Prints a log's samples to the standard output.
///
/// # Errors
/// If the log cannot be opened, or nobody reads any longer.
pub(crate) fn dump(config: Config) -> Result<(), Failure> {
    let storage = Storage::open(config, Arc::new(|_, _| {}))?;
    let mut out = BufWriter::new(io::stdout().lock());
    for series in storage.query(&[], i64::MIN..=i64::MAX) {
        print_series(&mut out, &series)?;
    }
    out.flush()?;
    storage.close()
}

fn print_series(out: &mut impl Write, series: &TimeSeries) -> io::Result<()> {
    let labels = series.labels.to_string();
    for sample in &series.samples {
        writeln!(out, "{labels} {} {}", go_float::print(sample.value), sample.timestamp_ms)?;
    }
    Ok(())
}
