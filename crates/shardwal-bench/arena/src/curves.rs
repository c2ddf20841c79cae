//! Curves over offered load: throughput, P50 and P99. There is one row per durability, and both
//! axes are logarithmic. Hollow points are beyond saturation.

use std::collections::BTreeSet;

use plotters::prelude::*;

use crate::LOADS;
use crate::figures::{Row, Spread};
use crate::machine_words::short;
use crate::picture::{self, Area, LESS, LINE, write};

const PANEL: (i32, i32) = (520, 380);
/// Margins of a plot in its panel: left, above, right, below.
const MARGIN: (i32, i32, i32, i32) = (66, 34, 30, 44);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0xd6, 0x5f, 0x0e),
    RGBColor(0xe8, 0xa2, 0x3d),
    RGBColor(0x9c, 0x2f, 0x2f),
    RGBColor(0x8a, 0x5f, 0xa8),
    RGBColor(0x2f, 0x6f, 0xa8),
    RGBColor(0x3d, 0x8f, 0x6b),
];
const METRICS: [(&str, &str); 3] =
    [("per_second", "records/s answered"), ("p50_us", "P50, us"), ("p99_us", "P99, us")];

/// A point: the offered load, the result (median, lowest, highest), and whether it is beyond
/// saturation.
struct Point {
    offered: f64,
    spread: Spread,
    beyond: bool,
}

struct Curve {
    name: String,
    colour: RGBColor,
    points: Vec<Point>,
}

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
            panel(&root, at, &title, &curves);
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
            Some(Point { offered, spread: values(load, metric)?, beyond: load > 100 })
        };
        let points = LOADS.into_iter().filter_map(point).collect();
        Curve { name: format!("{peer} ({shards})"), colour, points }
    };
    contenders.iter().zip(COLOURS.into_iter().cycle()).map(curve).collect()
}

/// Maps a value between powers of ten to 0 to 1.
#[derive(Clone, Copy)]
struct Axis {
    least: i32,
    most: i32,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::MAX, f64::min).log10().floor() as i32;
        let most = values.fold(f64::MIN_POSITIVE, f64::max).log10().ceil() as i32;
        Self { least, most: most.max(least + 1) }
    }

    fn share(self, value: f64) -> f64 {
        (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least)
    }

    fn decades(self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(|power| 10_f64.powi(power))
    }
}

fn panel(root: &Area<'_>, (x, y): (i32, i32), title: &str, curves: &[Curve]) {
    write(root, title, (x + MARGIN.0, y + 8), 15, &BLACK);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let across = Axis::over(points().map(|point| point.offered));
    let up = Axis::over(points().flat_map(|point| [point.spread.lowest, point.spread.highest]));
    let wide = f64::from(PANEL.0 - MARGIN.0 - MARGIN.2);
    let high = f64::from(PANEL.1 - MARGIN.1 - MARGIN.3);
    let place = |offered: f64, value: f64| {
        let right = x + MARGIN.0 + (across.share(offered) * wide) as i32;
        (right, y + PANEL.1 - MARGIN.3 - (up.share(value) * high) as i32)
    };
    let [low, top] = [up.least, up.most].map(|power| 10_f64.powi(power));
    for decade in across.decades() {
        line(root, vec![place(decade, low), place(decade, top)], &LESS);
        let at = place(decade, low);
        write(root, &short(decade), (at.0 - 12, at.1 + 6), 11, &BLACK);
    }
    write(root, "records/s offered", (x + PANEL.0 / 2 - 40, y + PANEL.1 - 22), 12, &BLACK);
    let [first, last] = [across.least, across.most].map(|power| 10_f64.powi(power));
    for decade in up.decades() {
        line(root, vec![place(first, decade), place(last, decade)], &LESS);
        let at = place(first, decade);
        write(root, &short(decade), (at.0 - 48, at.1 - 6), 11, &BLACK);
    }
    for Curve { colour, points, .. } in curves {
        line(
            root,
            points.iter().map(|one| place(one.offered, one.spread.median)).collect(),
            colour,
        );
        for Point { offered, spread, beyond } in points {
            let [low, mid, high] = [spread.lowest, spread.median, spread.highest];
            line(root, vec![place(*offered, low), place(*offered, high)], colour);
            let style = if *beyond { colour.stroke_width(1) } else { colour.filled() };
            root.draw(&Circle::new(place(*offered, mid), 4, style)).expect("it takes a point");
        }
    }
}

fn line(root: &Area<'_>, points: Vec<(i32, i32)>, colour: &RGBColor) {
    root.draw(&PathElement::new(points, colour)).expect("the picture takes a line");
}

fn legend(root: &Area<'_>, (x, y): (i32, i32), curves: &[Curve]) {
    for (number, Curve { name, colour, .. }) in curves.iter().enumerate() {
        let y = y + LINE * number as i32;
        line(root, vec![(x, y + 7), (x + 24, y + 7)], colour);
        write(root, name, (x + 32, y), 12, &BLACK);
    }
}
