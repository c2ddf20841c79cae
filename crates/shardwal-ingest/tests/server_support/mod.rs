//! A server of `shardwal-ingest` as a process, and requests to it.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use serde_json::Value;

use client::{Answer, Connection};

#[path = "../../src/load/client.rs"]
pub(crate) mod client;

/// The header of a body in snappy.
pub(crate) const SNAPPY: &str = "Content-Encoding: snappy\r\n";

/// The server's program.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_shardwal-ingest"))
}

/// The lines of `shardwal-ingest dump`.
pub(crate) fn dump(directory: &Path) -> Vec<String> {
    let output = Command::new(program()).arg("dump").arg(directory).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is UTF-8").lines().map(str::to_owned).collect()
}

/// A server. Dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    /// The standard output, if the server was started with a pipe for it.
    output: Option<BufReader<ChildStdout>>,
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on a free port. Blocks until it accepts writes.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut server = Self::start_command(Command::new(program()), directory, arguments);
        server.wait_for("ready");
        server
    }

    /// Starts a command that becomes a server. Blocks until it listens.
    pub(crate) fn start_command(
        mut command: Command,
        directory: &Path,
        arguments: &[&str],
    ) -> Self {
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "2", "--dir"])
            .arg(directory)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let output = process.stdout.take().expect("it is piped");
        let output = Some(BufReader::new(output));
        let mut server = Self { process, output, address: String::new() };
        let line = server.wait_for("listening url=http");
        let (_scheme, address) = line.split_once("://").expect("it is a URL");
        server.address = address.trim_end_matches('/').to_owned();
        server
    }

    /// Starts a server that prints to `output` and `error`. Blocks until it accepts writes.
    pub(crate) fn start_printing_to(
        directory: &Path,
        arguments: &[&str],
        output: Stdio,
        error: Stdio,
    ) -> Self {
        // Another process might take the port meanwhile. That is unlikely.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port is free").to_string();
        let process = Command::new(program())
            .args(["serve", "--listen", &address, "--shards", "2", "--dir"])
            .arg(directory)
            .args(arguments)
            .stdout(output)
            .stderr(error)
            .spawn()
            .expect("the server starts");
        let server = Self { process, output: None, address };
        wait_until("the server is ready", || {
            let connection = Connection::open(&server.address);
            let answer = connection.and_then(|mut c| c.send("GET", "/status.json", "", &[]));
            answer.is_ok_and(|answer| text(&answer).contains("\"phase\":\"ready\""))
        });
        server
    }

    /// Closes the reading end of the standard output.
    pub(crate) fn stop_listening(&mut self) {
        self.output = None;
    }

    /// Reads the output up to a line that begins with `begins` after its time and its level.
    /// Returns that line, from there on.
    pub(crate) fn wait_for(&mut self, begins: &str) -> String {
        let mut said = String::new();
        let output = self.output.as_mut().expect("the output is a pipe");
        loop {
            let begin = said.len();
            let bytes = output.read_line(&mut said).expect("it is UTF-8");
            assert!(bytes > 0, "the server ended before {begins:?}; it said: {said}");
            let line = said[begin..].split_once("Z ").map_or("", |(_time, line)| line.trim());
            let line = line.split_once(' ').map_or("", |(_level, line)| line);
            if line.starts_with(begins) {
                return line.to_owned();
            }
        }
    }

    /// Reads the output up to its end.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        let output = self.output.as_mut().expect("the output is a pipe");
        output.read_to_string(&mut rest).expect("it is UTF-8");
        rest
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.address).expect("the server listens")
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.connect().send(method, path, headers, body).expect("the server answers")
    }

    /// Posts a remote-write message, compressed.
    pub(crate) fn write(&self, request: &WriteRequest) -> Answer {
        self.send("POST", "/api/v1/write", "Content-Encoding: snappy\r\n", &block(request))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", &[])
    }

    pub(crate) fn get_json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        serde_json::from_slice(&answer.body).expect("it is JSON")
    }

    /// The export of a selector: one JSON value per series.
    pub(crate) fn export(&self, selector: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/export?match[]={}", encoded(selector)));
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let lines = str::from_utf8(&answer.body).expect("it is UTF-8").lines();
        lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Number of samples in the export of a selector.
    pub(crate) fn count(&self, selector: &str) -> usize {
        let values = |series: &Value| series["values"].as_array().map_or(0, Vec::len);
        self.export(selector).iter().map(values).sum()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that the process has held so far, in bytes. Linux only.
    pub(crate) fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the process runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("the kernel reports it") << 10
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Sends a signal, for example "-TERM".
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Blocks until the process ends.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.process.wait().expect("it ends")
    }

    /// Sends a signal. Blocks until the process ends.
    pub(crate) fn stop(self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Waits until a condition holds, at most a minute.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "not in a minute: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Percent-encodes a text for a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Encodes and compresses a message.
pub(crate) fn block(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&bytes).expect("a message is small")
}

/// A request with one series per name, each with these samples.
pub(crate) fn request(names: &[&str], samples: &[(i64, f64)]) -> WriteRequest {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let samples = samples.iter().map(|&(timestamp, value)| Sample { value, timestamp });
    let series = |name: &&str| TimeSeries {
        labels: vec![label("__name__", name), label("job", "a \"test\"\\")],
        samples: samples.clone().collect(),
    };
    WriteRequest { timeseries: names.iter().map(series).collect() }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}
