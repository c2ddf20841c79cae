//! The log of the server: its forms, its levels, and a line per sender and kind.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::server_support::{Server, block, request};

/// Runs a server until it has refused and written some requests. Returns its standard output.
fn logged(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("there is room");
    let (log, output) = (directory.path().join("log"), directory.path().join("output"));
    let file = Stdio::from(File::create(&output).expect("the folder exists"));
    let server = Server::start_printing_to(&log, arguments, file, Stdio::inherit());
    for at in 0..3 {
        assert_eq!(
            server.send("POST", "/write", "User-Agent: a\r\n", b"m f=1,s=\"\" 1").status,
            204
        );
        let bad = format!("m f=x\x1b[31m\n{at}=\"\n");
        assert_eq!(server.send("POST", "/write", "User-Agent: a\r\n", bad.as_bytes()).status, 400);
        let body = block(&request(&["up"], &[(at, 1.0), (at + 10, 1.0)]));
        assert_eq!(
            server.send("POST", "/api/v1/write", "Content-Encoding: x\r\n", &body).status,
            415
        );
        assert_eq!(server.write(&request(&["up"], &[(at, 1.0), (at + 10, 1.0)])).status, 204);
    }
    assert_eq!(server.stop("-TERM").code(), Some(0));
    read(&output)
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("it is UTF-8")
}

#[test]
fn a_line_of_json_has_time_level_message_and_fields() {
    let said = logged(&["--log-format", "json"]);
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for line in &lines {
        for name in ["timestamp", "level", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
    let with = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with(message)).collect()
    };
    assert_eq!(with("finishing")[0]["signal"], "SIGTERM");
    assert_eq!(with("closed").len(), 1);
    let refused = with("refused");
    assert_eq!(refused.len(), 2, "one per sender, endpoint and reason: {said}");
    for (line, [client, endpoint, reason], status) in [
        (refused[0], ["a", "/api/v2/write", "invalid"], 400),
        (refused[1], ["", "/api/v1/write", "encoding"], 415),
    ] {
        let found = ["sender", "client", "endpoint", "reason", "level"].map(|name| &line[name]);
        assert_eq!(
            found.map(Value::as_str),
            ["127.0.0.1", client, endpoint, reason, "WARN"].map(Some)
        );
        assert_eq!((&line["status"], &line["samples"]), (&json!(status), &json!(0)));
        assert!(line["error"].is_string(), "{line}");
    }
    assert_eq!(with("acknowledged but not stored").len(), 1);
    assert!(with("written").is_empty(), "that is for the level debug");
}

#[test]
fn what_a_client_sends_ends_no_line_and_reaches_no_terminal() {
    let said = logged(&[]);
    assert!(!said.contains('\x1b'), "{said}");
    for line in said.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        let level = rest.split_whitespace().next().unwrap();
        assert!(["INFO", "WARN"].contains(&level), "{line}");
    }
}

#[test]
fn the_level_decides_what_is_logged() {
    let debug = logged(&["--log-level", "debug"]);
    let written = debug.lines().filter(|line| line.contains(" written ")).collect::<Vec<_>>();
    assert_eq!(written.len(), 9, "also those of which nothing was valid: {debug}");
    let fields = "endpoint=\"/api/v1/write\" samples=2 new_series=1";
    assert!(written.iter().any(|line| line.ends_with(fields)), "{debug}");
    assert_eq!(logged(&["--log-level", "error"]), "");
}

#[test]
fn the_status_page_names_the_errors_of_each_sender() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for body in [&b"m f=1 1"[..], b"m f=1 1\nm f=x 2", b"bad"] {
        server.send("POST", "/write", "User-Agent: telegraf\r\n", body);
    }
    assert_eq!(server.write(&request(&["a", "b"], &[(1, 1.0)])).status, 204);
    let senders = server.get_json("/status.json")["senders"].clone();
    assert_eq!(senders[0]["address"], "127.0.0.1");
    let numbers = ["requests", "samples", "refused"].map(|name| senders[0][name].as_u64());
    assert_eq!(numbers, [3, 2, 2].map(Some), "{senders}");
    let error = senders[0]["last_refusal"].as_str().unwrap();
    assert!(error.contains("unable to parse 'bad'"), "{error}");
    assert_eq!((&senders[1]["samples"], &senders[1]["last_refusal"]), (&json!(2), &Value::Null));
}
