//! What clients of InfluxDB and QuestDB ask for beside a write, and the writes of version 3.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::server_support::client::{Answer, Connection};
use crate::server_support::{Server, encoded, program, text, wait_until};

fn as_json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("it is JSON")
}

#[test]
fn ping_names_a_version_and_settings_a_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for method in ["GET", "HEAD"] {
        let answer = server.send(method, "/ping", "", b"");
        assert_eq!(answer.status, 204, "{method}");
        assert_eq!(answer.header("x-influxdb-version"), Some("1.8.10"));
    }
    assert_eq!(server.get_json("/ping?verbose=true"), json!({ "version": "1.8.10" }));
    let settings = json!({ "config": { "line.proto.support.versions": [1] } });
    assert_eq!(server.get_json("/settings"), settings);
}

#[test]
fn a_server_is_healthy_while_it_replays_and_ready_once_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let hold = directory.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let arguments = ["--replay-hold", hold.to_str().unwrap()];
    let server =
        Server::start_command(Command::new(program()), &directory.path().join("log"), &arguments);
    assert_eq!(server.get("/ping").status, 204);
    assert_eq!(server.get_json("/health")["status"], "pass");
    let answer = server.get("/ready");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(as_json(&answer)["status"], "replaying");
    std::fs::remove_file(&hold).unwrap();
    wait_until("the server is ready", || server.get("/ready").status == 200);
    assert_eq!(server.get_json("/ready")["status"], "ready");

    // A body that is not complete keeps the server from closing.
    let mut busy = TcpStream::connect(&server.address).unwrap();
    let head = "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n";
    busy.write_all(head.as_bytes()).unwrap();
    server.signal("-TERM");
    wait_until("the server closes", || {
        let connection = Connection::open(&server.address);
        let answer = connection.and_then(|mut c| c.send("GET", "/ready", "", b""));
        answer
            .map_or(true, |answer| answer.status == 503 && as_json(&answer)["status"] == "closing")
    });
}

#[test]
fn probes_need_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "secret").unwrap();
    let arguments = ["--token-file", token.to_str().unwrap(), "--allowed-host", "example"];
    let log = directory.path().join("log");
    let mut server = Server::start_command(Command::new(program()), &log, &arguments);
    server.wait_for("ready");
    for (path, status) in [("/ping", 204), ("/settings", 200), ("/health", 200), ("/ready", 200)] {
        assert_eq!(server.get(path).status, status, "{path}");
    }
    for path in ["/query?q=SHOW%20DATABASES", "/status.json"] {
        assert_eq!(server.get(path).status, 403, "{path}");
    }
    let page = "Host: evil\r\nOrigin: http://evil\r\n";
    assert_eq!(server.send("POST", "/api/v3/write_lp", page, b"m f=1").status, 403);
}

#[test]
fn query_creates_and_shows_databases_and_refuses_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let ask = |q: &str| server.get(&format!("/query?db=x&q={}", encoded(q)));
    let databases = json!({
        "name": "databases", "columns": ["name"], "values": [["shardwal"]],
    });
    let answer = ask("show databases;");
    assert_eq!(answer.status, 200);
    let shown = json!({ "results": [{ "statement_id": 0, "series": [databases.clone()] }] });
    assert_eq!(as_json(&answer), shown);
    let answer = ask("CREATE DATABASE \"a; b\\\"\" WITH DURATION 1d; SHOW DATABASES");
    assert_eq!(answer.status, 200, "{}", text(&answer));
    let both = json!({ "results": [
        { "statement_id": 0 }, { "statement_id": 1, "series": [databases] },
    ] });
    assert_eq!(as_json(&answer), both);

    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let answer = server.send("POST", "/query", form, b"q=CREATE+DATABASE+telegraf");
    assert_eq!(as_json(&answer), json!({ "results": [{ "statement_id": 0 }] }));
    let json = "Content-Type: application/json\r\n";
    let path = "/query?q=CREATE%20DATABASE%20%22d%22";
    assert_eq!(server.send("POST", path, json, b"").status, 200, "as the Python client sends it");
    assert_eq!(server.send("POST", path, json, b"{}").status, 415);
    for q in [
        "",
        ";",
        "CREATE DATABASE",
        "DROP DATABASE x",
        "SHOW DATABASES x",
        "SHOW DATABASES; SELECT * FROM m",
        &"SHOW DATABASES;".repeat(101),
    ] {
        let answer = ask(q);
        assert_eq!(answer.status, 400, "{q}");
        assert!(as_json(&answer)["error"].is_string(), "{q}");
        assert!(answer.body.len() < 1000, "{q}");
    }
}

#[test]
fn version_3_writes_in_each_precision() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (query, time) in [
        ("", 1_700_000_000),
        ("&precision=auto", 1_700_000_000_001_000),
        ("&precision=second", 1_700_000_000),
        ("&precision=millisecond&no_sync=true", 1_700_000_000_002),
        ("&precision=microsecond", 1_700_000_000_003_000),
        ("&precision=nanosecond", 1_700_000_000_004_000_000_i64),
    ] {
        let line = format!("m f=1 {time}");
        let path = format!("/api/v3/write_lp?db=d{query}");
        assert_eq!(server.send("POST", &path, "", line.as_bytes()).status, 204, "{query}");
    }
    let times: Vec<i64> = (0..5).map(|number| 1_700_000_000_000 + number).collect();
    assert_eq!(server.export("m_f")[0]["timestamps"], json!(times));
    for query in ["precision=h", "precision=n", "accept_partial=maybe"] {
        let answer = server.send("POST", &format!("/api/v3/write_lp?{query}"), "", b"m f=1 1");
        assert_eq!(answer.status, 400, "{query}");
        assert!(as_json(&answer)["error"].as_str().unwrap().contains("use "), "{query}");
    }
}

#[test]
fn version_3_names_invalid_lines_and_writes_the_others_unless_asked_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let lines = b"m f=1 1\nbad\nm f=2,g=x 2\nm s=\"t\",f=3 3";
    let answer = server.send("POST", "/api/v3/write_lp?accept_partial=false", "", lines);
    assert_eq!(answer.status, 400);
    let bad = json!({
        "line_number": 2, "original_line": "bad", "error_message": "missing fields",
    });
    let expected = json!({ "error": "parsing failed for write_lp endpoint", "data": bad });
    assert_eq!(as_json(&answer), expected);
    assert_eq!(server.count("m_f"), 0);
    assert_eq!(server.get_json("/status.json")["skipped"]["string_fields"], 0);

    let answer = server.send("POST", "/api/v3/write_lp", "", lines);
    assert_eq!(answer.status, 400);
    let also = json!({
        "line_number": 3, "original_line": "m f=2,g=x 2", "error_message": "invalid number",
    });
    let error = "partial write of line protocol occurred";
    assert_eq!(as_json(&answer), json!({ "error": error, "data": [bad, also] }));
    assert_eq!(server.count("m_f"), 2);
    assert_eq!(server.get_json("/status.json")["skipped"]["string_fields"], 1);
}

#[test]
fn all_or_none_holds_at_the_limit_on_series_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2"]);
    let lines = b"a f=1 1\nb f=1 1\nc f=1 1\nd f=1 1\ne f=1 1";
    let answer = server.send("POST", "/api/v3/write_lp?accept_partial=false", "", lines);
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("nothing written"), "{}", text(&answer));
    assert_eq!(server.count("{__name__=~\".+\"}"), 0);
    let answer = server.send("POST", "/api/v3/write_lp", "", lines);
    assert!(text(&answer).contains("the other series written"), "{}", text(&answer));
    assert!(server.count("{__name__=~\".+\"}") > 0);
}

/// QuestDB's clients send times as fields: `ts=7t`.
#[test]
fn a_timestamp_field_costs_no_number_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let lines = b"t,a=b v=1.5,ts=7t,i=2i 1000000\nt only=7t 1000000\nt x=1,ts=7.5t 1";
    assert_eq!(server.send("POST", "/write?precision=n", "", lines).status, 400);
    assert_eq!(server.count("{__name__=~\"t_.*\"}"), 2);
    assert_eq!(server.get_json("/status.json")["skipped"]["timestamp_fields"], 2);
}
