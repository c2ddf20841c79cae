//! What a sender sends and the server does not store leaves a trace: a counter, a line, the status
//! page, or a 400.

use prost::Message;
use serde_json::json;

use crate::server_support::{
    Label, SNAPPY, Sample, Server, TimeSeries, WriteRequest, block, request, text,
};

/// A request with everything that remote write 1.0 has.
#[derive(Clone, PartialEq, Message)]
struct FullRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<FullSeries>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    metadata: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct FullSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<FullSample>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    exemplars: Vec<Vec<u8>>,
    #[prost(uint64, tag = "9")]
    unknown: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FullSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(uint64, tag = "9")]
    unknown: u64,
}

fn full_request(name: &str, samples: usize) -> FullRequest {
    let labels = vec![Label { name: "__name__".into(), value: name.into() }];
    let sample = FullSample { value: 1.0, timestamp: 1, unknown: 1 };
    let series = FullSeries {
        labels,
        samples: vec![sample; samples],
        exemplars: vec![vec![]; 2],
        unknown: 1,
    };
    FullRequest { timeseries: vec![series], metadata: vec![vec![]; 4] }
}

#[test]
fn what_is_acknowledged_and_not_stored_is_counted_and_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(directory.path(), &[]);
    let headers = format!("{SNAPPY}User-Agent: histo/\"1\"\r\n");
    for samples in [0, 1] {
        let body = block(&full_request("h", samples));
        let answer = server.send("POST", "/api/v1/write", &headers, &body);
        assert_eq!(answer.status, 204, "{}", text(&answer));
    }
    let lines = b"m a=\"x\",b=\"y\",c=1 1\nm a=\"only\" 2\nm a=\"bad\",c=x 3";
    assert_eq!(server.send("POST", "/write", "User-Agent: telegraf\r\n", lines).status, 400);

    let expected = json!({
        "exemplars": 4, "metadata": 8, "created_timestamps": 0,
        "unknown_fields": 3, "string_fields": 3, "timestamp_fields": 0,
        "histogram_extremes": 0, "resource_attributes": 0,
    });
    assert_eq!(server.get_json("/status.json")["skipped"], expected);
    let metrics = text(&server.get("/metrics"));
    for line in [
        "ingest_skipped_total{kind=\"exemplars\"} 4",
        "ingest_skipped_total{kind=\"string_fields\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(text(&server.get("/")).contains("Acknowledged but not stored"));
    for (sender, kind) in [
        ("\"histo/\\\"1\\\"\" endpoint=\"/api/v1/write\"", "exemplars"),
        ("\"histo/\\\"1\\\"\" endpoint=\"/api/v1/write\"", "metadata"),
        ("\"histo/\\\"1\\\"\" endpoint=\"/api/v1/write\"", "unknown_fields"),
        ("\"telegraf\" endpoint=\"/api/v2/write\"", "string_fields"),
    ] {
        let said = server.wait_for("acknowledged but not stored");
        let expected = format!("sender=127.0.0.1 client={sender} kind=\"{kind}\"");
        assert!(said.ends_with(&expected), "{said}");
    }
    server.signal("-TERM");
    let rest = server.rest();
    assert!(!rest.contains("not stored"), "one line per kind: {rest}");
    assert_eq!(rest.lines().count(), 3, "the refusal, and two lines of the end: {rest}");
}

#[test]
fn a_refused_request_counts_nothing_as_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--samples-max", "1"]);
    assert_eq!(server.write(&request(&["a"], &[(1, 1.0)])).status, 204);
    let body = block(&full_request("b", 1));
    assert_eq!(server.send("POST", "/api/v1/write", SNAPPY, &body).status, 503);
    assert_eq!(server.get_json("/status.json")["skipped"]["metadata"], 0, "it comes again");
}

#[test]
fn an_answer_at_the_limit_on_series_names_all_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--series-max", "2"]);
    let mut sent = full_request("a", 1);
    let more = ["b", "c", "d", "e", "f"].map(|name| full_request(name, 1).timeseries.remove(0));
    sent.timeseries.extend(more);
    sent.timeseries[0].labels.clear();
    let answer = server.send("POST", "/api/v1/write", SNAPPY, &block(&sent));
    assert_eq!(answer.status, 400, "{}", text(&answer));
    for part in ["has no __name__", "series"] {
        assert!(text(&answer).contains(part), "{part}: {}", text(&answer));
    }
    assert!(server.count("{__name__=~\".+\"}") > 0);
    assert_eq!(server.get_json("/status.json")["skipped"]["metadata"], 4);
    let answer = server.send("POST", "/write", "", b"b f=1\nc f=1\nd f=1\ne f=1\nf=1");
    assert_eq!(answer.status, 400, "{}", text(&answer));
    assert!(text(&answer).contains("unable to parse 'f=1'"), "{}", text(&answer));
    assert!(text(&answer).contains("series"), "{}", text(&answer));
}

#[test]
fn a_series_without_a_name_is_answered_400_and_the_others_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let samples = vec![Sample { value: 1.0, timestamp: 1 }];
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    for labels in [vec![], vec![label("job", "x")], vec![label("__name__", ""), label("job", "x")]]
    {
        let mut mixed = request(&["a", "b"], &[(1, 1.0)]);
        mixed.timeseries.insert(1, TimeSeries { labels: labels.clone(), samples: samples.clone() });
        let answer = server.write(&mixed);
        assert_eq!(answer.status, 400, "{labels:?}");
        let expected = if labels.is_empty() { "{}" } else { "{job=\"x\"}" };
        let expected = format!("the series {expected} has no __name__");
        assert!(text(&answer).contains(&expected), "{}", text(&answer));
    }
    assert_eq!(server.count("{__name__=~\"a|b\"}"), 2);
    assert_eq!(server.count("{__name__=\"\"}"), 0);
    let nothing = WriteRequest { timeseries: vec![] };
    assert_eq!(server.write(&nothing).status, 204);
}

/// As in Prometheus: an empty label is no label.
#[test]
fn an_empty_label_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut sent = request(&["a"], &[(1, 1.0)]);
    sent.timeseries[0].labels.push(Label::default());
    assert_eq!(server.write(&sent).status, 204);
    assert_eq!(server.export("a")[0]["metric"], json!({ "__name__": "a", "job": "a \"test\"\\" }));
}
