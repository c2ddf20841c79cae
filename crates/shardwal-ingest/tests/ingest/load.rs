//! `shardwal-ingest load`: what it sends is stored.

use std::path::Path;
use std::process::Command;

use crate::server_support::{Server, dump, program, text};

/// The first requests of the recording, as a recording.
fn recording(requests: usize) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/node_exporter.remote_write");
    let all = std::fs::read(path).expect("the recording is in the repository");
    let mut end = 0;
    for _ in 0..requests {
        let length = all[end..].first_chunk().expect("it has more requests");
        end += 4 + u32::from_le_bytes(*length) as usize;
    }
    all[..end].to_vec()
}

/// Sends two rounds of a recording, and returns the lines of the log's dump, sorted.
fn stored_by(version: &str, recording: &Path) -> Vec<String> {
    let directory = tempfile::tempdir().expect("there is room");
    let server = Server::start(directory.path(), &[]);
    let id = server.pid().to_string();
    let output = Command::new(program())
        .args(["load", "--repeat", "2", "--connections", "2", "--remote-write", version])
        .args(["--to", &server.address, "--pid", &id, "--stream"])
        .arg(recording)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" samples per second of the server's processor time"), "{said}");
    let status = text(&server.get("/status.json"));
    assert!(status.contains("\"last_refusal\":null"), "{status}");
    server.stop("-TERM");
    let mut lines = dump(directory.path());
    lines.sort_unstable();
    lines
}

#[test]
fn both_versions_of_remote_write_store_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recording");
    std::fs::write(&file, recording(3)).unwrap();
    let lines = stored_by("1", &file);
    assert!(lines.len() > 1_000, "{}", lines.len());
    assert_eq!(lines, stored_by("2", &file));
}
