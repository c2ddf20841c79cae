//! Runs the ingest server against programs from outside this project: Prometheus, clients of
//! InfluxDB and QuestDB, a browser.

mod clients;
mod hostile;
mod http;
mod overload;
mod prometheus;
mod prometheus_3;
mod senders;
mod server;
mod sid;
mod snippets;
mod status_page;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{Interrupt, cargo, run as run_program};
use crate::tree::{self, Scratch};
use crate::{Result, report};

const PARTS: [&str; 7] =
    ["prometheus", "clients", "status-page", "prometheus-3", "senders", "overload", "hostile"];

/// Runs the named parts. Without names, all but `prometheus-3` and `senders`, which download
/// programs, and `overload` and `hostile`, which measure.
pub(crate) fn run(arguments: &[String]) -> Result {
    let parts: Vec<&str> = match arguments {
        [] => PARTS[..3].to_vec(),
        _ => arguments.iter().map(String::as_str).collect(),
    };
    let interrupt = Interrupt::listen()?;
    for part in parts {
        println!("\n-- {part}");
        let scene = Scene::new(part, &interrupt)?;
        let done = match part {
            "prometheus" => prometheus::run(&scene),
            "prometheus-3" => prometheus_3::run(&scene),
            "clients" => clients::run(&scene),
            "status-page" => status_page::run(&scene),
            "senders" => senders::run(&scene),
            "overload" => overload::run(&scene),
            "hostile" => hostile::run(&scene),
            _ => {
                return Err(
                    format!("no part is named {part}; there are {}", PARTS.join(", ")).into()
                );
            }
        };
        match done {
            Ok(Done::Passed) => {}
            Ok(Done::Skipped(why)) => report::skip(&format!("end to end, {part}"), &why),
            Err(error) => {
                let kept = scene.work.keep();
                return Err(
                    format!("{part}: {error}; its files are kept in {}", kept.display()).into()
                );
            }
        }
    }
    Ok(())
}

/// How a part ended, if it did not fail.
enum Done {
    Passed,
    /// Why it cannot run on this machine.
    Skipped(String),
}

/// What each part uses.
struct Scene {
    work: Scratch,
    interrupt: Interrupt,
}

impl Scene {
    fn new(part: &str, interrupt: &Interrupt) -> Result<Self> {
        let work = Scratch::new(&tree::root().join("target"), &format!("end-to-end-{part}"))?;
        Ok(Self { work, interrupt: interrupt.clone() })
    }

    /// A scene in a folder of this one.
    fn within(&self, name: &str) -> Result<Self> {
        let work = Scratch::new(self.work.path(), name)?;
        Ok(Self { work, interrupt: self.interrupt.clone() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Waits until a condition holds, for at most `seconds`.
    fn wait_for(
        &self,
        what: &str,
        seconds: u64,
        mut holds: impl FnMut() -> Result<bool>,
    ) -> Result {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !holds()? {
            if Instant::now() > end {
                return Err(format!("waited more than {seconds} s for {what}").into());
            }
            self.interrupt.sleep(Duration::from_millis(200))?;
        }
        Ok(())
    }
}

/// Builds the server and the command, and returns the folder of the programs.
///
/// Builds them as the tests do, so that `.ci/run` builds them once.
fn build() -> Result<PathBuf> {
    run_program(&mut cargo([
        "test",
        "--workspace",
        "--all-features",
        "--no-run",
        "--quiet",
        "--test",
        "ingest",
        "--test",
        "command",
    ]))?;
    Ok(tree::root().join("target/debug"))
}

/// The first of these programs that is not installed.
fn missing(programs: &[&str]) -> Option<Done> {
    let missing = programs.iter().find(|program| !crate::process::is_installed(program))?;
    Some(Done::Skipped(format!("there is no {missing}; `cargo xtask setup` installs it")))
}

/// The number in an environment variable, or its default.
fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|error| format!("{name}: {error}").into()),
        Err(_) => Ok(default),
    }
}

/// Evaluates an expression of Python about the JSON in `text`, which is named `it` there.
fn of_json(text: &str, expression: &str) -> Result<String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let program = format!("import json, sys; it = json.load(sys.stdin); print({expression})");
    let mut python = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = python.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let done = python.wait_with_output()?;
    if !done.status.success() {
        return Err(format!("python3 cannot evaluate {expression}").into());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// The number of lines of a file.
fn lines(file: &Path) -> Result<usize> {
    use std::io::{BufRead as _, BufReader};
    Ok(BufReader::new(std::fs::File::open(file)?).split(b'\n').count())
}
