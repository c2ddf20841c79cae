//! Curves over the number of tasks: throughput, P99, CPU per record and memory. All axes are
//! logarithmic.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::TOTAL;
use super::run::CPU;
use super::{DEFAULT_SHARDS, OURS};
use crate::figures::{Row, Spread};
use crate::log_plot::{COLOURS, Curve, MARGIN, PANEL, Point, legend, panel};
use crate::picture::{self, LINE};
use crate::workload::{P99, RATE};

/// A panel: its title, the load, and the metric.
const PANELS: [[&str; 3]; 4] = [
    ["records/s", "tasks-", RATE],
    ["P99 of an awaited append, us", "tasks-", P99],
    ["CPU per record, us", "tasks-", CPU],
    ["bytes per waiting append: heap, records included, and future", "memory-", TOTAL],
];
const COLUMNS: usize = 2;
/// The lowest value that a panel shows: a logarithm needs one.
const LEAST: f64 = 0.1;

/// Draws the measurements.
pub fn draw(svg: &str, head: &[String], rows: &[Row]) {
    let logs = logs(rows);
    let (width, height) =
        (PANEL.0 * COLUMNS as i32, PANEL.1 * PANELS.len().div_ceil(COLUMNS) as i32);
    let title = "Tasks that append a record of 256 bytes and await it, Sync: medians with ranges";
    let size = (width, height + LINE * (logs.len() as i32 + 1));
    let root = picture::sheet(svg, size, title, head);
    for (number, [title, load, metric]) in PANELS.into_iter().enumerate() {
        let at = ((number % COLUMNS) as i32 * PANEL.0, (number / COLUMNS) as i32 * PANEL.1);
        let at = (at.0, at.1 + picture::top(head));
        let curves: Vec<_> = logs
            .iter()
            .zip(COLOURS)
            .map(|(log, colour)| Curve {
                name: name(log),
                colour,
                points: points(rows, log, load, metric),
            })
            .collect();
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            panel(&root, at, [title, "tasks"], &curves);
        }
        if number == 0 {
            legend(&root, (MARGIN.0, picture::top(head) + height), &curves);
        }
    }
    root.present().expect("the picture can be written");
}

/// The logs and their numbers of shards, shardwal first.
fn logs(rows: &[Row]) -> Vec<(String, usize)> {
    let all: BTreeSet<_> =
        rows.iter().map(|row| (row.peer != OURS, row.peer.clone(), row.shards)).collect();
    all.into_iter().map(|(_, peer, shards)| (peer, shards)).collect()
}

fn name((peer, shards): &(String, usize)) -> String {
    match (peer.as_str(), *shards) {
        (OURS, DEFAULT_SHARDS) => format!("{OURS}, default shards"),
        (OURS, shards) => format!("{OURS}, shards: {shards}"),
        (peer, _) => peer.into(),
    }
}

fn points(rows: &[Row], (peer, shards): &(String, usize), load: &str, metric: &str) -> Vec<Point> {
    let of = |row: &&Row| row.peer == *peer && row.shards == *shards && row.metric == metric;
    let mut values: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for row in rows.iter().filter(of) {
        let tasks = row.workload.strip_prefix(load).and_then(|tasks| tasks.parse().ok());
        if let Some(tasks) = tasks {
            values.entry(tasks).or_default().push(row.value.max(LEAST));
        }
    }
    let point = |(tasks, values)| {
        Some(Point { across: tasks as f64, spread: Spread::of(values)?, hollow: false })
    };
    values.into_iter().filter_map(point).collect()
}
