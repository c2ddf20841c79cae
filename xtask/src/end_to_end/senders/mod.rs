//! Each sender, and what may go wrong while it sends: a table whose every cell must be right.
//!
//! Each row has servers of its own. Several rows run at once, because most of their time is spent
//! waiting. Settings: `POINTS` (4,000) per client and cell, `ROWS_AT_ONCE` (4), `SENDERS`, words of
//! which a sender's name must contain one, and `CELLS` likewise: `writes`, `kills`, `full-disk`,
//! `partial`.

mod cells;
mod client;
mod exporter;
mod samples;
mod scraper;
mod sender;
mod small_disk;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::clients::{NODE, PYTHON, Program, node, python};
use super::{Done, Scene, build, setting, sid};
use crate::process::is_installed;
use crate::{Result, report};
use cells::{Cell, NAMES, Row};
use client::Client;
use scraper::{Kind, Scraper};
use sender::Sender;

/// A sender, or its name and why it cannot run here.
type Found = Result<Box<dyn Sender>, (&'static str, &'static str)>;

const REMOTE_WRITE_2: &str = "  protobuf_message: io.prometheus.write.v2.Request\n";

pub(super) fn run(scene: &Scene) -> Result<Done> {
    let ingest = build()?.join("shardwal-ingest");
    let words = std::env::var("SENDERS").unwrap_or_default();
    let words: Vec<&str> = words.split_whitespace().collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut senders = clients(scene, &is_wanted)?;
    senders.extend(scrapers(scene, &is_wanted)?);
    senders.retain(|found| {
        is_wanted(found.as_ref().map_or_else(|(name, _)| *name, |sender| sender.name()))
    });
    let rows = fill(scene, &ingest, &senders)?;
    print(&rows);
    let wrong = rows.iter().flat_map(|(_, cells)| cells).filter(|cell| is_wrong(cell)).count();
    let right = rows.iter().flat_map(|(_, cells)| cells).filter(|cell| is_right(cell)).count();
    println!("FIGURE end to end, cells of the senders' table that are right: {right} cells");
    match (wrong, right) {
        (0, 0) => Ok(Done::Skipped("no sender can be installed".into())),
        (0, _) => Ok(Done::Passed),
        _ => Err(format!("{wrong} cells are wrong").into()),
    }
}

fn is_wrong(cell: &Cell) -> bool {
    matches!(cell, Cell::Wrong(_))
}

fn is_right(cell: &Cell) -> bool {
    matches!(cell, Cell::Right(_))
}

/// The clients of `xtask/clients`.
fn clients(scene: &Scene, is_wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut add = |names: &[&'static str], program: &dyn Fn() -> Result<Installed>| -> Result {
        if names.iter().any(|name| is_wanted(name)) {
            let program = program()?;
            found.extend(names.iter().map(|name| client(name, &program)));
        }
        Ok(())
    };
    add(PYTHON.1, &|| python(scene))?;
    add(NODE.1, &|| node(scene))?;
    add(&["otlp-rust"], &|| client::build_rust(scene))?;
    Ok(found)
}

/// A program, or why there is none.
type Installed = Result<Program, &'static str>;

fn client(name: &'static str, program: &Installed) -> Found {
    let program = program.clone().map_err(|why| (name, why))?;
    let says = match name {
        // The SDK of Python shows nothing of a partial success.
        "otlp" => None,
        "otlp-js" | "otlp-rust" | "questdb" | "questdb-js" => Some("--labels-max"),
        _ => Some("partial write"),
    };
    Ok(Box::new(Client { name, program, says }))
}

/// The programs that scrape.
fn scrapers(scene: &Scene, is_wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Found>> {
    let scraper = |name, kind, program: Option<PathBuf>, remote_write, why| -> Found {
        let program = program.ok_or((name, why))?;
        Ok(Box::new(Scraper { name, kind, program, remote_write }))
    };
    let installed = is_installed("prometheus").then(|| "prometheus".into());
    let no_package = "its package cannot be taken from Debian's sid";
    let new = from_sid(scene, "prometheus", "prometheus", is_wanted("prometheus-3-v2"))?;
    let vmagent = from_sid(scene, "victoria-metrics", "vmagent", is_wanted("vmagent"))?;
    let not_installed = "it is not installed; `cargo xtask setup` installs it";
    Ok(vec![
        scraper("prometheus", Kind::Prometheus, installed, "", not_installed),
        scraper("prometheus-3", Kind::Prometheus, new.clone(), "", no_package),
        scraper("prometheus-3-v2", Kind::Prometheus, new, REMOTE_WRITE_2, no_package),
        scraper("vmagent", Kind::Vmagent, vmagent, "", no_package),
    ])
}

/// A program of a package. `None` if it cannot be had, or is not wanted.
fn from_sid(
    scene: &Scene,
    package: &str,
    program: &str,
    is_wanted: bool,
) -> Result<Option<PathBuf>> {
    if !is_wanted {
        return Ok(None);
    }
    let folder = scene.within(package)?;
    let found = sid::programs(&folder, &[package], [program])?;
    // The folder goes with the scene's own.
    folder.work.keep();
    Ok(found.map(|[program]| program))
}

/// Fills all rows, several at once. They keep their order.
fn fill(scene: &Scene, ingest: &Path, senders: &[Found]) -> Result<Vec<(String, [Cell; 5])>> {
    let at_once = usize::try_from(setting("ROWS_AT_ONCE", 4)?)?.max(1);
    let next = Mutex::new(senders.iter().enumerate());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((index, found)) = taken else { break };
                    let row = match found {
                        Ok(sender) => {
                            let row = Row { scene, ingest, sender: sender.as_ref() };
                            (sender.name().to_owned(), row.cells())
                        }
                        Err((name, why)) => {
                            let skipped = || Cell::Skipped((*why).to_owned());
                            ((*name).to_owned(), [(); 5].map(|()| skipped()))
                        }
                    };
                    println!("{}: done", row.0);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push((index, row));
                }
            });
        }
    });
    scene.interrupt.check()?;
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Prints the table, and why a cell is skipped or wrong below it.
fn print(rows: &[(String, [Cell; 5])]) {
    let line = |name: &str, cells: [&str; 5]| {
        println!("| {name:<16} | {} |", cells.map(|cell| format!("{cell:<13}")).join(" | "));
    };
    line("sender", NAMES);
    line("---", ["---"; 5]);
    for (name, cells) in rows {
        line(
            name,
            cells.each_ref().map(|cell| match cell {
                Cell::Right(how) => how,
                Cell::Skipped(_) => "SKIPPED",
                Cell::Wrong(_) => "WRONG",
            }),
        );
    }
    for (name, cells) in rows {
        if let Cell::Skipped(why) = &cells[0]
            && cells.iter().all(|cell| cell == &cells[0])
        {
            report::skip(&format!("end to end, senders, {name}"), why);
            continue;
        }
        for (cell, column) in cells.iter().zip(NAMES) {
            match cell {
                Cell::Right(_) => {}
                Cell::Skipped(why) => {
                    report::skip(&format!("end to end, senders, {name}, {column}"), why);
                }
                Cell::Wrong(why) => println!("WRONG: {name}, {column}: {why}"),
            }
        }
    }
}
