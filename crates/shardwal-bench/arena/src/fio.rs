//! Baselines of the disk, measured with fio.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::figures::Row;
use crate::load::PAYLOAD_BYTES;

/// Measures with fio how fast 4 KiB and 208 KiB are overwritten, each write followed by an
/// fdatasync, with one job. Returns no rows if fio is not installed.
pub fn measure(dir: &Path, round: usize, seconds: f64) -> Vec<Row> {
    let row = |metric: &str, value| Row {
        round,
        workload: "fio".into(),
        peer: "fio".into(),
        shards: 1,
        metric: metric.into(),
        value,
    };
    let mut rows = Vec::new();
    if let Some(small) = overwrite(dir, 4 << 10, seconds) {
        rows.extend([row("4 KiB syncs/s", small.iops), row("4 KiB P50 us", small.p50_micros)]);
    }
    if let Some(large) = overwrite(dir, COMMIT_BYTES, seconds) {
        let bytes = large.iops * COMMIT_BYTES as f64;
        rows.push(row("208 KiB records/s", bytes / (PAYLOAD_BYTES + 8 + 4) as f64));
    }
    rows
}

/// How many times per second fio can read all these files, one after the other. This is the best
/// case of a buffered sequential read with read-ahead.
pub fn read(files: &[PathBuf]) -> Option<f64> {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let bytes: u64 = files.iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum();
    let output = Command::new("fio")
        .args(["--name=read", "--ioengine=psync", "--rw=read", "--bs=1M", "--readonly"])
        .args(["--file_service_type=sequential", "--output-format=json"])
        .arg(format!("--filename={}", names.join(":")))
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&report[report.find('{')?..]).ok()?;
    Some(report["jobs"][0]["read"]["bw_bytes"].as_f64()? / bytes as f64)
}

/// Bytes of a commit with eight threads that append batches of 100.
const COMMIT_BYTES: usize = 208 << 10;

struct Overwrite {
    iops: f64,
    /// The sum of the medians of write and sync.
    p50_micros: f64,
}

fn overwrite(dir: &Path, block: usize, seconds: f64) -> Option<Overwrite> {
    let output = Command::new("fio")
        .args(["--name=overwrite", "--ioengine=psync", "--rw=write", "--fdatasync=1"])
        .args(["--overwrite=1", "--time_based", "--size=64M", "--output-format=json"])
        .arg(format!("--bs={block}"))
        .arg(format!("--filename={}", dir.join("fio").display()))
        .arg(format!("--runtime={}ms", (seconds * 1e3).round()))
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&report[report.find('{')?..]).ok()?;
    let job = &report["jobs"][0];
    let p50 = |of: &serde_json::Value| of["percentile"]["50.000000"].as_f64();
    let nanos = p50(&job["write"]["clat_ns"])? + p50(&job["sync"]["lat_ns"])?;
    Some(Overwrite { iops: job["write"]["iops"].as_f64()?, p50_micros: nanos / 1e3 })
}
