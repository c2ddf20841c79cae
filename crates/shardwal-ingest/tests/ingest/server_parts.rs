//! The parsers of the ingest server, without the server: protobuf, and floats as Go prints them.

use proptest::prelude::*;
use prost::Message;

use crate::native_histograms::native_histogram::Histogram;
use crate::remote_write_v2::{Request as RequestV2, TimeSeries as SeriesV2};
use crate::server_support::Sample as SampleV2;
use protobuf::Malformed;
use v1::{Entries, LabelPairs};

#[path = "../../src/go_float.rs"]
pub(crate) mod go_float;
#[path = "../../src/server/protobuf.rs"]
mod protobuf;
#[path = "../../src/server/remote_write/sample.rs"]
mod sample;
#[path = "../../src/server/remote_write/v1.rs"]
mod v1;
#[path = "../../src/server/remote_write/v2.rs"]
mod v2;

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
        let labels = entry.labels();
        let pairs = LabelPairs::new(&labels)
            .map(|pair| pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let labels = pairs.collect::<Result<_, _>>()?;
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

type SeriesOfV2 = (Vec<u64>, Vec<(i64, u64)>);

/// Everything that the reader of version 2.0 finds: the symbols, and the series.
fn read_v2(message: &[u8]) -> Result<(Vec<&[u8]>, Vec<SeriesOfV2>), Malformed> {
    let (mut symbols, mut found) = (Vec::new(), Vec::new());
    let mut reader = v2::Symbols::new(message);
    while let Some(symbol) = reader.next()? {
        symbols.push(symbol);
    }
    let mut entries = v2::Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        let (mut references, mut samples) = (Vec::new(), Vec::new());
        let (has_samples, mut reader) = (entry.has_samples(), entry.references());
        while let Some(reference) = reader.next()? {
            references.push(reference);
        }
        while let Some((timestamp, value)) = entry.next_sample()? {
            samples.push((timestamp, value.to_bits()));
        }
        let mut histograms = 0;
        while let Some(bytes) = entry.next_histogram()? {
            let histogram = Histogram::read(bytes);
            histogram.map_err(|_| protobuf::malformed("a histogram is not a message"))?;
            histograms += 1;
        }
        assert_eq!(has_samples, histograms > 0 || !samples.is_empty());
        found.push((references, samples));
    }
    Ok((symbols, found))
}

/// Everything that prost finds in a request of version 2.0.
fn expected_v2(request: &RequestV2) -> (Vec<&[u8]>, Vec<SeriesOfV2>) {
    let series = request.timeseries.iter().map(|series| {
        let references = series.labels_refs.iter().map(|reference| u64::from(*reference));
        let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits()));
        (references.collect(), samples.collect())
    });
    (request.symbols.iter().map(String::as_bytes).collect(), series.collect())
}

fn requests_v2() -> impl Strategy<Value = RequestV2> {
    let sample = (any::<u64>(), any::<i64>())
        .prop_map(|(bits, timestamp)| SampleV2 { value: f64::from_bits(bits), timestamp });
    let samples = prop::collection::vec(sample, 0..4);
    let labels_refs = prop::collection::vec(prop_oneof![0..9_u32, any::<u32>()], 0..6);
    let series = (labels_refs, samples).prop_map(|(labels_refs, samples)| SeriesV2 {
        labels_refs,
        samples,
        ..Default::default()
    });
    (prop::collection::vec(".{0,9}", 0..5), prop::collection::vec(series, 0..5))
        .prop_map(|(symbols, timeseries)| RequestV2 { symbols, timeseries })
}

proptest! {
    #[test]
    fn a_request_of_version_2_is_read_as_prost_reads_it(request in requests_v2()) {
        let bytes = request.encode_to_vec();
        prop_assert_eq!(read_v2(&bytes), Ok(expected_v2(&request)));
    }

    #[test]
    fn corrupted_bytes_of_version_2_are_an_error_or_what_prost_finds_in_them(
        request in requests_v2(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let mut bytes = request.encode_to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let (Ok((symbols, series)), Ok(request)) =
            (read_v2(&bytes), RequestV2::decode(bytes.as_slice()))
        {
            let (expected_symbols, expected) = expected_v2(&request);
            prop_assert_eq!(symbols, expected_symbols);
            // prost cuts a reference to 32 bits. The server looks for the number as it was sent.
            let cut = series.into_iter().map(|(references, samples)| {
                (references.iter().map(|r| r & u64::from(u32::MAX)).collect(), samples)
            });
            prop_assert_eq!(cut.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_request_of_version_2(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        read_v2(&bytes).ok();
    }

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
    fn any_bytes_are_an_error_or_a_request(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
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
fn what_is_skipped_is_counted() {
    // Two exemplars, three histograms, an unknown field; then two metadata and an unknown field.
    let series = [0x1A, 0, 0x22, 0, 0x1A, 0, 0x22, 0, 0x22, 0, 0x48, 7];
    let message = [&[0x0A, 12][..], &series, &[0x1A, 0, 0x1A, 0, 0x10, 7]].concat();
    let mut entries = Entries::new(&message);
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!((entry.exemplars, entry.unknown), (2, 1));
    (0..3).for_each(|_| assert_eq!(entry.next_histogram(), Ok(Some(&[][..]))));
    assert_eq!(entry.next_histogram(), Ok(None));
    assert!(entries.next().unwrap().is_none());
    assert_eq!((entries.metadata, entries.unknown), (2, 1));
}

#[test]
fn an_unknown_group_is_skipped() {
    let request = WriteRequest { timeseries: vec![TimeSeries::default()], ..Default::default() };
    // Field 7 is a group that holds a number, a text and another group.
    let group = [0x3B, 0x08, 1, 0x12, 1, b'x', 0x43, 0x44, 0x3C];
    let bytes = [&group[..], &request.encode_to_vec(), &group[..]].concat();
    assert_eq!(read(&bytes), Ok(expected(&request)));
    assert_eq!(WriteRequest::decode(bytes.as_slice()), Ok(request));
    for broken in [&[0x3B][..], &[0x3C], &[0x3B, 0x44], &[0x3B; 1000]] {
        assert!(read(broken).is_err(), "{broken:?}");
        assert!(WriteRequest::decode(broken).is_err(), "{broken:?}");
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
    assert_eq!(*entry.labels(), [label("a"), label("b"), label("c")].concat());
    assert_eq!(entry.scattered_bytes(), 3 * label("a").len());
    assert_eq!(read(&message).unwrap()[0].1, [(7, 0), (7, 0)]);
}

#[test]
fn what_version_2_skips_is_counted() {
    // Two histograms, an exemplar, metadata twice (one is empty), created timestamps (one is 0, one
    // belongs to a sample), an unknown field. Then an unknown field of the request.
    let series = [
        &[0x1A, 0, 0x1A, 0, 0x22, 0, 0x2A, 0, 0x2A, 2, 8, 1][..],
        &[0x30, 0, 0x30, 7, 0x12, 2, 0x18, 7, 0x48, 7],
    ];
    let series = series.concat();
    let message = [&[0x2A, u8::try_from(series.len()).unwrap()], series.as_slice(), &[8, 7]];
    let message = message.concat();
    let mut entries = v2::Entries::new(&message);
    let mut entry = entries.next().unwrap().unwrap();
    assert_eq!(entry.next_sample(), Ok(Some((0, 0.0))));
    let skipped = [entry.exemplars, entry.metadata, entry.created, entry.unknown];
    assert_eq!(skipped, [1, 1, 2, 1]);
    (0..2).for_each(|_| assert_eq!(entry.next_histogram(), Ok(Some(&[][..]))));
    assert_eq!(entry.next_histogram(), Ok(None));
    assert!(entries.next().unwrap().is_none());
    assert_eq!(entries.unknown, 1);
}

#[test]
fn references_may_stand_apart_and_need_not_be_packed() {
    let sample = [0x12, 2, 0x10, 7];
    // Packed 1 and 2, a sample, 3 by itself, packed 300, nothing, a sample.
    let content =
        [&[0x0A, 2, 1, 2][..], &sample, &[0x08, 3], &[0x0A, 2, 0xAC, 2], &[0x0A, 0], &sample];
    let content = content.concat();
    let message = [&[0x2A, u8::try_from(content.len()).unwrap()], content.as_slice()].concat();
    let expected = (vec![1, 2, 3, 300], vec![(7, 0), (7, 0)]);
    assert_eq!(read_v2(&message), Ok((vec![], vec![expected])));
    for broken in [&[0x2A, 3, 0x0A, 1, 0x80][..], &[0x2A, 2, 0x09, 1], &[0x28, 1], &[0x20, 1]] {
        assert!(read_v2(broken).is_err(), "{broken:?}");
    }
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
        // The nearest of 16 digits is another value.
        (2.0_f64.powi(-24), "5.960464477539063e-08"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::from_bits(0x7ff0_0000_0000_0002), "NaN"),
    ] {
        assert_eq!(go_float::print(value), text);
        let back: f64 = text.parse().expect("it is a number");
        assert!(back == value || value.is_nan(), "{text}");
    }
    // Regression: 46 of the powers of two read back as other values.
    for power in (1..2047).map(|exponent: u64| f64::from_bits(exponent << 52)) {
        assert_eq!(go_float::print(power).parse(), Ok(power));
    }
}
