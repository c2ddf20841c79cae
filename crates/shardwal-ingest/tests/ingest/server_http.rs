//! How the server speaks HTTP: media types, forms, paths, access, limits at start, and connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server_requests::{GZIP, gzip};
use crate::server_support::{SNAPPY, Server, block, encoded, program, request, text};

/// Regression: a body of any type was taken as lines, and encodings had to be in lower case.
#[test]
fn a_media_type_or_an_encoding_that_is_not_known_is_answered_415() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let write = block(&request(&["a"], &[(1, 1.0)]));
    let zipped = gzip(b"m f=1 1");
    let cases: [(&str, &str, &[u8], u16); 15] = [
        ("/write", "Content-Type: application/json\r\n", b"m f=1 1", 415),
        ("/write", "Content-Type: image/png\r\n", b"m f=1 1", 415),
        ("/write", "Content-Type: Text/Plain; charset=utf-8\r\n", b"m f=1 1", 204),
        ("/write", "Content-Type: application/x-www-form-urlencoded\r\n", b"m f=1 1", 204),
        ("/write", "Content-Type: application/octet-stream\r\n", b"m f=1 1", 204),
        ("/write", "", b"m f=1 1", 204),
        ("/write", "Content-Encoding: GZIP\r\n", &zipped, 204),
        ("/write", "Content-Encoding: x-gzip\r\n", &zipped, 204),
        ("/write", "Content-Encoding: Identity\r\n", b"m f=1 1", 204),
        ("/write", "Content-Encoding: br\r\n", b"m f=1 1", 415),
        ("/api/v1/write", "Content-Encoding: Snappy\r\n", &write, 204),
        ("/api/v1/write", "Content-Type: application/x-protobuf\r\n", &write, 204),
        ("/api/v1/write", "Content-Type: application/json\r\n", &write, 415),
        ("/api/v1/write", "Content-Type: text/plain\r\n", &write, 415),
        ("/api/v1/write", "Content-Encoding: gzip\r\n", &write, 415),
    ];
    for (path, headers, body, status) in cases {
        let answer = server.send("POST", path, headers, body);
        assert_eq!(answer.status, status, "{path} {headers}: {}", text(&answer));
    }
}

/// Regression: 405 for a form, and 400 for a time that is not a number.
#[test]
fn a_read_takes_a_form_and_times_of_rfc_3339() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let samples = [(1_767_225_600_000, 1.0), (1_767_225_601_000, 2.0), (1_767_225_602_001, 3.0)];
    assert_eq!(server.write(&request(&["a"], &samples)).status, 204);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = format!("match[]={}", encoded("a"));
    let answer = server.send("POST", "/api/v1/series", form, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", text(&answer));
    assert!(text(&answer).contains("\"__name__\":\"a\""), "{}", text(&answer));
    for (start, end, timestamps) in [
        ("2026-01-01T00:00:01Z", "", "[1767225601000,1767225602001]"),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:01.5Z", "[1767225600000,1767225601000]"),
        // A float in seconds is rounded to the millisecond.
        ("1767225602.001", "1767225602.0014", "[1767225602001]"),
    ] {
        let body = format!("{body}&start={}&end={}", encoded(start), encoded(end));
        let answer = server.send("POST", "/api/v1/export", form, body.as_bytes());
        let said = text(&answer);
        assert!(said.contains(&format!("\"timestamps\":{timestamps}")), "{start}: {said}");
    }
    for time in ["2026-02-29T00:00:00Z", "2026-01-01", "2026-01-01T24:00:00Z", "x", "NaN"] {
        let answer = server.get(&format!("/api/v1/export?match[]=a&start={}", encoded(time)));
        assert_eq!(answer.status, 400, "{time}: {}", text(&answer));
    }
    let answer =
        server.send("POST", "/api/v1/series", "Content-Type: text/plain\r\n", b"match[]=a");
    assert_eq!(answer.status, 415, "{}", text(&answer));
}

/// Regression: the connection broke while the client was still sending.
#[test]
fn a_body_to_a_wrong_path_is_read_and_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut connection = server.connect();
    for (method, path, status) in
        [("POST", "/nowhere", 404), ("POST", "/status.json", 405), ("PUT", "/write", 405)]
    {
        let answer = connection.send(method, path, "", &vec![b'x'; 8 << 20]);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(answer.status, status, "{path}");
    }
    assert_eq!(connection.send("POST", "/write", "", b"m f=1 1").unwrap().status, 204);
}

fn fails_to_start(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(program());
    command.args(["serve", "--dir"]).arg(directory.path()).args(arguments);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).expect("it is UTF-8")
}

/// Regression: such a server started, and answered every request with 413 or 503.
#[test]
fn limits_that_let_no_request_pass_are_refused_at_start() {
    for (arguments, why) in [
        (&["--request-bytes-max", "0"][..], "no write would fit"),
        (&["--samples-max", "0"], "no write would fit"),
        (&["--in-flight-bytes-max", "1000"], "1000 is below --request-bytes-max"),
        (&["--free-space-low-bytes", "5", "--free-space-min-bytes", "6"], "below the minimum of 6"),
        (&["--listen", "0.0.0.0:0"], "give --token-file, or --allowed-host"),
        (&["--listen", "[::]:0"], "give --token-file, or --allowed-host"),
        (&["--token-file", "/nonexistent"], "--token-file /nonexistent"),
    ] {
        let said = fails_to_start(arguments);
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
}

/// Regression: a page on any site could make a browser write.
#[test]
fn another_origin_a_wrong_host_and_a_wrong_token_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let write = |server: &Server, headers: &str| {
        let answer = server.send("POST", "/write", headers, b"m f=1 1");
        (answer.status, text(&answer))
    };
    let same = format!("Origin: http://{}\r\n", server.address);
    assert_eq!(write(&server, &same).0, 204);
    assert_eq!(write(&server, "Origin: https://evil.example\r\n").0, 403);
    assert_eq!(write(&server, "Origin: null\r\n").0, 403);
    drop(server);

    let hosts = ["--allowed-host", "metrics.example", "--allowed-host", "127.0.0.1"];
    let server = Server::start(directory.path(), &hosts);
    assert_eq!(write(&server, "").0, 204);
    assert_eq!(write(&server, "Origin: https://metrics.example\r\n").0, 204);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
    drop(server);

    let file = directory.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    let server = Server::start(directory.path(), &["--token-file", file.to_str().unwrap()]);
    assert_eq!(write(&server, "").0, 401);
    assert_eq!(write(&server, "Authorization: Bearer secret2\r\n").0, 401);
    assert_eq!(write(&server, "Authorization: Basic secret\r\n").0, 401);
    assert_eq!(write(&server, "Authorization: Bearer secret\r\n").0, 204);
    assert_eq!(write(&server, "Authorization: Token secret\r\n").0, 204);
    assert_eq!(server.get("/metrics").status, 401);
}

/// Regression: files had the modes of the caller's umask.
#[cfg(unix)]
#[test]
fn nobody_else_reads_the_files_and_only_the_owner_writes_them() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("db");
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(program());
    let mut server = Server::start_command(shell, &directory, &["--snapshot-samples", "1"]);
    server.wait_for("ready");
    assert_eq!(server.write(&request(&["a"], &[(1, 1.0)])).status, 204);
    server.wait_for("took a snapshot");
    let (mut folders, mut files) = (vec![directory], 0);
    while let Some(folder) = folders.pop() {
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&folder) & 0o027, 0, "{}", folder.display());
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.exists() {
                assert_eq!(mode(&path) & 0o137, 0, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 2, "{files}");
}

/// Regression: SIGHUP ended the process without a close.
#[test]
fn a_signal_ends_the_server_in_order_though_clients_are_silent() {
    for signal in ["-HUP", "-TERM", "-INT"] {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(directory.path(), &[]);
        let silent = TcpStream::connect(&server.address).unwrap();
        let mut idle = server.connect();
        assert_eq!(idle.send("POST", "/write", "", b"m f=1 1").unwrap().status, 204);
        let began = Instant::now();
        server.signal(signal);
        server.wait_for("closed");
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        assert!(began.elapsed() < Duration::from_secs(4), "{signal}: {:?}", began.elapsed());
        drop((silent, idle));
    }
}

/// Regression: connections in the kernel's queue were reset, and 128 of them were the maximum.
#[test]
fn what_waits_in_the_queue_at_sigterm_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    // The server takes four seconds to end. Without syncs, a slow disk does not matter.
    let settings = ["--connections-max", "4", "--durability", "buffered"];
    let server = Server::start(directory.path(), &settings);
    let body = block(&request(&["queued"], &[(1, 1.0)]));
    let length = body.len();
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: x\r\n{SNAPPY}Content-Length: {length}\r\n\r\n"
    );
    // Four requests in flight, whose bodies are not complete.
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).unwrap();
        stream
    };
    let (first, rest) = body.split_at(length / 2);
    let mut busy: Vec<_> = (0..4).map(|_| connect(first)).collect();
    let queued: Vec<_> = (0..200).map(|_| connect(&body)).collect();
    server.signal("-TERM");
    for stream in &mut busy {
        stream.write_all(rest).unwrap();
    }
    for (n, mut stream) in busy.into_iter().chain(queued).enumerate() {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 204 "), "{n}: {read:?} {answer}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// Regression: a new client waited until the time limit of an idle one.
#[test]
fn the_longest_idle_connection_is_closed_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--connections-max", "3"]);
    let mut idle: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for connection in &mut idle {
        assert_eq!(connection.send("POST", "/write", "", b"m f=1 1").unwrap().status, 204);
    }
    let began = Instant::now();
    assert_eq!(server.send("POST", "/write", GZIP, &gzip(b"m f=1 2")).status, 204);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(idle[0].send("POST", "/write", "", b"m f=1 3").is_err(), "the longest idle is closed");
    assert_eq!(idle[2].send("POST", "/write", "", b"m f=1 4").unwrap().status, 204);
}

/// Regression: clients that pipeline requests and read nothing took all connections for ever.
#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--connections-max", "4", "--write-time-max", "1"];
    let server = Server::start(directory.path(), &arguments);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            // Until the server, blocked by its own responses, reads no more.
            while stream
                .write_all("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100).as_bytes())
                .is_ok()
            {}
            stream
        })
        .collect();
    let answer = server.send("POST", "/write", "", b"m f=1 1");
    assert_eq!(answer.status, 204, "{}", text(&answer));
    drop(clients);
}
