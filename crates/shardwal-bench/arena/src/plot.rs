//! The arena's figures as bars: `cargo run --release --bin plot -- CSV SVG`.
//!
//! There is one panel per workload, and one bar per peer at its best number of shards. A bar is the
//! median, and a line across its end is the range.

#[allow(dead_code, reason = "two programs share it, and each uses a part")]
mod figures;
#[allow(dead_code, reason = "two programs share it, and each uses a part")]
mod machine_words;
mod picture;

use figures::{Row, Standing, from_csv, standings};
use machine_words::short;
use picture::{Area, LESS, LINE, OURS, THEIRS, write};
use plotters::prelude::*;

/// The content of one panel.
struct Panel {
    title: &'static str,
    workload: &'static str,
    metric: &'static str,
    unit: &'static str,
    /// Only with this number of shards, if given.
    shards: Option<usize>,
    less_is_better: bool,
}

const fn rate(title: &'static str, workload: &'static str) -> Panel {
    Panel { title, workload, metric: "per_second", unit: "/s", shards: None, less_is_better: false }
}

const fn micros(title: &'static str, workload: &'static str, metric: &'static str) -> Panel {
    Panel { metric, unit: " us", less_is_better: true, ..rate(title, workload) }
}

const PANELS: [Panel; 14] = [
    rate("Sync, 64 threads waiting", "sync-64-waiting"),
    Panel { shards: Some(16), ..rate("Sync, 64 threads waiting, 16 shards", "sync-64-waiting") },
    micros("P99 of these, less is better", "sync-64-waiting", "p99_us"),
    rate("Sync, 2 threads, 256 in flight", "sync-2x256-in-flight"),
    rate("Sync, 8 threads, batches of 100", "sync-8-batches-100"),
    micros("Sync, 1 thread: P50, less is better", "sync-1-waiting", "p50_us"),
    rate("Os, 64 threads waiting", "os-64-waiting"),
    rate("Os, 2 threads, batches of 100", "os-2-batches-100"),
    rate("Os, 64 threads, fire and forget", "os-64-forgetting"),
    rate("Replay, warm, once it is open", "replay"),
    Panel { metric: "with_open_per_second", ..rate("Replay, warm, opening included", "replay") },
    Panel { metric: "cold_per_second", ..rate("Replay, cold, once it is open", "replay") },
    Panel {
        metric: "cold_with_open_per_second",
        ..rate("Replay, cold, opening included", "replay")
    },
    micros("P99 of Os, 64 threads waiting, less is better", "os-64-waiting", "p99_us"),
];

const COLUMNS: usize = 3;
const PANEL: (i32, i32) = (500, 300);
/// Where a panel's bars begin, and the maximum length of a bar.
const BARS: (i32, i32) = (218, 190);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("plot CSV SVG");
    let csv = std::fs::read_to_string(argument()).expect("the CSV can be read");
    let svg = argument();
    let (head, rows) = from_csv(&csv);
    let top = picture::top(&head);
    let size = (PANEL.0 * COLUMNS as i32, PANEL.1 * PANELS.len().div_ceil(COLUMNS) as i32);
    let title = "shardwal and what could be picked instead: 256-byte records, medians with ranges";
    let root = picture::sheet(&svg, size, title, &head);
    for (number, panel) in PANELS.iter().enumerate() {
        let at = ((number % COLUMNS) as i32 * PANEL.0, top + (number / COLUMNS) as i32 * PANEL.1);
        draw(&root, at, panel, &rows, &head);
    }
    root.present().expect("the picture can be written");
}

/// Each peer's best standing, the best first.
fn bests(rows: &[Row], panel: &Panel) -> Vec<Standing> {
    let mut all = standings(rows, panel.workload, panel.metric);
    if panel.less_is_better {
        all.reverse();
    }
    let mut bests: Vec<Standing> = Vec::new();
    for standing in all {
        let fits = panel.shards.is_none_or(|shards| shards == standing.shards);
        if fits && bests.iter().all(|best| best.peer != standing.peer) {
            bests.push(standing);
        }
    }
    bests
}

fn draw(root: &Area<'_>, (x, y): (i32, i32), panel: &Panel, rows: &[Row], head: &[String]) {
    write(root, panel.title, (x + 16, y + 8), 15, &BLACK);
    let bests = bests(rows, panel);
    let most = bests.iter().map(|best| best.spread.highest).fold(0.0, f64::max);
    // A very slow peer must not shrink all other bars to dots.
    let medians: Vec<_> = bests.iter().map(|best| best.spread.median).collect();
    let full = if panel.less_is_better && !medians.is_empty() {
        most.min(medians[medians.len() / 2] * 4.0)
    } else {
        most
    };
    for (line, Standing { peer, shards, spread }) in bests.into_iter().enumerate() {
        let y = y + 34 + LINE * line as i32;
        let less = head.iter().any(|words| words.starts_with(&format!("promises less: {peer}:")));
        let colour = if peer == "shardwal" {
            OURS
        } else if less {
            LESS
        } else {
            THEIRS
        };
        let long = |value: f64| x + BARS.0 + (value.min(full) / full * f64::from(BARS.1)) as i32;
        write(root, &format!("{peer} ({shards})"), (x + 16, y + 1), 12, &BLACK);
        let bar = [(x + BARS.0, y), (long(spread.median), y + 13)];
        root.draw(&Rectangle::new(bar, colour.filled())).expect("the picture takes a bar");
        let range = vec![(long(spread.lowest), y + 7), (long(spread.highest), y + 7)];
        root.draw(&PathElement::new(range, BLACK)).expect("the picture takes a line");
        let value = format!("{}{}", short(spread.median), panel.unit);
        write(root, &value, (x + BARS.0 + BARS.1 + 8, y + 1), 12, &BLACK);
    }
}
