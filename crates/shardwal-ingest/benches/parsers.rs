//! The parsers of the server, on one thread, at five sizes: bytes per second. A parser that is
//! linear has the same rate at each size, whatever the text.
//!
//! `cargo bench -p shardwal-ingest --bench parsers`; each figure is the best of several runs.

#![allow(
    dead_code,
    unused_imports,
    clippy::print_stdout,
    clippy::float_arithmetic,
    reason = "it prints figures, and uses a part of the parsers"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use server::budget::Budget;
use server::influx::line::Lines;
use server::remote_write::{v1, v2};
use server::{otlp, selector};

const RUNS: usize = 5;
const SIZES: [usize; 5] = [16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

mod server;

/// Builds a text of about a number of bytes.
type Shape = fn(usize) -> Vec<u8>;

/// A shape and its name.
type Named = (&'static str, Shape);

/// Parses a text. Returns a number that depends on all that it read.
type Parser = fn(&[u8]) -> usize;

fn main() {
    let parsers: [(&str, Parser, &[Named]); 5] = [
        ("line protocol", lines, &LINES),
        ("remote write 1.0", remote_write_v1, &V1),
        ("remote write 2.0", remote_write_v2, &V2),
        ("OTLP in JSON", otlp_json, &JSON),
        ("selectors", selectors, &SELECTORS),
    ];
    let header: String = SIZES.iter().map(|size| format!("{:>10}", size >> 10)).collect();
    println!("{:48}{header}   MB/s by KiB", "");
    for (parser, parse, shapes) in parsers {
        for (name, shape) in shapes {
            let rates: String =
                SIZES.iter().map(|size| format!("{:>10.0}", rate(parse, &shape(*size)))).collect();
            let name = format!("{parser}: {name}");
            println!("{name:48}{rates}");
        }
    }
}

/// Megabytes per second.
fn rate(parse: Parser, text: &[u8]) -> f64 {
    let run = |_| {
        let began = Instant::now();
        black_box(parse(black_box(text)));
        began.elapsed()
    };
    let best = (0..RUNS).map(run).min().unwrap_or(Duration::MAX);
    text.len() as f64 / best.as_secs_f64() / 1e6
}

const LINES: [Named; 6] = [
    ("points of a client", |bytes| {
        b"cpu,host=server-17,zone=eu-1 user=0.52,system=12i,up=t 1795367005066000000\n"
            .repeat(bytes / 75)
    }),
    ("one line of fields", |bytes| [b"m f=1", &*b",f=1".repeat(bytes / 4)].concat()),
    ("one line of tags, then fields", |bytes| {
        [b"m", &*b",t=".repeat(bytes / 6), b" f=1", &b",f=1".repeat(bytes / 8)].concat()
    }),
    ("a quote that is not closed", |bytes| [b"m f=\"", &*b"\nm f=1".repeat(bytes / 6)].concat()),
    ("such a quote in each line", |bytes| b"m f=\"\n".repeat(bytes / 6)),
    ("quotes in tags and strings", |bytes| b"m x\",t=\" f=\"\n".repeat(bytes / 13)),
];

fn lines(text: &[u8]) -> usize {
    let mut lines = Lines::new(text);
    let mut fields = 0;
    while let Some(line) = lines.next() {
        let Ok(line) = line else { continue };
        loop {
            match lines.field(&line) {
                Ok(Some(_)) => fields += 1,
                Ok(None) => break drop(lines.timestamp(&line)),
                Err(_) => break,
            }
        }
    }
    fields
}

/// A field of bytes, of a number up to 15.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        field.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    field.push(length.to_le_bytes()[0]);
    [&field, content].concat()
}

const SAMPLE: [u8; 16] = [0x12, 14, 9, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 16, 0x80, 0x80, 0x80, 1];

const V1: [Named; 3] = [
    ("series of a sample", |bytes| {
        let label = field(1, &[field(1, b"__name__"), field(2, b"node_load1")].concat());
        let series = field(1, &[&label, &*field(1, &field(1, b"host")), &SAMPLE].concat());
        series.repeat(bytes / series.len())
    }),
    ("one series of samples", |bytes| field(1, &SAMPLE.repeat(bytes / 16))),
    ("labels between samples", |bytes| field(1, &b"\x0A\0\x12\0".repeat(bytes / 4))),
];

fn remote_write_v1(message: &[u8]) -> usize {
    let mut entries = v1::Entries::new(message);
    let mut found = 0;
    while let Ok(Some(mut entry)) = entries.next() {
        found += v1::LabelPairs::new(&entry.labels()).take_while(Result::is_ok).count();
        while let Ok(Some(_)) = entry.next_sample() {
            found += 1;
        }
    }
    found
}

const V2: [Named; 3] = [
    ("series of a sample", |bytes| {
        let series = field(5, &[&field(1, &[1, 2, 3, 4]), &SAMPLE[..]].concat());
        series.repeat(bytes / series.len())
    }),
    ("symbols", |bytes| field(4, b"node_load1").repeat(bytes / 12)),
    ("references one by one", |bytes| field(5, &b"\x08\x01".repeat(bytes / 2))),
];

fn remote_write_v2(message: &[u8]) -> usize {
    let mut symbols = v2::Symbols::new(message);
    let mut found = 0;
    while let Ok(Some(_)) = symbols.next() {
        found += 1;
    }
    let mut entries = v2::Entries::new(message);
    while let Ok(Some(mut entry)) = entries.next() {
        let mut references = entry.references();
        while let Ok(Some(_)) = references.next() {
            found += 1;
        }
        while let Ok(Some(_)) = entry.next_sample() {
            found += 1;
        }
    }
    found
}

const JSON: [Named; 4] = [
    ("points", |bytes| {
        let point = "{\"timeUnixNano\":\"1700000000000000000\",\"asDouble\":1.5},";
        json_list("\"gauge\":{\"dataPoints\":[", point, bytes)
    }),
    ("empty points", |bytes| json_list("\"gauge\":{\"dataPoints\":[", "{},", bytes)),
    ("bounds", |bytes| {
        json_list("\"histogram\":{\"dataPoints\":[{\"explicitBounds\":[", "1,", bytes)
    }),
    ("unknown fields", |bytes| json_list("\"x\":{\"y\":[", "[{}],", bytes)),
];

fn otlp_json(text: &[u8]) -> usize {
    let budget = Budget::new(1 << 30);
    otlp::rewrite(text, &mut budget.reserve_nothing()).map_or(0, |message| message.len())
}

/// A request with a list of elements somewhere in a metric. All that is open is closed.
fn json_list(begin: &str, element: &str, bytes: usize) -> Vec<u8> {
    let begin = format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{{{begin}");
    let mut text = begin.clone() + element.repeat(bytes / element.len()).trim_end_matches(',');
    for open in begin.chars().rev() {
        match open {
            '{' => text.push('}'),
            '[' => text.push(']'),
            _ => {}
        }
    }
    text.into_bytes()
}

const SELECTORS: [Named; 3] = [
    ("a long value", |bytes| format!("{{a=\"{}\"}}", "x".repeat(bytes)).into_bytes()),
    ("escapes", |bytes| format!("{{a=\"{}\"}}", "\\n".repeat(bytes / 2)).into_bytes()),
    ("comments", |bytes| format!("{{{}a=\"b\"}}", "# x\n".repeat(bytes / 4)).into_bytes()),
];

fn selectors(text: &[u8]) -> usize {
    let parsed = str::from_utf8(text).ok().map(|text| selector::parse(text, 1 << 20));
    usize::from(parsed.is_some_and(|parsed| parsed.is_ok()))
}
