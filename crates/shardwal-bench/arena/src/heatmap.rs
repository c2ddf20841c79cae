//! Heat maps of throughput and latency over queue depth and number of shards.
//!
//! `cargo run --release --bin heatmap -- [--only TEXT] [--rounds R] [--seconds S] [--dir D] [--csv
//! FILE] [--svg FILE] [--from CSV]...`. 64 threads together keep all queues full. Each keeps its
//! share of all shards' `queue_capacity` in flight, and waits for the oldest. P99 is from an append
//! until its thread sees the answer.
//!
//! There are four settings: `Sync` and `Os`, each on the real disk and on a simulated one, whose
//! syncs take 1 ms each and run in parallel. `--only` selects settings whose name contains the
//! text. A cell is the median of its rounds, which run in turn. `--from`, which may be repeated,
//! draws earlier runs and measures nothing.

mod arguments;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod closed_loop;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod figures;
mod machine_words;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod picture;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arguments::Arguments;
use figures::{Row, Spread};
use picture::{Area, write};
use plotters::prelude::*;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, Durability};

const DEPTHS: [usize; 6] = [16, 64, 256, 1024, 4096, 16_384];
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
const THREADS: usize = 64;
const SYNC_LATENCY: Duration = Duration::from_millis(1);

/// A setting, with one heat map per metric.
struct Setting {
    id: &'static str,
    title: &'static str,
    durability: Durability,
    simulated: bool,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        id: "sync-real",
        title: "Sync, real disk",
        durability: Durability::Sync,
        simulated: false,
    },
    Setting {
        id: "sync-1ms",
        title: "Sync, simulated disk, 1 ms",
        durability: Durability::Sync,
        simulated: true,
    },
    Setting {
        id: "os-real",
        title: "Os, real disk",
        durability: Durability::Buffered,
        simulated: false,
    },
    Setting {
        id: "os-1ms",
        title: "Os, simulated disk, 1 ms",
        durability: Durability::Buffered,
        simulated: true,
    },
];

fn main() {
    Arguments::parse().answer(measure, draw);
}

/// A cell of a setting: shards and queue depth.
type Cell<'a> = (&'a Setting, usize, usize);

fn measure(arguments: &Arguments) -> (Vec<String>, Vec<Row>) {
    let dir = arguments.dir.canonicalize().expect("the folder is there");
    let head = machine_words::describe(&dir, "heatmap");
    let wanted = SETTINGS.iter().filter(|setting| setting.id.contains(&arguments.only));
    let mut cells: Vec<Cell<'_>> = wanted
        .flat_map(|setting| SHARDS.map(|shards| (setting, shards)))
        .flat_map(|(setting, shards)| DEPTHS.map(|depth| (setting, shards, depth)))
        .collect();
    let mut rows = Vec::new();
    for round in 0..arguments.rounds {
        for &cell in &cells {
            rows.extend(measure_cell(cell, round, arguments.run, &dir));
        }
        cells.reverse();
    }
    (head, rows)
}

fn workload(setting: &Setting, depth: usize) -> String {
    format!("{}-{depth}", setting.id)
}

/// Measures one setting with one number of shards and one depth.
fn measure_cell(
    (setting, shards, depth): Cell<'_>,
    round: usize,
    run: Duration,
    dir: &Path,
) -> [Row; 2] {
    let scratch = tempfile::tempdir_in(dir).expect("the folder is writable");
    let mut config = Config::new(scratch.path().join("log"));
    if setting.simulated {
        let disk = SimFileSystem::with_dir(scratch.path());
        disk.set_sync_latency(SYNC_LATENCY);
        config = config.file_system(Arc::new(disk));
    }
    let config = config.shards(shards).queue_capacity(depth).durability(setting.durability);
    let under_way = (depth * shards / THREADS).max(1);
    let outcome = closed_loop::run(config, THREADS, under_way, run, false);
    let (rate, p99) = (outcome.per_second, outcome.micros(0.99));
    eprintln!("{round} {} {shards} {depth}: {rate:.0} {p99:.0}", setting.id);
    [("per_second", rate), ("p99_us", p99)].map(|(metric, value)| Row {
        round,
        workload: workload(setting, depth),
        peer: "shardwal".into(),
        shards,
        metric: metric.into(),
        value,
    })
}

const CELL: (i32, i32) = (78, 30);
const MAP: (i32, i32) = (CELL.0 * DEPTHS.len() as i32 + 110, CELL.1 * SHARDS.len() as i32 + 80);

type Map = [[f64; DEPTHS.len()]; SHARDS.len()];

fn draw(svg: &str, head: &[String], rows: &[Row]) {
    let size = (MAP.0 * 2, MAP.1 * SETTINGS.len() as i32);
    let title = "Queue depth (across) by shards (down): 64 threads keep the queues full; medians";
    let root = picture::sheet(svg, size, title, head);
    for (number, setting) in SETTINGS.iter().enumerate() {
        let y = picture::top(head) + MAP.1 * number as i32;
        let map = |metric| -> Map {
            SHARDS.map(|shards| DEPTHS.map(|depth| median(rows, setting, shards, depth, metric)))
        };
        heat(&root, (0, y), &format!("{}: records/s", setting.title), &map("per_second"), false);
        heat(&root, (MAP.0, y), &format!("{}: P99, us", setting.title), &map("p99_us"), true);
    }
    root.present().expect("the picture can be written");
}

/// The median of a cell. NaN if the cell was not measured.
fn median(rows: &[Row], setting: &Setting, shards: usize, depth: usize, metric: &str) -> f64 {
    let workload = workload(setting, depth);
    let of = |row: &&Row| row.workload == workload && row.shards == shards && row.metric == metric;
    let values = rows.iter().filter(of).map(|row| row.value).collect();
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

/// Draws one map. Better is greener, on a logarithmic scale between the best and the worst.
fn heat(root: &Area<'_>, (x, y): (i32, i32), title: &str, values: &Map, less_is_better: bool) {
    write(root, title, (x + 16, y + 6), 15, &BLACK);
    let all = || values.iter().flatten().map(|value| value.ln());
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    for (column, depth) in DEPTHS.iter().enumerate() {
        write(root, &depth.to_string(), (x + 70 + CELL.0 * column as i32, y + 32), 12, &BLACK);
    }
    for (row, shards) in SHARDS.iter().enumerate() {
        let y = y + 50 + CELL.1 * row as i32;
        write(root, &shards.to_string(), (x + 30, y + 9), 12, &BLACK);
        for (column, value) in values[row].iter().enumerate() {
            let x = x + 60 + CELL.0 * column as i32;
            let share = (value.ln() - least) / (most - least).max(1e-9);
            let good = if less_is_better { 1.0 - share } else { share };
            let colour = HSLColor(good / 3.0, 0.6, 0.75);
            let corners = [(x, y), (x + CELL.0 - 2, y + CELL.1 - 2)];
            root.draw(&Rectangle::new(corners, colour.filled())).expect("the picture takes a cell");
            write(root, &machine_words::short(*value), (x + 10, y + 8), 12, &BLACK);
        }
    }
}
