//! The arena: compares shardwal to what a user could choose instead. Each peer runs with its best
//! settings, in turn. Every run is verified by replay.
//!
//! `cargo run --release -- [--rounds R] [--seconds S] [--tries T] [--replay-mib N]
//! [--workload TEXT] [--shards N,N] [--peer TEXT] [--dir D] [--csv FILE]` runs loads of threads.
//! The table goes to stdout, the progress to stderr. `--from CSV` prints the table of an earlier
//! run. `cargo run --release -- tasks` runs loads of tasks: see `tasks`.

mod cores;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod figures;
mod fio;
mod load;
mod log_plot;
mod machine_words;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod peer;
mod peers;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod picture;
#[allow(dead_code, reason = "several programs share it, and each uses a part")]
mod poisson;
mod table;
mod tasks;
mod workload;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figures::{FAILED, Row};
use peer::{KINDS, Kind};
use tempfile::TempDir;
use workload::{
    COLD, COLD_WITH_OPEN, FIO_READ, LINE, OTHERS, P50, P99, RATE, WITH_OPEN, WORKLOADS, Workload,
};

/// A run during which other programs used more of the machine's CPU is repeated, at most `--tries`
/// times. The least disturbed run counts. This applies to all peers.
const OTHERS_MAX: f64 = 0.25;

/// The command line.
struct Arguments {
    rounds: usize,
    seconds: f64,
    tries: usize,
    replay_mib: u64,
    workload: String,
    /// Numbers of shards to run. All if it is empty.
    shards: Vec<usize>,
    peer: String,
    dir: PathBuf,
    csv: Option<PathBuf>,
    from: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self {
            rounds: 5,
            seconds: 1.0,
            tries: 3,
            replay_mib: 1024,
            workload: String::new(),
            shards: Vec::new(),
            peer: String::new(),
            dir: "target".into(),
            csv: None,
            from: None,
        };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().expect("each option takes a value");
            match argument.as_str() {
                "--rounds" => parsed.rounds = value.parse().expect("rounds are a number"),
                "--seconds" => parsed.seconds = value.parse().expect("seconds are a number"),
                "--tries" => parsed.tries = value.parse().expect("tries are a number"),
                "--replay-mib" => parsed.replay_mib = value.parse().expect("MiB are a number"),
                "--workload" => parsed.workload = value,
                "--shards" => {
                    let number = |word: &str| word.parse().expect("shards are numbers");
                    parsed.shards = value.split(',').map(number).collect();
                }
                "--peer" => parsed.peer = value,
                "--dir" => parsed.dir = value.into(),
                "--csv" => parsed.csv = Some(value.into()),
                "--from" => parsed.from = Some(value.into()),
                other => panic!("no such option: {other}"),
            }
        }
        parsed
    }
}

/// A peer with a number of shards under one workload.
struct Entry {
    kind: &'static Kind,
    shards: usize,
    workload: &'static Workload,
    /// The log of a replay, written once.
    filled: Option<TempDir>,
}

fn scratch(dir: &Path) -> TempDir {
    tempfile::Builder::new().prefix("arena-").tempdir_in(dir).expect("the folder is writable")
}

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "tasks").is_some() {
        return tasks::main(words);
    }
    let arguments = Arguments::parse(words);
    if let Some(from) = &arguments.from {
        let csv = std::fs::read_to_string(from).expect("the CSV can be read");
        let (head, rows) = figures::from_csv(&csv);
        print!("{}", table::markdown(&head, &rows));
        return;
    }
    std::fs::create_dir_all(&arguments.dir).expect("the folder can be made");
    let dir = arguments.dir.canonicalize().expect("the folder is there");
    let mut head = machine_words::describe(&dir, "arena");
    let less = KINDS.iter().filter(|kind| !kind.promises_less.is_empty());
    head.extend(less.map(|kind| format!("promises less: {}: {}", kind.name, kind.promises_less)));
    let fio = |round| fio::measure(scratch(&dir).path(), round, arguments.seconds.max(0.5));
    let mut rows = fio(0);
    let mut entries = entries(&arguments);
    for round in 0..arguments.rounds {
        for entry in &mut entries {
            rows.extend(run(entry, round, &arguments, &dir));
        }
        // Odd rounds run backwards, so that other activity of the machine affects all alike.
        entries.reverse();
    }
    drop(entries);
    rows.extend(fio(1));
    head.extend(disturbances(&rows));
    figures::write(arguments.csv.as_deref(), &head, &rows);
    print!("{}", table::markdown(&head, &rows));
}

/// Describes the activity of the machine beside the runs.
fn disturbances(rows: &[Row]) -> Vec<String> {
    let of = |metric| {
        let values: Vec<_> =
            rows.iter().filter(|row| row.metric == metric).map(|row| row.value).collect();
        figures::Spread::of(values.clone()).map(|spread| (values, spread))
    };
    let others = of(OTHERS).map(|(_, spread)| {
        let [median, highest] = [spread.median, spread.highest].map(|share| share * 100.0);
        format!(
            "CPU that other programs and the kernel's threads used: {median:.0} % in the median run, \
             {highest:.0} % at most"
        )
    });
    let lines = of(LINE).map(|(values, spread)| {
        let far = values.iter().filter(|nanos| **nanos >= cores::FAR_NANOS).count();
        format!(
            "a cache line from core to core and back: {:.0} to {:.0} ns, {:.0} at the median; far \
             ({:.0} ns and more) in {far} of {} looks, before and after each run",
            spread.lowest,
            spread.highest,
            spread.median,
            cores::FAR_NANOS,
            values.len()
        )
    });
    others.into_iter().chain(lines).collect()
}

fn entries(arguments: &Arguments) -> Vec<Entry> {
    let mut entries = Vec::new();
    for workload in WORKLOADS.iter().filter(|one| one.id.contains(&arguments.workload)) {
        for kind in KINDS.iter().filter(|kind| named(kind, &arguments.peer)) {
            let entry = |shards| Entry { kind, shards, workload, filled: None };
            let asked =
                |shards: &usize| arguments.shards.is_empty() || arguments.shards.contains(shards);
            entries.extend(workload.shards(kind).into_iter().filter(asked).map(entry));
        }
    }
    entries
}

/// Whether the name contains the text, or one of several texts separated by bars.
fn named(kind: &Kind, text: &str) -> bool {
    text.split('|').any(|text| kind.name.contains(text))
}

/// Performs one run. A run that panics or does not verify has failed, and has no figures.
fn run(entry: &mut Entry, round: usize, arguments: &Arguments, dir: &Path) -> Vec<Row> {
    let (workload, peer) = (entry.workload.id, entry.kind.name);
    let shards = entry.shards;
    let before = cores::line_nanos();
    let measured = catch_unwind(AssertUnwindSafe(|| measure(entry, arguments, dir)));
    let mut measured = measured.unwrap_or_else(|_| vec![(FAILED, 1.0)]);
    let lines = [before, cores::line_nanos()].into_iter().flatten();
    measured.extend(lines.map(|nanos| (LINE, nanos)));
    eprintln!("{round} {workload} {peer} {shards}: {measured:?}");
    let row = |(metric, value): (&str, f64)| {
        let peer = if metric == FIO_READ { "fio" } else { peer };
        let (workload, peer) = (workload.to_owned(), peer.to_owned());
        Row { round, workload, peer, shards, metric: metric.to_owned(), value }
    };
    measured.into_iter().map(row).collect()
}

/// Measures a warm replay, then two cold ones. A log that reads all its files at open has them in
/// the cache when it replays.
fn replay(kind: &Kind, shards: usize, dir: &Path, records: u64) -> Vec<(&'static str, f64)> {
    load::warm(dir);
    let [reading, with_open] = load::replay(kind, shards, dir, records, load::Cold::No);
    let [cold, _] = load::replay(kind, shards, dir, records, load::Cold::OnceOpen);
    let [_, cold_with_open] = load::replay(kind, shards, dir, records, load::Cold::BeforeOpening);
    let mut figures = vec![
        (RATE, reading),
        (WITH_OPEN, with_open),
        (COLD, cold),
        (COLD_WITH_OPEN, cold_with_open),
    ];
    if kind.name == peer::KINDS[0].name {
        load::drop_cache(dir);
        let read = fio::read(&load::files(dir));
        figures.extend(read.map(|share| (FIO_READ, share * records as f64)));
    }
    figures
}

fn measure(entry: &mut Entry, arguments: &Arguments, dir: &Path) -> Vec<(&'static str, f64)> {
    let Entry { kind, shards, workload, filled } = entry;
    let Some(load) = &workload.load else {
        let records = (arguments.replay_mib << 20) / load::PAYLOAD_BYTES as u64;
        let filled = filled.get_or_insert_with(|| {
            let filled = scratch(dir);
            load::fill(kind, *shards, filled.path(), records);
            load::replay(kind, *shards, filled.path(), records, load::Cold::No);
            filled
        });
        return replay(kind, *shards, filled.path(), records);
    };
    let elapsed = Duration::from_secs_f64(arguments.seconds);
    let once = || load::run(kind, *shards, load, scratch(dir).path(), elapsed);
    let mut outcome = once();
    for _ in 1..arguments.tries {
        if outcome.others <= OTHERS_MAX {
            break;
        }
        let again = once();
        if again.others < outcome.others {
            outcome = again;
        }
    }
    let latency =
        outcome.latency_micros.into_iter().flat_map(|[p50, p99]| [(P50, p50), (P99, p99)]);
    let outcome = [(RATE, outcome.per_second), (OTHERS, outcome.others)];
    outcome.into_iter().chain(latency).collect()
}
