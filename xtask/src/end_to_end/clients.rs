//! Clients from PyPI and npm send points at once, while the server is killed with SIGKILL. At the
//! end the log must have every point of each. Then the snippets of the page run once.
//!
//! Setting: `POINTS` (10,000), per client.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::Server;
use super::{Done, Scene, build, http, missing, setting, snippets};
use crate::process::{Group, is_installed, succeeds};
use crate::{Result, report, tree};

/// Packages of PyPI, and the clients of `xtask/clients/send.py` that they are.
pub(super) const PYTHON: ([&str; 5], &[&str]) = (
    [
        "influxdb==5.3.2",
        "influxdb-client==1.50.0",
        "influxdb3-python==0.21.0",
        "questdb==6.0.0",
        "opentelemetry-exporter-otlp-proto-http==1.45.2",
    ],
    &["influxdb", "influxdb-client", "influxdb3", "questdb", "otlp"],
);

/// Packages of npm, and the clients of `xtask/clients/send.js` that they are.
pub(super) const NODE: ([&str; 5], &[&str]) = (
    [
        "@influxdata/influxdb-client@1.35.0",
        "@questdb/nodejs-client@4.2.0",
        "@opentelemetry/exporter-metrics-otlp-http@0.223.0",
        "@opentelemetry/resources@2.12.0",
        "@opentelemetry/sdk-metrics@2.12.0",
    ],
    &["influxdb-js", "questdb-js", "otlp-js"],
);

const KILLS: usize = 2;

pub(super) fn run(scene: &Scene) -> Result<Done> {
    if let Some(done) = missing(&["python3"]) {
        return Ok(done);
    }
    let points = setting("POINTS", 10_000)?;
    let skip = |what: &'static str| move |why| report::skip(what, why);
    let python = python(scene)?.map_err(skip("end to end, clients of PyPI")).ok();
    let node = node(scene)?.map_err(skip("end to end, clients of npm")).ok();
    let mut senders = Vec::new();
    for (program, names) in [(&python, PYTHON.1), (&node, NODE.1)] {
        senders.extend(
            program.iter().flat_map(|program| names.iter().map(|name| (*name, program.clone()))),
        );
    }
    if senders.is_empty() {
        return Ok(Done::Skipped("no client can be installed".into()));
    }
    let ingest = build()?.join("shardwal-ingest");
    let start =
        |listen: &str| Server::start(scene, &mut Command::new(&ingest), listen, &["--shards", "2"]);
    let mut server = start("127.0.0.1:0")?;
    let address = server.address.clone();
    let mut running = Vec::new();
    for (name, program) in &senders {
        running.push((*name, program.start(scene, name, &address, points, "again")?));
    }
    for _ in 0..KILLS {
        scene.interrupt.sleep(Duration::from_secs(2))?;
        // Dropping the server kills it with SIGKILL.
        drop(server);
        server = start(&address)?;
    }
    for (name, process) in &mut running {
        scene.wait_for(name, 120, || match process.ended()? {
            Some(false) => Err(format!("{name} failed").into()),
            ended => Ok(ended.is_some()),
        })?;
    }
    drop(server);
    let server = start(&address)?;
    server.wait_ready(scene)?;
    for (name, _) in &running {
        check(&server, name, points)?;
    }
    server.stop()?;
    snippets::run(scene, &ingest, python.as_ref(), node.as_ref())?;
    Ok(Done::Passed)
}

/// A program that runs clients.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) program: PathBuf,
    /// What it interprets, if anything.
    pub(super) script: Option<PathBuf>,
    /// Where the program runs.
    pub(super) folder: PathBuf,
}

impl Program {
    /// Starts a client. `mode` is one of those in `send.py`.
    pub(super) fn start(
        &self,
        scene: &Scene,
        name: &str,
        address: &str,
        points: u64,
        mode: &str,
    ) -> Result<Group> {
        let said = File::create(scene.path(&format!("{name}.out")))?;
        Group::spawn(
            Command::new(&self.program)
                .args(&self.script)
                .args([name, &format!("http://{address}"), &points.to_string(), mode])
                .current_dir(&self.folder)
                .stdout(said.try_clone()?)
                .stderr(said),
        )
    }
}

/// Python with the clients, or why there is none.
pub(super) fn python(scene: &Scene) -> Result<Result<Program, &'static str>> {
    let venv = scene.path("venv");
    let [pip, program] = ["bin/pip", "bin/python"].map(|name| venv.join(name));
    let install = ["install", "--quiet", "--disable-pip-version-check"];
    let installed = succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && succeeds(Command::new(pip).args(install).args(PYTHON.0));
    let script = Some(clients().join("send.py"));
    let folder = venv;
    Ok(if installed {
        Ok(Program { program, script, folder })
    } else {
        Err("their packages cannot be installed")
    })
}

/// Node with the clients, or why there is none.
pub(super) fn node(scene: &Scene) -> Result<Result<Program, &'static str>> {
    if !is_installed("node") || !is_installed("npm") {
        return Ok(Err("there is no node, or no npm"));
    }
    let folder = scene.path("node");
    std::fs::create_dir(&folder)?;
    let install = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
    let mut npm = Command::new("npm");
    let installed = succeeds(npm.args(install).args(NODE.0).current_dir(&folder));
    let (program, script) = ("node".into(), Some(clients().join("send.js")));
    Ok(if installed {
        Ok(Program { program, script, folder })
    } else {
        Err("their packages cannot be installed")
    })
}

fn clients() -> PathBuf {
    tree::root().join(Path::new("xtask/clients"))
}

/// Checks that the server has every point of a client.
fn check(server: &Server, name: &str, points: u64) -> Result {
    // {__name__="points_value",sender="NAME"}
    let selector = format!("%7B__name__%3D%22points_value%22%2Csender%3D%22{name}%22%7D");
    let export = http::get(&server.address, &format!("/api/v1/export?match%5B%5D={selector}"))?;
    let counted: usize = export.lines().map(values).sum();
    println!("{name}: {counted} of {points} points are in the log, after {} kills", KILLS + 1);
    if counted as u64 == points {
        Ok(())
    } else {
        Err(format!("{name}: points are missing").into())
    }
}

/// The number of values in a line of the export.
fn values(line: &str) -> usize {
    let list = line.split("\"values\":[").nth(1).and_then(|rest| rest.split(']').next());
    list.map_or(0, |list| list.split(',').filter(|value| !value.is_empty()).count())
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn values_are_counted() {
        let line = r#"{"metric":{"host":"a"},"values":[1.5,2,3],"timestamps":[1,2,3]}"#;
        assert_eq!(values(line), 3);
        assert_eq!(values(r#"{"values":[]}"#), 0);
    }
}
