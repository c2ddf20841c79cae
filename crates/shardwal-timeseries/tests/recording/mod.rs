//! The recorded stream of `crates/shardwal-ingest/data`: requests as Prometheus remote-write
//! 1.0 sent them, with the labels made once a series. Trusts its file.

use std::collections::HashMap;
use std::path::Path;

use shardwal_timeseries::codec::SeriesSample;
use shardwal_timeseries::{Labels, Sample};

#[path = "../../../shardwal-ingest/src/stream.rs"]
mod stream;

/// The recording: series by number, and batches in the order in which they came.
pub(crate) struct Recording {
    pub(crate) series: Vec<Labels>,
    pub(crate) batches: Vec<Vec<SeriesSample>>,
}

impl Recording {
    /// Reads the whole file.
    ///
    /// # Panics
    /// The file is not there, or not what it should be.
    #[must_use]
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path.join("../shardwal-ingest/data/node_exporter.remote_write");
        let mut recording = Self { series: Vec::new(), batches: Vec::new() };
        let mut numbers = HashMap::new();
        for request in stream::read(&path).expect("the recording is in the repository") {
            let mut batch = Vec::new();
            for series in request.series {
                let pairs = series.labels.iter().map(|label| (&label.name, &label.value));
                let labels = Labels::new(pairs).expect("Prometheus sends valid labels");
                let next = u32::try_from(recording.series.len()).expect("few series");
                let series_number = *numbers.entry(labels.clone()).or_insert_with(|| {
                    recording.series.push(labels);
                    next
                });
                batch.extend(series.samples.iter().map(|sample| SeriesSample {
                    series: series_number,
                    sample: Sample::new(sample.timestamp, sample.value),
                }));
            }
            recording.batches.push(batch);
        }
        recording
    }

    /// The part of each batch whose series go to `shard` of `shards`, as the
    /// router `fxhash64-high` has it.
    #[must_use]
    pub(crate) fn shard(&self, shard: u128, shards: u128) -> Vec<Vec<SeriesSample>> {
        let is_here = |found: &&SeriesSample| {
            let key = self.series[found.series as usize].id().0;
            let hash = key.wrapping_mul(0x517c_c1b7_2722_0a95);
            (u128::from(hash) * shards) >> 64 == shard
        };
        let part = |batch: &Vec<SeriesSample>| batch.iter().filter(is_here).copied().collect();
        self.batches.iter().map(part).collect()
    }
}
