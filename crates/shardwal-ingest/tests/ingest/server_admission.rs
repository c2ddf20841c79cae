//! Admission: a request is written as a whole, refused for a passing reason, or answered with the
//! limit that it exceeds. A refused request leaves nothing behind.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::server_requests::{GZIP, gzip};
use crate::server_support::{SNAPPY, Server, block, request, text};

/// Regression: 503 with `Retry-After`, for ever, on an idle server.
#[test]
fn a_request_larger_than_the_queues_is_written_part_by_part() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    // All in one shard, whose queue holds 16 MiB.
    let samples: Vec<_> = (0..1_500_000).map(|at| (at, 0.5)).collect();
    for _ in 0..2 {
        let answer = server.write(&request(&["large"], &samples));
        assert_eq!(answer.status, 204, "{}", text(&answer));
    }
    let status = server.get_json("/status.json");
    assert_eq!(status["samples_in_memory"], 1_500_000);
    assert_eq!(server.stop("-TERM").code(), Some(0));
}

/// Regression: 503 with `Retry-After`, for ever.
#[test]
fn a_request_that_exceeds_a_limit_alone_is_answered_413_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ["--in-flight-bytes-max", "300000", "--request-bytes-max", "250000"];
    let server =
        Server::start(directory.path(), &[&limits[..], &["--samples-max", "40000"]].concat());
    let mut connection = server.connect();
    let large = block(&request(&["a"], &[(1, 1.0); 15_000]));
    let long = snap::raw::Encoder::new().compress_vec(&[0; 400_000]).unwrap();
    // Not compressible: it is held twice while it is decompressed.
    let mixed = |n: u64| {
        let n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (n ^ n >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9).to_le_bytes()
    };
    let noise: Vec<u8> = (1..25_000).flat_map(mixed).collect();
    let noise = snap::raw::Encoder::new().compress_vec(&noise).unwrap();
    for (path, headers, body, limit) in [
        ("/api/v1/write", SNAPPY, &large, "--in-flight-bytes-max"),
        ("/api/v1/write", SNAPPY, &long, "--request-bytes-max"),
        ("/api/v1/write", SNAPPY, &noise, "--in-flight-bytes-max"),
        ("/api/v1/write", SNAPPY, &vec![0; 250_001], "--request-bytes-max"),
        ("/write", "", &vec![b'\n'; 250_001], "--request-bytes-max"),
        ("/write", GZIP, &gzip(&[b'\n'; 1 << 20]), "--request-bytes-max"),
    ] {
        let answer = connection.send("POST", path, headers, body).unwrap();
        assert_eq!(answer.status, 413, "{path}: {}", text(&answer));
        assert!(text(&answer).contains(limit), "{path}: {}", text(&answer));
    }
    let small = block(&request(&["a"], &[(1, 1.0)]));
    assert_eq!(connection.send("POST", "/api/v1/write", SNAPPY, &small).unwrap().status, 204);
    let status = server.get_json("/status.json");
    assert_eq!((&status["refusals"]["too_large"], &status["samples"]), (&json!(6), &json!(1)));
    assert_eq!(status["in_flight_bytes"], 0);
}

#[test]
fn a_request_of_more_samples_than_memory_may_hold_is_answered_413() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--samples-max", "10"]);
    let samples: Vec<_> = (0..11).map(|at| (at, 1.0)).collect();
    let answer = server.write(&request(&["a"], &samples));
    assert_eq!(answer.status, 413, "{}", text(&answer));
    assert!(text(&answer).contains("--samples-max allows at most 10"), "{}", text(&answer));
    assert_eq!(server.write(&request(&["a"], &samples[1..])).status, 204);
}

/// Regression: four clients that announced large bodies and sent nothing made the server refuse
/// every other write.
#[test]
fn a_body_that_has_not_arrived_takes_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let length = 32 << 20;
            write!(
                stream,
                "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
            )
            .and_then(|()| stream.write_all(b"\r\n."))
            .unwrap();
            stream
        })
        .collect();
    // Each holds the first step of its buffer once the server has read from it.
    let held = || server.get_json("/status.json")["in_flight_bytes"].as_u64().unwrap();
    while held() < 8 << 14 {
        std::thread::yield_now();
    }
    assert!(held() < 1 << 20, "{} bytes", held());
    let answer = server.write(&request(&["a"], &[(1, 1.0)]));
    assert_eq!(answer.status, 204, "{}", text(&answer));
    drop(claims);
}

/// Regression: 503, and neither was written. The sender would have repeated it for ever.
#[test]
fn at_the_series_limit_known_series_are_written_and_new_ones_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2"]);
    let names: Vec<String> = (0..20).map(|n| format!("series_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = || server.export("{__name__=~\"series_.*\"}");
    for round in 1..=2 {
        let answer = server.write(&request(&names, &[(round, 0.5)]));
        let said = text(&answer);
        assert_eq!(answer.status, 400, "{said}");
        assert!(said.starts_with("18 new series left out, the other series written"), "{said}");
        assert!(said.contains("--series-max allows at most 2 series"), "{said}");
        assert!(said.contains("{__name__=\"series_"), "{said}");
        let times: Vec<i64> = (1..=round).collect();
        assert_eq!(found().len(), 2);
        assert!(found().iter().all(|series| series["timestamps"] == json!(times)));
    }
    let known: Vec<_> =
        found().iter().map(|s| s["metric"]["__name__"].as_str().unwrap().to_owned()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(server.write(&request(&known, &[(3, 0.5)])).status, 204);
    let answer = server.send("POST", "/write", "", b"new f=1");
    assert_eq!(answer.status, 400, "{}", text(&answer));
    // Both reasons are named, and what is skipped is counted.
    let answer = server.send("POST", "/write", "", b"bad line\nnew f=1,text=\"x\"");
    let said = text(&answer);
    assert_eq!(answer.status, 400, "{said}");
    assert!(said.contains("(line 1)") && said.contains("--series-max"), "{said}");
    let mut mixed = request(&["new", "bad"], &[(1, 0.5)]);
    mixed.timeseries[1].labels[0].name = "no_metric".to_owned();
    let said = text(&server.write(&mixed));
    assert!(said.contains("1 series left out") && said.contains("--series-max"), "{said}");
    let status = server.get_json("/status.json");
    assert_eq!((&status["series"], &status["samples"]), (&json!(2), &json!(6)));
    assert_eq!(status["refusals"]["too_many_series"], 5);
    assert_eq!(status["skipped"]["string_fields"], 1, "{status}");
}

/// New series of refused requests leave nothing in memory.
#[test]
fn a_refused_request_leaves_no_series_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--samples-max", "10", "--series-max", "8"]);
    let samples: Vec<_> = (0..9).map(|at| (at, 1.0)).collect();
    assert_eq!(server.write(&request(&["a"], &samples)).status, 204);
    for round in 0..50 {
        let names = [format!("x_{round}"), format!("y_{round}")];
        let answer = server.write(&request(&names.each_ref().map(String::as_str), &[(1, 1.0)]));
        assert_eq!(answer.status, 503, "{}", text(&answer));
        assert!(text(&answer).contains("memory is full"), "{}", text(&answer));
    }
    assert_eq!(server.get_json("/status.json")["series"], 1);
    assert_eq!(server.write(&request(&["b"], &[(1, 1.0)])).status, 204);
}

/// Regression: the other problem came first, and pushed the limit out of the answer.
#[test]
fn an_answer_names_the_series_limit_beside_another_problem() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2"]);
    let names: Vec<String> = (0..5).map(|n| format!("{}_{n}", "long".repeat(60))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut write = request(&names, &[(1, 0.5)]);
    write.timeseries[0].labels.remove(0);
    write.timeseries[0].labels[0].value = "y".repeat(400);
    let answer = server.write(&write);
    let said = text(&answer);
    assert_eq!(answer.status, 400, "{said}");
    assert!(said.starts_with("2 new series left out, the other series written"), "{said}");
    assert!(said.contains("also: 1 series left out"), "{said}");
}

/// Regression: the second counted as another new series, and its samples were left out. Each of two
/// shards has room for one.
#[test]
fn equal_labels_in_another_order_are_one_new_series_at_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2"]);
    let answer = server.send("POST", "/write", "", b"m,a=1,b=2 f=1 1000\nm,b=2,a=1 f=2 2000000\n");
    assert_eq!(answer.status, 204, "{}", text(&answer));
    let status = server.get_json("/status.json");
    assert_eq!((&status["series"], &status["samples"]), (&json!(1), &json!(2)));
}
