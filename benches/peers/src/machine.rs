//! Where a run was made, and what fio says of the disk.

use std::path::Path;
use std::process::Command;

use crate::figures::Row;
use crate::load::PAYLOAD_BYTES;

/// Printed words of a command, or a question mark.
fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "?".into())
}

/// Machine, kernel, file system, commit, date, command; a line each.
pub fn describe(dir: &Path) -> Vec<String> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let dir = dir.to_str().unwrap_or("/");
    let file_system = said("findmnt", &["-no", "FSTYPE,SOURCE,OPTIONS", "--target", dir]);
    let file_system: Vec<_> = file_system.split_whitespace().collect();
    let commit = said("git", &["rev-parse", "--short=10", "HEAD"]);
    let changed =
        said("git", &["status", "--porcelain", "--untracked-files=no", "--", "../../src", "src"]);
    let changed = if changed == "?" { "" } else { ", changed" };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    vec![
        format!("machine: {cpus} x {model}, Linux {}", said("uname", &["-r"])),
        format!("file system: {}", file_system.join(" ")),
        format!(
            "commit: {commit}{changed}; date: {}",
            said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
        ),
        format!("command: cargo run --release --bin arena -- {}", arguments.join(" ")),
    ]
}

/// fio's figures of this disk: 4 KiB and 208 KiB overwritten, each followed by
/// an fdatasync, one job. Empty where there is no fio.
pub fn fio(dir: &Path, round: usize, seconds: f64) -> Vec<Row> {
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

/// What eight threads with a batch of 100 each fill a commit with.
const COMMIT_BYTES: usize = 208 << 10;

struct Overwrite {
    iops: f64,
    /// Medians of the write and of the sync, added.
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
