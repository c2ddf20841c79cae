//! The columns of a shard, by the number of their series. It does not know labels.
//!
//! A cut is a clone of all columns as they are. It copies one pointer per 16,384 series, and shares
//! everything else. A later insertion copies what it changes and a cut shares: one group of
//! pointers, one page, one column.

use std::ops::Range;
use std::sync::Arc;

use super::codec::SeriesSample;
use super::column::Column;

/// Columns per page.
const PAGE: usize = 64;

/// Pages per group.
const GROUP: usize = 256;

/// A series without samples has no column.
type Page<C> = Arc<[Option<Arc<C>>]>;

/// Columns by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns<C> {
    groups: Vec<Arc<[Page<C>]>>,
}

impl Columns<Column> {
    /// Inserts samples, in order. Returns the number of new ones. Adds the series that had none to
    /// `begun`.
    pub(crate) fn insert(&mut self, samples: &[SeriesSample], begun: &mut Vec<u32>) -> u64 {
        let page_of = |sample: &SeriesSample| sample.series as usize / PAGE;
        let same_page = |one: &SeriesSample, other: &SeriesSample| page_of(one) == page_of(other);
        let mut added = 0;
        for run in samples.chunk_by(same_page) {
            let page = self.page_mut(page_of(&run[0]));
            for of_series in run.chunk_by(|one, other| one.series == other.series) {
                let place = &mut page[of_series[0].series as usize % PAGE];
                if place.is_none() {
                    begun.push(of_series[0].series);
                }
                added += Arc::make_mut(place.get_or_insert_default()).insert_all(of_series);
            }
        }
        added
    }
}

impl<C: Clone + Default> Columns<C> {
    /// The column of a series, which may be new.
    pub(crate) fn column_mut(&mut self, number: u32) -> &mut C {
        let page = self.page_mut(number as usize / PAGE);
        Arc::make_mut(page[number as usize % PAGE].get_or_insert_default())
    }

    /// Drops the chunks that end before a time, in some pages. Returns what was in them, and the
    /// page after these, if there is one.
    pub(crate) fn drop_before(
        &mut self,
        time_ms: i64,
        pages: Range<usize>,
    ) -> (Dropped, Option<usize>)
    where
        C: Aging,
    {
        let all = self.groups.len() * GROUP;
        let until = pages.end.min(all);
        let mut dropped = Dropped::default();
        for page in pages.start..until {
            let columns = self.groups[page / GROUP][page % GROUP].iter().flatten();
            if columns.clone().any(|column| column.has_chunk_before(time_ms)) {
                dropped.add(drop_in_page(self.page_mut(page), time_ms));
            }
        }
        (dropped, (until < all).then_some(until))
    }

    fn page_mut(&mut self, page: usize) -> &mut [Option<Arc<C>>] {
        let new_page = || -> Page<C> { (0..PAGE).map(|_| None).collect() };
        let new_group = || -> Arc<[Page<C>]> {
            // The pages are one page, until each gets its first sample.
            let empty = new_page();
            (0..GROUP).map(|_| empty.clone()).collect()
        };
        if page / GROUP >= self.groups.len() {
            self.groups.resize_with(page / GROUP + 1, new_group);
        }
        let group = Arc::make_mut(&mut self.groups[page / GROUP]);
        Arc::make_mut(&mut group[page % GROUP])
    }

    /// The column of a series, if it has samples.
    pub(crate) fn get(&self, number: u32) -> Option<&C> {
        let (page, at) = (number as usize / PAGE, number as usize % PAGE);
        self.groups.get(page / GROUP)?[page % GROUP][at].as_deref()
    }

    /// All columns with samples, and their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &C)> {
        let pages = self.groups.iter().flat_map(|group| group.iter());
        with_numbers(0, pages)
    }

    /// Number of groups that a cut shares.
    #[cfg(test)]
    pub(crate) fn shared_groups(&self) -> usize {
        self.groups.iter().filter(|group| Arc::strong_count(group) > 1).count()
    }

    /// Takes the columns apart, in order. A group that is dropped no longer shares its columns.
    pub(crate) fn into_groups(self) -> impl Iterator<Item = Group<C>> {
        (0..).step_by(GROUP * PAGE).zip(self.groups).map(|(first, pages)| Group { first, pages })
    }
}

/// Columns of adjacent series.
pub(crate) struct Group<C> {
    first: u32,
    pages: Arc<[Page<C>]>,
}

impl<C> Group<C> {
    /// All columns with samples, and their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &C)> {
        with_numbers(self.first, self.pages.iter())
    }
}

/// The columns with samples of some adjacent pages, and their numbers.
fn with_numbers<'c, C: 'c>(
    first: u32,
    pages: impl Iterator<Item = &'c Page<C>>,
) -> impl Iterator<Item = (u32, &'c C)> {
    let columns = pages.flat_map(|page| page.iter());
    (first..).zip(columns).filter_map(|(number, column)| Some((number, column.as_deref()?)))
}

/// Drops the chunks of some columns that end before a time. A column without samples is no column.
fn drop_in_page<C: Aging + Clone>(page: &mut [Option<Arc<C>>], time_ms: i64) -> Dropped {
    let mut dropped = Dropped::default();
    for place in page {
        match place {
            Some(column) if column.is_before(time_ms) => {
                dropped.add(column.all());
                *place = None;
            }
            Some(column) if column.has_chunk_before(time_ms) => {
                dropped.add(Arc::make_mut(column).drop_closed_before(time_ms));
            }
            _ => {}
        }
    }
    dropped
}

/// A column whose oldest chunks can be dropped.
pub(crate) trait Aging {
    /// Whether all of it is before a time.
    fn is_before(&self, time_ms: i64) -> bool;

    /// Whether its first chunk ends before a time.
    fn has_chunk_before(&self, time_ms: i64) -> bool;

    /// Drops the chunks that end before a time. At least one stays.
    fn drop_closed_before(&mut self, time_ms: i64) -> Dropped;

    /// What it holds.
    fn all(&self) -> Dropped;
}

/// Samples that were dropped: a number of samples, and what they count in the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) samples: u64,
    pub(crate) weight: u64,
}

impl Dropped {
    /// Samples that are no histograms.
    pub(crate) fn samples(samples: usize) -> Self {
        Self { samples: samples as u64, weight: samples as u64 }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.samples += more.samples;
        self.weight += more.weight;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::{Arc, Column, Columns, SeriesSample};

    const SERIES: u32 = 2 * 16_384 + 100;

    fn sample(series: u32, value: f64) -> SeriesSample {
        SeriesSample { series, sample: Sample::new(1, value) }
    }

    fn values(columns: &Columns<Column>) -> Vec<(u32, f64)> {
        let value = |(number, column): (u32, &Column)| {
            (number, column.samples().next().expect("no column is empty").value)
        };
        columns.iter().map(value).collect()
    }

    #[test]
    fn a_cut_does_not_change_and_shares_what_was_not_written() {
        let mut columns = Columns::default();
        let all: Vec<_> = (0..SERIES).step_by(3).map(|series| sample(series, 1.0)).collect();
        assert_eq!(columns.insert(&all, &mut Vec::new()), all.len() as u64);
        let cut = columns.clone();
        let before = values(&cut);
        assert!(before.iter().copied().eq((0..SERIES).step_by(3).map(|series| (series, 1.0))));
        let later = [sample(3, 2.0), sample(4, 2.0), sample(SERIES, 2.0)];
        let mut begun = Vec::new();
        assert_eq!(columns.insert(&later, &mut begun), 2);
        assert_eq!(begun, [4, SERIES]);
        assert_eq!(values(&cut), before);
        let now = |series| columns.get(series).map(|column| column.samples().next().unwrap().value);
        assert_eq!([3, 4, 5, 6, SERIES, u32::MAX].map(now), {
            [Some(2.0), Some(2.0), None, Some(1.0), Some(2.0), None]
        });
        // A group, and a page of another, are copied. Columns are shared.
        assert!(Arc::ptr_eq(&columns.groups[1], &cut.groups[1]));
        assert!(Arc::ptr_eq(&columns.groups[0][1], &cut.groups[0][1]));
        let [one, other] = [&columns, &cut].map(|columns| columns.groups[0][0][6].as_ref());
        assert!(Arc::ptr_eq(one.unwrap(), other.unwrap()));
    }

    #[test]
    fn groups_hold_all_columns_and_are_shared_until_each_is_dropped() {
        let mut columns = Columns::default();
        let all: Vec<_> = (0..SERIES).step_by(7).map(|series| sample(series, 1.0)).collect();
        columns.insert(&all, &mut Vec::new());
        let shared = |columns: &Columns<Column>| -> Vec<_> {
            columns.groups.iter().map(|group| Arc::strong_count(group) - 1).collect()
        };
        let (mut groups, mut numbers) = (columns.clone().into_groups(), Vec::new());
        for passed in 0..3 {
            let group = groups.next().expect("there are three");
            numbers.extend(group.iter().map(|(number, _)| number));
            assert_eq!(shared(&columns)[passed..], vec![1; 3 - passed]);
            drop(group);
            assert_eq!(shared(&columns)[..=passed], vec![0; passed + 1]);
        }
        assert!(groups.next().is_none());
        assert!(numbers.into_iter().eq((0..SERIES).step_by(7)));
    }
}
