//! Shared by the tests of the codec: a source of labels, and a sink for decoded samples.

#![allow(dead_code, reason = "each program that includes it uses a part")]

use std::cell::RefCell;
use std::collections::HashMap;

use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, BatchSink, DecodeError, SeriesHistogram, SeriesLabels, SeriesSample,
};
use shardwal_timeseries::{HistogramSample, Labels, Sample};

/// Labels of series by number, and how often each was requested.
pub(crate) struct Catalogue<F> {
    pub(crate) labels: F,
    pub(crate) asked: RefCell<HashMap<u32, u32>>,
}

impl<F: Fn(u32) -> Labels> Catalogue<F> {
    pub(crate) fn new(labels: F) -> Self {
        Self { labels, asked: RefCell::default() }
    }
}

impl<F: Fn(u32) -> Labels> SeriesLabels for Catalogue<F> {
    fn labels(&self, series: u32) -> Labels {
        *self.asked.borrow_mut().entry(series).or_default() += 1;
        (self.labels)(series)
    }
}

/// Labels that share much, as real ones do, and differ for each number.
pub(crate) fn labels_of(series: u32) -> Labels {
    let names = ["up", "node_cpu_seconds_total", "node_cpu_guest_seconds_total", "ünused"];
    let metric = names[series as usize % 3];
    let host = format!("h{}", series / 3);
    let mut pairs = vec![("__name__", metric), ("host", &host), ("job", "node")];
    if series.is_multiple_of(5) {
        pairs.push(("a_first", names[3]));
    }
    Labels::new(pairs).expect("valid labels")
}

/// Decoded samples, with references resolved.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) series: Vec<Labels>,
    pub(crate) samples: Vec<(Labels, Sample)>,
    pub(crate) histograms: Vec<(Labels, HistogramSample)>,
}

impl BatchSink for Decoded {
    fn series(&mut self, reference: u32, labels: Labels) {
        if reference == 0 {
            self.series.clear();
        }
        assert_eq!(reference as usize, self.series.len(), "references rise by one");
        self.series.push(labels);
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        assert!(!samples.is_empty());
        let resolve =
            |found: &SeriesSample| (self.series[found.series as usize].clone(), found.sample);
        self.samples.extend(samples.iter().map(resolve));
    }

    fn histograms(&mut self, histograms: &[SeriesHistogram]) {
        assert!(!histograms.is_empty());
        let resolve = |found: &SeriesHistogram| {
            (self.series[found.series as usize].clone(), found.histogram.clone())
        };
        self.histograms.extend(histograms.iter().map(resolve));
    }
}

/// Samples of series 0, 1, 2, .. with these values, at time 0.
pub(crate) fn samples(values: &[f64]) -> Vec<SeriesSample> {
    let numbered = (0..).zip(values);
    numbered.map(|(series, value)| sample(series, 0, *value)).collect()
}

pub(crate) fn sample(series: u32, timestamp_ms: i64, value: f64) -> SeriesSample {
    SeriesSample { series, sample: Sample::new(timestamp_ms, value) }
}

pub(crate) fn histogram(series: u32, timestamp_ms: i64, bytes: &[u8]) -> SeriesHistogram {
    SeriesHistogram { series, histogram: HistogramSample { timestamp_ms, bytes: bytes.into() } }
}

/// Encodes batches with one encoder.
pub(crate) fn encode(batches: &[(bool, Vec<SeriesSample>)]) -> Vec<Vec<u8>> {
    let mut encoder = BatchEncoder::new();
    let catalogue = Catalogue::new(labels_of);
    let encode = |(fresh, samples): &(bool, Vec<SeriesSample>)| {
        let mut out = Vec::new();
        encoder.encode(*fresh, samples, &[], &catalogue, &mut out);
        out
    };
    batches.iter().map(encode).collect()
}

/// Decodes batches with one decoder, up to the first error.
pub(crate) fn decode<B: AsRef<[u8]>>(batches: &[B]) -> Result<Decoded, DecodeError> {
    let mut decoder = BatchDecoder::new();
    let mut decoded = Decoded::default();
    for batch in batches {
        decoder.decode(batch.as_ref(), &mut decoded)?;
    }
    Ok(decoded)
}

/// The samples with the labels that decoding must return.
pub(crate) fn expected<'a>(
    samples: impl IntoIterator<Item = &'a SeriesSample>,
) -> Vec<(Labels, Sample)> {
    samples.into_iter().map(|found| (labels_of(found.series), found.sample)).collect()
}
