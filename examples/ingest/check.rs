//! The oracle: what the log holds, against what it must hold.
//!
//! A [`Tally`] counts what was acknowledged, a [`Census`] what a replay
//! yields. Each series' records must come in order from 0 without a gap, so a
//! count for each series says all. This file knows no process and no pipe.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::acknowledgement::Acknowledgement;
use crate::record::SeriesRecord;
use crate::workload::{RecordId, Workload};

/// What is wrong with the log, or with what was said of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A record has a key that no series has.
    UnknownSeries(u64),
    /// A record of a series has not the ordinal that must come next.
    OutOfOrder {
        /// The key of the series.
        key: u64,
        /// The ordinal that must come next.
        expected: usize,
        /// The ordinal that came.
        found: u64,
    },
    /// A record is not the one that was logged.
    Different {
        /// The key of its series.
        key: u64,
        /// Which record of that series.
        ordinal: usize,
    },
    /// A series has more records than were ever to be logged.
    TooMany(u64),
    /// Records of a series are missing.
    Missing {
        /// The key of the series.
        key: u64,
        /// How many records it must have at least.
        expected: usize,
        /// How many it has.
        found: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSeries(key) => {
                write!(formatter, "no series has the key {key:#018x}")
            }
            Self::OutOfOrder { key, expected, found } => {
                write!(formatter, "series {key:#018x}: record {found} came where {expected} must")
            }
            Self::Different { key, ordinal } => {
                write!(formatter, "series {key:#018x}: record {ordinal} is not what was logged")
            }
            Self::TooMany(key) => {
                write!(formatter, "series {key:#018x} has more records than were logged")
            }
            Self::Missing { key, expected, found } => {
                write!(formatter, "series {key:#018x} has {found} records where {expected} must be")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// What the child has said is acknowledged.
#[derive(Debug)]
pub(crate) struct Tally<'workload> {
    workload: &'workload Workload,
    records: Vec<usize>,
    samples: u64,
}

impl<'workload> Tally<'workload> {
    /// Nothing is acknowledged yet.
    pub(crate) fn new(workload: &'workload Workload) -> Self {
        Self { workload, records: vec![0; workload.series_count()], samples: 0 }
    }

    /// Counts one acknowledgement.
    ///
    /// # Errors
    /// If it is not that of its series' next record: each series is logged by
    /// one thread and settled in order.
    pub(crate) fn count(&mut self, acknowledgement: Acknowledgement) -> Result<(), Mismatch> {
        let Acknowledgement { key, ordinal } = acknowledgement;
        let series = self.workload.series_with_key(key).ok_or(Mismatch::UnknownSeries(key))?;
        let expected = self.records[series];
        if ordinal != expected as u64 {
            return Err(Mismatch::OutOfOrder { key, expected, found: ordinal });
        }
        if expected == self.workload.records_of(series) {
            return Err(Mismatch::TooMany(key));
        }
        let id = RecordId { series, ordinal: expected };
        self.samples += self.workload.samples_in(id);
        self.records[series] += 1;
        Ok(())
    }

    /// How many samples are acknowledged.
    pub(crate) fn sample_count(&self) -> u64 {
        self.samples
    }

    /// How many samples are to be acknowledged in the end.
    pub(crate) fn sample_count_in_the_end(&self) -> u64 {
        self.workload.sample_count()
    }
}

/// What a replay has yielded so far. Replay threads share it.
#[derive(Debug)]
pub(crate) struct Census<'workload> {
    workload: &'workload Workload,
    /// For each series, how many records came. Relaxed: a key's records come in
    /// order, one after another, and all is read after the replay has joined.
    records: Vec<AtomicUsize>,
    /// How many samples came. Relaxed: a counter, read after the replay.
    samples: AtomicU64,
}

impl<'workload> Census<'workload> {
    /// Nothing has come yet.
    pub(crate) fn new(workload: &'workload Workload) -> Self {
        Self {
            workload,
            records: (0..workload.series_count()).map(|_| AtomicUsize::new(0)).collect(),
            samples: AtomicU64::new(0),
        }
    }

    /// Takes one replayed record, which must be its series' next and equal to
    /// what was logged, bit by bit.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn take(&self, key: u64, payload: &[u8]) -> Result<(), Mismatch> {
        let series = self.workload.series_with_key(key).ok_or(Mismatch::UnknownSeries(key))?;
        let ordinal = self.records_of(series);
        if ordinal == self.workload.records_of(series) {
            return Err(Mismatch::TooMany(key));
        }
        let Ok(record) = SeriesRecord::decode(payload) else {
            return Err(Mismatch::Different { key, ordinal });
        };
        if record.ordinal != ordinal {
            return Err(Mismatch::OutOfOrder {
                key,
                expected: ordinal,
                found: record.ordinal as u64,
            });
        }
        if record != self.workload.record(RecordId { series, ordinal }) {
            return Err(Mismatch::Different { key, ordinal });
        }
        // Relaxed: see the fields.
        self.records[series].store(ordinal + 1, Ordering::Relaxed);
        self.samples.fetch_add(record.samples.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// How many records of a series came.
    pub(crate) fn records_of(&self, series: usize) -> usize {
        // Relaxed: see the field.
        self.records[series].load(Ordering::Relaxed)
    }

    /// How many records came.
    pub(crate) fn record_count(&self) -> u64 {
        (0..self.records.len()).map(|series| self.records_of(series) as u64).sum()
    }

    /// How many samples came.
    pub(crate) fn sample_count(&self) -> u64 {
        // Relaxed: see the field.
        self.samples.load(Ordering::Relaxed)
    }

    /// Checks that all that was acknowledged came.
    ///
    /// # Errors
    /// The first series of which it did not.
    pub(crate) fn check_acknowledged(&self, tally: &Tally<'_>) -> Result<(), Mismatch> {
        self.check_at_least(|series| tally.records[series])
    }

    /// Checks that the whole workload came.
    ///
    /// # Errors
    /// The first series of which it did not.
    pub(crate) fn check_complete(&self) -> Result<(), Mismatch> {
        self.check_at_least(|series| self.workload.records_of(series))
    }

    fn check_at_least(&self, required: impl Fn(usize) -> usize) -> Result<(), Mismatch> {
        for series in 0..self.records.len() {
            let (expected, found) = (required(series), self.records_of(series));
            if found < expected {
                let key = self.workload.key(series);
                return Err(Mismatch::Missing { key, expected, found });
            }
        }
        Ok(())
    }

    /// A tally that goes on from what stands in the log: the next child
    /// reports only what it logs itself.
    pub(crate) fn into_tally(self) -> Tally<'workload> {
        Tally {
            samples: self.sample_count(),
            records: self.records.into_iter().map(AtomicUsize::into_inner).collect(),
            workload: self.workload,
        }
    }
}
