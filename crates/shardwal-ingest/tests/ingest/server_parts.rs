//! The parsers of the ingest server, without the server: protobuf, lines, names, and floats as Go
//! prints them.

use proptest::prelude::*;
use prost::Message;

use line::{Field, LineError, Lines};
use precision::Precision;
use protobuf::{Entries, Malformed, label_pairs};

#[path = "../../src/go_float.rs"]
mod go_float;
#[path = "../../src/server/influx/line.rs"]
mod line;
#[path = "../../src/server/influx/name.rs"]
mod name;
#[path = "../../src/server/influx/precision.rs"]
mod precision;
#[path = "../../src/server/protobuf.rs"]
mod protobuf;

/// The messages as prost defines them, for comparison.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(string, tag = "3")]
    metadata: String,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(fixed32, tag = "9")]
    unknown: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

type Series = (Vec<(String, String)>, Vec<(i64, u64)>);

/// Everything that the reader finds.
fn read(message: &[u8]) -> Result<Vec<Series>, Malformed> {
    let mut found = Vec::new();
    let mut entries = Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        let pairs = label_pairs(&entry.labels)?;
        let labels = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let labels = labels.collect();
        let mut samples = Vec::new();
        while let Some((timestamp, value)) = entry.next_sample()? {
            samples.push((timestamp, value.to_bits()));
        }
        found.push((labels, samples));
    }
    Ok(found)
}

/// Everything that prost finds.
fn expected(request: &WriteRequest) -> Vec<Series> {
    let series = request.timeseries.iter().map(|series| {
        let labels = series.labels.iter().map(|label| (label.name.clone(), label.value.clone()));
        let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits()));
        (labels.collect(), samples.collect())
    });
    series.collect()
}

fn requests() -> impl Strategy<Value = WriteRequest> {
    let label = (".{0,9}", ".{0,9}").prop_map(|(name, value)| Label { name, value });
    let sample = (any::<u64>(), any::<i64>())
        .prop_map(|(bits, timestamp)| Sample { value: f64::from_bits(bits), timestamp });
    let labels = prop::collection::vec(label, 0..4);
    let samples = prop::collection::vec(sample, 0..4);
    let series = (labels, samples, any::<u32>())
        .prop_map(|(labels, samples, unknown)| TimeSeries { labels, samples, unknown });
    (prop::collection::vec(series, 0..5), ".{0,9}")
        .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
}

proptest! {
    #[test]
    fn a_request_is_read_as_prost_reads_it(request in requests()) {
        prop_assert_eq!(read(&request.encode_to_vec()), Ok(expected(&request)));
    }

    #[test]
    fn corrupted_bytes_are_an_error_or_what_prost_finds_in_them(
        request in requests(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        // prost merges and checks more than the reader. If both accept the bytes, they must agree.
        if let (Ok(found), Ok(request)) = (read(&bytes), WriteRequest::decode(bytes.as_slice())) {
            prop_assert_eq!(found, expected(&request));
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_points(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b"a=1,\" \\\n#i".to_vec())], 0..200,
    )) {
        for point in Lines::new(&bytes).flatten() {
            for field in point.fields().flatten() {
                // A name or an error, and no panic.
                name::labels(point.head, field.key).ok();
            }
        }
        read(&bytes).ok();
    }

    #[test]
    fn a_printed_float_reads_back_bit_by_bit(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let text = go_float::print(value);
        let back: f64 = text.parse().expect("it is a number");
        prop_assert!(back.to_bits() == bits || value.is_nan(), "{} {}", value, text);
    }
}

#[test]
fn labels_that_stand_apart_name_the_series_all_the_same() {
    let label = |name: &str| {
        let label = Label { name: name.into(), value: "v".into() }.encode_to_vec();
        [&[0x0A, u8::try_from(label.len()).unwrap()], label.as_slice()].concat()
    };
    let sample = [0x12, 2, 0x10, 7];
    let series = [label("a"), sample.to_vec(), label("b"), sample.to_vec(), label("c")].concat();
    let message = [&[0x0A, u8::try_from(series.len()).unwrap()], series.as_slice()].concat();
    let mut entries = Entries::new(&message);
    let entry = entries.next().unwrap().unwrap();
    assert_eq!(*entry.labels, [label("a"), label("b"), label("c")].concat());
    assert_eq!(read(&message).unwrap()[0].1, [(7, 0), (7, 0)]);
}

#[test]
fn every_truncation_of_a_request_is_seen_or_harmless() {
    let label = |name: &str| Label { name: name.into(), value: "value".into() };
    let sample = |timestamp| Sample { value: 0.5, timestamp };
    let series = TimeSeries {
        labels: vec![label("__name__"), label("job")],
        samples: vec![sample(1), sample(1_795_367_005_066)],
        unknown: 3,
    };
    let request =
        WriteRequest { timeseries: vec![series.clone(), series], metadata: String::new() };
    let bytes = request.encode_to_vec();
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Err(_) => {}
            Ok(found) => assert_eq!(found, expected(&request)[..found.len()], "{length}"),
        }
    }
}

fn fields(line: &str) -> Result<Vec<Field<'_>>, String> {
    let point = Lines::new(line.as_bytes()).next().expect("there is a line");
    let point = point.map_err(|error: LineError| error.to_string())?;
    point.fields().map(|field| field.map_err(|what| point.error(what).to_string())).collect()
}

#[test]
fn a_fields_value_is_a_number_a_boolean_or_a_string() {
    for (text, value) in [
        ("1", Some(1.0)),
        ("-1.5e-3", Some(-0.0015)),
        ("9223372036854775807i", Some(9_223_372_036_854_775_807_i64 as f64)),
        ("18446744073709551615u", Some(u64::MAX as f64)),
        ("t", Some(1.0)),
        ("FALSE", Some(0.0)),
        ("\"1\"", None),
        ("\"\\\"a, b=c\\\\\"", None),
    ] {
        let line = format!("m f={text} 1");
        assert_eq!(fields(&line), Ok(vec![Field { key: b"f", value }]), "{text}");
    }
    for text in
        ["", "x", "1x", "inf", "NaN", "9223372036854775808i", "-1u", "tr", "\"open", "1e999"]
    {
        assert!(fields(&format!("m f={text}")).is_err(), "{text}");
    }
}

#[test]
fn a_backslash_makes_a_comma_a_space_and_an_equals_sign_part_of_a_name() {
    let error = fields(r"m\,1,t\ 1=a\=b\,c d\ e,f\=1=2").unwrap_err();
    assert!(error.ends_with("missing field value (line 1)"), "{error}");

    let line = br"m\,1,t\ 1=a\=b\,c f\=\ 1=2 5";
    let point = Lines::new(line).next().unwrap().unwrap();
    let field = point.fields().next().unwrap().unwrap();
    assert_eq!((field.value, point.timestamp), (Some(2.0), Some(5)));
    let labels = name::labels(point.head, field.key).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(labels, [pair("__name__", "m_1_f__1"), pair("t_1", "a=b,c")]);
}

#[test]
fn a_timestamp_is_rounded_down_to_the_millisecond() {
    for (unit, timestamp, milliseconds) in [
        ("", 1_999_999, 1),
        ("ns", -1, -1),
        ("us", 1_500, 1),
        ("ms", 7, 7),
        ("s", i64::MAX, i64::MAX),
        ("h", -2, -7_200_000),
    ] {
        let precision = Precision::named(unit).expect("there is such a unit");
        assert_eq!(precision.milliseconds(timestamp), milliseconds, "{timestamp} {unit}");
    }
    assert_eq!(Precision::named("day"), None);
}

#[test]
fn a_float_is_printed_as_go_prints_it() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (2.2203e-05, "2.2203e-05"),
        (0.0001, "0.0001"),
        (0.25, "0.25"),
        (999_999.0, "999999"),
        (1_002_381.0, "1.002381e+06"),
        (123_456.789, "123456.789"),
        (1_795_367_004.63, "1.79536700463e+09"),
        // Half-way between two numbers of 17 digits: the even one.
        (1_795_391_806.0 + 245.0 / 256.0, "1.7953918069570312e+09"),
        (100_000.0, "100000"),
        (18_446_744_073_709_552_000.0, "1.8446744073709552e+19"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::from_bits(0x7ff0_0000_0000_0002), "NaN"),
    ] {
        assert_eq!(go_float::print(value), text);
        let back: f64 = text.parse().expect("it is a number");
        assert!(back == value || value.is_nan(), "{text}");
    }
}
