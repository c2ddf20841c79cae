//! `shardwal-ingest dump`: prints every sample of a server's log, in the format of
//! `promtool tsdb dump`.
//!
//! ```text
//! {__name__="up", job="node"} 1 1795367005066
//! ```
//!
//! Series are sorted by their labels, their samples and native histograms by time. Values are
//! printed like Go's `%g`, so that the output can be compared with Prometheus' line by line. This
//! file does not know the log's format.
//!
//! The dump changes nothing and takes no lock, so the server may run. It then shows at least what
//! was acknowledged when the dump began.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use shardwal_timeseries::{HistogramSample, StorageReader, TimeSeries};

use crate::Failure;
use crate::go_float;
use crate::server::native_histogram::Histogram;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server's directory. The server may run
    dir: PathBuf,
}

/// Prints the samples of a log to the standard output.
///
/// # Errors
/// No log exists there, it is corrupt or cannot be read, or the output's reader is gone. Batches
/// that a repair made unreadable are an error too, after the rest was printed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let storage = StorageReader::open(&arguments.dir)?;
    if let Some(corruption) = storage.report().corruption().next() {
        return Err(corruption.to_string().into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for series in storage.query(&[], i64::MIN..=i64::MAX) {
        print_series(&mut out, &series)?;
    }
    out.flush()?;
    match storage.lost_batches() {
        0 => Ok(()),
        lost => Err(format!(
            "the dump is incomplete: a repair cut away the definitions that {lost} batches need"
        )
        .into()),
    }
}

fn print_series(out: &mut impl Write, series: &TimeSeries) -> io::Result<()> {
    let labels = series.labels.to_string();
    let mut histograms = series.histograms.iter().peekable();
    for sample in &series.samples {
        let is_before = |one: &&HistogramSample| one.timestamp_ms < sample.timestamp_ms;
        while let Some(histogram) = histograms.next_if(is_before) {
            print_histogram(out, &labels, histogram)?;
        }
        writeln!(out, "{labels} {} {}", go_float::print(sample.value), sample.timestamp_ms)?;
    }
    histograms.try_for_each(|histogram| print_histogram(out, &labels, histogram))
}

fn print_histogram(
    out: &mut impl Write,
    labels: &str,
    histogram: &HistogramSample,
) -> io::Result<()> {
    let read = Histogram::read(&histogram.bytes).map_err(io::Error::other)?;
    writeln!(out, "{labels} {read} {}", histogram.timestamp_ms)
}
