//! The workload: the stream, as an ordered list of records per series.
//!
//! Parent and child derive equal workloads from the recording. A series and an ordinal therefore
//! identify a record for both. This file does not know logs or processes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use super::record::{SeriesRecord, series_key};
use crate::stream::{Label, Request, Sample, Series};

/// All records that the log must hold in the end.
#[derive(Debug)]
pub(crate) struct Workload {
    series: Vec<WorkloadSeries>,
    index_by_key: HashMap<u64, usize>,
    /// The records of one round in the order of the stream: series and record.
    order: Vec<(usize, usize)>,
    /// Number of samples per round.
    samples: u64,
    /// Number of requests per round.
    requests: usize,
    /// Number of times that the stream is logged.
    rounds: usize,
    /// Offset of a round's timestamps from the round before, in milliseconds.
    round_millis: i64,
}

/// A series and its records.
#[derive(Debug)]
struct WorkloadSeries {
    key: u64,
    labels: Vec<Label>,
    /// The records of one round.
    records: Vec<RoundRecord>,
}

/// The samples of one series in one request.
#[derive(Debug)]
struct RoundRecord {
    request: usize,
    samples: Vec<Sample>,
}

/// Identifies a record of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordId {
    /// The series, below [`Workload::series_count`].
    pub(crate) series: usize,
    /// Number of the record in its series, from 0.
    pub(crate) ordinal: usize,
}

/// Why a stream cannot be logged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WorkloadError {
    /// Two different series have one key.
    KeyCollision(u64),
    /// The timestamps of the last round would overflow `i64`.
    TooManyRounds,
    /// The stream contains no sample.
    Empty,
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyCollision(key) => write!(formatter, "two series share the key {key:#018x}"),
            Self::TooManyRounds => {
                write!(formatter, "the last repetition's timestamps would overflow; repeat less")
            }
            Self::Empty => write!(formatter, "the recording holds no sample"),
        }
    }
}

impl std::error::Error for WorkloadError {}

impl Workload {
    /// Repeats the stream `rounds` times, each time with later timestamps.
    ///
    /// # Errors
    /// The stream has no sample, two series share a key, or the timestamps of the last round
    /// overflow.
    pub(crate) fn new(requests: Vec<Request>, rounds: u32) -> Result<Self, WorkloadError> {
        let round_millis = measure_round(&requests, rounds)?;
        let mut workload = Self {
            series: Vec::new(),
            index_by_key: HashMap::new(),
            order: Vec::new(),
            samples: 0,
            requests: requests.len(),
            rounds: rounds as usize,
            round_millis,
        };
        for (number, request) in requests.into_iter().enumerate() {
            for series in request.series {
                workload.add(number, series)?;
            }
        }
        Ok(workload)
    }

    /// Adds an entry of a request. Prometheus sends one entry per sample, so this merges the
    /// entries of a series in a request.
    fn add(&mut self, request: usize, entry: Series) -> Result<(), WorkloadError> {
        if entry.samples.is_empty() {
            return Ok(());
        }
        self.samples += entry.samples.len() as u64;
        let index = self.index_of(entry.labels)?;
        let records = &mut self.series[index].records;
        match records.last_mut() {
            Some(record) if record.request == request => record.samples.extend(entry.samples),
            _ => {
                self.order.push((index, records.len()));
                records.push(RoundRecord { request, samples: entry.samples });
            }
        }
        Ok(())
    }

    fn index_of(&mut self, labels: Vec<Label>) -> Result<usize, WorkloadError> {
        let key = series_key(&labels);
        match self.index_by_key.entry(key) {
            Entry::Occupied(known) if self.series[*known.get()].labels == labels => {
                Ok(*known.get())
            }
            Entry::Occupied(_) => Err(WorkloadError::KeyCollision(key)),
            Entry::Vacant(unknown) => {
                self.series.push(WorkloadSeries { key, labels, records: Vec::new() });
                Ok(*unknown.insert(self.series.len() - 1))
            }
        }
    }

    /// Number of series.
    pub(crate) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Number of samples in all rounds.
    pub(crate) fn sample_count(&self) -> u64 {
        self.samples * self.rounds as u64
    }

    /// Number of records in all rounds.
    pub(crate) fn record_count(&self) -> u64 {
        self.order.len() as u64 * self.rounds as u64
    }

    /// All records, in the order of the stream.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = RecordId> {
        (0..self.rounds).flat_map(move |round| {
            self.order.iter().map(move |&(series, record)| {
                let ordinal = round * self.series[series].records.len() + record;
                RecordId { series, ordinal }
            })
        })
    }

    /// The key of a series.
    pub(crate) fn key(&self, series: usize) -> u64 {
        self.series[series].key
    }

    /// The series with this key.
    pub(crate) fn series_with_key(&self, key: u64) -> Option<usize> {
        self.index_by_key.get(&key).copied()
    }

    /// Number of records of a series in all rounds.
    pub(crate) fn records_of(&self, series: usize) -> usize {
        self.series[series].records.len() * self.rounds
    }

    /// Number of samples of a record.
    pub(crate) fn samples_in(&self, id: RecordId) -> u64 {
        let records = &self.series[id.series].records;
        records[id.ordinal % records.len()].samples.len() as u64
    }

    /// Builds a record.
    pub(crate) fn record(&self, id: RecordId) -> SeriesRecord {
        let WorkloadSeries { labels, records, .. } = &self.series[id.series];
        let round = id.ordinal / records.len();
        let RoundRecord { request, samples } = &records[id.ordinal % records.len()];
        // No overflow: `measure_round` has checked the last round.
        let later = round as i64 * self.round_millis;
        SeriesRecord {
            request: round * self.requests + request,
            ordinal: id.ordinal,
            labels: match id.ordinal {
                0 => labels.clone(),
                _ => Vec::new(),
            },
            samples: samples
                .iter()
                .map(|sample| Sample { timestamp: sample.timestamp + later, value: sample.value })
                .collect(),
        }
    }
}

/// The offset between rounds that keeps their timestamps distinct.
fn measure_round(requests: &[Request], rounds: u32) -> Result<i64, WorkloadError> {
    let timestamps = requests
        .iter()
        .flat_map(|request| &request.series)
        .flat_map(|series| &series.samples)
        .map(|sample| sample.timestamp);
    let first = timestamps.clone().min().ok_or(WorkloadError::Empty)?;
    let last = timestamps.max().ok_or(WorkloadError::Empty)?;
    let dated = || {
        let millis = last.checked_sub(first)?.checked_add(1)?;
        let latest = millis.checked_mul(i64::from(rounds))?;
        last.checked_add(latest)?;
        Some(millis)
    };
    dated().ok_or(WorkloadError::TooManyRounds)
}
