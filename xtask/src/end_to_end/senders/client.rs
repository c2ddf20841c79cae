//! Clients that send numbered points until each is acknowledged: `xtask/clients/send.*`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::samples::Samples;
use super::sender::{Errand, Sender, Sending};
use crate::end_to_end::clients::Program;
use crate::end_to_end::server::Server;
use crate::end_to_end::{Scene, setting};
use crate::process::{Group, succeeds};
use crate::{Result, tree};

pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) program: Program,
    /// What it says of a partial error. `None` if its protocol calls that a success, and it says
    /// nothing.
    pub(super) says: Option<&'static str>,
}

impl Sender for Client {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, scene: &Scene, server: &str, errand: Errand) -> Result<Box<dyn Sending>> {
        let (points, mode) = match errand {
            Errand::Few => (500, "again"),
            Errand::Many => (setting("POINTS", 4_000)?, "again"),
            Errand::ManyByItself => (setting("POINTS", 4_000)?, "own"),
            Errand::Partial => (10, "partial"),
        };
        let process = self.program.start(scene, self.name, server, points, mode)?;
        let said = scene.path(&format!("{}.out", self.name));
        Ok(Box::new(Running { process, said, points, says: self.says }))
    }
}

struct Running {
    process: Group,
    /// What it printed.
    said: PathBuf,
    points: u64,
    says: Option<&'static str>,
}

impl Running {
    fn said(&self) -> Result<String> {
        tree::read(&self.said)
    }
}

impl Sending for Running {
    fn steps(&mut self) -> Result<u64> {
        Ok(Samples::stored(&self.said()?).len() as u64 / 50)
    }

    fn has_ended(&mut self) -> Result<bool> {
        match self.process.ended()? {
            Some(false) => {
                let said = self.said()?;
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                Err(format!("it failed: {}", last.join(" <- ")).into())
            }
            ended => Ok(ended.is_some()),
        }
    }

    fn finish(&mut self, scene: &Scene, _server: &Server) -> Result<Samples> {
        scene.wait_for("the client to end", 180, || self.has_ended())?;
        let stored = Samples::stored(&self.said()?);
        if stored.len() as u64 == self.points {
            Ok(stored)
        } else {
            Err(format!("it ended with {} of {} points", stored.len(), self.points).into())
        }
    }

    fn has_errors(&mut self) -> Result<bool> {
        Ok(self.said()?.lines().any(|line| line.starts_with("error ")))
    }

    fn repeats(&mut self) -> Result<bool> {
        // The script would repeat it, and does not.
        Ok(false)
    }

    fn shows_partial_error(&mut self) -> Result<&'static str> {
        let (said, errors) = (self.said()?, self.has_errors()?);
        match self.says {
            Some(text) if said.contains(text) => Ok("said"),
            Some(text) => Err(format!("it does not say {text:?}: {said:.300}").into()),
            None if !errors => Ok("a success"),
            None => Err(format!("it shows an error: {said:.300}").into()),
        }
    }
}

/// The client of Rust, or why there is none. It is built anew only if it has changed.
pub(super) fn build_rust(scene: &Scene) -> Result<Result<Program, &'static str>> {
    let folder = scene.path("rust");
    fs::create_dir_all(folder.join("src"))?;
    let sources = tree::root().join("xtask/clients");
    fs::copy(sources.join("send.toml"), folder.join("Cargo.toml"))?;
    fs::copy(sources.join("send.rs"), folder.join("src/main.rs"))?;
    let target = tree::root().join("target/end-to-end-rust");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet"]).current_dir(&folder).env("CARGO_TARGET_DIR", &target);
    Ok(if succeeds(&mut cargo) {
        Ok(Program { program: target.join("debug/send"), script: None, folder })
    } else {
        Err("its packages of crates.io cannot be built")
    })
}
