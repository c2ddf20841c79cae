//! The figures of tasks as Markdown: first the targets, then each load.

use std::collections::BTreeSet;

use super::memory::{FUTURE, HEAP, RELEASED, SHARD, TOTAL};
use super::open_loop::OUTSTANDING;
use super::run::{CPU, P999};
use super::{CHANNELS, DEFAULT_SHARDS, MUTEX, NO_ROLLS, NO_TRUNCATION, OURS, RUNS};
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
    ("memory-16384", RELEASED, Against::Value, 64.0),
    ("memory-100000", RELEASED, Against::Value, 64.0),
    ("idle", SHARD, Against::Value, 65_536.0),
    ("rolls-1024", P999, Against::Peer(NO_ROLLS), 2.0),
    ("truncation-1024", P99, Against::Peer(NO_TRUNCATION), 1.5),
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
            let theirs = spread(rows, load, metric, peer, shards)
                .or_else(|| spread(rows, load, metric, peer, 1))?;
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

/// The columns of a load: their titles, and their metrics. The first decides the order.
fn columns(load: &str) -> &'static [(&'static str, &'static str)] {
    if load.starts_with("memory") {
        return &[("bytes", TOTAL), ("future", FUTURE), ("heap", HEAP), ("released", RELEASED)];
    }
    if load == "idle" {
        return &[("bytes per shard", SHARD)];
    }
    &[
        ("records/s", RATE),
        ("P50 us", P50),
        ("P99 us", P99),
        ("P99.9 us", P999),
        ("CPU us", CPU),
        ("tasks at most", OUTSTANDING),
    ]
}

fn load(rows: &[Row], load: &str, out: &mut String) {
    let columns =
        columns(load).iter().filter(|(_, metric)| !standings(rows, load, metric).is_empty());
    let columns: Vec<_> = columns.collect();
    let Some((_, first)) = columns.first() else { return };
    let titles: String = columns.iter().map(|(title, _)| format!("{title} | ")).collect();
    let line = "---|".repeat(columns.len() + 3);
    out.push_str(&format!(
        "\n### {load}\n\n| | shards | x mutex | {}\n|{line}\n",
        titles.trim_end()
    ));
    let mutex = spread(rows, load, first, MUTEX, 1);
    for one in standings(rows, load, first) {
        let times =
            mutex.map_or("-".into(), |mutex| format!("{:.2}", one.spread.median / mutex.median));
        out.push_str(&format!("| {} | {} | {times} |", one.peer, name(one.shards)));
        for (_, metric) in &columns {
            let figure = spread(rows, load, metric, &one.peer, one.shards);
            out.push_str(&format!(" {} |", figure.map_or("-".into(), ranged)));
        }
        out.push('\n');
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
        let run = format!("{workload}, {peer}, {shards} shards, round {round}");
        out.push_str(&format!("\n- failed, no figure: {run}\n"));
    }
    out
}
