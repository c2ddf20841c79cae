//! Prometheus and vmagent: they scrape an exporter, and send what they scraped by remote write.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::exporter::Exporter;
use super::samples::{Samples, export};
use super::sender::{Errand, Sender, Sending};
use crate::Result;
use crate::end_to_end::server::Server;
use crate::end_to_end::{Scene, http};
use crate::process::Group;
use crate::tree;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Prometheus,
    Vmagent,
}

pub(super) struct Scraper {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) program: PathBuf,
    /// More settings of its remote write.
    pub(super) remote_write: &'static str,
}

impl Sender for Scraper {
    fn name(&self) -> &str {
        self.name
    }

    fn start(&self, scene: &Scene, server: &str, errand: Errand) -> Result<Box<dyn Sending>> {
        let exporter = Exporter::start(self.name, errand == Errand::Partial)?;
        let address = free_address()?;
        let said = scene.path(&format!("{}.err", self.name));
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Prometheus => self.prometheus(scene, server, &exporter, &mut command)?,
            Kind::Vmagent => vmagent(scene, server, &exporter, &mut command)?,
        };
        let listen = match self.kind {
            Kind::Prometheus => format!("--web.listen-address={address}"),
            Kind::Vmagent => format!("-httpListenAddr={address}"),
        };
        let err = File::create(&said)?;
        let process = Group::spawn(command.arg(listen).stdout(err.try_clone()?).stderr(err))?;
        let (name, kind) = (self.name, self.kind);
        let is_partial = errand == Errand::Partial;
        Ok(Box::new(Running { process, name, kind, address, exporter, said, is_partial }))
    }
}

impl Scraper {
    fn prometheus(
        &self,
        scene: &Scene,
        server: &str,
        exporter: &Exporter,
        command: &mut Command,
    ) -> Result {
        let settings = format!(
            "{}remote_write:\n- url: http://{server}/api/v1/write\n  queue_config: \
             {{ batch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 1s }}\n{}",
            scrapes(exporter, ""),
            self.remote_write,
        );
        let file = scene.path("prometheus.yml");
        fs::write(&file, settings)?;
        command.arg(format!("--config.file={}", file.display()));
        let data = scene.path("prometheus-data");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        Ok(())
    }
}

fn vmagent(scene: &Scene, server: &str, exporter: &Exporter, command: &mut Command) -> Result {
    let file = scene.path("vmagent.yml");
    // It would give them the timestamps of the first scrape, whose samples they would replace.
    fs::write(&file, scrapes(exporter, "  no_stale_markers: true\n"))?;
    command.arg(format!("-promscrape.config={}", file.display()));
    command.arg(format!("-remoteWrite.url=http://{server}/api/v1/write"));
    let queue = scene.path("vmagent-queue");
    command.arg(format!("-remoteWrite.tmpDataPath={}", queue.display()));
    command.args(["-remoteWrite.flushInterval=200ms", "-remoteWrite.retryMinInterval=200ms"]);
    command.arg("-remoteWrite.retryMaxInterval=2s");
    Ok(())
}

/// The scrapes, as both programs have them in their settings. `more` are lines of a scrape.
fn scrapes(exporter: &Exporter, more: &str) -> String {
    let target = &exporter.address;
    format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\nscrape_configs:\n\
         - job_name: senders\n  honor_timestamps: true\n{more}  static_configs: \
         [ {{ targets: ['{target}'] }} ]\n"
    )
}

/// An address whose port was free just now.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

struct Running {
    process: Group,
    name: &'static str,
    kind: Kind,
    /// Where it listens.
    address: String,
    exporter: Exporter,
    /// The file with what it said.
    said: PathBuf,
    is_partial: bool,
}

/// What a vmagent says when it goes from zstd to snappy, which it does after a 400.
const SENDS_SNAPPY: &str = "Downgrading protocol from VictoriaMetrics";

impl Running {
    /// A counter of its own, summed over its series.
    fn counter(&self, name: &str) -> Result<f64> {
        let metrics = http::get(&self.address, "/metrics")?;
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Its counter of what it gave up.
    fn dropped(&self) -> Result<f64> {
        self.counter(match self.kind {
            Kind::Prometheus => "prometheus_remote_storage_samples_failed_total",
            Kind::Vmagent => "vmagent_remotewrite_packets_dropped_total",
        })
    }
}

impl Sending for Running {
    fn steps(&mut self) -> Result<u64> {
        Ok(self.exporter.scrapes())
    }

    fn has_ended(&mut self) -> Result<bool> {
        match self.process.ended()? {
            None => Ok(false),
            Some(_) => Err(format!("it ended: {:.300}", tree::read(&self.said)?).into()),
        }
    }

    fn finish(&mut self, scene: &Scene, server: &Server) -> Result<Samples> {
        scene.wait_for("ten scrapes", 60, || Ok(self.steps()? >= 10))?;
        let scraped = self.exporter.stop();
        // What does not come is shown by the comparison with the dump.
        for _ in 0..450 {
            self.has_ended()?;
            let stored = export(&server.address, self.name).unwrap_or_default();
            if stored.len() >= scraped.len() {
                break;
            }
            scene.interrupt.sleep(Duration::from_millis(200))?;
        }
        let sends_snappy = tree::read(&self.said)?.contains(SENDS_SNAPPY);
        match (self.kind, self.is_partial) {
            (Kind::Vmagent, false) if sends_snappy => Err("it does not send zstd".into()),
            // So it did until then.
            (Kind::Vmagent, true) if !sends_snappy => Err("it did not send zstd".into()),
            _ => Ok(scraped),
        }
    }

    fn has_errors(&mut self) -> Result<bool> {
        Ok(self.dropped()? > 0.0)
    }

    fn repeats(&mut self) -> Result<bool> {
        let retries = self.counter(match self.kind {
            Kind::Prometheus => "prometheus_remote_storage_samples_retried_total",
            Kind::Vmagent => "vmagent_remotewrite_retries_count_total",
        })?;
        Ok(retries > 0.0)
    }

    fn shows_partial_error(&mut self) -> Result<&'static str> {
        let said = tree::read(&self.said)?;
        if !said.contains("--labels-max") {
            return Err("its log does not show the error".into());
        }
        if self.has_errors()? { Ok("said") } else { Err("it counts nothing as failed".into()) }
    }
}
