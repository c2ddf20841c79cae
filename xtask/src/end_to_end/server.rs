//! The ingest server as a child process.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::{Scene, http};
use crate::Result;
use crate::process::Group;

pub(super) struct Server {
    process: Group,
    /// Where it listens: `127.0.0.1:PORT`.
    pub(super) address: String,
}

impl Server {
    /// Starts `shardwal-ingest serve` on the scene's log, and waits until it listens.
    ///
    /// `listen` may have port 0. `command` is the program, with others before it if need be.
    pub(super) fn start(
        scene: &Scene,
        command: &mut Command,
        listen: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let out = scene.path("server.out");
        let log = scene.path("log");
        let process = Group::spawn(
            command
                .args(["serve", "--listen", listen, "--dir"])
                .arg(&log)
                .args(arguments)
                .stdout(File::create(&out)?)
                .stderr(File::options().create(true).append(true).open(scene.path("server.err"))?),
        )?;
        let mut server = Self { process, address: String::new() };
        scene.wait_for("the server to listen", 60, || {
            if server.process.ended()?.is_some() {
                return Err(
                    format!("the server has ended: {}", said(&scene.path("server.err"))).into()
                );
            }
            let text = fs::read_to_string(&out)?;
            let line = text.lines().find_map(|line| line.split_once("listening url=http://"));
            let (_time, url) = line.unwrap_or_default();
            url.trim_end_matches('/').clone_into(&mut server.address);
            Ok(!server.address.is_empty())
        })?;
        Ok(server)
    }

    /// Waits until it has replayed its log.
    pub(super) fn wait_ready(&self, scene: &Scene) -> Result {
        scene.wait_for("the server to be ready", 60, || {
            let status = http::get(&self.address, "/status.json").unwrap_or_default();
            Ok(status.contains("\"phase\":\"ready\""))
        })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGTERM. An error if it does not succeed.
    pub(super) fn stop(mut self) -> Result {
        if self.process.terminate()? {
            Ok(())
        } else {
            Err("the server did not end in order".into())
        }
    }
}

fn said(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
