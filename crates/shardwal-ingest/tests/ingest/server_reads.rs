//! Reads: in pieces, at the pace of the client, and beside each other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server_support::{Server, encoded, request, text, wait_until};

/// Writes one series of a million values that do not compress: 25 MB as JSON.
fn fill(server: &Server) -> usize {
    const SAMPLES: i64 = 1_000_000;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let samples: Vec<(i64, f64)> = (0..SAMPLES)
        .map(|at| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (at, f64::from_bits(state >> 2))
        })
        .collect();
    for part in samples.chunks(250_000) {
        assert_eq!(server.write(&request(&["large"], part)).status, 204);
    }
    samples.len()
}

/// Asks for an export, and reads nothing.
fn ask(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).expect("it works");
    stream
        .write_all(b"GET /api/v1/export?match[]=large HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("it works");
    stream
}

fn open_reads(server: &Server) -> u64 {
    server.get_json("/status.json")["reads"].as_u64().expect("it works")
}

/// Resident memory, in KiB.
#[cfg(target_os = "linux")]
fn resident(server: &Server) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it works");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it works");
    line.split_whitespace().nth(1).expect("it works").parse().expect("it works")
}

/// Regression: every other read waited for the first, and each copied everything first.
#[cfg(target_os = "linux")]
#[test]
fn exports_that_nobody_reads_take_little_memory_and_delay_no_other_read() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let samples = fill(&server);
    assert_eq!(server.write(&request(&["small"], &[(1, 1.0)])).status, 204);
    let before = resident(&server);
    let unread: Vec<_> = (0..16).map(|_| ask(&server)).collect();
    wait_until("the exports have begun", || open_reads(&server) == 16);
    let began = Instant::now();
    assert_eq!(server.count("small"), 1);
    assert_eq!(server.count("large"), samples);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let more = resident(&server).saturating_sub(before);
    assert!(more < 32 << 10, "{more} KiB for 16 exports of 25 MB each");
    // SIGTERM does not wait for them.
    let began = Instant::now();
    assert_eq!(server.stop("-TERM").code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(unread);
}

/// Regression: an export went on for a client that had left.
/// Regression: each open read kept its own version of each series that was written meanwhile.
#[test]
fn the_number_of_open_reads_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    fill(&server);
    let unread: Vec<_> = (0..64).map(|_| ask(&server)).collect();
    wait_until("the exports have begun", || open_reads(&server) == 64);
    for path in ["/api/v1/export?match[]=small", "/api/v1/series?match[]=small"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 503, "{}", text(&answer));
        assert!(text(&answer).contains("too many reads are open"), "{}", text(&answer));
    }
    drop(unread);
    wait_until("the exports have ended", || open_reads(&server) == 0);
    assert_eq!(server.get("/api/v1/export?match[]=small").status, 200);
}

#[test]
fn the_work_for_a_client_that_is_gone_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--write-time-max", "2"]);
    fill(&server);
    let gone: Vec<_> = (0..8).map(|_| ask(&server)).collect();
    wait_until("the exports have begun", || open_reads(&server) == 8);
    drop(gone);
    wait_until("they have ended", || open_reads(&server) == 0);
    // One that stays and reads nothing ends too.
    let stays = ask(&server);
    wait_until("the export has begun", || open_reads(&server) == 1);
    wait_until("it has ended", || open_reads(&server) == 0);
    drop(stays);
}

#[test]
fn a_read_has_a_time_limit_though_its_client_reads_a_little() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--read-time-max", "1"]);
    fill(&server);
    let mut slow = ask(&server);
    let mut some = [0; 64 << 10];
    wait_until("it has ended", || open_reads(&server) == 1);
    let began = Instant::now();
    while open_reads(&server) > 0 {
        slow.read_exact(&mut some).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on");
    }
    let mut rest = Vec::new();
    // The body breaks off, so no client takes it for complete.
    slow.read_to_end(&mut rest).ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_long_series_is_exported_in_several_lines_and_each_sample_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    // Out of order, over many chunks.
    let samples: Vec<(i64, f64)> = (0..10_000).map(|n| (n * 7919 % 10_000, n as f64)).collect();
    assert_eq!(server.write(&request(&["long", "longer"], &samples)).status, 204);
    let found = server.export("{__name__=~\"long.*\"}");
    assert_eq!(found.len(), 6);
    for name in ["long", "longer"] {
        let of_series = found.iter().filter(|line| line["metric"]["__name__"] == name);
        let times: Vec<i64> = of_series
            .flat_map(|line| line["timestamps"].as_array().unwrap())
            .map(|time| time.as_i64().unwrap())
            .collect();
        assert!(times.iter().copied().eq(0..10_000), "{name}");
    }
    let path = "/api/v1/export?match[]=long&start=1.5&end=8.2";
    let answer = text(&server.get(path));
    let times: Vec<serde_json::Value> = answer
        .lines()
        .flat_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["timestamps"].as_array().unwrap().clone()
        })
        .collect();
    assert_eq!(times, (1_500..=8_200).map(|time| json!(time)).collect::<Vec<_>>());
}

/// Regression: the list ignored times, and was sorted by its quoted text.
#[test]
fn the_list_of_series_is_that_of_prometheus() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.write(&request(&["b", "a", "a_b", "ab"], &[(1_000, 1.0)])).status, 204);
    assert_eq!(server.write(&request(&["c"], &[(9_000, 1.0)])).status, 204);
    let names = |query: &str| -> Vec<String> {
        let selector = encoded("{__name__=~\".+\"}");
        let found = server.get_json(&format!("/api/v1/series?match[]={selector}{query}"));
        assert_eq!(found["status"], "success");
        let all = found["data"].as_array().unwrap();
        all.iter().map(|series| series["__name__"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(""), ["a", "a_b", "ab", "b", "c"]);
    assert_eq!(names("&start=2"), ["c"]);
    assert_eq!(names("&start=0&end=2"), ["a", "a_b", "ab", "b"]);
    assert_eq!(names("&start=3&end=4"), [""; 0]);
    let answer = server.get("/api/v1/series");
    let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &error["status"]), (400, &json!("error")));
    assert_eq!(
        (&error["errorType"], &error["error"]),
        (&json!("bad_data"), &json!("match[] is missing"))
    );
}

/// Regression: a pattern of 20 bytes took 6 MB, and a URL has room for thousands.
#[cfg(target_os = "linux")]
#[test]
fn the_patterns_of_a_read_are_bounded_in_number_and_size() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.write(&request(&["a", "host_1999"], &[(1, 1.0)])).status, 204);
    let before = resident(&server);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let ask = |patterns: &[String]| {
        let body: Vec<String> = patterns
            .iter()
            .map(|pattern| format!("match[]={}", encoded(&format!("{{__name__=~`{pattern}`}}"))))
            .collect();
        server.send("POST", "/api/v1/series", form, body.join("&").as_bytes())
    };
    let large = |n: usize| format!("x{n}\\pL{{300}}");
    let selector = encoded(&format!("{{{}}}", "a=~`b`,".repeat(33)));
    let body = format!("match[]={selector}&match[]={selector}");
    let answer = server.send("POST", "/api/v1/series", form, body.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("66 patterns are more than 64"), "{}", text(&answer));
    for _ in 0..4 {
        let began = Instant::now();
        let answer = ask(&(0..64).map(large).collect::<Vec<_>>());
        assert_eq!(answer.status, 400, "{}", text(&answer));
        assert!(text(&answer).contains("size limit"), "{}", text(&answer));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    // What dashboards send is within the limits.
    let hosts: Vec<String> = (0..2_000).map(|n| format!("host_{n}")).collect();
    let answer = ask(&[hosts.join("|")]);
    assert_eq!(answer.status, 200, "{}", text(&answer));
    assert!(text(&answer).contains("host_1999"), "{}", text(&answer));
    let more = resident(&server).saturating_sub(before);
    assert!(more < 48 << 10, "{more} KiB");
}
