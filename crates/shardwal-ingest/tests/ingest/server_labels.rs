//! The limits on the labels of a series: settings, which a restart may change.

use std::path::Path;

use crate::server_support::{Label, Server, WriteRequest, dump, request, text};

/// Settings that accept all series of this test.
const WIDE: [&str; 4] = ["--labels-max", "300", "--labels-bytes-max", "300000"];

/// A series with this number of labels, and one with labels of this number of bytes.
fn wide(labels: usize, bytes: usize, at: i64) -> WriteRequest {
    let mut sent = request(&["many", "long"], &[(at, 1.0)]);
    let more = (2..labels).map(|i| Label { name: format!("l{i}"), value: format!("v{i}") });
    sent.timeseries[0].labels.extend(more);
    sent.timeseries[1].labels[1].value = "x".repeat(bytes);
    sent
}

/// The number of samples of each series.
fn stored(server: &Server) -> [usize; 2] {
    ["many", "long"].map(|name| server.count(name))
}

fn check_dump(directory: &Path, labels: usize, bytes: usize) {
    let lines = dump(directory);
    let count = |line: &String| line.matches("=\"").count();
    assert!(lines.iter().any(|line| count(line) == labels), "{labels} labels");
    assert!(lines.iter().any(|line| line.len() > bytes), "{bytes} bytes");
}

#[test]
fn a_raised_limit_is_kept_across_restarts_and_a_lowered_one_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let snapshot = [&WIDE[..], &["--snapshot-samples", "4"]].concat();
    let server = Server::start(directory.path(), &WIDE);
    for (labels, bytes) in [(65, 70_000), (128, 70_001), (300, 250_000)] {
        let answer = server.write(&wide(labels, bytes, 1));
        assert_eq!(answer.status, 204, "{}", text(&answer));
    }
    assert_eq!(stored(&server), [3, 3]);
    server.kill();
    check_dump(directory.path(), 300, 250_000);

    // The defaults are lower: no more is written, and all is read.
    let server = Server::start(directory.path(), &[]);
    assert_eq!(stored(&server), [3, 3]);
    let answer = server.write(&wide(300, 250_000, 2));
    assert_eq!(answer.status, 400);
    let said = text(&answer);
    assert!(said.starts_with("2 series left out"), "{said}");
    assert!(said.contains("at most 64 labels (--labels-max)"), "{said}");
    let answer = server.write(&wide(64, 70_000, 2));
    assert!(text(&answer).contains("65536 are allowed (--labels-bytes-max)"), "{}", text(&answer));
    assert_eq!(stored(&server), [4, 3], "the series within the limits is written");
    assert_eq!(server.stop("-TERM").code(), Some(0));

    // From a snapshot too.
    let mut server = Server::start(directory.path(), &snapshot);
    server.wait_for("took a snapshot");
    assert_eq!(server.write(&wide(300, 250_000, 3)).status, 204);
    server.kill();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(stored(&server), [5, 4]);
    assert_eq!(server.stop("-TERM").code(), Some(0));
    check_dump(directory.path(), 300, 250_000);
}

#[test]
fn every_protocol_names_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--labels-max", "3"]);
    let answer = server.send("POST", "/write", "", b"m,a=1,b=2 f=1 1\nm,a=1,b=2,c=3 f=1 1");
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("at most 3 labels (--labels-max)"), "{}", text(&answer));
    assert_eq!(server.count("m_f"), 1);
}

#[test]
fn limits_that_the_log_cannot_hold_are_refused_at_start() {
    for (option, value) in [("--labels-max", "1025"), ("--labels-bytes-max", "1048577")] {
        let mut command = std::process::Command::new(crate::server_support::program());
        let ended = command.args(["serve", "--dir", "d", option, value]).output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("{option} {value}: the log holds at most")), "{error}");
    }
}
