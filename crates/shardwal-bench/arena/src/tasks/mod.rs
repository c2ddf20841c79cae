//! Tasks that append and await, on a runtime of tokio with two workers.
//!
//! `arena tasks [--tasks N,N] [--rounds R] [--seconds S] [--tries T] [--shards N,default]
//! [--peer TEXT] [--workload closed|runs|open|memory|idle|rolls|truncation] [--offered N,N]
//! [--dir D] [--csv FILE] [--svg FILE] [--from CSV]...`. The table goes to stdout, the progress to
//! stderr. `--from`, which may be repeated, prints and draws earlier runs.

mod arguments;
mod curves;
mod heap;
mod latencies;
mod log;
mod memory;
mod open_loop;
mod peers;
mod run;
mod session;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use arguments::Arguments;
use run::{Figures, Load};

use crate::figures::{FAILED, Row};
use crate::workload::{LINE, OTHERS};
use crate::{OTHERS_MAX, cores, figures, machine_words, scratch};

/// The number of shards in the figures of a log at its default.
pub const DEFAULT_SHARDS: usize = 0;
/// Records that one task appends before it awaits the last: four tasks have 16,384 in flight.
const RUN_RECORDS: u32 = 4096;
const RUN_TASKS: usize = 4;
/// Number of tasks while a log rolls or truncates.
const UPKEEP_TASKS: usize = 1024;
/// The load of tasks that append runs, in the figures.
pub const RUNS: &str = "tasks-4x4096-in-flight";

/// A log that tasks append to.
#[derive(Clone, Copy)]
pub struct Contender {
    /// Its name in the table.
    pub name: &'static str,
    /// Whether it has shards. Otherwise it is one log.
    sharded: bool,
    run: fn(&Path, Option<usize>, Load, Duration) -> Figures,
}

const fn contender<L: log::TaskLog>(name: &'static str) -> Contender {
    Contender { name, sharded: false, run: run::run::<L> }
}

/// shardwal.
pub const OURS: &str = "shardwal";
/// The designs that an engineer writes in an afternoon.
pub const MUTEX: &str = "mutex + wakers";
pub const CHANNELS: &str = "mpsc + oneshot";

const CONTENDERS: &[Contender] = &[
    Contender { sharded: true, ..contender::<shardwal::ShardedWal>(OURS) },
    contender::<peers::mutex_wakers::MutexWakers>(MUTEX),
    contender::<peers::channels::Channels<Vec<u8>>>(CHANNELS),
    contender::<peers::channels::Channels<&'static [u8]>>("mpsc + oneshot, slices"),
    contender::<peers::writeahead::Writeahead>("writeahead 0.4"),
    contender::<peers::camus::Camus>("camus 1.0"),
];

/// A log that is not disturbed, beside the log that is.
pub const NO_ROLLS: &str = "shardwal, no rolls";
pub const NO_TRUNCATION: &str = "shardwal, no truncation";

const IDLE: &[Contender] = &[contender::<shardwal::ShardedWal>(OURS)];
const ROLLS: &[Contender] = &[
    Contender { sharded: true, ..contender::<peers::upkeep::Rolling>(OURS) },
    Contender { sharded: true, ..contender::<shardwal::ShardedWal>(NO_ROLLS) },
];
const TRUNCATION: &[Contender] = &[
    Contender { sharded: true, ..contender::<peers::upkeep::Filled<true>>(OURS) },
    Contender { sharded: true, ..contender::<peers::upkeep::Filled<false>>(NO_TRUNCATION) },
];

/// The logs that take part in a load.
fn contenders(load: Load) -> &'static [Contender] {
    match load {
        Load::Idle => IDLE,
        Load::Rolls(_) => ROLLS,
        Load::Truncation(_) => TRUNCATION,
        _ => CONTENDERS,
    }
}

/// A log with a number of shards under one load.
struct Entry {
    contender: Contender,
    shards: Option<usize>,
    load: Load,
}

/// The name of a load in the figures.
fn workload(load: Load) -> String {
    match load {
        Load::Closed(tasks) => format!("tasks-{tasks}"),
        Load::Runs { .. } => RUNS.into(),
        Load::Offered(per_second) => format!("offered-{per_second}"),
        Load::Memory(tasks) => format!("memory-{tasks}"),
        Load::Idle => "idle".into(),
        Load::Rolls(tasks) => format!("rolls-{tasks}"),
        Load::Truncation(tasks) => format!("truncation-{tasks}"),
    }
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let kinds = [
        ("closed", arguments.tasks.iter().copied().map(Load::Closed).collect()),
        ("runs", vec![Load::Runs { tasks: RUN_TASKS, records: RUN_RECORDS }]),
        ("open", arguments.offered.iter().copied().map(Load::Offered).collect()),
        ("memory", arguments.tasks.iter().copied().map(Load::Memory).collect()),
        ("idle", vec![Load::Idle]),
        ("rolls", vec![Load::Rolls(UPKEEP_TASKS)]),
        ("truncation", vec![Load::Truncation(UPKEEP_TASKS)]),
    ];
    let selected = kinds.into_iter().filter(|(kind, _)| arguments.selects_load(kind));
    selected.flat_map(|(_, loads)| loads).collect()
}

fn entries(arguments: &Arguments) -> Vec<Entry> {
    let mut entries = Vec::new();
    for load in loads(arguments) {
        for contender in contenders(load).iter().filter(|one| arguments.selects(one.name)) {
            let shards = if contender.sharded { &arguments.shards[..] } else { &[Some(1)] };
            let entry =
                |shards: &Option<usize>| Entry { contender: *contender, shards: *shards, load };
            entries.extend(shards.iter().map(entry));
        }
    }
    entries
}

/// The command.
pub fn main(arguments: impl Iterator<Item = String>) {
    let arguments = Arguments::parse(arguments);
    let (head, rows) = match &arguments.from[..] {
        [] => measure(&arguments),
        earlier => figures::merged(earlier),
    };
    arguments.write(&head, &rows);
    if let Some(svg) = &arguments.svg {
        curves::draw(svg, &head, &rows);
    }
    print!("{}", table::markdown(&head, &rows));
}

fn measure(arguments: &Arguments) -> (Vec<String>, Vec<Row>) {
    std::fs::create_dir_all(&arguments.dir).expect("the folder can be made");
    let dir = arguments.dir.canonicalize().expect("the folder is there");
    let mut head = machine_words::describe(&dir, "arena");
    let mut entries = entries(arguments);
    let mut rows = Vec::new();
    for round in 0..arguments.rounds {
        for entry in &entries {
            rows.extend(measure_one(entry, round, arguments, &dir));
        }
        // Odd rounds run backwards, so that other activity of the machine affects all alike.
        entries.reverse();
        arguments.write(&head, &rows);
    }
    head.extend(crate::disturbances(&rows));
    (head, rows)
}

/// The share of the machine's CPU time that other programs used. A failed run is not repeated.
fn others(figures: &Figures) -> f64 {
    figures.iter().find(|(metric, _)| *metric == OTHERS).map_or(0.0, |(_, share)| *share)
}

/// Performs one run, and repeats it while others disturb it. A run that panics or does not verify
/// has failed, and has no figures.
fn measure_one(entry: &Entry, round: usize, arguments: &Arguments, dir: &Path) -> Vec<Row> {
    let Entry { contender, shards, load } = entry;
    let lasts = Duration::from_secs_f64(arguments.seconds);
    let before = cores::line_nanos();
    let once = || {
        let run = || (contender.run)(scratch(dir).path(), *shards, *load, lasts);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| vec![(FAILED, 1.0)])
    };
    let mut figures = once();
    for _ in 1..arguments.tries {
        if others(&figures) <= OTHERS_MAX {
            break;
        }
        let again = once();
        if others(&again) < others(&figures) {
            figures = again;
        }
    }
    let lines = [before, cores::line_nanos()].into_iter().flatten();
    figures.extend(lines.map(|nanos| (LINE, nanos)));
    let shards = shards.unwrap_or(DEFAULT_SHARDS);
    eprintln!("{round} {} {} {shards}: {figures:.3?}", workload(*load), contender.name);
    let row = |(metric, value): (&str, f64)| Row {
        round,
        workload: workload(*load),
        peer: contender.name.into(),
        shards,
        metric: metric.into(),
        value,
    };
    figures.into_iter().map(row).collect()
}
