//! OTLP metrics: what becomes of each type, and what is left out.

use prost::Message;
use serde_json::json;

use crate::otlp_messages::*;
use crate::server_support::client::Answer;
use crate::server_support::{Server, dump, text};

const TIME: u64 = 1_700_000_000_000_000_000;
const MS: i64 = 1_700_000_000_000;
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { string: Some(value.into()), ..AnyValue::default() };
    KeyValue { key: key.into(), value: Some(value) }
}

fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> Request {
    let scope = Scope { name: "lib".into() };
    let scope = ScopeMetrics { scope: Some(scope), metrics };
    let resource = Some(Resource { attributes: resource });
    Request { resource_metrics: vec![ResourceMetrics { resource, scope_metrics: vec![scope] }] }
}

fn point(value: f64) -> NumberPoint {
    NumberPoint { time: TIME, double: Some(value), ..NumberPoint::default() }
}

fn gauge(name: &str, points: Vec<NumberPoint>) -> Metric {
    Metric {
        name: name.into(),
        gauge: Some(Numbers { points, ..Numbers::default() }),
        ..Metric::default()
    }
}

fn sum(name: &str, points: Vec<NumberPoint>, temporality: i32) -> Metric {
    Metric { name: name.into(), sum: Some(Numbers { points, temporality }), ..Metric::default() }
}

fn send(server: &Server, message: &Request) -> (Answer, Response) {
    let answer = server.send("POST", "/v1/metrics", PROTOBUF, &message.encode_to_vec());
    assert_eq!(answer.status, 200, "{}", text(&answer));
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    let response = Response::decode(&answer.body[..]).expect("it is a response");
    (answer, response)
}

#[test]
fn a_gauge_and_a_sum_are_series_with_the_labels_of_their_resource() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let resource = vec![
        attribute("service.namespace", "shop"),
        attribute("service.name", "cart"),
        attribute("service.instance.id", "1"),
        attribute("host.name", "h"),
        attribute("job", "other"),
    ];
    let mut integer = NumberPoint { time: TIME, integer: Some(-7), ..NumberPoint::default() };
    integer.attributes = vec![attribute("job", "mine"), attribute("exported_job", "too")];
    let metrics = vec![gauge("http.load", vec![point(1.5)]), sum("jobs", vec![integer], 2)];
    let (answer, _) = send(&server, &request(resource, metrics));
    assert!(answer.body.is_empty(), "nothing was left out");
    let shown = |name: &str| server.export(&format!("{{__name__=\"{name}\"}}"));
    let base = json!({
        "__name__": "http.load", "job": "shop/cart", "instance": "1", "otel_scope_name": "lib",
    });
    assert_eq!(shown("http.load")[0]["metric"], base);
    assert_eq!(shown("http.load")[0]["values"], json!([1.5]));
    assert_eq!(shown("http.load")[0]["timestamps"], json!([MS]));
    assert_eq!(shown("jobs")[0]["metric"]["exported_exported_job"], "mine");
    assert_eq!(shown("jobs")[0]["metric"]["exported_job"], "too");
    assert_eq!(shown("jobs")[0]["metric"]["job"], "shop/cart");
    assert_eq!(shown("jobs")[0]["values"], json!([-7.0]));
    let info = json!({
        "__name__": "target_info", "job": "shop/cart", "instance": "1", "host.name": "h",
        "exported_job": "other",
    });
    assert_eq!(shown("target_info")[0]["metric"], info);
    assert_eq!(shown("target_info")[0]["values"], json!([1.0]));
}

fn exponential(scale: i32, offset: i32, positive: &[u64], negative: &[u64]) -> ExponentialPoint {
    let buckets = |counts: &[u64]| Some(Buckets { offset, counts: counts.to_vec() });
    ExponentialPoint {
        time: TIME,
        count: positive.iter().chain(negative).sum(),
        sum: Some(2.0),
        scale,
        positive: buckets(positive),
        negative: buckets(negative),
        ..ExponentialPoint::default()
    }
}

fn exponential_metric(name: &str, point: ExponentialPoint) -> Metric {
    let exponential = Some(Exponential { points: vec![point], temporality: 2 });
    Metric { name: name.into(), exponential, ..Metric::default() }
}

/// A histogram `h` and a summary `q`.
fn distributions() -> Vec<Metric> {
    let histogram = HistogramPoint {
        time: TIME,
        start: 1,
        count: 6,
        sum: Some(9.5),
        counts: vec![1, 2, 3],
        bounds: vec![0.005, 10.0],
        max: Some(9.0),
        attributes: vec![attribute("le", "x")],
    };
    let quantiles = vec![Quantile { quantile: 0.5, value: 3.0 }];
    let summary = SummaryPoint { time: TIME, count: 2, sum: 4.0, quantiles };
    vec![
        Metric {
            name: "h".into(),
            unit: "s".into(),
            histogram: Some(Histogram { points: vec![histogram], temporality: 2 }),
            ..Metric::default()
        },
        Metric {
            name: "q".into(),
            summary: Some(Summary { points: vec![summary] }),
            ..Metric::default()
        },
    ]
}

#[test]
fn a_histogram_and_a_summary_are_series_as_in_prometheus() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let message = request(vec![], distributions());
    for _ in 0..2 {
        assert!(send(&server, &message).0.body.is_empty());
    }
    for (selector, value) in [
        ("h_bucket{le=\"0.005\",exported_le=\"x\"}", 1.0),
        ("h_bucket{le=\"10\"}", 3.0),
        ("h_bucket{le=\"+Inf\"}", 6.0),
        ("h_count{le=\"x\"}", 6.0),
        ("h_sum", 9.5),
        ("q{quantile=\"0.5\"}", 3.0),
        ("q_count", 2.0),
        ("q_sum", 4.0),
    ] {
        let found = server.export(selector);
        assert_eq!(found.len(), 1, "{selector}");
        assert_eq!(found[0]["values"], json!([value]), "{selector}");
    }
    let skipped = &server.get_json("/status.json")["skipped"];
    for (kind, count) in [("histogram_extremes", 2), ("created_timestamps", 2), ("metadata", 2)] {
        assert_eq!(skipped[kind], count, "{kind}");
    }
}

/// As Prometheus 3.5 stores it.
#[test]
fn an_exponential_histogram_is_a_native_histogram() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let zero = ExponentialPoint { count: 3, zero_count: 2, ..exponential(-4, 0, &[1], &[]) };
    let ended = ExponentialPoint { flags: 1, ..exponential(0, 0, &[1], &[]) };
    let cases = [
        (exponential(0, 0, &[1, 0, 3], &[]), "{count:4, sum:2, (1,2]:1, (4,8]:3}"),
        (exponential(0, -2, &[0, 1], &[2, 0]), "{count:3, sum:2, [-0.5,-0.25):2, (0.5,1]:1}"),
        (
            exponential(9, -1, &[1, 2, 3], &[]),
            "{count:6, sum:2, (0.9972960560854698,1]:1, (1,1.0027112750502025]:5}",
        ),
        (
            exponential(20, 0, &[1; 5000], &[]),
            "{count:5000, sum:2, (1,1.0027112750502025]:4096, \
                                               (1.0027112750502025,1.0054299011128027]:904}",
        ),
        (zero, "{count:3, sum:2, [-1e-128,1e-128]:2, (1,65536]:1}"),
        (
            exponential(0, -9, &[1, 0, 0, 0, 2], &[]),
            "{count:3, sum:2, (0.001953125,0.00390625]:1, \
                                                     (0.03125,0.0625]:2}",
        ),
        (ended, "{count:0, sum:NaN}"),
    ];
    let numbered = cases.iter().enumerate();
    let metric = |(number, case): (usize, &(ExponentialPoint, _))| {
        exponential_metric(&format!("e{number}"), case.0.clone())
    };
    let message = request(vec![], numbered.map(metric).collect());
    for _ in 0..2 {
        assert!(send(&server, &message).0.body.is_empty());
    }
    let coarse = exponential_metric("coarse", exponential(-5, 0, &[1], &[]));
    let mismatch = ExponentialPoint { count: 7, ..exponential(0, 0, &[1], &[]) };
    let far = exponential(0, i32::MAX, &[1], &[]);
    let refused =
        vec![coarse, exponential_metric("mismatch", mismatch), exponential_metric("far", far)];
    let (_, response) = send(&server, &request(vec![], refused));
    let partial = response.partial.expect("something was left out");
    assert_eq!(partial.rejected, 3, "{}", partial.message);
    assert!(partial.message.contains("\"coarse\": its scale is -5"), "{}", partial.message);
    assert_eq!(server.count("e0"), 0, "an export has no histograms");
    drop(server);
    let numbered = cases.iter().enumerate();
    let expected = numbered.map(|(number, (_, text))| {
        format!("{{__name__=\"e{number}\", otel_scope_name=\"lib\"}} {text} {MS}")
    });
    assert_eq!(dump(directory.path()), expected.collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_stored_is_counted_in_the_response_and_the_rest_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let no_time = NumberPoint { time: 0, ..point(1.0) };
    let no_value = NumberPoint { time: TIME, ..NumberPoint::default() };
    let ended = NumberPoint { time: TIME, flags: 1, ..NumberPoint::default() };
    let metrics = vec![
        sum("delta", vec![point(1.0), point(2.0)], 1),
        sum("unknown", vec![point(1.0)], 0),
        gauge("odd", vec![no_time, no_value]),
        gauge("", vec![point(1.0)]),
        gauge("good", vec![point(1.0)]),
        gauge("ended", vec![ended]),
    ];
    let (_, response) = send(&server, &request(vec![], metrics));
    let partial = response.partial.expect("something was left out");
    assert_eq!(partial.rejected, 6);
    let why = "6 data points left out, the others written; the first: \"delta\": its temporality";
    assert!(partial.message.starts_with(why), "{}", partial.message);
    assert_eq!(server.count("{__name__=\"good\"}"), 1);
    assert_eq!(server.count("{__name__=\"ended\"}"), 1);
    assert_eq!(server.count("{__name__=~\"delta|odd|unknown\"}"), 0);
}

#[test]
fn a_request_is_refused_in_its_own_encoding() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (headers, body, status) in [
        (PROTOBUF, &b"\x0a\x05"[..], 400),
        ("Content-Type: text/plain\r\n", b"", 415),
        ("Content-Encoding: zstd\r\n", b"", 415),
        ("Content-Encoding: gzip\r\n", b"no", 400),
    ] {
        let answer = server.send("POST", "/v1/metrics", headers, body);
        assert_eq!(answer.status, status, "{headers}");
        let refused = Status::decode(&answer.body[..]).expect("it is a status");
        assert_eq!(refused.code, 3);
        assert!(!refused.message.is_empty());
    }
    assert_eq!(send(&server, &Request::default()).0.body.len(), 0, "an empty request is valid");
}

#[test]
fn a_hostile_request_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--in-flight-bytes-max", "67108864"]);
    // Many buckets with long attributes: each would be a series with all of them.
    let long = attribute("a", &"x".repeat(60_000));
    let bounds: Vec<f64> = (0..100_000).map(f64::from).collect();
    let histogram = HistogramPoint {
        time: TIME,
        counts: vec![1; bounds.len() + 1],
        bounds,
        attributes: vec![long.clone()],
        ..HistogramPoint::default()
    };
    let data = Histogram { points: vec![histogram], temporality: 2 };
    let many = Metric { name: "h".into(), histogram: Some(data), ..Metric::default() };
    // Points whose labels are invalid only once they are built.
    let twice = NumberPoint { attributes: vec![long.clone(), long], ..point(1.0) };
    let invalid = gauge("g", vec![twice; 30]);
    // A value that is nested more deeply than any stack.
    let mut nested = AnyValue::default();
    for _ in 0..90 {
        nested = AnyValue { list: Some(List { values: vec![nested] }), ..AnyValue::default() };
    }
    let deep = KeyValue { key: "deep".into(), value: Some(nested) };
    let deep = gauge("d", vec![NumberPoint { attributes: vec![deep], ..point(1.0) }]);
    let body = request(vec![], vec![many]).encode_to_vec();
    let answer = server.send("POST", "/v1/metrics", PROTOBUF, &body);
    assert_eq!(answer.status, 413, "{}", text(&answer));
    let (_, response) = send(&server, &request(vec![], vec![invalid, deep]));
    assert_eq!(response.partial.map(|partial| partial.rejected), Some(31));
    assert!(server.memory_peak() < 160 << 20, "{}", server.memory_peak());
}

/// Regression: a point whose last series was invalid was counted as left out, and the other series
/// of the point had its samples.
#[test]
fn a_point_is_stored_with_all_of_its_series_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let (mut stored, mut left_out) = (0, 0);
    // Between these lengths, some series of the point have labels that are too long.
    for length in (65_400..65_536).step_by(2) {
        let mut metric = distributions().remove(0);
        metric.name = format!("h{length}");
        let histogram = metric.histogram.as_mut().unwrap();
        histogram.points[0].attributes = vec![attribute("k", &"x".repeat(length))];
        // A later bucket has the longest bound.
        histogram.points[0].bounds = vec![1.0, 123_456.25];
        let (_, response) = send(&server, &request(vec![], vec![metric]));
        let series = server.count(&format!("{{__name__=~\"h{length}_.*\"}}"));
        let is_left_out = response.partial.is_some();
        assert_eq!(series, if is_left_out { 0 } else { 5 }, "{length}");
        if is_left_out { left_out += 1 } else { stored += 1 }
    }
    assert!(stored > 0 && left_out > 0, "{stored} stored, {left_out} left out");
}

/// Regression: each empty scope copied the labels of its resource, two bytes as thousands.
#[test]
fn scopes_of_a_large_resource_are_bounded_in_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let with = |scopes| {
        let resource = vec![attribute("service.name", &"x".repeat(1000))];
        let mut message = request(resource, vec![]);
        message.resource_metrics[0].scope_metrics = vec![ScopeMetrics::default(); scopes];
        server.send("POST", "/v1/metrics", PROTOBUF, &message.encode_to_vec())
    };
    assert_eq!(with(1000).status, 200);
    let answer = with(200_000);
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("too many scopes"), "{}", text(&answer));
}
