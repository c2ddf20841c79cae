//! Broken and hostile clients of every known kind at once, beside honest senders.
//!
//! First measures the latency of honest writes alone, then beside the others. At the end the server
//! must stop within 5 s of a SIGTERM that comes amid all of them, its memory must have stayed within
//! the limit, and the log must hold every sample that was acknowledged to an honest sender.
//!
//! Settings: `SECONDS_HOSTILE` (60; 3600 for the hour), `LIMIT_MIB` (512, the peak of the resident
//! memory).

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use super::server::Server;
use super::{Done, Scene, build, setting};
use crate::Result;
use crate::process::output;

const HONEST: usize = 8;
const LINES: usize = 10;
const PAUSE: Duration = Duration::from_millis(10);
const STOP_SECONDS_MAX: u64 = 5;

/// Bodies that cost a careless server more than their size.
const PIECE: usize = 1 << 20;

/// The limits of the server. Its memory follows from them.
const LIMITS: [&str; 8] = [
    "--in-flight-bytes-max",
    "67108864",
    "--request-bytes-max",
    "16777216",
    "--series-max",
    "4000",
    "--samples-max",
    "20000000",
];

/// What the threads share.
struct Shared {
    address: String,
    /// Ends the attacks, then the honest senders. Relaxed: seen at some time.
    attacks_end: AtomicBool,
    honest_end: AtomicBool,
    /// Requests and connections of the attacks. Relaxed: only displayed.
    attacks: AtomicU64,
}

pub(super) fn run(scene: &Scene) -> Result<Done> {
    let seconds = setting("SECONDS_HOSTILE", 60)?;
    let limit_mib = setting("LIMIT_MIB", 512)?;
    let programs = build()?;
    let ingest = programs.join("shardwal-ingest");
    let server = Server::start(scene, &mut Command::new(&ingest), "127.0.0.1:0", &LIMITS)?;
    server.wait_ready(scene)?;
    let shared = Shared {
        address: server.address.clone(),
        attacks_end: AtomicBool::new(false),
        honest_end: AtomicBool::new(false),
        attacks: AtomicU64::new(0),
    };
    let alone = honest_phase(scene, &shared, 0, Duration::from_secs(seconds.div_ceil(4)))?;
    let (beside, peak_mib, stopped) = thread::scope(|scope| {
        for attack in ATTACKS {
            start(scope, &shared, attack);
        }
        let beside = honest_phase(scene, &shared, 1, Duration::from_secs(seconds));
        let peak_mib = peak_mib(server.id());
        let began = Instant::now();
        let stopped = server.stop().map(|()| began.elapsed());
        // Relaxed: see the field.
        shared.attacks_end.store(true, Ordering::Relaxed);
        (beside, peak_mib, stopped)
    });
    let (beside, peak_mib, stopped) = (beside?, peak_mib?, stopped?);
    // Relaxed: see the field.
    println!("{} attacks in {seconds} s", shared.attacks.load(Ordering::Relaxed));
    let [before, after] = [&alone, &beside].map(Honest::p99_ms);
    println!(
        "honest writes: P99 {before:.1} ms alone, {after:.1} ms beside: {:.2}",
        after / before
    );
    println!("peak of the resident memory: {peak_mib} MiB; SIGTERM to the end: {stopped:?}");
    println!("FIGURE hostile clients, honest P99 beside and alone: {:.2} times", after / before);
    let dump = output(Command::new(&ingest).arg("dump").arg(scene.path("log")))?;
    let stored = dump.lines().filter(|line| line.contains("honest_f")).count() as u64;
    let acknowledged = alone.acknowledged + beside.acknowledged;
    println!("{acknowledged} honest samples acknowledged, {stored} stored");
    if stored < acknowledged {
        return Err("samples that were acknowledged are missing".into());
    }
    if peak_mib > limit_mib {
        return Err(format!("{peak_mib} MiB, above {limit_mib} MiB").into());
    }
    if stopped.as_secs() >= STOP_SECONDS_MAX {
        return Err(format!("SIGTERM took {stopped:?}").into());
    }
    Ok(Done::Passed)
}

/// What the honest senders saw.
#[derive(Default)]
struct Honest {
    acknowledged: u64,
    latencies: Vec<Duration>,
}

impl Honest {
    fn p99_ms(&self) -> f64 {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        latencies.get(latencies.len() * 99 / 100).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Runs the honest senders for a time.
fn honest_phase(scene: &Scene, shared: &Shared, phase: u64, time: Duration) -> Result<Honest> {
    // Relaxed: see the field.
    shared.honest_end.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        let senders: Vec<_> =
            (0..HONEST).map(|sender| scope.spawn(move || honest(shared, phase, sender))).collect();
        let slept = scene.interrupt.sleep(time);
        // Relaxed: see the field.
        shared.honest_end.store(true, Ordering::Relaxed);
        let mut all = Honest::default();
        for sender in senders {
            let one = sender.join().map_err(|_| "an honest sender panicked")?;
            all.acknowledged += one.acknowledged;
            all.latencies.extend(one.latencies);
        }
        slept?;
        if all.latencies.len() < 100 { Err("too few honest writes".into()) } else { Ok(all) }
    })
}

/// Writes samples one request after the other, each again until it is acknowledged.
fn honest(shared: &Shared, phase: u64, sender: usize) -> Honest {
    let mut seen = Honest::default();
    let mut connection = None;
    let mut request = 0_u64;
    // Relaxed: see the field.
    while !shared.honest_end.load(Ordering::Relaxed) {
        let mut body = String::new();
        for line in 0..LINES {
            let time = (phase << 40 | request << 10 | line as u64) * 1_000_000;
            // A write into a string never fails.
            _ = writeln!(body, "honest,sender={sender} f={line} {time}");
        }
        let began = Instant::now();
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => match connect(shared) {
                Ok(stream) => stream,
                Err(_) => continue,
            },
        };
        if let Ok(204) = exchange(&mut stream, "POST", "/write", "", body.as_bytes()) {
            seen.latencies.push(began.elapsed());
            seen.acknowledged += LINES as u64;
            request += 1;
            connection = Some(stream);
        }
        thread::sleep(PAUSE);
    }
    seen
}

fn connect(shared: &Shared) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(&shared.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and reads its answer. Returns the status.
fn exchange(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<u16> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let (mut answer, mut end) = (Vec::new(), None);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        if end.is_none()
            && let Some((head, _)) = text.split_once("\r\n\r\n")
        {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            end = Some(head.len() + 4 + length.unwrap_or(0));
        }
        if count == 0 || end.is_some_and(|end| answer.len() >= end) {
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
            return Ok(status.unwrap_or(0));
        }
    }
}

/// One step of an attack. An error is part of the game.
type Attack = fn(&Shared, u64) -> std::io::Result<()>;

/// The rows H1 to H10 of broken and hostile clients.
const ATTACKS: [Attack; 10] = [
    quotes_that_do_not_end,
    empty_tags,
    names_repeated_in_errors,
    lengths_without_bodies,
    gzip_of_many_members,
    patterns_that_cost,
    series_with_large_labels,
    exports_that_nobody_reads,
    bursts_of_connections,
    bodies_to_wrong_paths,
];

/// Repeats an attack until the end.
fn start<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared, attack: Attack) {
    scope.spawn(move || {
        let mut step = 0;
        // Relaxed: see the fields.
        while !shared.attacks_end.load(Ordering::Relaxed) {
            if attack(shared, step).is_err() {
                thread::sleep(PAUSE);
            }
            shared.attacks.fetch_add(1, Ordering::Relaxed);
            step += 1;
        }
    });
}

/// Waits, for at most 2 s or until the attacks end.
fn hold(shared: &Shared) {
    let until = Instant::now() + Duration::from_secs(2);
    // Relaxed: see the field.
    while Instant::now() < until && !shared.attacks_end.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
    }
}

fn post(shared: &Shared, path: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    exchange(&mut connect(shared)?, "POST", path, headers, body).map(|_| ())
}

fn quotes_that_do_not_end(shared: &Shared, _: u64) -> std::io::Result<()> {
    post(shared, "/write", "", "m,t=\"x ".repeat(PIECE / 7).as_bytes())
}

fn empty_tags(shared: &Shared, _: u64) -> std::io::Result<()> {
    post(shared, "/write", "", format!("m{} f=1", ",t=".repeat(4 * PIECE / 3)).as_bytes())
}

fn names_repeated_in_errors(shared: &Shared, _: u64) -> std::io::Result<()> {
    let long = "\u{1}".repeat(30_000);
    post(shared, "/write", "", format!("m,{long}=1,{long}=2 f=1\n").repeat(30).as_bytes())
}

fn lengths_without_bodies(shared: &Shared, _: u64) -> std::io::Result<()> {
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(shared)?;
        stream
            .write_all(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n.")?;
        streams.push(stream);
    }
    hold(shared);
    Ok(())
}

fn gzip_of_many_members(shared: &Shared, _: u64) -> std::io::Result<()> {
    // A member that holds nothing.
    let member = [31, 139, 8, 0, 0, 0, 0, 0, 0, 255, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    post(shared, "/write", "Content-Encoding: gzip\r\n", &member.repeat(PIECE / 20))
}

fn patterns_that_cost(shared: &Shared, _: u64) -> std::io::Result<()> {
    let selector = |n: usize| format!("match[]={{a=~\"x{n}\\\\pL{{300}}\"}}");
    let form: Vec<String> = (0..64).map(selector).collect();
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    post(shared, "/api/v1/series", headers, form.join("&").as_bytes())
}

fn series_with_large_labels(shared: &Shared, step: u64) -> std::io::Result<()> {
    let large = "x".repeat(30_000);
    let lines: String = (0..30).map(|n| format!("large,t={large}{step}_{n} f=1\n")).collect();
    post(shared, "/write", "", lines.as_bytes())?;
    hold(shared);
    Ok(())
}

fn exports_that_nobody_reads(shared: &Shared, _: u64) -> std::io::Result<()> {
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = connect(shared)?;
        for _ in 0..4 {
            stream.write_all(b"GET /api/v1/export?match[]=honest_f HTTP/1.1\r\nHost: x\r\n\r\n")?;
        }
        streams.push(stream);
    }
    hold(shared);
    Ok(())
}

fn bursts_of_connections(shared: &Shared, _: u64) -> std::io::Result<()> {
    let streams: Vec<_> = (0..100).map(|_| connect(shared)).collect();
    hold(shared);
    drop(streams);
    Ok(())
}

fn bodies_to_wrong_paths(shared: &Shared, _: u64) -> std::io::Result<()> {
    post(shared, "/nowhere", "", &vec![b'x'; PIECE])
}

/// The peak of a process' resident memory.
fn peak_mib(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib >> 10).ok_or_else(|| "the kernel shows no peak of memory".into())
}
