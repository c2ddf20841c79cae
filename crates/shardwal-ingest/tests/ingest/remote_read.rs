//! Remote read over HTTP: both types of responses, their bounds, and chunks as Prometheus has them.

use proptest::prelude::*;
use prost::Message;

use crate::server_support::client::Answer;
use crate::server_support::{
    Label, SNAPPY, Sample, Server, TimeSeries, WriteRequest, block, request, text,
};

#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<Query>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Query {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<Matcher>,
}

#[derive(Clone, PartialEq, Message)]
struct Matcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    /// Each result is a message with the fields of a `WriteRequest`.
    #[prost(message, repeated, tag = "1")]
    results: Vec<WriteRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    first: i64,
    #[prost(int64, tag = "2")]
    last: i64,
    #[prost(int32, tag = "3")]
    encoding: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

/// The number of the operator, the name and the value of each matcher.
pub(crate) type Matchers<'a> = &'a [(i32, &'a str, &'a str)];

pub(crate) const SAMPLES: i32 = 0;
pub(crate) const CHUNKS: i32 = 1;

pub(crate) fn query(range: [i64; 2], matchers: Matchers<'_>) -> Query {
    let matcher = |&(kind, name, value): &(i32, &str, &str)| Matcher {
        kind,
        name: name.to_owned(),
        value: value.to_owned(),
    };
    Query { start: range[0], end: range[1], matchers: matchers.iter().map(matcher).collect() }
}

pub(crate) fn read(server: &Server, queries: &[Query], accepted: &[i32]) -> Answer {
    let request = ReadRequest { queries: queries.to_vec(), accepted: accepted.to_vec() };
    server.send("POST", "/api/v1/read", SNAPPY, &block(&request))
}

/// The results of a response of the type `SAMPLES`.
fn results(answer: &Answer) -> Vec<WriteRequest> {
    assert_eq!(answer.status, 200, "{}", text(answer));
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(answer.header("content-encoding"), Some("snappy"));
    let message = snap::raw::Decoder::new().decompress_vec(&answer.body).expect("it is snappy");
    ReadResponse::decode(message.as_slice()).expect("it is a response").results
}

/// The frames of a response of the type `STREAMED_XOR_CHUNKS`.
#[expect(clippy::big_endian_bytes, reason = "the checksum of a frame is big-endian")]
fn frames(answer: &Answer) -> Vec<ChunkedResponse> {
    assert_eq!(answer.status, 200, "{}", text(answer));
    let chunked = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(answer.header("content-type"), Some(chunked));
    assert_eq!(answer.header("content-encoding"), None);
    let (mut found, mut rest) = (Vec::new(), answer.body.as_slice());
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).expect("it is a length");
        let (sum, after) = rest.split_first_chunk().expect("a checksum follows");
        let (message, after) = after.split_at(length);
        assert_eq!(u32::from_be_bytes(*sum), crc32c::crc32c(message));
        found.push(ChunkedResponse::decode(message).expect("it is a response"));
        rest = after;
    }
    found
}

/// A stream of bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> u64 {
        (0..count).fold(0, |number, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            number << 1 | u64::from(bit)
        })
    }

    fn take_varint(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.take(8);
            number |= (byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }

    fn take_change_of_delta(&mut self) -> i64 {
        let ones = (0..4).take_while(|_| self.take(1) == 1).count();
        let width = [0, 14, 17, 20, 64][ones];
        let number = self.take(width);
        // A number above half of its range is negative.
        let is_negative = width < 64 && width > 0 && number > 1 << (width - 1);
        let number = number.cast_signed();
        if is_negative { number - (1 << width) } else { number }
    }

    /// Takes what differs from the value before. `window` is where the difference lies: its lowest
    /// bit, and its number of bits.
    fn take_difference(&mut self, window: &mut (u32, u32)) -> u64 {
        if self.take(1) == 0 {
            return 0;
        }
        if self.take(1) == 1 {
            let leading = u32::try_from(self.take(5)).expect("five bits");
            let width = u32::try_from(self.take(6)).expect("six bits");
            let width = if width == 0 { 64 } else { width };
            *window = (64 - leading - width, width);
        }
        self.take(window.1) << window.0
    }
}

/// The samples of a chunk, by the bits of their values.
fn decode(chunk: &[u8]) -> Vec<(i64, u64)> {
    let mut bits = Bits { bytes: chunk, at: 0 };
    let count = bits.take(16);
    let (mut time, mut delta, mut value, mut window) = (0_i64, 0_i64, 0, (0, 0));
    let sample = |index| {
        match index {
            0 => {
                let zigzag = bits.take_varint();
                time = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
                value = bits.take(64);
                return (time, value);
            }
            1 => delta = bits.take_varint().cast_signed(),
            _ => delta = delta.wrapping_add(bits.take_change_of_delta()),
        }
        time = time.wrapping_add(delta);
        value ^= bits.take_difference(&mut window);
        (time, value)
    };
    (0..count).map(sample).collect()
}

/// What Prometheus 2.42 answers for [`golden_samples`] of the series `g`: one frame.
const GOLDEN: &str = "f9011112c44f0af6010a0d0a085f5f6e616d655f5f12016712e4010880d095ffbc3110edc99\
    480bd31180122d101001680a0abfef9623fe0000000000000e80735836007783383ec1c7e43c8800759f09c3f3\
    f1c7e43c8800759f79b100000000000000e76c46036fffe000000000010699f83d80c01cd6c8b4395f80000000\
    000484a0e1fbfb8c2a7a896d061fffffffffffedeb19802be6b81281f0d7bff59ff72a74de4d3c1a800aa01000\
    00000000005ffdd9dc9f2a6330affeecee4f953198540200000000000009fede06ce9ac35525ff4f03674d61aa\
    920050000000000002ffdaff1c8776e9d64a42002aff4c8776e9d64a41002a0000000000000";

fn golden_samples() -> Vec<Sample> {
    let bits: [(i64, u64); 22] = [
        (0, 0x3fe0_0000_0000_0000),
        (1000, 0x3fe0_0000_0000_0000),
        (2000, 0x3ff0_0000_0000_0000),
        (3000, 0xbff0_0000_0000_0000),
        (3001, 0x7e37_e43c_8800_759c),
        (13_001, 0x7ff0_0000_0000_0002),
        (22_193, 0x7ff0_0000_0000_0000),
        (92_193, 0xc008_0000_0000_0000),
        (700_000, 0x40c8_1cd6_c8b4_3958),
        (1_900_000, 0x3fb9_9999_9999_999a),
        (1_915_001, 0x3fee_54e9_bc9a_7834),
        (1_929_991, 0x0),
        (1_944_991, 0x4020_0000_0000_0000),
        (1_959_991, 0x3fd7_6772_7ca9_8cc2),
        (1_974_991, 0x4020_0000_0000_0000),
        (1_989_991, 0x0),
        (2_004_991, 0x3fdb_c0d9_d358_6aa4),
        (2_019_991, 0x4008_0000_0000_0000),
        (2_034_991, 0x4020_0000_0000_0000),
        (2_049_981, 0x3fae_43bb_74eb_2520),
        (2_064_981, 0x4008_0000_0000_0000),
        (2_079_981, 0x4022_0000_0000_0000),
    ];
    let sample = |(after, bits)| Sample {
        timestamp: 1_700_000_000_000 + after,
        value: f64::from_bits(bits),
    };
    bits.map(sample).to_vec()
}

#[test]
fn a_frame_equals_that_of_prometheus_byte_by_byte() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let labels = vec![Label { name: "__name__".into(), value: "g".into() }];
    let series = TimeSeries { labels, samples: golden_samples() };
    assert_eq!(server.write(&WriteRequest { timeseries: vec![series] }).status, 204);
    let query = query([0, i64::MAX], &[(0, "__name__", "g")]);
    let answer = read(&server, std::slice::from_ref(&query), &[CHUNKS]);
    let hex: String = answer.body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let bits = |sample: &Sample| (sample.timestamp, sample.value.to_bits());
    let expected: Vec<_> = golden_samples().iter().map(bits).collect();
    assert_eq!(decode(&frames(&answer)[0].series[0].chunks[0].data), expected);
    let found = &results(&read(&server, &[query], &[]))[0].timeseries[0].samples;
    assert_eq!(found.iter().map(bits).collect::<Vec<_>>(), expected, "NaN keeps its bits");
}

#[test]
fn both_types_return_what_the_matchers_select_in_the_range() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let samples: Vec<(i64, f64)> = (0..300).map(|time| (time, time as f64 / 8.0)).collect();
    assert_eq!(server.write(&request(&["c", "a", "b"], &samples)).status, 204);
    let cases: [(Matchers<'_>, &[&str]); 7] = [
        (&[(0, "__name__", "a")], &["a"]),
        (&[(1, "__name__", "a")], &["b", "c"]),
        (&[(2, "__name__", "a|c"), (0, "job", "a \"test\"\\")], &["a", "c"]),
        (&[(3, "__name__", "a|c")], &["b"]),
        (&[(0, "absent", "")], &["a", "b", "c"]),
        (&[], &["a", "b", "c"]),
        (&[(0, "__name__", "a"), (1, "job", "a \"test\"\\")], &[]),
    ];
    let queries = cases.map(|(matchers, _)| query([10, 150], matchers));
    let answered = results(&read(&server, &queries, &[7, SAMPLES, CHUNKS]));
    let streamed = frames(&read(&server, &queries, &[CHUNKS, SAMPLES]));
    let expected: Vec<(i64, u64)> =
        samples[10..=150].iter().map(|(time, value)| (*time, value.to_bits())).collect();
    let mut streamed = streamed.iter();
    for (number, (_, names)) in cases.iter().enumerate() {
        assert_eq!(answered[number].timeseries.len(), names.len(), "{number}");
        for (series, name) in answered[number].timeseries.iter().zip(*names) {
            assert_eq!(series.labels[0].value, *name, "{number}: sorted");
            let bits = |sample: &Sample| (sample.timestamp, sample.value.to_bits());
            assert_eq!(series.samples.iter().map(bits).collect::<Vec<_>>(), expected);
            let frame = streamed.next().expect("each series has a frame");
            assert_eq!((frame.query, frame.series.len()), (number as i64, 1));
            assert_eq!(frame.series[0].labels, series.labels);
            let chunks = &frame.series[0].chunks;
            assert_eq!(
                chunks.iter().map(|c| (c.first, c.last)).collect::<Vec<_>>(),
                [(10, 119), (120, 150)]
            );
            assert_eq!(chunks.iter().flat_map(|c| decode(&c.data)).collect::<Vec<_>>(), expected);
        }
    }
    assert_eq!(streamed.next(), None);
    let nothing = [query([150, 10], &[(0, "__name__", "a")]), query([400, 500], &[])];
    let answered = results(&read(&server, &nothing, &[SAMPLES]));
    assert_eq!(answered, vec![WriteRequest { timeseries: vec![] }; 2]);
    assert_eq!(frames(&read(&server, &nothing, &[CHUNKS])), []);
    assert_eq!(results(&read(&server, &[], &[])), []);
}

#[test]
fn what_is_no_read_request_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let cases: [(Matchers<'_>, &[i32], &str); 5] = [
        (&[(2, "a", "(")], &[], "the pattern for label \"a\" is invalid"),
        (&[(4, "a", "b")], &[], "a matcher has no known type"),
        (&[], &[5], "unknown response types"),
        (&vec![(0, "a", "b"); 65], &[], "a selector has more than 64 matchers"),
        (&vec![(0, "a", "b"); 100_000], &[], "a selector has more than 64 matchers"),
    ];
    for (matchers, accepted, why) in cases {
        let answer = read(&server, &[query([0, 1], matchers)], accepted);
        assert_eq!(answer.status, 400, "{why}");
        assert!(text(&answer).contains(why), "{why}: {}", text(&answer));
    }
    for (queries, patterns, why) in
        [(65, 0, "more than 64 selectors"), (2, 33, "66 patterns are more than 64")]
    {
        let answer =
            read(&server, &vec![query([0, 1], &vec![(2, "a", "b"); patterns]); queries], &[]);
        assert_eq!(answer.status, 400, "{why}");
        assert!(text(&answer).contains(why), "{why}: {}", text(&answer));
    }
    let body = block(&ReadRequest::default());
    for (headers, body, status) in [
        ("", &b"no block at all"[..], 400),
        ("Content-Encoding: gzip\r\n", &body, 415),
        ("Content-Type: application/json\r\n", &body, 415),
        ("", &vec![0; (1 << 20) + 1], 413),
    ] {
        let answer = server.send("POST", "/api/v1/read", headers, body);
        assert_eq!(answer.status, status, "{headers:?}: {}", text(&answer));
    }
    assert_eq!(server.get("/api/v1/read").status, 405);
    assert_eq!(server.get_json("/status.json")["reads"], 0);
}

/// A message that exceeds the budget is refused. A stream of any length is not.
#[test]
fn a_response_is_bounded_in_memory_and_a_stream_is_not_in_length() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ["--in-flight-bytes-max", "16777216", "--request-bytes-max", "4194304"];
    let server = Server::start(directory.path(), &limits);
    let value = |time: i64| ((time as f64).sqrt() * 1e9).to_bits().rotate_left(17);
    for part in 0..4 {
        let times = part * 75_000..(part + 1) * 75_000;
        let samples: Vec<_> = times.map(|time| (time, f64::from_bits(value(time)))).collect();
        let answer = server.write(&request(&["a", "b"], &samples));
        assert_eq!(answer.status, 204, "{}", text(&answer));
    }
    let all = [query([i64::MIN, i64::MAX], &[])];
    let answer = read(&server, &all, &[SAMPLES]);
    assert_eq!(answer.status, 413, "{:.200}", text(&answer));
    assert!(text(&answer).contains("--in-flight-bytes-max"), "{}", text(&answer));
    let frames = frames(&read(&server, &all, &[CHUNKS]));
    assert!(frames.len() > 2, "{} frames of two series", frames.len());
    let chunks = |name: &str| {
        let of = frames.iter().filter(move |frame| frame.series[0].labels[0].value == name);
        let chunks = of.flat_map(|frame| &frame.series[0].chunks);
        chunks.flat_map(|chunk| decode(&chunk.data)).collect::<Vec<_>>()
    };
    let expected: Vec<_> = (0..300_000).map(|time| (time, value(time))).collect();
    assert!(chunks("a") == expected && chunks("b") == expected);
    let few = [query([0, 999], &[])];
    assert_eq!(results(&read(&server, &few, &[]))[0].timeseries.len(), 2);
    assert_eq!(server.get_json("/status.json")["reads"], 0);
}

proptest! {
    #[test]
    fn a_chunk_decodes_to_its_samples(
        start in any::<i64>(),
        steps in prop::collection::vec(
            (
                prop_oneof![Just(1000), 0..20_000_i64, -1_000_000..1_000_000_i64, any::<i64>()],
                prop_oneof![Just(0), 0..9_u64, any::<u64>()],
            ),
            1..200,
        ),
    ) {
        let mut time = start;
        let samples: Vec<_> = steps
            .iter()
            .map(|&(step, bits)| {
                time = time.wrapping_add(step);
                (time, bits)
            })
            .collect();
        let encoded: Vec<_> = samples
            .iter()
            .map(|&(timestamp_ms, bits)| {
                shardwal_timeseries::Sample { timestamp_ms, value: f64::from_bits(bits) }
            })
            .collect();
        let chunk = shardwal_timeseries::XorChunk::encode(&encoded);
        prop_assert_eq!((chunk.first_ms(), chunk.last_ms()), (samples[0].0, time));
        prop_assert_eq!(decode(chunk.bytes()), samples);
    }
}
