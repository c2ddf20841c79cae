//! Queue depth by shard count: what they cost and bring, as heat maps.
//!
//! `cargo run --release --bin heatmap -- SVG [--seconds S] [--dir D]`. 64
//! threads keep all queues full together: each has its share of `queue_records`
//! of all shards under way and waits for the oldest. P99 is from an append to
//! the time at which its thread sees it answered. `Sync` and `Os`, on the real
//! disk and on the simulated one, whose syncs take 1 ms each and at once.

#[path = "../machine_words.rs"]
mod machine_words;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use plotters::coord::Shift;
use plotters::prelude::*;
use shardwal::disk::sim::SimDisk;
use shardwal::{Config, Durability, ShardedWal};

const DEPTHS: [usize; 6] = [16, 64, 256, 1024, 4096, 16_384];
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
const THREADS: usize = 64;
const SYNC_LATENCY: Duration = Duration::from_millis(1);
static PAYLOAD: [u8; 256] = [0x5a; 256];

/// Records a second, and P99 in microseconds.
#[derive(Clone, Copy)]
struct Cell {
    per_second: f64,
    p99_micros: f64,
}

/// One of the four settings: a heat map of each of a cell's figures.
struct Setting {
    title: String,
    durability: Durability,
    simulated: bool,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let svg = arguments.next().expect("heatmap SVG [--seconds S] [--dir D]");
    let (mut seconds, mut dir) = (0.5, PathBuf::from("target"));
    while let Some(option) = arguments.next() {
        let value = arguments.next().expect("each option takes a value");
        match option.as_str() {
            "--seconds" => seconds = value.parse().expect("seconds are a number"),
            "--dir" => dir = value.into(),
            other => panic!("no such option: {other}"),
        }
    }
    let mut settings = Vec::new();
    for (durability, name) in [(Durability::Sync, "Sync"), (Durability::Os, "Os")] {
        for (simulated, disk) in [(false, "real disk"), (true, "simulated disk, 1 ms")] {
            settings.push(Setting { title: format!("{name}, {disk}"), durability, simulated });
        }
    }
    let run = Duration::from_secs_f64(seconds);
    let measure = |setting: &Setting| {
        let row = |shards| DEPTHS.map(|depth| cell(setting, shards, depth, run, &dir));
        SHARDS.map(row)
    };
    let maps: Vec<_> = settings.iter().map(measure).collect();
    draw(&svg, &settings, &maps, &machine_words::describe(&dir, "heatmap"));
}

/// One setting, one count of shards, one depth.
fn cell(setting: &Setting, shards: usize, depth: usize, run: Duration, dir: &Path) -> Cell {
    let scratch = tempfile::tempdir_in(dir).expect("the folder is writable");
    let mut config = Config::new(scratch.path().join("log"));
    if setting.simulated {
        let disk = SimDisk::with_dir(scratch.path());
        disk.set_sync_latency(SYNC_LATENCY);
        config = config.disk(Arc::new(disk));
    }
    let config = config.shards(shards).queue_records(depth).durability(setting.durability);
    let log = ShardedWal::open(config).expect("the log opens");
    let under_way = (depth * shards / THREADS).max(1);
    let (stop, start) = (AtomicBool::new(false), Barrier::new(THREADS + 1));
    let mut nanos = Vec::new();
    let mut began = Instant::now();
    std::thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (log, stop, start) = (&log, &stop, &start);
            scope.spawn(move || {
                start.wait();
                append(log, thread as u64, under_way, stop)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        began = Instant::now();
        start.wait();
        std::thread::sleep(run);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            nanos.extend(thread.join().expect("no append failed"));
        }
    });
    let elapsed = began.elapsed();
    log.close().expect("the log closes");
    nanos.sort_unstable();
    let cell = Cell {
        per_second: nanos.len() as f64 / elapsed.as_secs_f64(),
        p99_micros: f64::from(nanos[nanos.len() * 99 / 100]) / 1e3,
    };
    eprintln!("{} {shards} {depth}: {} {}", setting.title, cell.per_second, cell.p99_micros);
    cell
}

/// One thread's appends; what each of them took.
fn append(log: &ShardedWal, thread: u64, depth: usize, stop: &AtomicBool) -> Vec<u32> {
    let (mut under_way, mut nanos) = (VecDeque::with_capacity(depth), Vec::new());
    let mut key = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut seen = |began: Instant| {
        nanos.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    };
    while !stop.load(Ordering::Relaxed) {
        let full = |count: usize| count == depth;
        while let Some((began, completion)) = under_way.pop_front() {
            let completion: shardwal::Completion<'_> = completion;
            if !full(under_way.len() + 1) && !completion.is_done() {
                under_way.push_front((began, completion));
                break;
            }
            completion.wait().expect("the record is written");
            seen(began);
        }
        key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        under_way.push_back((Instant::now(), log.append(key, Bytes::from_static(&PAYLOAD))));
    }
    for (began, completion) in under_way {
        completion.wait().expect("the record is written");
        seen(began);
    }
    nanos
}

const CELL: (i32, i32) = (78, 30);
const MAP: (i32, i32) = (CELL.0 * DEPTHS.len() as i32 + 110, CELL.1 * SHARDS.len() as i32 + 80);
const TOP: i32 = 120;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Map = [[Cell; DEPTHS.len()]; SHARDS.len()];

fn write(root: &Area<'_>, words: &str, at: (i32, i32), size: i32) {
    let style = ("sans-serif", size).into_font().color(&BLACK);
    root.draw(&Text::new(words.to_owned(), at, style)).expect("the picture takes words");
}

fn draw(svg: &str, settings: &[Setting], maps: &[Map], head: &[String]) {
    let size = ((MAP.0 * 2) as u32, (TOP + MAP.1 * settings.len() as i32) as u32);
    let root = SVGBackend::new(svg, size).into_drawing_area();
    root.fill(&WHITE).expect("the picture takes a colour");
    let title = "Queue depth (across) by shards (down): 64 threads keep the queues full";
    write(&root, title, (16, 10), 20);
    for (line, words) in head.iter().enumerate() {
        write(&root, words, (16, 38 + 18 * line as i32), 13);
    }
    for (number, (setting, map)) in settings.iter().zip(maps).enumerate() {
        let y = TOP + MAP.1 * number as i32;
        let rates = map.map(|row| row.map(|cell| cell.per_second));
        let title = format!("{}: records/s", setting.title);
        heat(&root, (0, y), &title, &rates, false);
        let latencies = map.map(|row| row.map(|cell| cell.p99_micros));
        heat(&root, (MAP.0, y), &format!("{}: P99, us", setting.title), &latencies, true);
    }
    root.present().expect("the picture can be written");
}

/// One map: better is greener, by the logarithm between its best and its worst.
fn heat(
    root: &Area<'_>,
    (x, y): (i32, i32),
    title: &str,
    values: &[[f64; DEPTHS.len()]; SHARDS.len()],
    less_is_better: bool,
) {
    write(root, title, (x + 16, y + 6), 15);
    let all = || values.iter().flatten().map(|value| value.ln());
    let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    for (column, depth) in DEPTHS.iter().enumerate() {
        write(root, &depth.to_string(), (x + 70 + CELL.0 * column as i32, y + 32), 12);
    }
    for (row, shards) in SHARDS.iter().enumerate() {
        let y = y + 50 + CELL.1 * row as i32;
        write(root, &shards.to_string(), (x + 30, y + 9), 12);
        for (column, value) in values[row].iter().enumerate() {
            let x = x + 60 + CELL.0 * column as i32;
            let share = (value.ln() - least) / (most - least).max(1e-9);
            let good = if less_is_better { 1.0 - share } else { share };
            let colour = HSLColor(good / 3.0, 0.6, 0.75);
            let corners = [(x, y), (x + CELL.0 - 2, y + CELL.1 - 2)];
            root.draw(&Rectangle::new(corners, colour.filled())).expect("the picture takes a cell");
            write(root, &machine_words::short(*value), (x + 10, y + 8), 12);
        }
    }
}
