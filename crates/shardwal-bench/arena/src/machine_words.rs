//! A description of the machine and the run, and the format of figures.

use std::path::Path;
use std::process::Command;

/// The output of a command, or a question mark.
fn said(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "?".into())
}

/// Machine, kernel, file system, commit, date and command; one line each.
pub fn describe(dir: &Path, binary: &str) -> Vec<String> {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let dir = dir.to_str().unwrap_or("/");
    let file_system = said("findmnt", &["-no", "FSTYPE,SOURCE,OPTIONS", "--target", dir]);
    let file_system: Vec<_> = file_system.split_whitespace().collect();
    let commit = said("git", &["rev-parse", "--short=10", "HEAD"]);
    // A path that begins with `:/` counts from the root of the tree.
    let sources = [":/src", ":/crates/shardwal-bench"];
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changed = said("git", &[&status[..], &sources].concat());
    let changed = if changed == "?" { "" } else { ", changed" };
    let arguments = without_paths(std::env::args().skip(1));
    vec![
        format!("machine: {cpus} x {model}, Linux {}", said("uname", &["-r"])),
        format!("file system: {}", file_system.join(" ")),
        format!(
            "commit: {commit}{changed}; date: {}",
            said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
        ),
        format!("command: cargo run --release --bin {binary} -- {}", arguments.join(" ")),
    ]
}

/// Arguments of a command without those that name a place on this machine.
fn without_paths(mut arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        if ["--csv", "--svg", "--dir", "--from"].contains(&argument.as_str()) {
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

/// Formats three significant digits, with k for thousands and M for millions.
pub fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    let digits =
        if value >= 100.0 { 0 } else { usize::from(value < 100.0) + usize::from(value < 10.0) };
    format!("{value:.digits$}{unit}")
}
