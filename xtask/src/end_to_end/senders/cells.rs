//! The cells of a row: what may go wrong while a sender sends, and what must be right then.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::samples::{Dump, Samples, export};
use super::sender::{Errand, Sender, Sending};
use super::small_disk::SmallDisk;
use crate::Result;
use crate::end_to_end::server::Server;
use crate::end_to_end::{Scene, http};

/// The names of the cells, in their order.
pub(super) const NAMES: [&str; 5] =
    ["writes", "kill -9 twice", "replay", "full disk", "partial error"];

/// Requests between two kills.
const STEPS: u64 = 10;

/// How a cell ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// It is right, in this way.
    Right(&'static str),
    Skipped(String),
    Wrong(String),
}

/// What each cell of a sender uses.
pub(super) struct Row<'row> {
    pub(super) scene: &'row Scene,
    pub(super) ingest: &'row Path,
    pub(super) sender: &'row dyn Sender,
}

impl Row<'_> {
    /// Fills the row.
    pub(super) fn cells(&self) -> [Cell; 5] {
        let mut after_kills = Cell::Skipped("there was no kill".into());
        [
            self.cell("writes", |scene| self.writes(scene)),
            self.cell("kills", |scene| {
                let truth = self.kills(scene)?;
                after_kills = or_wrong(self.replay(scene, &truth));
                Ok(Cell::Right("ok"))
            }),
            after_kills,
            self.cell("full-disk", |scene| self.full_disk(scene)),
            self.cell("partial", |scene| self.partial(scene)),
        ]
    }

    /// Runs a cell in a folder of its own, which is kept if the cell is wrong.
    fn cell(&self, name: &str, fill: impl FnOnce(&Scene) -> Result<Cell>) -> Cell {
        let only = std::env::var("CELLS").unwrap_or_default();
        if !only.is_empty() && !only.split_whitespace().any(|word| name.contains(word)) {
            return Cell::Skipped("CELLS does not name it".into());
        }
        let scene = match self.scene.within(&format!("{}-{name}", self.sender.name())) {
            Ok(scene) => scene,
            Err(error) => return Cell::Wrong(error.to_string()),
        };
        let cell = or_wrong(fill(&scene));
        if matches!(cell, Cell::Wrong(_)) {
            scene.work.keep();
        }
        cell
    }

    fn start_server(&self, scene: &Scene, listen: &str, more: &[&str]) -> Result<Server> {
        // Its log says what it took from whom, which explains a cell that is wrong.
        let options = [&["--shards", "2", "--log-level", "debug"], more].concat();
        let server = Server::start(scene, &mut Command::new(self.ingest), listen, &options)?;
        server.wait_ready(scene)?;
        Ok(server)
    }

    /// Compares the log of a scene's server, which does not run, with what must be stored.
    fn require_in_log(&self, scene: &Scene, truth: &Samples) -> Result<Dump> {
        let dump = Dump::read(scene, self.ingest)?;
        truth.require(&dump.of(self.sender.name()), "the log")?;
        Ok(dump)
    }

    /// What was acknowledged is in the log, and nothing else of the sender.
    fn writes(&self, scene: &Scene) -> Result<Cell> {
        let server = self.start_server(scene, "127.0.0.1:0", &[])?;
        let mut sending = self.sender.start(scene, &server.address, Errand::Few)?;
        let truth = sending.finish(scene, &server)?;
        drop(sending);
        server.stop()?;
        self.require_in_log(scene, &truth)?;
        Ok(Cell::Right("ok"))
    }

    /// The server is killed twice while the sender sends. Returns what must be stored, and is.
    fn kills(&self, scene: &Scene) -> Result<Samples> {
        let mut server = self.start_server(scene, "127.0.0.1:0", &[])?;
        let address = server.address.clone();
        let mut sending = self.sender.start(scene, &address, Errand::Many)?;
        for _ in 0..2 {
            wait_for_steps(scene, &server, sending.as_mut())?;
            // Dropping the server kills it with SIGKILL.
            drop(server);
            if sending.has_ended()? {
                return Err("it had sent everything before the kill".into());
            }
            scene.interrupt.sleep(Duration::from_millis(300))?;
            server = self.start_server(scene, &address, &[])?;
        }
        let truth = sending.finish(scene, &server)?;
        drop(sending);
        // A third kill: nothing may depend on an orderly end.
        drop(server);
        self.require_in_log(scene, &truth)?;
        Ok(truth)
    }

    /// The log of the killed server is replayed, by a restart after the kill and by one after an
    /// orderly end: the server answers the same, and its log is the same.
    fn replay(&self, scene: &Scene, truth: &Samples) -> Result<Cell> {
        let before = Dump::read(scene, self.ingest)?;
        for _ in 0..2 {
            let server = self.start_server(scene, "127.0.0.1:0", &[])?;
            truth.require(&export(&server.address, self.sender.name())?, "the replay")?;
            server.stop()?;
            let after = self.require_in_log(scene, truth)?;
            if !before.equals(&after) {
                return Err("the dump after the restart is another".into());
            }
        }
        Ok(Cell::Right("ok"))
    }

    /// The disk is filled while the sender sends, until the server refuses. After room is made,
    /// everything arrives.
    fn full_disk(&self, scene: &Scene) -> Result<Cell> {
        let Some(disk) = SmallDisk::mount(&scene.path("log"))? else {
            return Ok(Cell::Skipped("only root can mount a small file system".into()));
        };
        let options = ["--free-space-min-bytes", "8388608"];
        let server = self.start_server(scene, "127.0.0.1:0", &options)?;
        let mut sending = self.sender.start(scene, &server.address, Errand::ManyByItself)?;
        wait_for_steps(scene, &server, sending.as_mut())?;
        disk.fill()?;
        scene.wait_for("a refusal of the full disk", 60, || {
            if sending.has_ended()? {
                return Err("it had sent everything before the disk was full".into());
            }
            Ok(counter(&server, "ingest_refusals_total{reason=\"disk_full\"}")? > 0)
        })?;
        scene.interrupt.sleep(Duration::from_secs(1))?;
        disk.free()?;
        let truth = sending.finish(scene, &server)?;
        let reports = sending.has_errors()?;
        drop(sending);
        server.stop()?;
        self.require_in_log(scene, &truth)?;
        Ok(Cell::Right(if reports { "ok, reports" } else { "ok, repeats" }))
    }

    /// A request has a bad part. The rest is stored, the sender shows it, and the server counts both.
    fn partial(&self, scene: &Scene) -> Result<Cell> {
        let server = self.start_server(scene, "127.0.0.1:0", &[])?;
        let mut sending = self.sender.start(scene, &server.address, Errand::Partial)?;
        let truth = sending.finish(scene, &server)?;
        let (shown, repeats) = (sending.shows_partial_error()?, sending.repeats()?);
        drop(sending);
        let refused = counter(&server, "ingest_refusals_total{reason=\"invalid\"}")?;
        let counted = counter(&server, "ingest_samples_total")?;
        server.stop()?;
        let dump = self.require_in_log(scene, &truth)?;
        if refused == 0 {
            return Err("the server counts no refusal".into());
        }
        let stored = dump.samples() as u64;
        // A sample that is sent twice is stored once.
        if counted < stored || (counted > stored && !repeats) {
            return Err(format!("the server counts {counted} samples, and stores {stored}").into());
        }
        Ok(Cell::Right(if shown == "said" { "ok" } else { "ok, silent" }))
    }
}

fn or_wrong(cell: Result<Cell>) -> Cell {
    cell.unwrap_or_else(|error| Cell::Wrong(error.to_string()))
}

/// Waits until the sender has sent some requests, and the server has stored some samples.
fn wait_for_steps(scene: &Scene, server: &Server, sending: &mut dyn Sending) -> Result {
    let before = sending.steps()?;
    scene.wait_for("requests", 60, || {
        if sending.has_ended()? {
            return Err("it had sent everything too soon".into());
        }
        let stored = counter(server, "ingest_samples_total")?;
        Ok(sending.steps()? >= before + STEPS && stored > 0)
    })
}

/// A counter of the server, 0 before its first count.
fn counter(server: &Server, name: &str) -> Result<u64> {
    let metrics = http::get(&server.address, "/metrics")?;
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next().map_or(Ok(0), |value| Ok(value.parse()?))
}
