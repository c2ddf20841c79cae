//! Opens the status page of the server in a real browser, under load. The page must show its
//! plots and tables, and no script may fail.
//!
//! Settings: `SECONDS_LOADED` (20), `SCREENSHOT` (a file to save a picture of the page in).

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::server::Server;
use super::{Done, Scene, build, missing, setting};
use crate::Result;
use crate::process::run as run_program;

pub(super) fn run(scene: &Scene) -> Result<Done> {
    if let Some(done) = missing(&["chromium"]) {
        return Ok(done);
    }
    let seconds = setting("SECONDS_LOADED", 20)?;
    let ingest = build()?.join("shardwal-ingest");
    let bytes = "4000000";
    let limits = ["--shards", "4", "--request-bytes-max", bytes, "--in-flight-bytes-max", bytes];
    let server = Server::start(scene, &mut Command::new(&ingest), "127.0.0.1:0", &limits)?;
    server.wait_ready(scene)?;

    let load = load(&ingest, &server.address, seconds);
    scene.interrupt.sleep(Duration::from_secs(seconds))?;
    let page = Page::open(scene, &server.address)?;
    if let Ok(file) = std::env::var("SCREENSHOT") {
        let screenshot = format!("--screenshot={file}");
        run_program(&mut browser(scene, &screenshot, &server.address))?;
    }
    load.join().map_err(|_| "the load panicked")??;
    page.check_under_load()?;
    server.stop()?;

    let hold = scene.path("hold");
    File::create(&hold)?;
    let hold_text = hold.to_string_lossy().into_owned();
    let held = ["--shards", "4", "--replay-hold", &hold_text];
    let server = Server::start(scene, &mut Command::new(&ingest), "127.0.0.1:0", &held)?;
    let page = Page::open(scene, &server.address)?;
    if !page.dom.contains("class=\"replaying\"") {
        return Err("the page does not show the replay".into());
    }
    std::fs::remove_file(hold)?;
    server.wait_ready(scene)?;
    server.stop()?;
    println!("the status page shows its plots, its shards and the replay in Chromium");
    Ok(Done::Passed)
}

/// Loads the server on another thread: two thirds of the time below the sustainable rate, then
/// above it.
fn load(ingest: &Path, address: &str, seconds: u64) -> thread::JoinHandle<Result<(), String>> {
    let (ingest, address) = (ingest.to_path_buf(), address.to_owned());
    let load = move |rate: u64, seconds: u64, connections: u64| {
        let numbers = [rate, seconds, connections].map(|number| number.to_string());
        let mut command = Command::new(&ingest);
        command.args(["load", "--to", &address, "--repeat", "10", "--rate", &numbers[0]]);
        command.args(["--seconds", &numbers[1], "--connections", &numbers[2]]);
        run_program(&mut command).map_err(|error| error.to_string())
    };
    thread::spawn(move || {
        load(200_000, seconds * 2 / 3, 8)?;
        load(900_000, seconds / 3 + 8, 64)
    })
}

/// Chromium, without a window, that opens the page and does one thing.
fn browser(scene: &Scene, what: &str, address: &str) -> Command {
    let mut command = Command::new("timeout");
    let profile = format!("--user-data-dir={}", scene.path("profile").display());
    command
        .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--hide-scrollbars", "--enable-logging=stderr", "--v=0"])
        .args(["--window-size=1120,930", "--virtual-time-budget=3000"])
        .args([&profile, what, &format!("http://{address}/")])
        .stdin(Stdio::null());
    command
}

/// The page after its scripts have run.
struct Page {
    dom: String,
    /// What the browser wrote to its log.
    said: String,
}

impl Page {
    fn open(scene: &Scene, address: &str) -> Result<Self> {
        let done = browser(scene, "--dump-dom", address).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if !done.status.success() {
            return Err(format!("Chromium failed: {}\n{said}", done.status).into());
        }
        Ok(Self { dom: String::from_utf8_lossy(&done.stdout).into_owned(), said })
    }

    fn check_under_load(&self) -> Result {
        let failed = |line: &&str| {
            let message = line.split_once("CONSOLE").map_or("", |(_, rest)| rest);
            message.contains("Uncaught") || message.contains("Error")
        };
        if let Some(line) = self.said.lines().find(failed) {
            return Err(format!("a script failed: {line}").into());
        }
        let count = |text| self.dom.matches(text).count();
        let phase = self.dom.split("id=\"phase\"").nth(1).and_then(|rest| rest.split('<').next());
        let faults = [
            (self.dom.contains("data-shown=\"yes\""), "the page has shown nothing"),
            (count("<polyline") == 10, "plots are missing"),
            (count("<td class=\"good\">in service") == 4, "shards are missing"),
            (phase.is_some_and(|it| it.ends_with(">ready")), "the phase is not ready"),
        ];
        match faults.into_iter().find(|(holds, _)| !holds) {
            Some((_, fault)) => Err(fault.into()),
            None => Ok(()),
        }
    }
}
