//! A cut: the samples and native histograms of a shard, as they are between two commits. It does
//! not know labels or the log.

use std::ops::RangeInclusive;

use super::budget::histogram_weight;
use super::codec::{SeriesHistogram, SeriesSample};
use super::column::Column;
use super::columns::Columns;
use super::histogram_column::HistogramColumn;
use super::{HistogramSample, Sample};

/// The samples of a shard. A clone is cheap, because it shares the columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) samples: Columns<Column>,
    pub(crate) histograms: Columns<HistogramColumn>,
}

/// What an insertion changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inserted {
    /// Number of samples and histograms that replaced none.
    pub(crate) new: u64,
    /// The weight of those that were replaced.
    pub(crate) replaced_weight: u64,
}

/// What samples and histograms count in the budget.
pub(crate) fn weight(samples: &[SeriesSample], histograms: &[SeriesHistogram]) -> u64 {
    let histograms = histograms.iter().map(|one| histogram_weight(&one.histogram));
    samples.len() as u64 + histograms.sum::<u64>()
}

impl Cut {
    /// Inserts samples and histograms, in order. Adds the series that had no samples, or no
    /// histograms, to `begun`.
    pub(crate) fn insert(
        &mut self,
        samples: &[SeriesSample],
        histograms: &[SeriesHistogram],
        begun: &mut Vec<u32>,
    ) -> Inserted {
        let new = self.samples.insert(samples, begun);
        let mut inserted = Inserted { new, replaced_weight: samples.len() as u64 - new };
        for SeriesHistogram { series, histogram } in histograms {
            if self.histograms.get(*series).is_none() {
                begun.push(*series);
            }
            match self.histograms.column_mut(*series).insert(histogram.clone()) {
                Some(before) => inserted.replaced_weight += histogram_weight(&before),
                None => inserted.new += 1,
            }
        }
        inserted
    }

    /// Whether a series has samples or histograms.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.samples.get(number).is_some() || self.histograms.get(number).is_some()
    }

    /// The samples of a series in a time range, in order.
    pub(crate) fn samples(&self, number: u32, range: &RangeInclusive<i64>) -> Vec<Sample> {
        self.samples.get(number).map(|column| column.range(range)).unwrap_or_default()
    }

    /// The first `max` histograms of a series in a time range, in order.
    pub(crate) fn histograms(
        &self,
        number: u32,
        range: &RangeInclusive<i64>,
        max: usize,
    ) -> Vec<HistogramSample> {
        let column = self.histograms.get(number);
        column.map(|column| column.range(range).take(max).cloned().collect()).unwrap_or_default()
    }
}
