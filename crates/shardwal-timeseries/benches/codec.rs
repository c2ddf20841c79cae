//! The codec on one thread, with the recorded stream in its original order and batches: samples per
//! second and bytes per sample. Compares state kept with the shard's writer to stand-alone records
//! (each batch fresh). This measurement decided for the state.
//!
//! `cargo bench --bench codec`; each figure is the best of several runs.

#![allow(clippy::print_stdout, reason = "it prints figures")]

#[path = "../tests/recording/mod.rs"]
mod recording;

use std::hint::black_box;
use std::time::{Duration, Instant};

use recording::Recording;
use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, BatchSink, SeriesHistogram, SeriesLabels, SeriesSample,
};
use shardwal_timeseries::{Labels, Sample};

const RUNS: usize = 9;

struct Catalogue<'a>(&'a [Labels]);

impl SeriesLabels for Catalogue<'_> {
    fn labels(&self, series: u32) -> Labels {
        self.0[series as usize].clone()
    }
}

/// Reads everything and keeps nothing.
#[derive(Default)]
struct Seen {
    series: u64,
    sum: u64,
}

impl BatchSink for Seen {
    fn series(&mut self, _reference: u32, labels: Labels) {
        self.series += 1;
        black_box(labels);
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        for found in samples {
            let bits = found.sample.value.to_bits() ^ found.sample.timestamp_ms.cast_unsigned();
            self.sum = self.sum.wrapping_add(bits ^ u64::from(found.series));
        }
    }

    fn histograms(&mut self, histograms: &[SeriesHistogram]) {
        black_box(histograms);
    }
}

fn main() {
    let recording = Recording::read();
    println!(
        "{:34} {:>12} {:>12} {:>14}",
        "334,000 samples", "encode M/s", "decode M/s", "bytes/sample"
    );
    for shards in [1_u16, 4] {
        let parts: Vec<_> =
            (0..shards).map(|shard| recording.shard(shard.into(), shards.into())).collect();
        for (what, fresh) in [("state with the writer", false), ("stand-alone records", true)] {
            measure(&format!("{shards} shards, {what}"), &recording.series, &parts, fresh);
        }
    }
    let batches = &recording.batches;
    let tenfold = batches.iter().cycle().take(10 * batches.len()).cloned().collect();
    measure("1 shard, ten times over, state", &recording.series, &[tenfold], false);
    measure("random bits in random order", &recording.series, &[worst()], false);
}

/// Samples that no codec can compress.
fn worst() -> Vec<Vec<SeriesSample>> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state ^ state >> 33
    };
    let mut sample = || SeriesSample {
        series: u32::try_from(random() % 5120).expect("it is below 5120"),
        sample: Sample::new((random() >> 20).cast_signed(), f64::from_bits(random())),
    };
    (0..168).map(|_| (0..2000).map(|_| sample()).collect()).collect()
}

fn measure(what: &str, series: &[Labels], parts: &[Vec<Vec<SeriesSample>>], fresh: bool) {
    let samples: usize = parts.iter().flatten().map(Vec::len).sum();
    let mut best = [Duration::MAX; 2];
    let mut bytes = 0;
    for _ in 0..RUNS {
        let (mut encode, mut decode) = (Duration::ZERO, Duration::ZERO);
        bytes = 0;
        for batches in parts {
            let encoded;
            (encoded, encode) = encode_all(series, batches, fresh, encode);
            bytes += encoded.iter().map(Vec::len).sum::<usize>();
            decode += decode_all(&encoded);
        }
        best = [best[0].min(encode), best[1].min(decode)];
    }
    let [encode, decode] = best.map(|time| samples as f64 / time.as_secs_f64() / 1e6);
    let bytes = bytes as f64 / samples as f64;
    println!("{what:34} {encode:12.1} {decode:12.1} {bytes:14.3}");
}

/// Encodes into buffers that exist before the clock starts, because the writer reuses one.
fn encode_all(
    series: &[Labels],
    batches: &[Vec<SeriesSample>],
    fresh: bool,
    before: Duration,
) -> (Vec<Vec<u8>>, Duration) {
    let mut encoded: Vec<_> =
        batches.iter().map(|batch| Vec::with_capacity(64 + 16 * batch.len())).collect();
    let mut encoder = BatchEncoder::new();
    let start = Instant::now();
    for (batch, out) in batches.iter().zip(&mut encoded) {
        encoder.encode(fresh, batch, &[], &Catalogue(series), out);
    }
    (encoded, before + start.elapsed())
}

fn decode_all(encoded: &[Vec<u8>]) -> Duration {
    let mut decoder = BatchDecoder::new();
    let mut seen = Seen::default();
    let start = Instant::now();
    for batch in encoded {
        decoder.decode(batch, &mut seen).expect("the batch is valid");
    }
    let elapsed = start.elapsed();
    black_box(&seen);
    elapsed
}
