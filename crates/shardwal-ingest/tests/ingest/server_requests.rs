//! Requests that the ingest server accepts or refuses, and its responses.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use serde_json::json;

use crate::server_support::{SNAPPY, Server, block, encoded, request, text};

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
        (&claims_30_mb, "cannot decompress to 30000000"),
        (&block_of(b"hello"), "not a valid message"),
        (&message, "not a valid message: a length exceeds the remaining bytes"),
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
    assert_eq!(status["in_flight_bytes"], 0, "a refused request returns its memory");
}

#[test]
fn a_series_that_is_not_valid_is_left_out_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut mixed = request(&["good", "bad", "fine"], &[(1, 1.0)]);
    mixed.timeseries[1].labels[1].name = String::new();
    let answer = server.write(&mixed);
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("1 series left out"), "{}", text(&answer));
    assert!(text(&answer).contains("a label has no name"), "{}", text(&answer));
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

pub(crate) const GZIP: &str = "Content-Encoding: gzip\r\n";

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
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
    assert_eq!(server.count("cpu_name"), 0, "a string is not a sample");

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

/// Each took a worker for 10 s or more, and the lock on the cache with it.
#[test]
fn a_line_that_is_hard_to_read_takes_no_longer_than_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let tags_times_fields = format!("m{} f=1{}", ",t=".repeat(1 << 18), ",f=1".repeat(1 << 17));
    let quotes = "m,t=\"x f=1,s=\"\n".repeat(1 << 14);
    let open = format!("m s=\"{}", "\nm f=1x,s=\\\"".repeat(1 << 15));
    for lines in [tags_times_fields, quotes, open] {
        let began = std::time::Instant::now();
        server.send("POST", "/write", GZIP, &gzip(lines.as_bytes()));
        let took = began.elapsed();
        assert!(took.as_secs() < 5, "{took:?} for {:.20}", lines);
        assert_eq!(server.get("/status.json").status, 200);
    }
    assert_eq!(server.stop("-TERM").code(), Some(0));
}

#[test]
fn a_selector_that_cannot_be_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let selectors = [
        "",
        "{}",
        "{a}",
        "{a=b}",
        "{a=~\"(\"}",
        "a{b=\"c\"",
        "a}",
        "{a=\"b\"c=\"d\"}",
        "1a",
        "a{\"b\"}",
        "{\"a\",\"b\"}",
        "{\"a\"=}",
        "{a=\"\\'\"}",
        "{a=\"\n\"}",
        "{a=\"\\xff\"}",
        "{a=\"\\u12\"}",
    ];
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

/// vmagent 1.112 asks first. Later ones begin with zstd, and fall back to snappy after a 415.
#[test]
fn remote_write_may_be_zstd_as_vmagent_sends_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let probe = server.send("POST", "/api/v1/write?get_vm_proto_version=1", "", b"");
    assert_eq!((probe.status, text(&probe).as_str()), (200, "1"));
    let message = request(&["up"], &[(1, 1.0), (2, 2.0)]).encode_to_vec();
    let headers = "Content-Encoding: zstd\r\nContent-Type: application/x-protobuf\r\n\
                   X-VictoriaMetrics-Remote-Write-Version: 1\r\n";
    let send = |body: &[u8]| server.send("POST", "/api/v1/write", headers, body);
    let frame = zstd::bulk::compress(&message, 1).unwrap();
    assert_eq!(send(&frame).status, 204);
    assert_eq!(server.count("up"), 2);

    // With a body it is no question.
    let path = "/api/v1/write?get_vm_proto_version=1";
    assert_eq!(server.send("POST", path, headers, &frame).status, 204);

    let large = zstd::bulk::compress(&vec![0; (32 << 20) + 1], 1).unwrap();
    let without_length = zstd::stream::encode_all(&message[..], 1).unwrap();
    for (body, status, why) in [
        (&frame[..frame.len() - 1], 400, "not a zstd frame"),
        (&large, 413, "--request-bytes-max"),
        (&without_length, 415, "use snappy"),
        (b"no frame", 415, "use snappy"),
    ] {
        let answer = send(body);
        assert_eq!(answer.status, status, "{why}: {}", text(&answer));
        assert!(text(&answer).contains(why), "{why}: {}", text(&answer));
    }
    assert_eq!(server.send("POST", "/api/v1/read", headers, &frame).status, 415);
    assert_eq!(server.get_json("/status.json")["in_flight_bytes"], 0);
}
