//! Requests that would take more memory than their size, and answers that would repeat them.

use crate::remote_write_v2::V2;
use crate::server_support::client::Answer;
use crate::server_support::{Label, SNAPPY, Server, encoded, request, text};

/// Maximum bytes of an answer to an invalid request.
const ANSWER_BYTES_MAX: usize = 16 << 10;

fn check(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {:.200}", text(answer));
    let bytes = answer.body.len();
    assert!(bytes <= ANSWER_BYTES_MAX, "{what}: an answer of {bytes} bytes");
    // Short excerpts do not count the rest.
    let counts = text(answer).contains("bytes more)");
    assert!(counts || bytes < 500, "{what}: {}", text(answer));
}

/// Each answer was longer than its request, up to 100 times.
#[test]
fn an_answer_repeats_at_most_a_few_hundred_bytes_of_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let long = "\u{1}".repeat(30_000);

    let line = format!("m,{long}=1,{long}=2 f=1\n");
    let lines = line.repeat(100);
    check(&server.send("POST", "/write", "", lines.as_bytes()), 400, "a tag that occurs twice");

    let mut twice = request(&["a"; 10], &[(1, 1.0)]);
    for (series, job) in twice.timeseries.iter_mut().zip(b'a'..) {
        let label = Label { name: long.clone(), value: char::from(job).into() };
        series.labels.extend([label.clone(), label]);
    }
    check(&server.write(&twice), 400, "a label that occurs twice");
    for series in &mut twice.timeseries {
        series.labels.truncate(3);
        series.labels[0].name = "no_name".to_owned();
    }
    check(&server.write(&twice), 400, "a series without a name");

    let unit = "x".repeat(10_000);
    let unknown = server.send("POST", &format!("/write?precision={unit}"), "", b"m f=1");
    check(&unknown, 400, "an unknown precision");
    let encoding = format!("Content-Encoding: {unit}\r\n");
    check(&server.send("POST", "/write", &encoding, b"m f=1"), 415, "an unknown encoding");
    check(&server.send("POST", "/api/v1/write", &encoding, b""), 415, "an unknown encoding");
    for selector in [format!("{{a=~\"({unit}\"}}"), format!("{unit}{{\"a\"}}")] {
        let answer = server.get(&format!("/api/v1/export?match[]={}", encoded(&selector)));
        check(&answer, 400, "a selector");
    }
    let answer = server.get(&format!("/api/v1/export?match[]=a&start={unit}"));
    check(&answer, 400, "an invalid time");
}

#[cfg(target_os = "linux")]
mod memory {
    use super::*;

    const BYTES: usize = 30 << 20;

    /// What the allocator and the buffers of the connection may take beside the limit.
    const BESIDE: u64 = 24 << 20;

    /// A message of one series, of which these are the fields.
    fn series(content: &[u8]) -> Vec<u8> {
        let mut length = content.len();
        let mut message = vec![0x0A];
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7F).expect("seven bits") | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).expect("seven bits"));
        [&message, content].concat()
    }

    /// Lines of 30 MiB that are mostly names, and the status that answers them.
    fn lines() -> Vec<(&'static str, u16, Vec<u8>)> {
        let numbered =
            |count: usize| (0..count).map(|i| format!("{i:07} f=1\n")).collect::<String>();
        let line =
            |part: &[u8], count: usize, end: &[u8]| [b"m", &*part.repeat(count), end].concat();
        vec![
            ("empty tags", 400, line(b",t=", BYTES / 3, b" f=1")),
            ("tags", 400, line(b",t=1", BYTES / 4, b" f=1")),
            ("an escaped tag", 400, line(b"\\ ", BYTES / 2, b" f=1")),
            ("fields", 413, [b"m ", &*b"f=1,".repeat(BYTES / 4), b"f=1"].concat()),
            ("bad lines", 400, b"m\n".repeat(BYTES / 2)),
            ("new series", 413, numbered(BYTES / 12).into_bytes()),
        ]
    }

    /// Remote-write messages of 30 MiB, and the status that answers them.
    fn messages() -> Vec<(&'static str, u16, Vec<u8>)> {
        let name = b"\x0A\x0D\x0A\x08__name__\x12\x01a";
        let samples = |count| series(&[name, &*b"\x12\0".repeat(count)].concat());
        vec![
            ("empty labels", 400, series(&b"\x0A\0".repeat(BYTES / 2))),
            ("labels", 400, series(&b"\x0A\x04\x0A\x02ab".repeat(BYTES / 6))),
            ("empty series", 400, b"\x0A\0".repeat(BYTES / 2)),
            ("scattered labels", 400, series(&b"\x0A\0\x12\0".repeat(BYTES / 4))),
            ("too many samples", 413, samples(BYTES / 2)),
            ("samples", 204, samples(1 << 20)),
        ]
    }

    /// Messages of version 2.0, likewise.
    fn messages_v2() -> Vec<(&'static str, u16, Vec<u8>)> {
        let symbols: &[u8] = b"\x22\0\x22\x08__name__\x22\x01a";
        let entry = |references: &[u8]| {
            // Fields 1 are the references of an entry, which is field 5 of a request.
            let mut message = series(&series(references));
            message[0] = 0x2A;
            [symbols, &message].concat()
        };
        let numbered = |count: usize| {
            (0..count).flat_map(|i| [&b"\x22\x07"[..], format!("{i:07}").as_bytes()].concat())
        };
        // Each entry has another value, in three bytes: new series, without samples.
        let new = |count: u32| {
            (3..count).flat_map(|i| {
                let [low, middle, high, _] = (i & 0x7F | (i & 0x3F80) << 1 | (i >> 14) << 16)
                    .to_le_bytes()
                    .map(|byte| byte | 0x80);
                [0x2A, 10, 0x0A, 4, 1, low, middle, high & 0x7F, 0x12, 2, 0x10, 1]
            })
        };
        vec![
            ("2.0: empty symbols", 413, b"\x22\0".repeat(BYTES / 2)),
            ("2.0: references", 400, entry(&b"\x01\x02".repeat(BYTES / 2))),
            ("2.0: empty series", 400, b"\x2A\0".repeat(BYTES / 2)),
            ("2.0: a long symbol", 400, {
                let mut symbol = series(&vec![b'x'; BYTES]);
                symbol[0] = 0x22;
                [symbols, &symbol, &entry(b"\x01\x03")[symbols.len()..]].concat()
            }),
            ("2.0: new series", 413, {
                let count = 1_400_000;
                symbols.iter().copied().chain(numbered(count)).chain(new(1_400_000)).collect()
            }),
        ]
    }

    #[test]
    fn a_request_takes_no_more_memory_than_the_limit_says() {
        let compress = |bytes: Vec<u8>| snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let messages = messages().into_iter();
        let messages = messages.map(|(what, status, body)| (what, status, SNAPPY, compress(body)));
        let lines = lines().into_iter().map(|(what, status, body)| (what, status, "", body));
        let messages_v2 = messages_v2().into_iter();
        let messages_v2 =
            messages_v2.map(|(what, status, body)| (what, status, V2, compress(body)));
        for (what, status, headers, body) in lines.chain(messages).chain(messages_v2) {
            let directory = tempfile::tempdir().unwrap();
            let server = Server::start(directory.path(), &[]);
            let before = server.memory_peak();
            let path = if headers.is_empty() { "/write" } else { "/api/v1/write" };
            let answer = server.send("POST", path, headers, &body);
            assert_eq!(answer.status, status, "{what}: {:.200}", text(&answer));
            let grown = server.memory_peak() - before;
            assert!(grown <= (128 << 20) + BESIDE, "{what}: {} MiB", grown >> 20);
            assert_eq!(server.get_json("/status.json")["in_flight_bytes"], 0, "{what}");
        }
    }

    /// Regression: the cache of series kept their symbols.
    #[test]
    fn refused_requests_leave_no_symbols_behind() {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path(), &[]);
        let send = |number: u32| {
            let symbol =
                |i: u32| [&b"\x22\x0B"[..], format!("{number:04}{i:07}").as_bytes()].concat();
            let message = (0..1 << 14).flat_map(symbol).collect::<Vec<u8>>();
            // References to all symbols, each in two bytes, and no samples.
            let reference = |i: u16| [i.to_le_bytes()[0] | 0x80, (i >> 7).to_le_bytes()[0]];
            let references: Vec<u8> = (0..1 << 14).flat_map(reference).collect();
            let mut entry = series(&series(&references));
            entry[0] = 0x2A;
            let body = snap::raw::Encoder::new().compress_vec(&[message, entry].concat()).unwrap();
            let answer = server.send("POST", "/api/v1/write", V2, &body);
            assert_eq!(answer.status, 400, "{:.200}", text(&answer));
        };
        (0..10).for_each(send);
        let before = server.memory_peak();
        (10..110).for_each(send);
        let grown = server.memory_peak() - before;
        assert!(grown < 16 << 20, "{} MiB", grown >> 20);
    }
}

/// Regression: each selector locked the index for as long as all of its matchers took.
#[test]
fn a_read_with_many_matchers_or_selectors_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let selector = |matchers: usize| format!("match[]={{{}}}", "a!=\"\",".repeat(matchers));
    for (body, status, why) in [
        (selector(64), 200, ""),
        (selector(65), 400, "more than 64 matchers"),
        (selector(100_000), 400, "more than 64 matchers"),
        ("match[]=a&".repeat(64), 200, ""),
        ("match[]=a&".repeat(65), 400, "more than 64 selectors"),
        (format!("match[]=a{}", "&b".repeat(1023)), 200, ""),
        (format!("match[]=a{}", "&b".repeat(1024)), 400, "more than 1024 parameters"),
    ] {
        for path in ["/api/v1/series", "/api/v1/export"] {
            let answer = server.send("POST", path, form, body.as_bytes());
            assert_eq!(answer.status, status, "{path}: {}", text(&answer));
            assert!(text(&answer).contains(why), "{path}: {}", text(&answer));
        }
    }
}

/// Regression: the list counted a few bytes per series, whatever their labels.
#[test]
fn a_list_counts_the_labels_that_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ["--request-bytes-max", "1048576", "--in-flight-bytes-max", "4194304"];
    let server = Server::start(directory.path(), &limits);
    let long = "x".repeat(60_000);
    for n in 0..40 {
        let mut write = request(&[&format!("long_{n}")], &[(1, 1.0)]);
        write.timeseries[0].labels.push(Label { name: "zone".into(), value: long.clone() });
        assert_eq!(server.write(&write).status, 204);
    }
    let list =
        |selector: &str| server.get(&format!("/api/v1/series?match[]={}", encoded(selector)));
    assert_eq!(list("{__name__=~\"long_1.\"}").status, 200, "600 KB of 2 MiB");
    let answer = list("{__name__=~\"long_.*\"}");
    assert!([413, 503].contains(&answer.status), "2.4 MB: {:.200}", text(&answer));
    assert_eq!(server.count("{__name__=~\"long_.*\"}"), 40, "an export holds few series at a time");
}
