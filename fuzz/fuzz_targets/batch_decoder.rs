//! Feeds arbitrary bytes to the decoder of time series batches. The decoder returns
//! samples or an error. The returned samples survive another encoding and decoding
//! unchanged.
//!
//! The input is a sequence of batches, each behind its length in two bytes; the last
//! takes the rest. A continued batch gets its correct checksum, because the fuzzer
//! could not guess it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardwal_timeseries::Labels;
use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, BatchSink, SeriesHistogram, SeriesLabels, SeriesSample,
};

/// The most samples and label bytes that are kept and encoded again.
const KEPT_MAX: usize = 1 << 14;
const KEPT_LABEL_BYTES_MAX: usize = 1 << 20;

/// The series of all periods, each with its own number.
#[derive(Default)]
struct Kept {
    labels: Vec<Labels>,
    label_bytes: usize,
    /// The number of reference 0 in the current period.
    base: u32,
    samples: Vec<SeriesSample>,
    histograms: Vec<SeriesHistogram>,
}

impl BatchSink for Kept {
    fn series(&mut self, reference: u32, labels: Labels) {
        let next = u32::try_from(self.labels.len()).expect("inputs are small");
        if reference == 0 {
            self.base = next;
        }
        assert_eq!(self.base + reference, next, "references rise by one");
        assert_eq!(Labels::new(&labels).as_ref(), Ok(&labels), "labels are canonical");
        self.label_bytes += labels.canonical().len();
        let kept = self.label_bytes <= KEPT_LABEL_BYTES_MAX;
        self.labels.push(if kept { labels } else { Labels::default() });
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        assert!(!samples.is_empty() && samples.len() <= 4096);
        for found in samples {
            let series = self.base + found.series;
            assert!((series as usize) < self.labels.len(), "a reference has been explained");
            if self.samples.len() < KEPT_MAX {
                self.samples.push(SeriesSample { series, sample: found.sample });
            }
        }
    }

    fn histograms(&mut self, histograms: &[SeriesHistogram]) {
        assert!(!histograms.is_empty() && histograms.len() <= 4096);
        for found in histograms {
            let series = self.base + found.series;
            assert!((series as usize) < self.labels.len(), "a reference has been explained");
            if self.histograms.len() < KEPT_MAX {
                let histogram = found.histogram.clone();
                self.histograms.push(SeriesHistogram { series, histogram });
            }
        }
    }
}

impl SeriesLabels for Kept {
    fn labels(&self, series: u32) -> Labels {
        self.labels[series as usize].clone()
    }
}

fn decode_all(mut data: &[u8]) -> Kept {
    let mut decoder = BatchDecoder::new();
    let mut kept = Kept::default();
    let mut check = 0;
    while let Some((length, rest)) = data.split_first_chunk() {
        let (batch, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        data = rest;
        let mut batch = batch.to_vec();
        match batch.first() {
            Some(1 | 3) => check = 0,
            Some(2 | 4) if batch.len() >= 5 => batch[1..5].copy_from_slice(&u32::to_le_bytes(check)),
            _ => {}
        }
        match decoder.decode(&batch, &mut kept) {
            Ok(()) if batch[0] & 0x80 == 0 => {
                let mut hasher = crc32fast::Hasher::new_with_initial(check);
                hasher.update(&batch);
                check = hasher.finalize();
            }
            Ok(()) => {}
            Err(error) => assert!(error.offset <= batch.len(), "{error}"),
        }
    }
    kept
}

fuzz_target!(|data: &[u8]| {
    let kept = decode_all(data);
    let mut encoder = BatchEncoder::new();
    let mut decoder = BatchDecoder::new();
    let mut again = Kept::default();
    for part in kept.samples.chunks(1000) {
        let mut bytes = Vec::new();
        encoder.encode(false, part, &[], &kept, &mut bytes);
        decoder.decode(&bytes, &mut again).expect("what was encoded can be decoded");
    }
    for part in kept.histograms.chunks(1000) {
        let mut bytes = Vec::new();
        encoder.encode(false, &[], part, &kept, &mut bytes);
        decoder.decode(&bytes, &mut again).expect("what was encoded can be decoded");
    }
    assert_eq!(again.samples.len(), kept.samples.len());
    for (again_found, found) in again.samples.iter().zip(&kept.samples) {
        assert_eq!(again_found.sample, found.sample);
        assert_eq!(again.labels[again_found.series as usize], kept.labels[found.series as usize]);
    }
    assert_eq!(again.histograms.len(), kept.histograms.len());
    for (again_found, found) in again.histograms.iter().zip(&kept.histograms) {
        assert_eq!(again_found.histogram, found.histogram);
        assert_eq!(again.labels[again_found.series as usize], kept.labels[found.series as usize]);
    }
});
