//! The oracle: compares what the log holds with what it must hold.
//!
//! A [`Tally`] counts acknowledged records, a [`Census`] counts replayed records. The records of a
//! series must arrive in order, from 0 without a gap. One count per series therefore describes them
//! all. This file does not know processes or pipes.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::acknowledgement::Acknowledgement;
use super::record::SeriesRecord;
use super::workload::{RecordId, Workload};

/// A difference between the log and the workload or the acknowledgements.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// A record has a key of no series.
    UnknownSeries(u64),
    /// A record of a series is not the next one.
    OutOfOrder {
        /// The key of the series.
        key: u64,
        /// The ordinal of the next record.
        expected: usize,
        /// The ordinal found.
        found: u64,
    },
    /// A record differs from the one that was logged.
    Different {
        /// The key of its series.
        key: u64,
        /// Its index among the records of its series.
        ordinal: usize,
    },
    /// A series has more records than the workload.
    TooMany(u64),
    /// Records of a series are missing.
    Missing {
        /// The key of the series.
        key: u64,
        /// The minimum number of records.
        expected: usize,
        /// The number of records found.
        found: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSeries(key) => {
                write!(formatter, "a record has the key {key:#018x}, which belongs to no series")
            }
            Self::OutOfOrder { key, expected, found } => {
                write!(
                    formatter,
                    "series {key:#018x}: found record {found}, expected record {expected}"
                )
            }
            Self::Different { key, ordinal } => {
                write!(
                    formatter,
                    "series {key:#018x}: record {ordinal} differs from the logged one"
                )
            }
            Self::TooMany(key) => {
                write!(formatter, "series {key:#018x} has more records than were logged")
            }
            Self::Missing { key, expected, found } => {
                write!(formatter, "series {key:#018x} has {found} records, expected {expected}")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// Counts what the child has reported as acknowledged.
#[derive(Debug)]
pub(crate) struct Tally<'workload> {
    workload: &'workload Workload,
    records: Vec<usize>,
    samples: u64,
}

impl<'workload> Tally<'workload> {
    /// Starts with nothing acknowledged.
    pub(crate) fn new(workload: &'workload Workload) -> Self {
        Self { workload, records: vec![0; workload.series_count()], samples: 0 }
    }

    /// Counts one acknowledgement.
    ///
    /// # Errors
    /// It is not for the next record of its series. One thread logs all records of a series and
    /// settles them in order.
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

    /// Number of acknowledged samples.
    pub(crate) fn sample_count(&self) -> u64 {
        self.samples
    }

    /// Number of samples that will be acknowledged in total.
    pub(crate) fn total_sample_count(&self) -> u64 {
        self.workload.sample_count()
    }
}

/// Counts replayed records. The replay threads share it.
#[derive(Debug)]
pub(crate) struct Census<'workload> {
    workload: &'workload Workload,
    /// Records replayed, per series. Relaxed: the records of a key arrive one after another, and
    /// the counts are read after the replay threads were joined.
    records: Vec<AtomicUsize>,
    /// Samples replayed. Relaxed: a counter that is read after the replay.
    samples: AtomicU64,
}

impl<'workload> Census<'workload> {
    /// Starts with nothing replayed.
    pub(crate) fn new(workload: &'workload Workload) -> Self {
        Self {
            workload,
            records: (0..workload.series_count()).map(|_| AtomicUsize::new(0)).collect(),
            samples: AtomicU64::new(0),
        }
    }

    /// Counts one replayed record. It must be the next of its series, and equal to the logged
    /// record bit by bit.
    ///
    /// # Errors
    /// It is not.
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

    /// Number of replayed records of a series.
    pub(crate) fn records_of(&self, series: usize) -> usize {
        // Relaxed: see the field.
        self.records[series].load(Ordering::Relaxed)
    }

    /// Number of replayed records.
    pub(crate) fn record_count(&self) -> u64 {
        (0..self.records.len()).map(|series| self.records_of(series) as u64).sum()
    }

    /// Number of replayed samples.
    pub(crate) fn sample_count(&self) -> u64 {
        // Relaxed: see the field.
        self.samples.load(Ordering::Relaxed)
    }

    /// Checks that every acknowledged record was replayed.
    ///
    /// # Errors
    /// The first series with a missing record.
    pub(crate) fn check_acknowledged(&self, tally: &Tally<'_>) -> Result<(), Mismatch> {
        self.check_at_least(|series| tally.records[series])
    }

    /// Checks that the whole workload was replayed.
    ///
    /// # Errors
    /// The first series with a missing record.
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

    /// Turns the census into a tally. The next child reports only what it logs itself.
    pub(crate) fn into_tally(self) -> Tally<'workload> {
        Tally {
            samples: self.sample_count(),
            records: self.records.into_iter().map(AtomicUsize::into_inner).collect(),
            workload: self.workload,
        }
    }
}
