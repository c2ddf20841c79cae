//! The files in `packaging`, and what the server reports to a service manager.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::server_support::{SNAPPY, Server, block, program, request, text};

const DASHBOARD: &str = include_str!("../../packaging/grafana-dashboard.json");
const DOCKERFILE: &str = include_str!("../../packaging/Dockerfile");
const UNIT: &str = include_str!("../../packaging/shardwal-ingest.service");

/// The names of metrics in the expressions of the dashboard.
fn dashboard_metrics() -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("there are panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let mut names = BTreeSet::new();
    for target in targets {
        let expression = target["expr"].as_str().expect("an expression");
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let metrics =
            words.filter(|word| word.starts_with("ingest_") || word.starts_with("shardwal_"));
        let before = names.len();
        names.extend(metrics.map(str::to_owned));
        assert!(names.len() > before, "each panel shows what no other does: {expression}");
    }
    names
}

#[test]
fn a_server_exposes_each_metric_of_the_dashboard() {
    let directory = tempfile::tempdir().unwrap();
    let tenants = ["--tenant-header", "tenant", "--tenant-series-max", "1"];
    let server = Server::start(directory.path(), &tenants);
    assert_eq!(server.write(&request(&["a"], &[(1, 1.0)])).status, 204);
    // The second one is left out, and counts as refused.
    assert_eq!(server.write(&request(&["a", "b"], &[(1, 1.0)])).status, 400);
    let metrics = text(&server.get("/metrics"));
    let exposed: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap_or_default())
        .collect();
    let missing: Vec<_> =
        dashboard_metrics().into_iter().filter(|name| !exposed.contains(&**name)).collect();
    assert_eq!(missing, Vec::<String>::new(), "exposed are {exposed:?}");
    for line in ["ingest_ready 1", "ingest_series 1", "ingest_samples_in_memory 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

/// The program accepts the options that the files give it.
#[test]
fn the_options_of_the_container_and_the_unit_are_accepted() {
    let entry = DOCKERFILE.lines().find_map(|line| line.strip_prefix("ENTRYPOINT "));
    let entry: Vec<String> = serde_json::from_str(entry.expect("there is one")).expect("a list");
    let start = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let start: Vec<&str> = start.expect("there is one").split(' ').collect();
    assert_eq!(start[..3], ["/usr/local/bin/shardwal-ingest", "serve", "--config"]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/shardwal-ingest.toml");
    let unit = ["serve", "--config", example].map(str::to_owned).to_vec();
    for arguments in [&entry[1..], &unit] {
        let more = ["--allowed-host", "localhost", "--print-config"];
        let ended = Command::new(program()).args(arguments).args(more).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).expect("it comes in time");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_service_manager_learns_when_the_log_is_replayed_and_when_the_server_stops() {
    let directory = tempfile::tempdir().unwrap();
    let (hold, path) = (directory.path().join("hold"), directory.path().join("notify"));
    let socket = UnixDatagram::bind(&path).unwrap();
    std::fs::write(&hold, "").unwrap();
    let mut command = Command::new(program());
    command.env("NOTIFY_SOCKET", &path);
    let log = directory.path().join("log");
    let server = Server::start_command(command, &log, &["--replay-hold", hold.to_str().unwrap()]);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(socket.recv(&mut [0]).is_err(), "the log is not replayed");
    std::fs::remove_file(&hold).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(next(&socket), "READY=1");
    let body = block(&request(&["a"], &[(1, 1.0)]));
    assert_eq!(server.send("POST", "/api/v1/write", SNAPPY, &body).status, 204);
    server.signal("-TERM");
    assert_eq!(next(&socket), "STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
}
