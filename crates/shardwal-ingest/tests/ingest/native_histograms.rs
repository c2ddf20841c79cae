//! Native histograms: what is checked, what is stored and returned, and their text.

use prost::Message;
use serde_json::json;

use crate::remote_read::{CHUNKS, SAMPLES, query, read};
use crate::remote_write_v2::{Request, TimeSeries, send, symbols, written};
use crate::server_parts::go_float;
use crate::server_support::client::Answer;
use crate::server_support::{Label, SNAPPY, Sample, Server, block, dump, text};
use native_histogram::{Count, Histogram, Span, ZeroCount};

#[path = "../../src/server/native_histogram/mod.rs"]
pub(crate) mod native_histogram;

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

/// Integers in exponential buckets, on both sides of zero.
fn integers(timestamp: i64) -> Histogram {
    Histogram {
        count: Some(Count::Integer(10)),
        sum: 7.5,
        schema: 1,
        zero_threshold: 0.001,
        zero_count: Some(ZeroCount::Integer(2)),
        positive_spans: spans(&[(-1, 2), (3, 1)]),
        positive_deltas: vec![1, 1, -1],
        negative_spans: spans(&[(0, 2)]),
        negative_deltas: vec![3, -2],
        reset_hint: 1,
        timestamp,
        ..Histogram::default()
    }
}

/// Floats in exponential buckets.
fn floats(timestamp: i64) -> Histogram {
    Histogram {
        count: Some(Count::Float(2.5)),
        sum: -1.0,
        schema: -4,
        zero_count: Some(ZeroCount::Float(0.0)),
        positive_spans: spans(&[(0, 3)]),
        positive_counts: vec![0.5, 0.0, 2.0],
        timestamp,
        ..Histogram::default()
    }
}

/// Integers in custom buckets.
fn custom(timestamp: i64) -> Histogram {
    Histogram {
        count: Some(Count::Integer(4)),
        sum: 2.25,
        schema: -53,
        zero_count: Some(ZeroCount::Integer(0)),
        positive_spans: spans(&[(0, 2), (1, 1)]),
        positive_deltas: vec![1, 0, 1],
        custom_values: vec![-0.5, 0.25, 1e6],
        timestamp,
        ..Histogram::default()
    }
}

/// What Prometheus 3.5 prints.
#[test]
fn a_histogram_is_printed_as_prometheus_prints_it() {
    let cases = [
        (Histogram::default(), "{count:0, sum:0}"),
        (
            integers(0),
            "{count:10, sum:7.5, [-1.414213562373095,-1):1, [-1,-0.7071067811865475):3, \
             [-0.001,0.001]:2, (0.5,0.7071067811865475]:1, (0.7071067811865475,1]:2, \
             (2.82842712474619,4]:1}",
        ),
        (floats(0), "{count:2.5, sum:-1, (1.52587890625e-05,1]:0.5, (65536,4.294967296e+09]:2}"),
        (custom(0), "{count:4, sum:2.25, [-Inf,-0.5]:1, (-0.5,0.25]:1, (1e+06,+Inf]:2}"),
    ];
    for (histogram, expected) in cases {
        assert_eq!(histogram.to_string(), expected);
    }
    // The last finite bucket, the infinite one, and the smallest.
    let ends = |schema, offset| Histogram {
        schema,
        positive_spans: spans(&[(offset, 1), (0, 0), (0, 1)]),
        positive_deltas: vec![1, 0],
        ..Histogram::default()
    };
    for (schema, offset, expected) in [
        (
            0,
            1024,
            "(8.98846567431158e+307,1.7976931348623157e+308]:1, (1.7976931348623157e+308,+Inf]:1",
        ),
        (
            -4,
            64,
            "(2.7430620343968443e+303,1.7976931348623157e+308]:1, (1.7976931348623157e+308,+Inf]:1",
        ),
        (0, -1074, "(0,5e-324]:1, (5e-324,1e-323]:1"),
        (8, 0, "(0.9972960560854698,1]:1, (1,1.0027112750502025]:1"),
    ] {
        let text = ends(schema, offset).to_string();
        assert_eq!(text, format!("{{count:0, sum:0, {expected}}}"), "{schema} {offset}");
    }
}

#[test]
fn what_is_no_histogram_is_refused_by_name() {
    let cases: [(Histogram, &str); 16] = [
        (Histogram { schema: 9, ..integers(1) }, "its schema is 9"),
        (Histogram { schema: -5, ..integers(1) }, "its schema is -5"),
        (Histogram { positive_deltas: vec![1], ..integers(1) }, "need 3 buckets, and it has 1"),
        (Histogram { negative_spans: vec![], ..integers(1) }, "need 0 buckets, and it has 2"),
        (
            Histogram { positive_spans: spans(&[(1, 2), (-1, 1)]), ..integers(1) },
            "a span has the negative offset -1",
        ),
        (Histogram { positive_deltas: vec![1, -2, 1], ..integers(1) }, "a bucket has -1"),
        (Histogram { count: Some(Count::Integer(11)), ..integers(1) }, "and its count is 11"),
        (
            Histogram { count: Some(Count::Integer(9)), sum: f64::NAN, ..integers(1) },
            "10 observations, and its count is 9",
        ),
        (Histogram { custom_values: vec![1.0], ..integers(1) }, "and custom bounds"),
        (Histogram { count: Some(Count::Float(-1.0)), ..floats(1) }, "observations is -1"),
        (Histogram { positive_counts: vec![1.0, -0.5, 1.0], ..floats(1) }, "is -0.5"),
        (Histogram { custom_values: vec![1.0, 1.0, 2.0], ..custom(1) }, "do not increase"),
        (Histogram { custom_values: vec![f64::NAN], ..custom(1) }, "do not increase"),
        (Histogram { custom_values: vec![1.0, 2.0, f64::INFINITY], ..custom(1) }, "infinite"),
        (Histogram { custom_values: vec![1.0, 2.0], ..custom(1) }, "end at 4, beyond its 2"),
        (Histogram { zero_threshold: 0.5, ..custom(1) }, "a zero bucket"),
    ];
    for (histogram, why) in cases {
        let refused = histogram.stored().expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
    for valid in [integers(1), floats(1), custom(1), Histogram::default()] {
        valid.stored().unwrap();
    }
    // Observations that are NaN are in no bucket.
    let count = Some(Count::Integer(11));
    Histogram { count, sum: f64::NAN, ..integers(1) }.stored().unwrap();
}

/// Equal histograms have equal bytes, whatever a sender puts beside them.
#[test]
fn what_is_stored_is_canonical() {
    let expected = integers(5).encode_to_vec();
    let more = Histogram {
        zero_count: Some(ZeroCount::Integer(2)),
        positive_counts: vec![9.0],
        negative_counts: vec![9.0; 3],
        start_timestamp: 3,
        ..integers(5)
    };
    let unknown = [0xA8, 1, 7];
    let read = Histogram::read(&[&more.encode_to_vec()[..], &unknown].concat()).unwrap();
    let stored = read.stored().unwrap();
    assert_eq!((stored.timestamp_ms, &*stored.bytes), (5, &expected[..]));
    let more = Histogram { positive_deltas: vec![1], negative_deltas: vec![2], ..floats(5) };
    let read = Histogram::read(&more.encode_to_vec()).unwrap();
    assert_eq!(*read.stored().unwrap().bytes, floats(5).encode_to_vec());
    // Without a count, it has integers. Both counts are written.
    let empty = Histogram::read(&[0x3A, 0]).map(drop);
    assert!(empty.is_err(), "field 7 is a double");
    assert_eq!(*Histogram::read(&[]).unwrap().stored().unwrap().bytes, [8, 0, 0x30, 0]);
}

/// A request of version 1.0 with native histograms.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<Series>,
}

/// A series as version 1.0 and remote read have it.
#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<WriteRequest>,
}

fn series(name: &str, samples: &[i64], histograms: Vec<Histogram>) -> Series {
    let labels = vec![Label { name: "__name__".into(), value: name.into() }];
    let samples = samples.iter().map(|&timestamp| Sample { value: 1.0, timestamp }).collect();
    Series { labels, samples, histograms }
}

fn write(server: &Server, timeseries: Vec<Series>) -> Answer {
    server.send("POST", "/api/v1/write", SNAPPY, &block(&WriteRequest { timeseries }))
}

/// What remote read returns of a series, and the type of its answer.
fn read_back(server: &Server, name: &str, range: [i64; 2], accepted: &[i32]) -> (String, Vec<u8>) {
    let answer = read(server, &[query(range, &[(0, "__name__", name)])], accepted);
    assert_eq!(answer.status, 200, "{}", text(&answer));
    (answer.header("content-type").unwrap_or_default().to_owned(), answer.body)
}

fn samples_of(body: &[u8]) -> Vec<Series> {
    let message = snap::raw::Decoder::new().decompress_vec(body).expect("it is snappy");
    let response = ReadResponse::decode(message.as_slice()).expect("it is a response");
    response.results.into_iter().flat_map(|result| result.timeseries).collect()
}

#[test]
fn histograms_of_both_versions_are_stored_returned_and_dumped() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let first = series("h", &[1, 4], vec![integers(2), floats(3), custom(5)]);
    // The second time, the series is known.
    for _ in 0..2 {
        let answer = write(&server, vec![first.clone(), series("only", &[], vec![floats(1)])]);
        assert_eq!((answer.status, written(&answer)), (204, [None; 3]), "{}", text(&answer));
    }
    let timeseries = TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![Sample { value: 1.0, timestamp: 6 }],
        histograms: vec![Histogram { start_timestamp: 1, ..integers(7) }, floats(8)],
        ..TimeSeries::default()
    };
    let request =
        Request { symbols: symbols(&["", "__name__", "h"]), timeseries: vec![timeseries] };
    let answer = send(&server, &request);
    let expected = [Some("1"), Some("2"), Some("0")];
    assert_eq!((answer.status, written(&answer)), (204, expected), "{}", text(&answer));
    assert_eq!(server.get_json("/status.json")["skipped"]["created_timestamps"], 1);

    let all = vec![integers(2), floats(3), custom(5), integers(7), floats(8)];
    let (kind, body) = read_back(&server, "h", [0, 9], &[CHUNKS, SAMPLES]);
    assert_eq!(kind, "application/x-protobuf", "chunks would lack the histograms");
    assert_eq!(samples_of(&body), [series("h", &[1, 4, 6], all.clone())]);
    let (_, body) = read_back(&server, "h", [3, 7], &[]);
    assert_eq!(samples_of(&body), [series("h", &[4, 6], all[1..4].to_vec())]);
    let (_, body) = read_back(&server, "only", [0, 9], &[SAMPLES]);
    assert_eq!(samples_of(&body), [series("only", &[], vec![floats(1)])]);
    for (range, accepted) in [([4, 4], &[CHUNKS, SAMPLES][..]), ([0, 9], &[CHUNKS])] {
        let (kind, _) = read_back(&server, "h", range, accepted);
        assert!(kind.starts_with("application/x-streamed-protobuf"), "{range:?}: {kind}");
    }
    let list = server.get_json("/api/v1/series?match[]=only");
    assert_eq!(list["data"], json!([{ "__name__": "only" }]));
    assert_eq!(server.export("only"), [] as [serde_json::Value; 0]);

    drop(server);
    let line =
        |histogram: &Histogram| format!("{{__name__=\"h\"}} {histogram} {}", histogram.timestamp);
    let sample = |time: i64| format!("{{__name__=\"h\"}} 1 {time}");
    let expected = [
        sample(1),
        line(&all[0]),
        line(&all[1]),
        sample(4),
        line(&all[2]),
        sample(6),
        line(&all[3]),
        line(&all[4]),
        format!("{{__name__=\"only\"}} {} 1", floats(1)),
    ];
    assert_eq!(dump(directory.path()), expected);
}

#[test]
fn an_invalid_histogram_is_left_out_and_named_and_the_others_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let bad = Histogram { schema: 9, ..integers(2) };
    for round in 1..=2 {
        let histograms = vec![integers(round), bad.clone(), floats(round + 10)];
        let answer = write(&server, vec![series("h", &[round], histograms)]);
        assert_eq!(answer.status, 400, "{}", text(&answer));
        let why = "1 native histograms left out, the others written; the first: a native histogram \
                   of {__name__=\"h\"}: its schema is 9";
        assert!(text(&answer).starts_with(why), "{}", text(&answer));
    }
    let large = Histogram { positive_counts: vec![1.5; 9000], ..floats(3) };
    let large = Histogram { positive_spans: spans(&[(0, 9000)]), ..large };
    let timeseries = [vec![bad, integers(3)], vec![large]].map(|histograms| TimeSeries {
        labels_refs: vec![1, 2],
        histograms,
        ..TimeSeries::default()
    });
    let mut request =
        Request { symbols: symbols(&["", "__name__", "h"]), timeseries: timeseries.into() };
    request.timeseries.push(TimeSeries { labels_refs: vec![1], ..request.timeseries[0].clone() });
    let answer = send(&server, &request);
    let expected = [Some("0"), Some("1"), Some("0")];
    assert_eq!((answer.status, written(&answer)), (400, expected), "{}", text(&answer));
    let what = "1 series and 2 native histograms left out";
    assert!(text(&answer).starts_with(what), "{}", text(&answer));
    let (_, body) = read_back(&server, "h", [0, 99], &[]);
    let histograms = vec![integers(1), integers(2), integers(3), floats(11), floats(12)];
    assert_eq!(samples_of(&body), [series("h", &[1, 2], histograms)]);
}
