//! The figures of tasks as Markdown: first the targets, then each load.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{CHANNELS, CPU, DEFAULT_SHARDS, MUTEX, OURS, P999, RUNS};
use crate::figures::{FAILED, Row, Spread, standings};
use crate::machine_words::short;
use crate::workload::{P50, P99, RATE};

/// What a target compares shardwal's figure with.
#[derive(Clone, Copy)]
enum Against {
    /// Nothing: the limit is a value.
    Value,
    /// The figure of a peer under this load.
    Peer(&'static str),
    /// shardwal's own figure under another load.
    Load(&'static str),
}

/// A load, a metric, what it is compared with, and the limit. Rates have a lower limit, other
/// figures an upper one.
type Target = (&'static str, &'static str, Against, f64);

const TARGETS: &[Target] = &[
    ("tasks-64", RATE, Against::Peer(MUTEX), 1.3),
    ("tasks-64", P99, Against::Peer(MUTEX), 0.8),
    ("tasks-1024", RATE, Against::Peer(MUTEX), 1.3),
    ("tasks-1024", RATE, Against::Peer(CHANNELS), 3.0),
    ("tasks-16384", RATE, Against::Peer(MUTEX), 1.3),
    ("tasks-16384", RATE, Against::Peer(CHANNELS), 3.0),
    ("tasks-16384", CPU, Against::Value, 0.5),
    ("tasks-100000", RATE, Against::Peer(MUTEX), 1.2),
    ("tasks-100000", P99, Against::Peer(MUTEX), 1.0),
    ("tasks-100000", CPU, Against::Load("tasks-1024"), 2.0),
    (RUNS, RATE, Against::Value, 2.5e6),
    (RUNS, CPU, Against::Value, 0.25),
];

fn spread(rows: &[Row], load: &str, metric: &str, peer: &str, shards: usize) -> Option<Spread> {
    let all = standings(rows, load, metric);
    all.into_iter().find(|one| one.peer == peer && one.shards == shards).map(|one| one.spread)
}

fn name(shards: usize) -> String {
    if shards == DEFAULT_SHARDS { "default".into() } else { shards.to_string() }
}

fn ranged(spread: Spread) -> String {
    let [median, lowest, highest] = [spread.median, spread.lowest, spread.highest].map(short);
    format!("{median} ({lowest} .. {highest})")
}

/// A line of the table of targets, for one number of shards.
fn target(rows: &[Row], shards: usize, target: &Target) -> Option<String> {
    let (load, metric, against, limit) = *target;
    let ours = spread(rows, load, metric, OURS, shards)?;
    let (rival, theirs) = match against {
        Against::Value => (String::from("-"), 1.0),
        Against::Peer(peer) => {
            let theirs = spread(rows, load, metric, peer, 1)?;
            (format!("{peer}: {}", ranged(theirs)), theirs.median)
        }
        Against::Load(other) => {
            let theirs = spread(rows, other, metric, OURS, shards)?;
            (format!("{other}: {}", ranged(theirs)), theirs.median)
        }
    };
    let ratio = ours.median / theirs;
    let (sign, met) = if metric == RATE { (">=", ratio >= limit) } else { ("<=", ratio <= limit) };
    let met = if met { "met" } else { "**missed**" };
    let ratio = match against {
        Against::Value => String::from("-"),
        _ => format!("{ratio:.2}"),
    };
    Some(format!(
        "| {load} | {metric} | {} | {} | {rival} | {ratio} | {sign} {}, {met} |",
        name(shards),
        ranged(ours),
        short(limit)
    ))
}

fn load(rows: &[Row], load: &str, out: &mut String) {
    writeln!(
        out,
        "\n### {load}\n\n| | shards | records/s | x mutex | P50 us | P99 us | P99.9 us | CPU us |\n\
         |---|---|---|---|---|---|---|---|"
    )
    .expect("a string takes a line");
    let mutex = spread(rows, load, RATE, MUTEX, 1);
    for one in standings(rows, load, RATE) {
        let figure =
            |metric| spread(rows, load, metric, &one.peer, one.shards).map_or("-".into(), ranged);
        let times =
            mutex.map_or("-".into(), |mutex| format!("{:.2}", one.spread.median / mutex.median));
        let [p50, p99, p999, cpu] = [P50, P99, P999, CPU].map(figure);
        writeln!(
            out,
            "| {} | {} | {} | {times} | {p50} | {p99} | {p999} | {cpu} |",
            one.peer,
            name(one.shards),
            ranged(one.spread)
        )
        .expect("a string takes a line");
    }
}

/// The whole document.
pub fn markdown(head: &[String], rows: &[Row]) -> String {
    let mut out: String = head.iter().map(|line| format!("- {line}\n")).collect();
    out.push_str("\n| load | figure | shards | shardwal | compared with | ratio | target |\n");
    out.push_str("|---|---|---|---|---|---|---|\n");
    let ours = rows.iter().filter(|row| row.peer == OURS).map(|row| row.shards);
    let ours: BTreeSet<_> = ours.collect();
    for shards in ours {
        let lines = TARGETS.iter().filter_map(|one| target(rows, shards, one));
        lines.for_each(|line| out.push_str(&(line + "\n")));
    }
    let mut loads: Vec<_> = rows.iter().map(|row| &row.workload).collect();
    loads.sort_by_key(|load| (load.len(), load.to_string()));
    loads.dedup();
    loads.into_iter().for_each(|one| load(rows, one, &mut out));
    for Row { round, workload, peer, shards, .. } in rows.iter().filter(|row| row.metric == FAILED)
    {
        let shards = name(*shards);
        writeln!(out, "\n- failed, no figure: {workload}, {peer}, {shards} shards, round {round}")
            .expect("a string takes a line");
    }
    out
}
