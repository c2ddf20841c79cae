//! [`SeriesScan`]: reads a storage in pieces, so that a read of any size takes little memory, and
//! no lock for long.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::cut::Cut;
use super::head::{Head, SeriesHandle};
use super::head_shard::{HeadShard, SERIES_AT_A_TIME};
use super::holders::Hold;
use super::series_log::SeriesLog;
use super::storage::Storage;
use super::{HistogramSample, Labels, Matcher, Sample, XorChunk};
use roaring::RoaringBitmap;
use shardwal::internals::shard_of;

/// Bytes of labels from which on a call returns no more series.
const LABELS_BYTES_AT_A_TIME: usize = 256 << 10;

/// A scan over the series that any of some selectors accepts, as they were when the scan began: one
/// cut per shard. Of the samples that one commit applied to a shard, it finds all or none. It may
/// find a write to several shards in some of them only.
///
/// The scan shares memory with the storage. What is written meanwhile keeps the old state of each
/// series that it changes. While the scan exists, no series that it may hold leaves the storage.
#[derive(Clone, Debug)]
pub struct SeriesScan {
    /// The storage.
    storage: u64,
    /// A selector accepts the series that satisfy all of its matchers.
    selectors: Vec<Vec<Matcher>>,
    /// Keep the numbers of the series, by shard. Older than the cuts.
    holds: Vec<Hold>,
    /// The samples of each shard.
    cuts: Vec<Cut>,
    /// The shard whose series are selected next, and the selector that is next.
    shard: usize,
    selector: usize,
    /// Series of this shard that the selectors before it accept.
    selected: RoaringBitmap,
    /// The rest of the shard before this one.
    rest: Option<RoaringBitmap>,
    is_at_end: bool,
}

impl SeriesScan {
    fn new(head: &Head, selectors: Vec<Vec<Matcher>>) -> Self {
        let holds = head.shards().iter().map(|shard| shard.hold()).collect();
        let cuts = head.shards().iter().map(|shard| shard.cut()).collect();
        let (shard, selector, selected) = Default::default();
        let (storage, rest, is_at_end) = (head.id(), None, false);
        Self { storage, selectors, holds, cuts, shard, selector, selected, rest, is_at_end }
    }

    /// Selects the series of one selector in one shard, or ends the shard.
    fn select(&mut self, shards: &[Arc<HeadShard>]) {
        let Some(shard) = shards.get(self.shard) else {
            self.is_at_end = true;
            return;
        };
        if let Some(matchers) = self.selectors.get(self.selector) {
            self.selected |= shard.select(matchers, self.holds[self.shard].clock);
            self.selector += 1;
        } else {
            self.rest = Some(std::mem::take(&mut self.selected));
            (self.shard, self.selector) = (self.shard + 1, 0);
        }
    }

    /// Whether the scan is at its end.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Returns the first `max` samples of a series in `range`, sorted by time. The range is in
    /// milliseconds and includes both ends. None if another storage returned the handle.
    #[must_use]
    pub fn first_samples(
        &self,
        series: SeriesHandle,
        range: RangeInclusive<i64>,
        max: usize,
    ) -> Vec<Sample> {
        let column = self.cut_of(series).and_then(|cut| cut.samples.get(series.number));
        column.map(|column| column.first(&range, max)).unwrap_or_default()
    }

    /// Returns the first `max` native histograms of a series, as [`SeriesScan::first_samples`] does
    /// its samples.
    #[must_use]
    pub fn first_histograms(
        &self,
        series: SeriesHandle,
        range: RangeInclusive<i64>,
        max: usize,
    ) -> Vec<HistogramSample> {
        let cut = self.cut_of(series);
        cut.map(|cut| cut.histograms(series.number, &range, max)).unwrap_or_default()
    }

    /// Returns the samples of a series in `range` as compressed chunks, sorted by time: the first
    /// `max` chunks, each of at most 120 samples. The range is in milliseconds and includes both
    /// ends. None if another storage returned the handle.
    ///
    /// This takes little time: only chunks that cross an end of the range are decoded.
    #[must_use]
    pub fn first_chunks(
        &self,
        series: SeriesHandle,
        range: RangeInclusive<i64>,
        max: usize,
    ) -> Vec<XorChunk> {
        let column = self.cut_of(series).and_then(|cut| cut.samples.get(series.number));
        column.map(|column| column.first_chunks(&range, max)).unwrap_or_default()
    }

    /// The cut that holds a series.
    fn cut_of(&self, series: SeriesHandle) -> Option<&Cut> {
        let is_own = series.storage == self.storage;
        is_own.then(|| &self.cuts[shard_of(series.key, self.cuts.len())])
    }
}

impl<L: SeriesLog> Storage<L> {
    /// Begins a scan. A selector accepts the series that satisfy all of its matchers, and without
    /// matchers every series.
    #[must_use]
    pub fn scan(&self, selectors: Vec<Vec<Matcher>>) -> SeriesScan {
        SeriesScan::new(self.head(), selectors)
    }

    /// Returns the next series of a scan, in no order: at most about 1,000, and fewer of long
    /// labels. There may be none, although the scan is not at its end. They may have no samples.
    ///
    /// Some calls return none because they select the series of one selector in one shard. That
    /// takes time in proportion to the series that the equality matchers select, or to the values
    /// of a label whose pattern is matched.
    pub fn scan_series(&self, scan: &mut SeriesScan) -> Vec<(Labels, SeriesHandle)> {
        let Some(rest) = &mut scan.rest else {
            scan.select(self.head().shards());
            return Vec::new();
        };
        let numbers: Vec<_> = rest.iter().take(SERIES_AT_A_TIME).collect();
        let shard = &self.head().shards()[scan.shard - 1];
        let clock = scan.holds[scan.shard - 1].clock;
        let labels = shard.labels_of(&numbers, LABELS_BYTES_AT_A_TIME);
        rest.remove_smallest(labels.len() as u64);
        if rest.is_empty() {
            scan.rest = None;
        }
        let with_handle = |(labels, number): (Labels, u32)| {
            let handle = self.head().numbered(&labels, number, clock);
            (labels, handle)
        };
        labels.into_iter().zip(numbers).map(with_handle).collect()
    }
}
