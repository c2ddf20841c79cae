//! A real Prometheus scrapes 40 jobs at 1 s and writes to the server, which is killed with
//! SIGKILL every few seconds. At the end the log must have every sample that Prometheus has. A second
//! Prometheus, without data, must answer PromQL over remote read as the first does.
//!
//! Settings: `SECONDS_SCRAPED` (60), `PORT` (19291; the three ports after it are used too).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::server::Server;
use super::{Done, Scene, build, http, lines, missing, of_json, setting};
use crate::Result;
use crate::process::{Group, output, run as run_program};
use crate::tree;

const JOBS: usize = 40;
const SAMPLES_MIN: usize = 10_000;

/// The Prometheus that takes part.
pub(super) struct Peer {
    pub(super) prometheus: PathBuf,
    pub(super) promtool: PathBuf,
    /// More flags.
    pub(super) flags: &'static [&'static str],
    /// More settings of all scrapes.
    pub(super) global: &'static str,
    /// More settings of its remote write.
    pub(super) remote_write: &'static str,
    /// Whether it scrapes native histograms.
    pub(super) has_native_histograms: bool,
}

/// Runs with the Prometheus that is installed, and remote write 1.0.
pub(super) fn run(scene: &Scene) -> Result<Done> {
    if let Some(done) = missing(&["prometheus", "promtool"]) {
        return Ok(done);
    }
    let [prometheus, promtool] = ["prometheus", "promtool"].map(PathBuf::from);
    let peer = Peer {
        prometheus,
        promtool,
        flags: &[],
        global: "",
        remote_write: "",
        has_native_histograms: false,
    };
    run_with(scene, &peer)
}

/// Runs with any Prometheus.
pub(super) fn run_with(scene: &Scene, peer: &Peer) -> Result<Done> {
    if let Some(done) = missing(&["prometheus-node-exporter", "python3"]) {
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
    let settings = configuration(&ports, peer, JOBS);
    let mut prometheus = Prometheus::start(scene, peer, "scraper", &ports.prometheus, &settings)?;
    scene.wait_for("the first samples", 60, || {
        let status = http::get(&ports.server, "/status.json").unwrap_or_default();
        Ok(status.contains("\"samples\":") && !status.contains("\"samples\":0,"))
    })?;

    let mut kills = 0;
    let (began, first_second) = (Instant::now(), seconds_since_1970()?);
    while began.elapsed() < scraped {
        scene.interrupt.sleep(Duration::from_secs(3 + kills % 3))?;
        // Dropping the server kills it with SIGKILL.
        drop(server);
        kills += 1;
        server = start()?;
    }
    server.wait_ready(scene)?;
    let last_second = seconds_since_1970()?;
    prometheus.drain(scene, peer, &ports)?;
    let counts = Counts::read(&ports)?;
    compare_queries(scene, peer, &ports, first_second, last_second)?;
    server.stop()?;
    prometheus.process.terminate()?;
    compare(scene, peer, &programs, kills, &counts)?;
    Ok(Done::Passed)
}

struct Ports {
    server: String,
    exporter: String,
    prometheus: String,
    /// The Prometheus that reads what is stored.
    reader: String,
}

impl From<u64> for Ports {
    fn from(port: u64) -> Self {
        let [server, exporter, prometheus, reader] =
            [0, 1, 2, 3].map(|more| format!("127.0.0.1:{}", port + more));
        Self { server, exporter, prometheus, reader }
    }
}

struct Prometheus {
    process: Group,
}

impl Prometheus {
    /// Starts one that listens at `address`. `name` begins the names of its files.
    fn start(
        scene: &Scene,
        peer: &Peer,
        name: &str,
        address: &str,
        configuration: &str,
    ) -> Result<Self> {
        let settings = scene.path(&format!("{name}.yml"));
        fs::write(&settings, configuration)?;
        let said = File::create(scene.path(&format!("{name}.err")))?;
        let data = scene.path(&format!("{name}-data"));
        let process = Group::spawn(
            Command::new(&peer.prometheus)
                .arg(format!("--config.file={}", settings.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address={address}"))
                .args(peer.flags)
                .stdout(said.try_clone()?)
                .stderr(said),
        )?;
        scene.wait_for("Prometheus", 60, || Ok(http::get(address, "/-/ready").is_ok()))?;
        Ok(Self { process })
    }

    /// Ends all scrapes, and waits until every sample was sent.
    fn drain(&mut self, scene: &Scene, peer: &Peer, ports: &Ports) -> Result {
        fs::write(scene.path("scraper.yml"), configuration(ports, peer, 0))?;
        self.process.signal("HUP")?;
        // Stale markers follow the last scrape. After them nothing may be pending.
        scene.interrupt.sleep(Duration::from_secs(3))?;
        let mut before = None;
        scene.wait_for("the queue of Prometheus to drain", 120, || {
            let pending = counter(ports, "prometheus_remote_storage_samples_pending")?;
            let sent = counter(ports, "prometheus_remote_storage_samples_total")?;
            let histograms = counter(ports, "prometheus_remote_storage_histograms_pending");
            let pending = pending + histograms.unwrap_or(0);
            if pending == 0 && before == Some(sent) {
                return Ok(true);
            }
            before = (pending == 0).then_some(sent);
            scene.interrupt.sleep(Duration::from_secs(2))?;
            Ok(false)
        })
    }
}

/// Compares the answers of both to PromQL.
fn compare_queries(scene: &Scene, peer: &Peer, ports: &Ports, first: u64, last: u64) -> Result {
    let configuration =
        format!("remote_read:\n- url: http://{}/api/v1/read\n  read_recent: true\n", ports.server);
    let mut reader = Prometheus::start(scene, peer, "reader", &ports.reader, &configuration)?;
    let script = tree::root().join("xtask/promql_equal.py");
    let times = [first, last].map(|second| second.to_string());
    let mut python = Command::new("python3");
    python.arg(script).args([&ports.prometheus, &ports.reader]).args(times);
    python.args(peer.has_native_histograms.then_some("--native-histograms"));
    run_program(&mut python)?;
    reader.process.terminate()?;
    Ok(())
}

fn seconds_since_1970() -> Result<u64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())
}

/// The configuration of Prometheus with this number of targets, and the server and itself as two
/// more if there are any.
fn configuration(ports: &Ports, peer: &Peer, jobs: usize) -> String {
    let mut text =
        format!("global: {{ scrape_interval: 1s, scrape_timeout: 1s{} }}\n", peer.global);
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
        _ = write!(text, "- job_name: prometheus\n{}", target(&ports.prometheus, ""));
    }
    _ = write!(
        text,
        "remote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{ batch_send_deadline: 1s, \
         max_samples_per_send: 2000, min_backoff: 30ms, max_backoff: 1s }}\n{}",
        ports.server, peer.remote_write
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
        let (retried, failed) = (count("retried")?, count("failed")?);
        // Prometheus 3 has no such counter until it drops a sample.
        let dropped = count("dropped").unwrap_or(0);
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
fn compare(scene: &Scene, peer: &Peer, programs: &Path, kills: u64, counts: &Counts) -> Result {
    let [truth, found, difference] = ["truth", "found", "missing"].map(|name| scene.path(name));
    let data = scene.path("scraper-data");
    // Both dumps write every NaN as NaN, stale markers included.
    let dump = format!("'{}' tsdb dump \"$1\" 2>>\"$3\" | grep '^{{'", peer.promtool.display());
    sorted(&dump, &[&data, &truth, &scene.path("promtool.err")])?;
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
