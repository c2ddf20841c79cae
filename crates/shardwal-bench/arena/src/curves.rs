//! Curves over offered load: throughput, P50 and P99. There is one row per durability, and both
//! axes are logarithmic. Hollow points are beyond saturation.

use std::collections::BTreeSet;

use plotters::prelude::*;

use crate::LOADS;
use crate::figures::{Row, Spread};
use crate::log_plot::{COLOURS, Curve, MARGIN, PANEL, Point, legend, panel};
use crate::picture::{self, LINE};

const METRICS: [(&str, &str); 3] =
    [("per_second", "records/s answered"), ("p50_us", "P50, us"), ("p99_us", "P99, us")];

/// Draws the measurements.
pub fn draw(svg: &str, head: &[String], rows: &[Row]) {
    let settings = ["sync", "os"].map(|setting| (setting, contenders(rows, setting)));
    let settings: Vec<_> = settings.into_iter().filter(|(_, who)| !who.is_empty()).collect();
    let height = PANEL.1 + LINE * 6;
    let size = (PANEL.0 * METRICS.len() as i32, height * settings.len() as i32);
    let title = "Open loop: what is offered against what comes of it; latency from when a record was due; \
                 hollow: beyond saturation";
    let root = picture::sheet(svg, size, title, head);
    for (number, (setting, contenders)) in settings.iter().enumerate() {
        let y = picture::top(head) + height * number as i32;
        for (column, (metric, words)) in METRICS.iter().enumerate() {
            let at = (PANEL.0 * column as i32, y);
            let curves = curves(rows, setting, contenders, metric);
            let title = format!("{}: {words}", if *setting == "sync" { "Sync" } else { "Os" });
            panel(&root, at, [&title, "records/s offered"], &curves);
            if column == 0 {
                legend(&root, (at.0 + MARGIN.0, y + PANEL.1), &curves);
            }
        }
    }
    root.present().expect("the picture can be written");
}

/// The contenders measured in a setting, shardwal first.
fn contenders(rows: &[Row], setting: &str) -> Vec<(String, usize)> {
    let of = |row: &&Row| row.workload.starts_with(&format!("{setting}-"));
    let all: BTreeSet<_> = rows
        .iter()
        .filter(of)
        .map(|row| (!row.peer.starts_with("shardwal"), row.peer.clone(), row.shards))
        .collect();
    all.into_iter().map(|(_, peer, shards)| (peer, shards)).collect()
}

fn curves(rows: &[Row], setting: &str, contenders: &[(String, usize)], metric: &str) -> Vec<Curve> {
    let curve = |((peer, shards), colour): (&(String, usize), RGBColor)| {
        let values = |load: usize, metric: &str| {
            let workload = format!("{setting}-{load}");
            let of = |row: &&Row| {
                (row.workload == workload && row.peer == *peer && row.shards == *shards)
                    && row.metric == metric
            };
            Spread::of(rows.iter().filter(of).map(|row| row.value).collect())
        };
        let point = |load: usize| {
            let offered = values(load, "offered_per_second")?.median;
            Some(Point { across: offered, spread: values(load, metric)?, hollow: load > 100 })
        };
        let points = LOADS.into_iter().filter_map(point).collect();
        Curve { name: format!("{peer} ({shards})"), colour, points }
    };
    contenders.iter().zip(COLOURS.into_iter().cycle()).map(curve).collect()
}
