//! A real Prometheus scrapes 40 jobs at 1 s and writes to the server, which is killed with
//! SIGKILL every few seconds. At the end the log must have every sample that Prometheus has.
//!
//! Settings: `SECONDS_SCRAPED` (60), `PORT` (19291; the two ports after it are used too).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Server;
use super::{Done, Scene, build, http, lines, missing, of_json, setting};
use crate::Result;
use crate::process::{Group, output};

const JOBS: usize = 40;
const SAMPLES_MIN: usize = 10_000;

pub(super) fn run(scene: &Scene) -> Result<Done> {
    let programs = ["prometheus", "promtool", "prometheus-node-exporter", "python3"];
    if let Some(done) = missing(&programs) {
        return Ok(done);
    }
    let scraped = Duration::from_secs(setting("SECONDS_SCRAPED", 60)?);
    let programs = build()?;
    let ingest = programs.join("shardwal-ingest");
    let ports = Ports::from(setting("PORT", 19_291)?);
    let start =
        || Server::start(scene, &mut Command::new(&ingest), &ports.server, &["--shards", "2"]);

    let exporter = format!("--web.listen-address={}", ports.exporter);
    let mut exporter_command = Command::new("prometheus-node-exporter");
    let _exporter =
        Group::spawn(exporter_command.arg(exporter).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let mut server = start()?;
    let mut prometheus = Prometheus::start(scene, &ports)?;
    scene.wait_for("the first samples", 60, || {
        let status = http::get(&ports.server, "/status.json").unwrap_or_default();
        Ok(status.contains("\"samples\":") && !status.contains("\"samples\":0,"))
    })?;

    let mut kills = 0;
    let began = Instant::now();
    while began.elapsed() < scraped {
        scene.interrupt.sleep(Duration::from_secs(3 + kills % 3))?;
        // Dropping the server kills it with SIGKILL.
        drop(server);
        kills += 1;
        server = start()?;
    }
    server.wait_ready(scene)?;
    prometheus.drain(scene, &ports)?;
    let counts = Counts::read(&ports)?;
    server.stop()?;
    prometheus.process.terminate()?;
    compare(scene, &programs, kills, &counts)?;
    Ok(Done::Passed)
}

struct Ports {
    server: String,
    exporter: String,
    prometheus: String,
}

impl From<u64> for Ports {
    fn from(port: u64) -> Self {
        let [server, exporter, prometheus] =
            [0, 1, 2].map(|more| format!("127.0.0.1:{}", port + more));
        Self { server, exporter, prometheus }
    }
}

struct Prometheus {
    process: Group,
}

impl Prometheus {
    fn start(scene: &Scene, ports: &Ports) -> Result<Self> {
        let settings = scene.path("prometheus.yml");
        fs::write(&settings, configuration(ports, JOBS))?;
        let said = File::create(scene.path("prometheus.err"))?;
        let process = Group::spawn(
            Command::new("prometheus")
                .arg(format!("--config.file={}", settings.display()))
                .arg(format!("--storage.tsdb.path={}", scene.path("data").display()))
                .arg(format!("--web.listen-address={}", ports.prometheus))
                .stdout(said.try_clone()?)
                .stderr(said),
        )?;
        scene.wait_for(
            "Prometheus",
            60,
            || Ok(http::get(&ports.prometheus, "/-/ready").is_ok()),
        )?;
        Ok(Self { process })
    }

    /// Ends all scrapes, and waits until every sample was sent.
    fn drain(&mut self, scene: &Scene, ports: &Ports) -> Result {
        fs::write(scene.path("prometheus.yml"), configuration(ports, 0))?;
        self.process.signal("HUP")?;
        // Stale markers follow the last scrape. After them nothing may be pending.
        scene.interrupt.sleep(Duration::from_secs(3))?;
        let mut before = None;
        scene.wait_for("the queue of Prometheus to drain", 120, || {
            let pending = counter(ports, "prometheus_remote_storage_samples_pending")?;
            let sent = counter(ports, "prometheus_remote_storage_samples_total")?;
            if pending == 0 && before == Some(sent) {
                return Ok(true);
            }
            before = (pending == 0).then_some(sent);
            scene.interrupt.sleep(Duration::from_secs(2))?;
            Ok(false)
        })
    }
}

/// The configuration of Prometheus with this number of targets, and the server itself as one more
/// if there are any.
fn configuration(ports: &Ports, jobs: usize) -> String {
    let mut text = "global: { scrape_interval: 1s, scrape_timeout: 1s }\n".to_owned();
    let target = |address: &str, labels: &str| {
        format!("  static_configs: [ {{ targets: ['{address}']{labels} }} ]\n")
    };
    if jobs > 0 {
        text += "scrape_configs:\n";
        for job in 0..jobs {
            let labels = format!(", labels: {{ host: h{job} }}");
            _ = write!(text, "- job_name: node{job}\n{}", target(&ports.exporter, &labels));
        }
        _ = write!(text, "- job_name: ingest\n{}", target(&ports.server, ""));
    }
    _ = write!(
        text,
        "remote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{ batch_send_deadline: 1s, \
         max_samples_per_send: 2000, min_backoff: 30ms, max_backoff: 1s }}\n",
        ports.server
    );
    text
}

/// What Prometheus says about its remote write.
struct Counts {
    sent: u64,
    retried: u64,
    failed: u64,
    dropped: u64,
}

impl Counts {
    fn read(ports: &Ports) -> Result<Self> {
        let count =
            |name| counter(ports, &format!("prometheus_remote_storage_samples_{name}_total"));
        let sent = counter(ports, "prometheus_remote_storage_samples_total")?;
        let (retried, failed, dropped) = (count("retried")?, count("failed")?, count("dropped")?);
        Ok(Self { sent, retried, failed, dropped })
    }
}

/// A counter of Prometheus, summed over its series.
fn counter(ports: &Ports, name: &str) -> Result<u64> {
    let metrics = http::get(&ports.prometheus, "/metrics")?;
    let values = metrics.lines().filter(|line| line.starts_with(name));
    let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        return Err(format!("Prometheus has no counter {name}").into());
    }
    Ok(format!("{:.0}", values.iter().sum::<f64>()).parse()?)
}

/// Compares both dumps, each sorted, as sets of lines.
fn compare(scene: &Scene, programs: &Path, kills: u64, counts: &Counts) -> Result {
    let [truth, found, difference] = ["truth", "found", "missing"].map(|name| scene.path(name));
    let data = scene.path("data");
    // Both dumps write every NaN as NaN, stale markers included.
    sorted(
        "promtool tsdb dump \"$1\" 2>>\"$3\" | grep '^{'",
        &[&data, &truth, &scene.path("promtool.err")],
    )?;
    let dump = format!("'{}' dump \"$1\"", programs.join("shardwal-ingest").display());
    sorted(&dump, &[&scene.path("log"), &found])?;
    let status = Command::new("comm")
        .args([Path::new("-23"), &truth, &found])
        .env("LC_ALL", "C")
        .stdout(File::create(&difference)?)
        .status()?;
    if !status.success() {
        return Err("comm failed".into());
    }
    let missing = lines(&difference)?;
    let (truth, found) = (lines(&truth)?, lines(&found)?);

    // Counts frames and headers: the files are larger, because zeros are written ahead.
    let mut verify = Command::new(programs.join("shardwal"));
    let report = output(verify.arg("verify").arg(scene.path("log/log")).arg("--json"))?;
    let log: u64 = of_json(&report, "sum(shard['bytes'] for shard in it['shards'])")?.parse()?;
    let wal = output(Command::new("du").arg("-sb").arg(data.join("wal")))?;
    let wal: u64 = wal.split_whitespace().next().unwrap_or_default().parse()?;
    let Counts { sent, retried, failed, dropped } = counts;
    println!(
        "{truth} samples scraped by Prometheus, {found} in the log, {missing} missing; {kills} kills"
    );
    println!("Prometheus: {sent} sent, {retried} retried, {failed} failed, {dropped} dropped");
    println!(
        "bytes on disk: log {log} ({:.2} per sample), wal of Prometheus {wal} ({:.2} per sample)",
        log as f64 / found as f64,
        wal as f64 / truth as f64,
    );
    println!("FIGURE end to end, samples of Prometheus, none lost: {truth} samples");
    println!("FIGURE end to end, kills: {kills} kills");
    if missing > 0 {
        let text = fs::read_to_string(&difference)?;
        let first: Vec<&str> = text.lines().take(5).collect();
        return Err(format!("{missing} samples are missing:\n{}", first.join("\n")).into());
    }
    if truth < SAMPLES_MIN || *failed > 0 || kills == 0 {
        return Err("too few samples, a failed one, or no kill".into());
    }
    Ok(())
}

/// Runs a shell command, and writes its sorted lines without repetition to the file `$2`.
fn sorted(command: &str, arguments: &[&Path]) -> Result {
    let line = format!("set -o pipefail; {command} | sort -u >\"$2\"");
    let mut shell = Command::new("bash");
    let status = shell.args(["-c", &line, "bash"]).args(arguments).env("LC_ALL", "C").status()?;
    if status.success() { Ok(()) } else { Err(format!("{command} failed").into()) }
}
