//! Remote write 2.0 over HTTP: what is answered, and what is stored.

use prost::Message;
use serde_json::json;

use crate::native_histograms::native_histogram::Histogram;
use crate::server_support::client::Answer;
use crate::server_support::{SNAPPY, Sample, Server, block, request, text};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(string, repeated, tag = "4")]
    pub(crate) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) histograms: Vec<Histogram>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) exemplars: Vec<Vec<u8>>,
    #[prost(message, tag = "5")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    pub(crate) created_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Metadata {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
}

pub(crate) const V2: &str = "Content-Encoding: snappy\r\n\
    Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n\
    X-Prometheus-Remote-Write-Version: 2.0.0\r\n";

fn series(labels_refs: &[u32], timestamps: std::ops::Range<i64>) -> TimeSeries {
    let samples = timestamps.map(|timestamp| Sample { value: 1.0, timestamp }).collect();
    TimeSeries { labels_refs: labels_refs.to_vec(), samples, ..Default::default() }
}

pub(crate) fn symbols(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Two series, `a` and `b{job="x"}`, with two samples each.
fn two_series() -> Request {
    let symbols = symbols(&["", "__name__", "a", "b", "job", "x"]);
    Request { symbols, timeseries: vec![series(&[1, 2], 0..2), series(&[1, 3, 4, 5], 0..2)] }
}

pub(crate) fn send(server: &Server, request: &Request) -> Answer {
    server.send("POST", "/api/v1/write", V2, &block(request))
}

/// What the headers say was written: samples, histograms and exemplars.
pub(crate) fn written(answer: &Answer) -> [Option<&str>; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|what| answer.header(&format!("x-prometheus-remote-write-{what}-written")))
}

fn written_samples(count: &str) -> [Option<&str>; 3] {
    [Some(count), Some("0"), Some("0")]
}

#[test]
fn both_versions_write_the_same_series() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for _ in 0..2 {
        let answer = send(&server, &two_series());
        assert_eq!((answer.status, written(&answer)), (204, written_samples("4")));
    }
    // `b` once more, by other symbols, and by version 1.0.
    let symbols = symbols(&["", "x", "job", "b", "__name__"]);
    let other = Request { symbols, timeseries: vec![series(&[2, 1, 4, 3], 2..3)] };
    assert_eq!(written(&send(&server, &other)), written_samples("1"));
    let mut first = request(&["b"], &[(3, 1.0)]);
    first.timeseries[0].labels[1].value = "x".to_owned();
    let answer = server.write(&first);
    assert_eq!((answer.status, written(&answer)), (204, [None; 3]), "no headers of 2.0");

    assert_eq!(server.get_json("/status.json")["series"], 2);
    assert_eq!(server.count("a"), 2);
    let found = &server.export("{job=\"x\"}")[0];
    assert_eq!(found["metric"], json!({ "__name__": "b", "job": "x" }));
    assert_eq!(found["timestamps"], json!([0, 1, 2, 3]));
}

/// References hold for one request. In the next, the same ones are another series.
#[test]
fn references_of_one_request_name_no_series_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (name, value) in [("a", "x"), ("b", "x"), ("a", "y")] {
        let symbols = symbols(&["", "__name__", name, "job", value]);
        let request = Request { symbols, timeseries: vec![series(&[1, 2, 3, 4], 0..1)] };
        assert_eq!(written(&send(&server, &request)), written_samples("1"));
        assert_eq!(server.count(&format!("{name}{{job=\"{value}\"}}")), 1, "{name} {value}");
    }
    assert_eq!(server.get_json("/status.json")["series"], 3);
}

#[test]
fn the_media_type_says_which_version_a_request_has() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let (first, second) = (block(&request(&["a"], &[(1, 1.0)])), block(&two_series()));
    let cases = [
        ("application/x-protobuf", &first, 204),
        ("application/x-protobuf; proto=prometheus.WriteRequest", &first, 204),
        ("application/x-protobuf;Proto=\"io.prometheus.write.v2.Request\"", &second, 204),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request;q=1", &second, 204),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", &second, 415),
        ("application/x-protobuf;proto=", &first, 415),
        ("application/x-protobuf;proto", &first, 415),
        ("application/json;proto=prometheus.WriteRequest", &first, 415),
    ];
    for (media_type, body, status) in cases {
        let headers = format!("{SNAPPY}Content-Type: {media_type}\r\n");
        let answer = server.send("POST", "/api/v1/write", &headers, body);
        assert_eq!(answer.status, status, "{media_type}: {}", text(&answer));
        let is_v2 = media_type.contains("v2") && status == 204;
        let expected = if is_v2 { written_samples("4") } else { [None; 3] };
        assert_eq!(written(&answer), expected, "{media_type}");
    }
}

#[test]
fn invalid_series_are_left_out_and_the_headers_count_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let cases = [
        (series(&[1, 6], 0..3), "a label refers to symbol 6; there are 6"),
        (series(&[1, u32::MAX], 0..3), "a label refers to symbol 4294967295"),
        (series(&[1, 2, 4], 0..3), "has 3 references"),
        (series(&[4, 5], 0..3), "the series {job=\"x\"} has no __name__"),
        (series(&[], 0..3), "the series {} has no __name__"),
        (series(&[1, 2, 4, 5, 4, 3], 0..3), "label \"job\" occurs twice"),
        (series(&[1, 2, 0, 5], 0..3), "a label has no name"),
        (series(&[1, 2], 0..0), "the series {__name__=\"a\"} has neither samples nor histograms"),
    ];
    for (bad, why) in cases {
        let mut mixed = two_series();
        mixed.timeseries.insert(1, bad);
        let answer = send(&server, &mixed);
        assert_eq!((answer.status, written(&answer)), (400, written_samples("4")), "{why}");
        assert!(text(&answer).contains("1 series left out"), "{}", text(&answer));
        assert!(text(&answer).contains(why), "{why}: {}", text(&answer));
    }
    assert_eq!(server.get_json("/status.json")["series"], 2);
    let mut empty = two_series();
    empty.timeseries[0].labels_refs.extend([4, 0, 0, 0]);
    assert_eq!(send(&server, &empty).status, 204, "empty labels are no labels");
    assert_eq!(server.get_json("/status.json")["series"], 2);
}

#[test]
fn what_is_refused_or_left_out_at_a_limit_is_not_counted_as_written() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2", "--samples-max", "9"]);
    let mut many = two_series();
    many.symbols.extend(symbols(&["c", "d", "e"]));
    many.timeseries.extend([6, 7, 8].map(|name| series(&[1, name], 0..1)));
    let answer = send(&server, &many);
    assert_eq!(answer.status, 400, "{}", text(&answer));
    let stored = server.count("{__name__=~\".+\"}").to_string();
    assert_eq!(written(&answer), written_samples(&stored), "{}", text(&answer));

    let mut large = two_series();
    large.timeseries[0] = series(&[1, 2], 0..20);
    let answer = send(&server, &large);
    assert_eq!((answer.status, written(&answer)), (413, written_samples("0")));
    let torn = block(&two_series());
    let answer = server.send("POST", "/api/v1/write", V2, &torn[..torn.len() - 1]);
    assert_eq!((answer.status, written(&answer)), (400, written_samples("0")));
}

#[test]
fn what_version_2_sends_and_is_not_stored_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    let mut full = two_series();
    full.timeseries[0].exemplars = vec![vec![]; 3];
    full.timeseries[0].metadata = Some(Metadata { kind: 1 });
    full.timeseries[0].created_timestamp = 5;
    full.timeseries[1].metadata = Some(Metadata { kind: 0 });
    full.timeseries[1].samples.clear();
    full.timeseries[1].exemplars = vec![vec![]];
    let answer = send(&server, &full);
    assert_eq!((answer.status, written(&answer)), (204, written_samples("2")));
    let skipped = &server.get_json("/status.json")["skipped"];
    let kinds = ["exemplars", "metadata", "created_timestamps"];
    assert_eq!(kinds.map(|kind| skipped[kind].as_u64()), [4, 1, 1].map(Some), "{skipped}");
    assert_eq!(skipped["unknown_fields"], 0);
    assert_eq!(server.get_json("/status.json")["series"], 1, "nothing of `b` is stored");
    for kind in kinds {
        let said = server.wait_for("acknowledged but not stored");
        assert!(said.ends_with(&format!(" kind=\"{kind}\"")), "{said}");
    }
}

/// Regression: each version took a message of the other for one without series, and answered 204.
#[test]
fn a_message_of_the_other_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let (v1, v2) = (block(&request(&["a"], &[(1, 1.0)])), block(&two_series()));
    for (headers, body) in [(SNAPPY, &v2), (V2, &v1)] {
        let answer = server.send("POST", "/api/v1/write", headers, body);
        assert_eq!(answer.status, 400, "{headers}: {}", text(&answer));
        assert!(text(&answer).contains("its Content-Type must say so"), "{}", text(&answer));
    }
    for headers in [SNAPPY, V2] {
        let answer = server.send("POST", "/api/v1/write", headers, &block(&Request::default()));
        assert_eq!(answer.status, 204, "an empty request is valid: {}", text(&answer));
    }
}
