//! Decodes the messages of remote write into a batch. It writes nothing, so that a request that is
//! malformed at its end is refused as a whole. This file does not know HTTP.

use std::fmt;

use shardwal_timeseries::{
    HISTOGRAM_BYTES_MAX, HistogramSample, LABELS_BYTES_MAX, LabelLimits, Labels, LabelsError,
    METRIC_NAME, Sample, Storage,
};

use super::native_histogram::Histogram;
use super::protobuf::{Malformed, malformed};
use super::symbols::SymbolTable;
use super::{v1, v2};
use crate::server::app::App;
use crate::server::batch::{Batch, Complete, Series};
use crate::server::budget::Reservation;
use crate::server::excerpt::excerpt;
use crate::server::refusal::{Refusal, WithOption};
use crate::server::skipped::{Kind, Skipped};

/// A decoded request.
pub(super) struct Decoded<'app> {
    pub(super) batch: Complete<'app>,
    /// The problem with the series that were left out.
    pub(super) invalid: Option<String>,
    pub(super) skipped: Skipped,
}

/// The findings in a request so far, of either version.
struct Found<'app> {
    batch: Batch<'app>,
    invalid: Invalid,
    skipped: Skipped,
    has_series: bool,
}

impl<'app> Found<'app> {
    fn new(app: &'app App, storage: &'app Storage) -> Self {
        let batch = Batch::new(storage, &app.remote_series);
        let (invalid, skipped) = Default::default();
        Self { batch, invalid, skipped, has_series: false }
    }

    /// Ends a message that has `unknown` fields beside its entries. Without entries, those are
    /// fields of the other version.
    fn end(mut self, unknown: u64, [named, other]: [&str; 2]) -> Result<Decoded<'app>, Refusal> {
        if !self.has_series && unknown > 0 {
            return Err(Refusal::Invalid(format!(
                "there are no series, but fields that version {named} does not have; if the \
                 message is of version {other}, its Content-Type must say so"
            )));
        }
        self.skipped.add(Kind::UnknownFields, unknown);
        let Self { batch, invalid, skipped, .. } = self;
        Ok(Decoded { batch: batch.complete(), invalid: invalid.into_text(), skipped })
    }
}

/// Decodes the samples of a request of version 1.0.
///
/// # Errors
/// The message is malformed, or the budget is exhausted.
pub(super) fn decode_v1<'app>(
    app: &'app App,
    storage: &'app Storage,
    message: &[u8],
    reservation: &mut Reservation,
) -> Result<Decoded<'app>, Refusal> {
    let mut found = Found::new(app, storage);
    let Found { batch, invalid, skipped, has_series } = &mut found;
    let mut entries = v1::Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        *has_series = true;
        skipped.add(Kind::Exemplars, entry.exemplars);
        reservation.grow(entry.scattered_bytes())?;
        let labels = entry.labels();
        let read_labels = || {
            let mut pairs = v1::LabelPairs::new(&labels);
            labels_of(app.limits.labels, || pairs.next().transpose())
        };
        let series = batch.series(&labels, reservation, read_labels);
        if let Some(series) = invalid.check(series)? {
            while let Some((timestamp_ms, value)) = entry.next_sample()? {
                batch.add(series, Sample { timestamp_ms, value }, reservation)?;
            }
            while let Some(bytes) = entry.next_histogram()? {
                match read_histogram(bytes, skipped)? {
                    Ok(histogram) => batch.add_histogram(series, histogram, reservation)?,
                    Err(why) => invalid.histogram(&why, read_labels),
                }
            }
        }
        skipped.add(Kind::UnknownFields, entry.unknown);
    }
    skipped.add(Kind::Metadata, entries.metadata);
    found.end(entries.unknown, ["1.0", "2.0"])
}

/// Decodes the samples of a request of version 2.0.
///
/// # Errors
/// The message is malformed, or the budget is exhausted.
pub(super) fn decode_v2<'app>(
    app: &'app App,
    storage: &'app Storage,
    message: &[u8],
    reservation: &mut Reservation,
) -> Result<Decoded<'app>, Refusal> {
    let mut found = Found::new(app, storage);
    let Found { batch, invalid, skipped, has_series } = &mut found;
    let mut symbols = SymbolTable::read(message, reservation)?;
    let mut entries = v2::Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        *has_series = true;
        let limits = app.limits.labels;
        let series = series_of(limits, &entry, &mut symbols, batch, reservation);
        if let Some(Some(series)) = invalid.check(series)? {
            while let Some((timestamp_ms, value)) = entry.next_sample()? {
                batch.add(series, Sample { timestamp_ms, value }, reservation)?;
            }
            while let Some(bytes) = entry.next_histogram()? {
                match read_histogram(bytes, skipped)? {
                    Ok(histogram) => batch.add_histogram(series, histogram, reservation)?,
                    Err(why) => invalid.histogram(&why, || {
                        let mut references = entry.references();
                        labels_of(app.limits.labels, || symbols.next_pair(&mut references))
                    }),
                }
            }
        }
        skipped.add(Kind::Exemplars, entry.exemplars);
        skipped.add(Kind::Metadata, entry.metadata);
        skipped.add(Kind::CreatedTimestamps, entry.created);
        skipped.add(Kind::UnknownFields, entry.unknown);
    }
    symbols.release(reservation);
    found.end(entries.unknown, ["2.0", "1.0"])
}

/// Decodes a native histogram. The inner error says why it is invalid.
///
/// # Errors
/// The bytes are not a message.
fn read_histogram(
    bytes: &[u8],
    skipped: &mut Skipped,
) -> Result<Result<HistogramSample, String>, Malformed> {
    if bytes.len() > HISTOGRAM_BYTES_MAX {
        let bytes = bytes.len();
        return Ok(Err(format!("it has {bytes} bytes; at most {HISTOGRAM_BYTES_MAX} are stored")));
    }
    let histogram = Histogram::read(bytes);
    let histogram = histogram.map_err(|_| malformed("a histogram is not a message"))?;
    skipped.add(Kind::CreatedTimestamps, u64::from(histogram.start_timestamp != 0));
    Ok(histogram.stored())
}

/// The series of an entry. `None` if nothing of the entry is stored.
fn series_of<'a>(
    limits: LabelLimits,
    entry: &v2::Entry<'a>,
    symbols: &mut SymbolTable<'a>,
    batch: &mut Batch<'_>,
    reservation: &mut Reservation,
) -> Result<Option<Series>, BadSeries> {
    symbols.name_series(entry.references(), batch, reservation)?;
    let labels = || {
        let mut references = entry.references();
        labels_of(limits, || symbols.next_pair(&mut references))
    };
    if entry.has_samples() {
        return batch.series(symbols.name(), reservation, labels).map(Some);
    }
    // Prometheus sends exemplars in entries of their own.
    if entry.exemplars == 0 {
        return Err(Why::NoSamples(labels()?).into());
    }
    Ok(None)
}

/// The labels of a series that is not in the cache. Reads no further than the limits of labels.
fn labels_of<'a>(
    limits: LabelLimits,
    mut next: impl FnMut() -> Result<Option<(&'a str, &'a str)>, Malformed>,
) -> Result<Labels, BadSeries> {
    let mut malformed = None;
    let pairs = std::iter::from_fn(|| {
        next().unwrap_or_else(|error| {
            malformed = Some(error);
            None
        })
    });
    let labels = Labels::within(pairs, limits);
    if let Some(malformed) = malformed {
        return Err(Why::Malformed(malformed).into());
    }
    let labels = labels.map_err(Why::Labels)?;
    match labels.metric_name() {
        Some(_) => Ok(labels),
        None => Err(Why::NoName(labels).into()),
    }
}

/// Why an entry has no series.
pub(super) enum BadSeries {
    /// The series is left out.
    Series(Why),
    /// The whole request is refused.
    Request(Refusal),
}

impl From<Why> for BadSeries {
    fn from(why: Why) -> Self {
        Self::Series(why)
    }
}

impl From<Refusal> for BadSeries {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

/// Why a series is left out.
pub(super) enum Why {
    Malformed(Malformed),
    Labels(LabelsError),
    NoName(Labels),
    NoSamples(Labels),
    /// A reference without a symbol.
    NoSymbol {
        reference: u64,
        symbols: usize,
    },
    /// A name without a value.
    OddReferences {
        count: usize,
    },
}

impl Why {
    /// A symbol is longer than all labels of a series may be.
    pub(super) fn symbol_too_long(bytes: usize) -> Self {
        Self::Labels(LabelsError::TooLong { bytes, max: LABELS_BYTES_MAX })
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(formatter),
            Self::Labels(error) => WithOption(error).fmt(formatter),
            Self::NoName(labels) => write!(formatter, "the series {labels} has no {METRIC_NAME}"),
            Self::NoSamples(labels) => {
                write!(formatter, "the series {labels} has neither samples nor histograms")
            }
            Self::NoSymbol { reference, symbols } => {
                write!(formatter, "a label refers to symbol {reference}; there are {symbols}")
            }
            Self::OddReferences { count } => {
                write!(formatter, "a series has {count} references; the last name has no value")
            }
        }
    }
}

/// Numbers of series and of native histograms that were left out, and the reason for the first.
#[derive(Default)]
struct Invalid {
    first: Option<String>,
    series: usize,
    histograms: usize,
}

impl Invalid {
    /// Counts a series that is left out, and returns `None` for it.
    #[inline]
    fn check<T>(&mut self, series: Result<T, BadSeries>) -> Result<Option<T>, Refusal> {
        match series {
            Ok(series) => Ok(Some(series)),
            Err(BadSeries::Series(why)) => {
                self.first.get_or_insert_with(|| excerpt(&why));
                self.series += 1;
                Ok(None)
            }
            Err(BadSeries::Request(refusal)) => Err(refusal),
        }
    }

    /// Counts a native histogram that is left out. `labels` are those of its series.
    #[cold]
    fn histogram(&mut self, why: &str, labels: impl FnOnce() -> Result<Labels, BadSeries>) {
        self.histograms += 1;
        self.first.get_or_insert_with(|| {
            let labels = labels().unwrap_or_default();
            excerpt(&format_args!("a native histogram of {labels}: {why}"))
        });
    }

    fn into_text(self) -> Option<String> {
        let Self { first, series, histograms } = self;
        let what = match (series, histograms) {
            (series, 0) => format!("{series} series"),
            (0, histograms) => format!("{histograms} native histograms"),
            _ => format!("{series} series and {histograms} native histograms"),
        };
        first.map(|first| format!("{what} left out, the others written; the first: {first}"))
    }
}
