//! The ingest server as a process: requests over HTTP, kills and restarts.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::json;

use crate::server_support::{self, SNAPPY, Server, block, dump, encoded, program, request, text};

#[test]
fn what_is_answered_204_is_found_by_name_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let answer = server.write(&request(&["up", "down"], &[(1, 0.5), (2, -0.0), (3, stale)]));
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", text(&answer));

    let check = |server: &Server| {
        let found = server.export("up{job=~\"a.*\"}");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["metric"], json!({ "__name__": "up", "job": "a \"test\"\\" }));
        assert_eq!(found[0]["values"], json!([0.5, -0.0, null]));
        assert_eq!(found[0]["timestamps"], json!([1, 2, 3]));
        let selector = encoded("{__name__=~\"up|down\"}");
        let series = server.get_json(&format!("/api/v1/series?match[]={selector}"));
        assert_eq!(series["data"].as_array().unwrap().len(), 2);
    };
    check(&server);
    let status = server.stop("-TERM");
    assert_eq!(status.code(), Some(0), "{status}");
    check(&Server::start(directory.path(), &[]));
}

/// A snapshot truncates the log. Samples before and after it remain.
#[test]
fn a_snapshot_and_a_sigkill_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &["--snapshot-samples", "20"]);
    let write = |server: &Server, times: std::ops::Range<i64>| {
        let samples: Vec<_> = times.map(|at| (at, 0.5)).collect();
        assert_eq!(server.write(&request(&["up"], &samples)).status, 204);
    };
    write(&server, 0..30);
    let said = server.wait_for("took a snapshot");
    assert!(said.contains("samples=30 series=1 "), "{said}");
    assert!(directory.path().join("snapshot").exists());
    write(&server, 30..40);
    server.kill();
    let server = Server::start(directory.path(), &[]);
    let found = server.export("up");
    assert_eq!(found[0]["timestamps"], json!((0..40).collect::<Vec<_>>()));
}

/// The limit demands more free space than any disk has. An operator must act, and the client must
/// retry.
#[test]
fn a_disk_below_the_free_space_min_is_503_and_on_the_status_page() {
    let directory = tempfile::tempdir().unwrap();
    let min = (1_u64 << 60).to_string();
    let server = Server::start(directory.path(), &["--free-space-min-bytes", &min]);
    let answer = server.write(&request(&["up"], &[(1, 0.5)]));
    assert_eq!(answer.status, 503);
    assert!(text(&answer).contains("below free_space_min_bytes"), "{}", text(&answer));
    let status = server.get_json("/status.json");
    assert_eq!(status["disk"]["state"], "refusing");
    assert!(status["disk"]["free_bytes"].as_u64() > Some(0), "{}", status["disk"]);
    assert_eq!(status["refusals"]["disk_full"], 1);
    let metrics = text(&server.get("/metrics"));
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("shardwal_free_space_refusing{") && line.ends_with(" 1"))
    );
    assert_eq!(server.count("up"), 0);
}

#[test]
fn what_is_acknowledged_survives_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..3_i64 {
        let server = Server::start(directory.path(), &[]);
        let address = server.address.clone();
        let (acknowledged, address) = (&acknowledged, &address);
        let target = acknowledged.lock().unwrap().len() + 60;
        thread::scope(|scope| {
            for client in 0..4_i64 {
                scope.spawn(move || {
                    let mut connection = server_support::client::Connection::open(address)?;
                    for number in 0.. {
                        let at = round << 40 | client << 32 | number;
                        let body = block(&request(&["killed"], &[(at, 1.0)]));
                        let answer = connection.send("POST", "/api/v1/write", SNAPPY, &body)?;
                        assert_eq!(answer.status, 204, "{}", text(&answer));
                        acknowledged.lock().unwrap().insert(at);
                    }
                    std::io::Result::Ok(())
                });
            }
            while acknowledged.lock().unwrap().len() < target {
                thread::yield_now();
            }
            server.kill();
        });
    }
    let lines = dump(directory.path());
    let found: BTreeSet<i64> = lines
        .iter()
        .map(|line| {
            let labels = r#"{__name__="killed", job="a \"test\"\\"} 1 "#;
            let at = line.strip_prefix(labels).unwrap_or_else(|| panic!("{line}"));
            at.parse().unwrap()
        })
        .collect();
    let lost: Vec<_> = acknowledged.lock().unwrap().difference(&found).copied().collect();
    assert!(lost.is_empty(), "{} samples are lost: {lost:?}", lost.len());
}

#[test]
fn a_write_is_answered_503_until_the_log_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let hold = directory.path().join("hold");
    let server = Server::start(&log, &[]);
    assert_eq!(server.write(&request(&["a"], &[(1, 1.0)])).status, 204);
    server.kill();

    std::fs::write(&hold, "").unwrap();
    let arguments = ["--replay-hold", hold.to_str().unwrap()];
    let mut server = Server::start_command(Command::new(program()), &log, &arguments);
    assert_eq!(server.get_json("/status.json")["phase"], "replaying");
    let answer = server.write(&request(&["a"], &[(2, 2.0)]));
    assert_eq!(answer.status, 503, "{}", text(&answer));
    assert_eq!(answer.header("retry-after"), Some("2"));
    let answer = server.send("POST", "/api/v2/write", "", b"m f=1");
    assert_eq!(answer.status, 503, "{}", text(&answer));
    assert_eq!(server.get("/api/v1/series?match[]=a").status, 503);

    std::fs::remove_file(&hold).unwrap();
    server.wait_for("ready");
    assert_eq!(server.get_json("/status.json")["phase"], "ready");
    assert_eq!(server.write(&request(&["a"], &[(2, 2.0)])).status, 204);
    assert_eq!(server.count("a"), 2);
}

#[test]
fn a_signal_during_the_replay_ends_the_server_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let arguments = ["--replay-hold", hold.to_str().unwrap()];
    let log = directory.path().join("log");
    let server = Server::start_command(Command::new(program()), &log, &arguments);
    assert_eq!(server.stop("-INT").code(), Some(0));
}

#[test]
fn what_is_in_flight_is_answered_before_the_server_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    let body = block(&request(&["a"], &[(1, 1.0)]));
    let (first, second) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let length = body.len();
    write!(stream, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
        .unwrap();
    stream.write_all(first).unwrap();
    // Once the server holds memory for the request, it has begun to read it.
    while server.get_json("/status.json")["in_flight_bytes"] == 0 {
        thread::yield_now();
    }
    server.signal("-TERM");
    server.wait_for("finishing the requests in flight signal=\"SIGTERM\"");
    stream.write_all(second).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(Server::start(directory.path(), &[]).count("a"), 1);
}

#[test]
fn the_metrics_are_those_of_the_log_and_of_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.write(&request(&["a"], &[(1, 1.0), (2, 2.0)])).status, 204);
    assert_eq!(server.send("POST", "/api/v1/write", SNAPPY, b"?").status, 400);
    let metrics = text(&server.get("/metrics"));
    for line in [
        "ingest_samples_total 2",
        "ingest_requests_total{path=\"/api/v1/write\"} 2",
        "ingest_refusals_total{reason=\"invalid\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(metrics.lines().any(|line| line.starts_with("shardwal_")), "{metrics}");
}

#[test]
fn the_status_page_needs_nothing_from_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let answer = server.get("/");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let page = text(&answer).replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let status = server.get_json("/status.json");
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_answered_503_and_never_with_4xx() {
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", "ulimit -f 1024; exec \"$0\" \"$@\""]).arg(program());
    let mut server = Server::start_command(shell, directory.path(), &[]);
    server.wait_for("ready");
    let mut connection = server.connect();
    let mut taken = 0;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let refused = (0..2_000).find_map(|round| {
        let samples: Vec<(i64, f64)> = (0..2_000)
            .map(|at| {
                // Noise, which no codec can compress.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (round * 2_000 + at, f64::from_bits(state >> 2))
            })
            .collect();
        let body = block(&request(&["full"], &samples));
        let answer = connection.send("POST", "/api/v1/write", SNAPPY, &body).unwrap();
        taken += 2_000 * usize::from(answer.status == 204);
        (answer.status != 204).then_some(answer)
    });
    let refused = refused.expect("a megabyte is soon full");
    assert_eq!(refused.status, 503, "{}", text(&refused));
    assert!(text(&refused).contains("no room on the disk"), "{}", text(&refused));
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(server.stop("-TERM").code(), Some(0));
    // Restarted without the limit.
    assert!(Server::start(directory.path(), &[]).count("full") >= taken);
}
