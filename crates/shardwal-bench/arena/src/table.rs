//! The figures as Markdown: first the targets, then the standings of each workload.

use std::fmt::Write;

use crate::cores::FAR_NANOS;
use crate::figures::{FAILED, Row, Standing, of_runs, standings};
use crate::machine_words::short;
use crate::peer::KINDS;
use crate::workload::{
    Against, COLD, COLD_WITH_OPEN, FIO_READ, LINE, P50, P99, RATE, TARGETS, Target, WITH_OPEN,
    WORKLOADS, is_rate,
};

const OURS: &str = "shardwal";

fn promises_less(peer: &str) -> &'static str {
    KINDS.iter().find(|kind| kind.name == peer).map_or("", |kind| kind.promises_less)
}

/// The best standing that passes `test` and has the target's number of shards.
fn best(rows: &[Row], target: &Target, test: impl Fn(&str) -> bool) -> Option<Standing> {
    let mut standings = standings(rows, target.workload, target.metric);
    if !is_rate(target.metric) {
        standings.reverse();
    }
    let fits = |standing: &Standing| target.shards.is_none_or(|shards| shards == standing.shards);
    standings.into_iter().find(|standing| test(&standing.peer) && fits(standing))
}

/// The peer that the target names, and its result.
fn rival(rows: &[Row], target: &Target) -> Option<Standing> {
    match target.against {
        Against::Best => best(rows, target, |peer| peer != OURS && promises_less(peer).is_empty()),
        Against::Named("one mutex") => best(rows, target, |peer| peer == "one mutex"),
        Against::Named("mutex") => {
            best(rows, target, |peer| peer.contains("mutex") && promises_less(peer).is_empty())
        }
        Against::Ours(shards) => {
            let target = Target { shards: Some(shards), ..*target };
            best(rows, &target, |peer| peer == OURS)
        }
        Against::Named(name) => best(rows, target, |peer| peer.contains(name)),
        Against::Fio(figure) => standings(rows, "fio", figure).into_iter().next(),
        Against::FioRead => standings(rows, target.workload, FIO_READ).into_iter().next(),
    }
}

/// shardwal's standing and its rival's.
fn held_against(rows: &[Row], target: &Target) -> Option<(Standing, Standing)> {
    best(rows, target, |peer| peer == OURS).zip(rival(rows, target))
}

fn targets(rows: &[Row], out: &mut String) {
    out.push_str(
        "| workload, 256 B | shardwal (shards) | held against (shards) | ratio | target | | cores near | far |\n",
    );
    out.push_str("|---|---|---|---|---|---|---|---|\n");
    let near = of_runs(rows, LINE, |nanos| nanos < FAR_NANOS);
    let far = of_runs(rows, LINE, |nanos| nanos >= FAR_NANOS);
    for target in TARGETS {
        let Some((ours, theirs)) = held_against(rows, target) else { continue };
        let ratio = ours.spread.median / theirs.spread.median;
        let [near, far] = [&near, &far].map(|rows| {
            held_against(rows, target).map_or(String::new(), |(ours, theirs)| {
                format!("{:.2}", ours.spread.median / theirs.spread.median)
            })
        });
        let (sign, met) = if is_rate(target.metric) {
            (">=", ratio >= target.times)
        } else {
            ("<=", ratio <= target.times)
        };
        let asked = target.title.contains("no target");
        let verdict = if asked {
            ""
        } else if met {
            "met"
        } else {
            "**missed**"
        };
        let asked = if asked { "-".into() } else { format!("{sign} {}", target.times) };
        let (title, unit) = (target.title, if is_rate(target.metric) { "/s" } else { " us" });
        let of = |standing: &Standing| {
            format!("{}{unit} ({})", short(standing.spread.median), standing.shards)
        };
        writeln!(
            out,
            "| {title} | {} | {}: {} | {ratio:.2} | {asked} | {verdict} | {near} | {far} |",
            of(&ours),
            theirs.peer,
            of(&theirs)
        )
        .expect("a string takes a line");
    }
}

fn workload(rows: &[Row], id: &str, metric: &str, out: &mut String) {
    let rates = standings(rows, id, metric);
    if rates.is_empty() {
        return;
    }
    let find = |metric, peer: &str, shards| {
        let all = standings(rows, id, metric).into_iter();
        all.into_iter().find(|one| one.peer == peer && one.shards == shards)
    };
    let opened = match metric {
        WITH_OPEN => ", opening included",
        COLD => ", cold",
        COLD_WITH_OPEN => ", cold, opening included",
        _ => "",
    };
    writeln!(out, "\n### {id}{opened}\n\n| | shards | records/s | range | P50 us | P99 us | |\n|---|---|---|---|---|---|---|")
        .expect("a string takes a line");
    for Standing { peer, shards, spread } in rates {
        let latency = |metric| {
            find(metric, &peer, shards)
                .map_or(String::from("-"), |found| short(found.spread.median))
        };
        let kind = KINDS.iter().find(|kind| kind.name == peer);
        let as_batch = id.contains("in-flight") && kind.is_some_and(|kind| !kind.pipelines);
        let remark = if as_batch { "blocks: batches of 256" } else { promises_less(&peer) };
        let (median, lowest, highest) =
            (short(spread.median), short(spread.lowest), short(spread.highest));
        writeln!(
            out,
            "| {peer} | {shards} | {median} | {lowest} .. {highest} | {} | {} | {remark} |",
            latency(P50),
            latency(P99)
        )
        .expect("a string takes a line");
    }
}

/// The whole document.
pub fn markdown(head: &[String], rows: &[Row]) -> String {
    let mut out = String::new();
    for line in head {
        out.push_str(&format!("- {line}\n"));
    }
    let mut metrics: Vec<_> =
        rows.iter().filter(|row| row.workload == "fio").map(|row| &row.metric).collect();
    metrics.dedup();
    metrics.sort();
    metrics.dedup();
    for metric in metrics {
        let of = |round| rows.iter().find(|row| &row.metric == metric && row.round == round);
        let [before, after] =
            [0, 1].map(|round| of(round).map_or("?".into(), |row| short(row.value)));
        out.push_str(&format!("- fio, {metric}: {before} before, {after} after\n"));
    }
    out.push('\n');
    targets(rows, &mut out);
    for one in WORKLOADS {
        for metric in [RATE, WITH_OPEN, COLD, COLD_WITH_OPEN] {
            workload(rows, one.id, metric, &mut out);
        }
    }
    let failed: Vec<_> = rows.iter().filter(|row| row.metric == FAILED).collect();
    if !failed.is_empty() {
        out.push_str("\n### Runs that failed: no figure\n\n");
    }
    for row in failed {
        let Row { round, workload, peer, shards, .. } = row;
        out.push_str(&format!("- {peer}, {shards} shards, {workload}, round {round}\n"));
    }
    out
}
