//! Searches the storage for what a read selects, piece by piece. This file does not know HTTP.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use shardwal_timeseries::{
    HistogramSample, Labels, Matcher, Sample, SeriesHandle, SeriesScan, Storage, XorChunk,
};

use super::app::App;
use super::budget::{Exhausted, Reservation};
use super::pieces::{PIECE_TIME_MAX, Piece, Pieces};

/// Entries by which the list of found series grows at first.
const FOUND_STEP: usize = 1024;

/// What a read selects: series that any of the selectors accepts, and a time range.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) range: RangeInclusive<i64>,
    scan: SeriesScan,
    scanned: VecDeque<(Labels, SeriesHandle)>,
}

impl Selection {
    /// Begins a read of the storage as it is now.
    pub(crate) fn new(
        storage: &Storage,
        selectors: Vec<Vec<Matcher>>,
        range: RangeInclusive<i64>,
    ) -> Self {
        Self { range, scan: storage.scan(selectors), scanned: VecDeque::new() }
    }

    /// The next series that a selector accepts. `None` at the end, and at `until`.
    pub(crate) fn next(
        &mut self,
        storage: &Storage,
        until: Instant,
    ) -> Option<(Labels, SeriesHandle)> {
        while self.scanned.is_empty() {
            if self.is_at_end() || Instant::now() >= until {
                return None;
            }
            self.scanned = storage.scan_series(&mut self.scan).into();
        }
        self.scanned.pop_front()
    }

    /// The next samples of a series that it returned, at most `max`.
    pub(crate) fn samples_of(&self, series: &mut SeriesSamples, max: usize) -> Vec<Sample> {
        series.next(&self.scan, max)
    }

    /// Whether there are no more series.
    pub(crate) fn is_at_end(&self) -> bool {
        self.scanned.is_empty() && self.scan.is_at_end()
    }
}

/// The samples and native histograms of a series in a range, step by step.
#[derive(Debug)]
pub(crate) struct SeriesSamples {
    pub(crate) labels: Labels,
    series: SeriesHandle,
    /// The parts of the range whose samples, and whose histograms, are still to be read.
    rest: Option<RangeInclusive<i64>>,
    histograms_rest: Option<RangeInclusive<i64>>,
}

impl SeriesSamples {
    pub(crate) fn new(labels: Labels, series: SeriesHandle, range: RangeInclusive<i64>) -> Self {
        Self { labels, series, rest: Some(range.clone()), histograms_rest: Some(range) }
    }

    fn next(&mut self, scan: &SeriesScan, max: usize) -> Vec<Sample> {
        let read = |range| scan.first_samples(self.series, range, max);
        next_part(&mut self.rest, max, read, |sample| sample.timestamp_ms)
    }

    fn next_chunks(&mut self, scan: &SeriesScan, max: usize) -> Vec<XorChunk> {
        let read = |range| scan.first_chunks(self.series, range, max);
        next_part(&mut self.rest, max, read, XorChunk::last_ms)
    }

    fn next_histograms(&mut self, scan: &SeriesScan, max: usize) -> Vec<HistogramSample> {
        let read = |range| scan.first_histograms(self.series, range, max);
        next_part(&mut self.histograms_rest, max, read, |histogram| histogram.timestamp_ms)
    }

    /// Whether there are no more samples.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether there are no more histograms.
    pub(crate) fn is_at_end_of_histograms(&self) -> bool {
        self.histograms_rest.is_none()
    }
}

/// Reads the next part of a range: at most `max` items, each up to `last_ms`.
fn next_part<T>(
    rest: &mut Option<RangeInclusive<i64>>,
    max: usize,
    read: impl FnOnce(RangeInclusive<i64>) -> Vec<T>,
    last_ms: impl Fn(&T) -> i64,
) -> Vec<T> {
    let Some(range) = rest.take() else { return Vec::new() };
    let end = *range.end();
    let items = read(range);
    let last = items.last().filter(|_| items.len() == max);
    *rest = last.and_then(|last| after(last_ms(last), end));
    items
}

/// What of a range is after a time.
fn after(last_ms: i64, end_ms: i64) -> Option<RangeInclusive<i64>> {
    let after = last_ms.checked_add(1).filter(|after| *after <= end_ms);
    after.map(|after| after..=end_ms)
}

/// Finds the selected series that have samples or native histograms in the range. Holds all of
/// them, within the budget.
#[derive(Debug)]
pub(crate) struct Search {
    selection: Selection,
    found: Vec<(Labels, SeriesHandle)>,
    /// Whether one of them has histograms in the range.
    has_histograms: bool,
    reservation: Reservation,
    pub(crate) exhausted: Option<Exhausted>,
}

impl Search {
    pub(crate) fn new(selection: Selection, reservation: Reservation) -> Self {
        let (found, has_histograms) = (Vec::new(), false);
        Self { selection, found, has_histograms, reservation, exhausted: None }
    }

    /// The series that were found, sorted by their labels.
    pub(crate) fn into_found(self) -> Found {
        let Self { selection, mut found, has_histograms, reservation, .. } = self;
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Found { selection, series: found.into_iter(), has_histograms, reservation }
    }
}

impl Pieces for Search {
    fn next(&mut self, app: &App) -> Piece {
        let Some(storage) = app.storage_if_open() else { return Piece::End };
        let until = Instant::now() + PIECE_TIME_MAX;
        while let Some((labels, series)) = self.selection.next(storage, until) {
            let range = self.selection.range.clone();
            let scan = &self.selection.scan;
            let has_histograms = !scan.first_histograms(series, range.clone(), 1).is_empty();
            if !has_histograms && scan.first_samples(series, range, 1).is_empty() {
                continue;
            }
            self.has_histograms |= has_histograms;
            let room = self.reservation.grow(labels.canonical().len());
            let room = room.and_then(|()| self.reservation.make_room(&mut self.found, FOUND_STEP));
            if let Err(exhausted) = room {
                self.exhausted = Some(exhausted);
                return Piece::End;
            }
            self.found.push((labels, series));
        }
        if self.selection.is_at_end() { Piece::End } else { Piece::Nothing }
    }
}

/// The series that a search found, sorted by their labels, and their samples as they were when it
/// began.
#[derive(Debug)]
pub(crate) struct Found {
    selection: Selection,
    series: std::vec::IntoIter<(Labels, SeriesHandle)>,
    has_histograms: bool,
    /// Covers `series`.
    reservation: Reservation,
}

impl Found {
    /// The next samples of a series that it returned, at most `max`.
    pub(crate) fn samples_of(&self, series: &mut SeriesSamples, max: usize) -> Vec<Sample> {
        self.selection.samples_of(series, max)
    }

    /// The next chunks of samples of a series that it returned, at most `max`.
    pub(crate) fn chunks_of(&self, series: &mut SeriesSamples, max: usize) -> Vec<XorChunk> {
        series.next_chunks(&self.selection.scan, max)
    }

    /// The next native histograms of a series that it returned, at most `max`.
    pub(crate) fn histograms_of(
        &self,
        series: &mut SeriesSamples,
        max: usize,
    ) -> Vec<HistogramSample> {
        series.next_histograms(&self.selection.scan, max)
    }

    /// Whether one of the series has native histograms in the range.
    pub(crate) fn has_histograms(&self) -> bool {
        self.has_histograms
    }

    /// The list alone, and what covers it. The samples may change again.
    pub(crate) fn into_list(self) -> (std::vec::IntoIter<(Labels, SeriesHandle)>, Reservation) {
        (self.series, self.reservation)
    }
}

impl Iterator for Found {
    type Item = SeriesSamples;

    fn next(&mut self) -> Option<SeriesSamples> {
        let (labels, series) = self.series.next()?;
        Some(SeriesSamples::new(labels, series, self.selection.range.clone()))
    }
}
