//! The bytes of time series batches do not change. `tests/golden` has streams of the kinds 1 and 2,
//! and of the kinds with histograms. This library must always decode them, and so must a reader in
//! Python that knows only FORMAT.md. The samples must also encode to these bytes.
//!
//! `SHARDWAL_WRITE_GOLDEN=1 cargo test --test timeseries format` rewrites the files. Only a new
//! kind of batch may need that, and it should use other files.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::codec_rig::{Catalogue, decode, histogram, labels_of, sample};
use shardwal_timeseries::codec::{BatchEncoder, SeriesHistogram, SeriesSample};
use shardwal_timeseries::{HistogramSample, Labels, STALE_MARKER_BITS, Sample};

/// A golden file, and its content.
type File = (&'static str, fn() -> Vec<Batch>);

/// The golden files: one without histograms, one with them.
const FILES: [File; 2] = [
    ("timeseries_v1.batches", batches),
    ("timeseries_histograms.batches", batches_with_histograms),
];

/// Whether a batch is fresh, its samples and its histograms.
type Batch = (bool, Vec<SeriesSample>, Vec<SeriesHistogram>);

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Labels of all kinds: none, many, long ones, and strings that share prefixes.
fn labels(series: u32) -> Labels {
    match series {
        7 => Labels::default(),
        8 => Labels::new((0..64).map(|i| (format!("l{i:02}"), i.to_string()))).unwrap(),
        9 => Labels::new([("__name__", "a:b"), ("host", "h1")]).unwrap(),
        10 => Labels::new([("large", "ä".repeat(2500)), ("host", "h1".into())]).unwrap(),
        11 => Labels::new([("host", "é\"\n"), ("host2", "è")]).unwrap(),
        _ => labels_of(series),
    }
}

/// Batches that cover the format: every kind of token and run, every change of a series, two
/// periods, several blocks.
fn batches() -> Vec<Batch> {
    let scrape = |round: i64| {
        let at = 1_700_000_000_000 + round * 15_000 + round % 3;
        let values = [
            1.0,
            1000.0 + round as f64 * 250.0,
            0.001 * (round * round) as f64 + 0.25,
            1.0 / (3.0 + round as f64),
            if round == 4 { f64::from_bits(STALE_MARKER_BITS) } else { 40.5 },
            if round % 4 == 3 { f64::from_bits(0x7ff8_dead_beef_0001) } else { -(round as f64) },
            1e300 * round as f64,
            -0.0,
            9_007_199_254_740_991.0 - round as f64,
            5e-324,
            1e-18 * round as f64,
            f64::INFINITY,
        ];
        (0..).zip(values).map(|(series, value)| sample(series, at, value)).collect::<Vec<_>>()
    };
    let mut out_of_order = scrape(9);
    out_of_order.rotate_left(5);
    out_of_order.swap(1, 7);
    out_of_order[3].sample.timestamp_ms = i64::MIN;
    out_of_order[4].sample.timestamp_ms = i64::MAX;
    let backfill = (0..40).map(|i| sample(3, i * 1000, i as f64 / 8.0)).collect();
    // Lines long enough for any trend, with breaks. Timestamps that wrap around.
    let breaks = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 0, -4, 2, 9, -7, 1, 1, 0];
    let mut lines: Vec<_> = (0..)
        .zip(breaks.iter().cycle().take(80))
        .map(|(i, off)| sample(4, 0, f64::from(i * 5 + off) / 100.0))
        .collect();
    let circle = [i64::MIN, i64::MAX, 0, i64::MIN, -1, i64::MAX, i64::MAX, i64::MIN];
    lines.extend(circle.map(|at| sample(5, at, f64::from_bits(at.cast_unsigned()))));
    // The stale marker after a binary value, after a decimal one, and before both.
    let stale = f64::from_bits(STALE_MARKER_BITS);
    let ends = [1e300, stale, stale, 2.5, stale, 1e300, f64::NAN];
    lines.extend(ends.map(|value| sample(6, 0, value)));
    let many = (0..5000).map(|i| sample(i % 90, i64::from(i / 90), f64::from(i / 900))).collect();
    let mut batches: Vec<_> = (0..20).map(|round| (false, scrape(round))).collect();
    let more = [(false, out_of_order), (false, Vec::new()), (false, backfill)];
    batches.extend(more.into_iter().chain([(true, scrape(3)), (false, lines), (false, many)]));
    batches.into_iter().map(|(fresh, samples)| (fresh, samples, Vec::new())).collect()
}

/// Batches of all four kinds. Series have samples, histograms or both, and two blocks of each.
fn batches_with_histograms() -> Vec<Batch> {
    let at = |round: i64| 1_700_000_000_000 + round * 15_000;
    let samples = |round: i64| vec![sample(0, at(round), 1.5), sample(9, at(round), 2.5)];
    let histograms = |round: i64| {
        let long: Vec<u8> = (0..=round.to_le_bytes()[0]).cycle().take(200).collect();
        let short = [8, round.to_le_bytes()[0]];
        vec![
            histogram(9, at(round), &short),
            histogram(10, at(round), &long),
            histogram(10, i64::MIN, &[]),
        ]
    };
    let many = (0..4100).map(|n: i64| histogram(7, n, &n.to_le_bytes()[..2])).collect();
    vec![
        (true, samples(0), histograms(0)),
        (false, samples(1), histograms(1)),
        (false, samples(2), Vec::new()),
        (false, Vec::new(), histograms(3)),
        (false, Vec::new(), many),
        (true, samples(4), Vec::new()),
        (false, Vec::new(), histograms(5)),
        (true, Vec::new(), histograms(6)),
    ]
}

/// Encodes all batches, each after its length in four bytes.
fn encode_all(batches: &[Batch]) -> Vec<u8> {
    let catalogue = Catalogue::new(labels);
    let mut encoder = BatchEncoder::new();
    let mut stream = Vec::new();
    for (fresh, samples, histograms) in batches {
        let mut bytes = Vec::new();
        encoder.encode(*fresh, samples, histograms, &catalogue, &mut bytes);
        stream.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        stream.extend_from_slice(&bytes);
    }
    // An unknown kind that a decoder may skip.
    stream.extend_from_slice(&[3, 0, 0, 0, 0xff, 1, 2]);
    stream
}

/// One line per sample: hash of the labels, bits of the value, milliseconds.
fn line(labels: &Labels, sample: Sample) -> String {
    let bits = sample.value.to_bits();
    format!("{:016x} {bits:016x} {}\n", labels.id().0, sample.timestamp_ms)
}

/// One line per histogram: hash of the labels, its bytes, milliseconds.
fn histogram_line(labels: &Labels, histogram: &HistogramSample) -> String {
    let mut hex = String::new();
    histogram.bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    format!("{:016x} {hex} {}\n", labels.id().0, histogram.timestamp_ms)
}

fn dump(stream: &[u8]) -> String {
    let (mut rest, mut batches) = (stream, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (batch, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        batches.push(batch);
        rest = after;
    }
    let decoded = decode(&batches).unwrap();
    let samples = decoded.samples.iter().map(|(labels, sample)| line(labels, *sample));
    let histograms = decoded.histograms.iter();
    samples.chain(histograms.map(|(labels, one)| histogram_line(labels, one))).collect()
}

/// The content of a golden stream: the samples of all batches, then the histograms.
fn expected(batches: &[Batch]) -> String {
    let samples = batches.iter().flat_map(|batch| &batch.1);
    let samples = samples.map(|found| line(&labels(found.series), found.sample));
    let histograms = batches.iter().flat_map(|batch| &batch.2);
    let histograms =
        histograms.map(|found| histogram_line(&labels(found.series), &found.histogram));
    samples.chain(histograms).collect()
}

#[test]
fn the_same_samples_become_the_golden_bytes() {
    for (file, batches) in FILES {
        let stream = encode_all(&batches());
        if std::env::var_os("SHARDWAL_WRITE_GOLDEN").is_some() {
            fs::write(golden(file), &stream).unwrap();
        }
        assert!(stream == fs::read(golden(file)).unwrap(), "{file}");
    }
}

#[test]
fn the_golden_bytes_become_the_same_samples() {
    for (file, batches) in FILES {
        assert!(dump(&fs::read(golden(file)).unwrap()) == expected(&batches()), "{file}");
    }
}

#[test]
fn a_reader_that_knows_the_format_alone_reads_the_same() {
    for (file, batches) in FILES {
        let reader = golden("../timeseries_reader.py");
        let run = Command::new("python3").arg(reader).arg(golden(file)).output();
        let run = run.expect("python3 is installed");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let found = String::from_utf8(run.stdout).unwrap();
        // The histograms of a batch follow its samples.
        let expected: String = batches().chunks(1).map(expected).collect();
        for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{file}: sample {at}");
        }
        assert_eq!(found.lines().count(), expected.lines().count(), "{file}");
    }
}
