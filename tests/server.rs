//! The ingest server, as a process that is spoken to over HTTP, killed and
//! started again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use server_support::{Server, block, encoded, program, request, text};

mod server_support;

const SNAPPY: &str = "Content-Encoding: snappy\r\n";

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
    let output = Command::new(program()).arg("--dump").arg(directory.path()).output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let found: BTreeSet<i64> = lines
        .lines()
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
    // The server has begun to read the request when it holds memory for it.
    while server.get_json("/status.json")["in_flight_bytes"] == 0 {
        thread::yield_now();
    }
    server.signal("-TERM");
    server.wait_for("SIGTERM");
    stream.write_all(second).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(Server::start(directory.path(), &[]).count("a"), 1);
}

#[test]
fn what_is_not_valid_is_answered_400_with_the_reason_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let block_of = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    let message = block_of(b"\x0a\x04\x12\x09\x09\x00");
    let claims_30_mb = [0x80, 0x87, 0xA7, 0x0E, 0, 0];
    let cases: [(&[u8], &str); 5] = [
        (b"", "snappy"),
        (b"no snappy at all", "snappy"),
        (&claims_30_mb, "cannot hold 30000000"),
        (&block_of(b"hello"), "no WriteRequest"),
        (&message, "no WriteRequest: a length exceeds what is there"),
    ];
    for (body, reason) in cases {
        let answer = server.send("POST", "/api/v1/write", SNAPPY, body);
        assert_eq!(answer.status, 400, "{body:?}");
        assert!(text(&answer).contains(reason), "{body:?}: {}", text(&answer));
    }
    let claims_4_gb = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0];
    let answer = server.send("POST", "/api/v1/write", SNAPPY, &claims_4_gb);
    assert_eq!(answer.status, 413, "{}", text(&answer));
    let answer = server.send("POST", "/api/v1/write", "Content-Encoding: zstd\r\n", b"x");
    assert_eq!(answer.status, 415, "{}", text(&answer));
    let status = server.get_json("/status.json");
    assert_eq!(status["samples"], 0);
    assert_eq!(status["refusals"]["invalid"], 5);
    assert_eq!(status["in_flight_bytes"], 0, "what was refused is given back");
}

#[test]
fn a_series_that_is_not_valid_is_left_out_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut mixed = request(&["good", "bad", "fine"], &[(1, 1.0)]);
    mixed.timeseries[1].labels[1].name = "no label name".to_owned();
    let answer = server.write(&mixed);
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("1 series left out"), "{}", text(&answer));
    assert!(text(&answer).contains("no label name"), "{}", text(&answer));
    assert_eq!(server.count("{__name__=~\"good|bad|fine\"}"), 2);
}

#[test]
fn a_request_above_the_limit_is_answered_413_and_the_connection_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--request-bytes-max", "100000"]);
    let mut connection = server.connect();
    let answer = connection.send("POST", "/api/v1/write", SNAPPY, &[7; 100_001]).unwrap();
    assert_eq!(answer.status, 413, "{}", text(&answer));
    let bomb = snap::raw::Encoder::new().compress_vec(&[0; 100_001]).unwrap();
    let answer = connection.send("POST", "/api/v1/write", SNAPPY, &bomb).unwrap();
    assert_eq!(answer.status, 413, "{}", text(&answer));
    let answer = connection.send("POST", "/write", GZIP, &gzip(&[b'\n'; 1 << 20])).unwrap();
    assert_eq!(answer.status, 413, "{}", text(&answer));
    let good = block(&request(&["a"], &[(1, 1.0)]));
    assert_eq!(connection.send("POST", "/api/v1/write", SNAPPY, &good).unwrap().status, 204);
}

#[test]
fn what_does_not_fit_into_the_budget_is_answered_503_and_may_come_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--in-flight-bytes-max", "300000"]);
    let mut connection = server.connect();
    let large = block(&request(&["a"], &[(1, 1.0); 20_000]));
    for (path, headers, body) in [
        ("/api/v1/write", SNAPPY, &large),
        ("/api/v1/write", SNAPPY, &vec![0; 300_001]),
        ("/write", "", &vec![b'\n'; 300_001]),
        ("/write", GZIP, &gzip(&[b'\n'; 1 << 20])),
    ] {
        let answer = connection.send("POST", path, headers, body).unwrap();
        assert_eq!(answer.status, 503, "{path}: {}", text(&answer));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let small = block(&request(&["a"], &[(1, 1.0)]));
    assert_eq!(connection.send("POST", "/api/v1/write", SNAPPY, &small).unwrap().status, 204);
    let status = server.get_json("/status.json");
    assert_eq!((&status["refusals"]["in_flight"], &status["samples"]), (&json!(4), &json!(1)));
}

const GZIP: &str = "Content-Encoding: gzip\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a Vec takes all")
}

#[test]
fn each_numeric_field_of_a_line_is_a_series() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let lines = "# a comment\n\
         cpu,host=a\\ b,zone=x user=1.5,idle=2i,up=t,name=\"a, b=c\n#d\",big=3u 1500000\r\n\
         \n\
         cpu,host=a\\ b,zone=x user=-1e3 2500000";
    let answer = server.send("POST", "/api/v2/write?precision=us&bucket=b", "", lines.as_bytes());
    assert_eq!(answer.status, 204, "{}", text(&answer));
    let user = server.export("cpu_user{host=\"a b\",zone!=\"\"}");
    assert_eq!(user[0]["metric"], json!({ "__name__": "cpu_user", "host": "a b", "zone": "x" }));
    assert_eq!(user[0]["values"], json!([1.5, -1000.0]));
    assert_eq!(user[0]["timestamps"], json!([1500, 2500]));
    for (series, value) in [("cpu_idle", 2.0), ("cpu_up", 1.0), ("cpu_big", 3.0)] {
        assert_eq!(server.export(series)[0]["values"], json!([value]), "{series}");
    }
    assert_eq!(server.count("cpu_name"), 0, "a string is no sample");

    let answer = server.send("POST", "/write?precision=s", GZIP, &gzip(b"m f=1 7"));
    assert_eq!(answer.status, 204, "{}", text(&answer));
    assert_eq!(server.export("m_f")[0]["timestamps"], json!([7000]));
}

#[test]
fn bad_lines_are_named_and_the_good_ones_written() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let lines = b"good f=1 1\nno_fields\ngood f=2,g=x 2\ngood f=3 3\n,t=1 f=1\ngood f=4 then\n\
        good,t= f=\"open 5\ngood f=6 6\ngood,=v f=7 7";
    let answer = server.send("POST", "/write?precision=ms", "", lines);
    assert_eq!(answer.status, 400);
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let bad: Vec<_> = json["errors"].as_array().unwrap().iter().map(|e| &e["line"]).collect();
    assert_eq!(bad, [2, 3, 5, 6, 7, 9], "{json}");
    assert_eq!(json["dropped"], 6);
    let said = json["error"].as_str().unwrap();
    assert!(
        said.starts_with("partial write: unable to parse 'no_fields': missing fields"),
        "{said}"
    );
    assert_eq!(server.export("good_f")[0]["timestamps"], json!([1, 3, 6]));

    let answer = server.send("POST", "/api/v2/write?precision=days", "", b"good f=1");
    assert_eq!(answer.status, 400, "{}", text(&answer));
    let answer = server.send("POST", "/api/v2/write", GZIP, b"no gzip");
    assert_eq!(answer.status, 400, "{}", text(&answer));
}

#[test]
fn a_selector_that_cannot_be_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let selectors = ["", "{}", "{a}", "{a=b}", "{a=~\"(\"}", "a{b=\"c\"", "a}", "{a=\"b\"c=\"d\"}"];
    for selector in selectors {
        for path in ["series", "export"] {
            let answer = server.get(&format!("/api/v1/{path}?match[]={}", encoded(selector)));
            assert_eq!(answer.status, 400, "{selector}: {}", text(&answer));
            assert!(text(&answer).contains("match[]: "), "{selector}: {}", text(&answer));
        }
    }
    assert_eq!(server.get("/api/v1/series").status, 400);
    assert_eq!(server.get("/api/v1/export?match[]=a&start=x").status, 400);
}

#[test]
fn an_export_is_of_the_time_that_was_asked_for_and_each_series_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let samples = [(1_000, 1.0), (2_000, 2.0), (3_500, 3.5)];
    assert_eq!(server.write(&request(&["a", "b"], &samples)).status, 204);
    let twice = "/api/v1/export?match[]=a&match[]=b&match[]=a&start=2&end=3.5";
    let found = text(&server.get(twice));
    let lines: Vec<serde_json::Value> =
        found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert!(lines.iter().all(|line| line["values"] == json!([2.0, 3.5])), "{found}");
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
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""]).arg(program());
    let mut server = Server::start_command(shell, directory.path(), &[]);
    server.wait_for("ready");
    let mut connection = server.connect();
    let mut taken = 0;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let refused = (0..2_000).find_map(|round| {
        let samples: Vec<(i64, f64)> = (0..2_000)
            .map(|at| {
                // Noise, so that no codec makes it small.
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
    assert!(server.count("full") >= taken);
    assert_eq!(server.stop("-TERM").code(), Some(0));
}
