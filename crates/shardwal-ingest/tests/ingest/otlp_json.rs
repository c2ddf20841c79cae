//! OTLP in JSON: it means what the same message means in protobuf, and is answered in JSON.

use serde_json::{Value, json};

use crate::server_support::client::Answer;
use crate::server_support::{Server, text};

const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
const NANOS: &str = "1700000000000000000";
const MS: i64 = 1_700_000_000_000;

fn send(server: &Server, request: &Value) -> (Answer, Value) {
    let answer = server.send("POST", "/v1/metrics", JSON, request.to_string().as_bytes());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let response = serde_json::from_slice(&answer.body).expect("it is JSON");
    (answer, response)
}

fn request(metrics: &Value) -> Value {
    let attribute = json!({ "key": "service.name", "value": { "stringValue": "cart" } });
    let resource = json!({ "attributes": [attribute], "droppedAttributesCount": 0 });
    let scope = json!({ "scope": { "name": "lib", "version": null }, "metrics": metrics });
    json!({ "resourceMetrics": [{ "resource": resource, "scopeMetrics": [scope] }] })
}

/// A metric with one point.
fn metric(name: &str, kind: &str, point: &Value) -> Value {
    let data = json!({ "dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": true });
    json!({ "name": name, "unit": "1", kind: data })
}

/// A metric of each type but the exponential histogram.
fn each_type() -> Value {
    let histogram = json!({
        "timeUnixNano": NANOS, "count": "3", "sum": 4.5, "bucketCounts": ["1", 2, 0],
        "explicitBounds": [0.5, 1], "min": 0.1, "exemplars": [{ "asDouble": 1, "traceId": "00" }],
    });
    let quantiles = json!([{ "quantile": 0.5, "value": "NaN" }, { "quantile": 1, "value": 9e3 }]);
    let labels = json!([
        { "key": "n", "value": { "intValue": "-5" } },
        { "key": "list", "value": { "arrayValue": { "values": [{ "boolValue": true }, {}] } } },
        { "key": "bytes", "value": { "bytesValue": "aGk=" } },
        { "key": "unset", "value": null },
    ]);
    json!([
        metric(
            "gauge",
            "gauge",
            &json!({ "timeUnixNano": NANOS, "asDouble": 1.5, "attributes": labels })
        ),
        metric("sum", "sum", &json!({ "timeUnixNano": 1.7e18, "asInt": "-9007199254740993" })),
        metric("histogram", "histogram", &histogram),
        metric(
            "summary",
            "summary",
            &json!({ "timeUnixNano": NANOS, "count": 2, "quantileValues": quantiles })
        ),
    ])
}

#[test]
fn each_type_is_stored_as_in_protobuf() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let mut request = request(&each_type());
    request["unknown"] = json!({ "any": ["thing"] });
    let (answer, response) = send(&server, &request);
    assert_eq!((answer.status, response), (200, json!({})), "{}", text(&answer));

    let shown = |selector: &str| {
        let found = server.export(&format!("{{{selector}}}"));
        assert_eq!(found[0]["timestamps"], json!([MS]), "{selector}");
        found[0]["values"][0].clone()
    };
    let with =
        "__name__=\"gauge\",n=\"-5\",list=\"[true,null]\",bytes=\"aGk=\",unset=\"\",job=\"cart\"";
    for (selector, value) in [
        (with, json!(1.5)),
        ("__name__=\"sum\"", json!(-9_007_199_254_740_992.0)),
        ("__name__=\"histogram_bucket\",le=\"0.5\"", json!(1.0)),
        ("__name__=\"histogram_bucket\",le=\"1\"", json!(3.0)),
        ("__name__=\"histogram_bucket\",le=\"+Inf\"", json!(3.0)),
        ("__name__=\"histogram_sum\"", json!(4.5)),
        ("__name__=\"summary\",quantile=\"0.5\"", Value::Null),
        ("__name__=\"summary\",quantile=\"1\"", json!(9000.0)),
        ("__name__=\"summary_count\"", json!(2.0)),
    ] {
        assert_eq!(shown(selector), value, "{selector}");
    }
    let skipped = &server.get_json("/status.json")["skipped"];
    // Only a sum is monotonic, and a summary has no temporality.
    assert_eq!(skipped["unknown_fields"], 4, "{skipped}");
    assert_eq!(skipped["exemplars"], 1, "{skipped}");
    assert_eq!(skipped["histogram_extremes"], 1, "{skipped}");
}

#[test]
fn a_point_that_is_left_out_is_counted_in_the_response() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let point = json!({ "timeUnixNano": NANOS, "asDouble": 1 });
    let mut delta = metric("delta", "sum", &point);
    delta["sum"]["aggregationTemporality"] = json!(1);
    let (answer, response) =
        send(&server, &request(&json!([delta, metric("kept", "gauge", &point)])));
    assert_eq!(answer.status, 200, "{response}");
    assert_eq!(response["partialSuccess"]["rejectedDataPoints"], "1");
    let why = response["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(why.contains("\"delta\": its temporality is not cumulative"), "{why}");
    assert_eq!(server.count("kept"), 1);
}

#[test]
fn what_is_no_request_is_refused_with_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let point = |field: &str, value: Value| {
        let mut point = json!({ "timeUnixNano": NANOS, "asDouble": 1 });
        point[field] = value;
        request(&json!([metric("a", "gauge", &point)])).to_string()
    };
    let mut deep = json!({ "stringValue": "a" });
    for _ in 0..50 {
        deep = json!({ "arrayValue": { "values": [deep] } });
    }
    for (body, why) in [
        (String::new(), "EOF while parsing"),
        ("[]".into(), "expected an object"),
        ("{}{}".into(), "trailing characters"),
        ("{\"resource_metrics\":[]}".into(), "the request has no \"resourceMetrics\""),
        ("{\"resourceMetrics\":{}}".into(), "expected a list in \"resourceMetrics\""),
        ("{\"resourceMetrics\":[null]}".into(), "invalid type: null"),
        (point("attributes", json!([{ "value": deep }])), "recursion limit"),
        (
            point("timeUnixNano", json!("-1")),
            "expected a number without a sign in \"timeUnixNano\"",
        ),
        (point("asInt", json!(0.5)), "invalid value: floating point `0.5`"),
        (point("asInt", json!("9223372036854775808")), "expected an integer in \"asInt\""),
        (point("asDouble", json!(true)), "expected a number in \"asDouble\""),
        (point("attributes", json!("x")), "expected a list in \"attributes\""),
        (point("attributes", json!([{ "key": ["a"] }])), "expected a string in \"key\""),
        (point("attributes", json!([{ "value": { "bytesValue": "?" } }])), "a string of base64"),
        (point("attributes", json!([{ "value": "x".repeat(100_000) }])), "expected an object"),
    ] {
        let answer = server.send("POST", "/v1/metrics", JSON, body.as_bytes());
        let said = text(&answer);
        assert_eq!(answer.status, 400, "{body:.100}: {said}");
        assert!(said.starts_with("{\"code\":3,\"message\":"), "{said}");
        assert!(said.replace('\\', "").contains(why), "{why}: {said}");
        assert!(said.len() < 600, "{} bytes", said.len());
    }
    assert_eq!(server.get_json("/status.json")["samples"], 0);
    assert_eq!(server.get_json("/status.json")["in_flight_bytes"], 0);
}

/// Each byte of these requests becomes four and more in memory.
#[cfg(target_os = "linux")]
#[test]
fn a_request_takes_no_more_memory_than_the_limit_says() {
    const BYTES: usize = 30 << 20;
    let list = |begin: &str, element: &str, end: &str| {
        let elements = element.repeat(BYTES / element.len());
        format!("{begin}{}{end}", elements.trim_end_matches(',')).into_bytes()
    };
    let point = "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"name\":\"a\",\"histogram\":\
                 {\"aggregationTemporality\":2,\"dataPoints\":[";
    let ends = "]}}]}]}]}";
    for (what, status, body) in [
        ("empty resources", 413, list("{\"resourceMetrics\":[", "{},", "]}")),
        ("empty points", 413, list(point, "{},", ends)),
        (
            "bounds",
            413,
            list(&format!("{point}{{\"explicitBounds\":["), "1,", &format!("]}}{ends}")),
        ),
        ("an escaped text", 200, list("{\"resourceMetrics\":[{\"schemaUrl\":\"", "\\n", "\"}]}")),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path(), &[]);
        let before = server.memory_peak();
        let answer = server.send("POST", "/v1/metrics", JSON, &body);
        assert_eq!(answer.status, status, "{what}: {:.200}", text(&answer));
        let grown = server.memory_peak() - before;
        assert!(grown <= (128 << 20) + (24 << 20), "{what}: {} MiB", grown >> 20);
        assert_eq!(server.get_json("/status.json")["in_flight_bytes"], 0, "{what}");
    }
}
