//! A batch: the samples of one request. Samples of cached series are written by handle, others by
//! labels. A series enters the cache, and the storage, only once samples of it are acknowledged. A
//! refused request therefore leaves nothing behind. This file knows the bytes that name a series,
//! not their meaning.

use std::collections::HashMap;

use shardwal_timeseries::{Labels, Sample, SeriesHandle, Storage, TimeSeries};

use super::budget::Reservation;
use super::refusal::Refusal;
use super::series_cache::{CacheReader, ENTRY_BYTES, SeriesCache};

/// Initial room of a batch, and of each new series, in samples.
const BATCH_STEP: usize = 4096;
const SERIES_STEP: usize = 1;

/// The series that a sample belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Series {
    Known(SeriesHandle),
    /// Index of a new series of the batch.
    New(usize),
}

/// A batch while its request is being parsed.
pub(crate) struct Batch<'app> {
    storage: &'app Storage,
    cache: &'app SeriesCache,
    known: CacheReader<'app>,
    /// Maps the bytes that name a new series to its index. The map's hash has a random key.
    numbers: HashMap<Box<[u8]>, usize>,
    contents: Contents,
}

/// The samples to write.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) samples: Vec<(SeriesHandle, Sample)>,
    pub(crate) new: Vec<TimeSeries>,
}

/// A batch whose request has been parsed completely.
#[derive(Debug)]
pub(crate) struct Complete<'app> {
    pub(crate) contents: Contents,
    cache: &'app SeriesCache,
    names: HashMap<Box<[u8]>, usize>,
}

impl<'app> Batch<'app> {
    pub(crate) fn new(storage: &'app Storage, cache: &'app SeriesCache) -> Self {
        let (numbers, contents) = (HashMap::new(), Contents::default());
        Self { storage, cache, known: cache.reader(), numbers, contents }
    }

    /// Returns the series that `name` names. Calls `labels` if neither the cache nor this batch
    /// knows the series.
    ///
    /// # Errors
    /// An error of `labels`, or the budget is exhausted.
    #[inline]
    pub(crate) fn series<E: From<Refusal>>(
        &mut self,
        name: &[u8],
        reservation: &mut Reservation,
        labels: impl FnOnce() -> Result<Labels, E>,
    ) -> Result<Series, E> {
        if let Some(handle) = self.known.get(name) {
            return Ok(Series::Known(handle));
        }
        if let Some(number) = self.numbers.get(name) {
            return Ok(Series::New(*number));
        }
        let labels = labels()?;
        if let Some(handle) = self.storage.find_handle(&labels) {
            self.known.insert(name, handle);
            return Ok(Series::Known(handle));
        }
        let bytes = name.len() + labels.canonical().len() + ENTRY_BYTES + size_of::<TimeSeries>();
        if !reservation.grow(bytes) {
            return Err(Refusal::InFlight.into());
        }
        let number = self.contents.new.len();
        self.numbers.insert(name.into(), number);
        self.contents.new.push(TimeSeries { labels, samples: Vec::new() });
        Ok(Series::New(number))
    }

    /// Adds a sample.
    ///
    /// # Errors
    /// The budget is exhausted.
    #[inline]
    pub(crate) fn add(
        &mut self,
        series: Series,
        sample: Sample,
        reservation: &mut Reservation,
    ) -> Result<(), Refusal> {
        let Contents { samples, new } = &mut self.contents;
        let fits = match series {
            Series::Known(_) => reservation.make_room(samples, BATCH_STEP),
            Series::New(number) => reservation.make_room(&mut new[number].samples, SERIES_STEP),
        };
        if !fits {
            return Err(Refusal::InFlight);
        }
        match series {
            Series::Known(handle) => samples.push((handle, sample)),
            Series::New(number) => new[number].samples.push(sample),
        }
        Ok(())
    }

    /// Ends parsing. Releases the read lock on the cache, so that other requests can update it.
    pub(crate) fn complete(self) -> Complete<'app> {
        let Self { cache, numbers: names, contents, .. } = self;
        Complete { contents, cache, names }
    }
}

impl Contents {
    pub(crate) fn samples(&self) -> usize {
        let new = self.new.iter().map(|series| series.samples.len());
        self.samples.len() + new.sum::<usize>()
    }
}

impl Complete<'_> {
    /// Adds the new series of an acknowledged batch to the cache.
    pub(crate) fn acknowledged(self, storage: &Storage) {
        for (name, number) in self.names {
            if let Some(handle) = storage.find_handle(&self.contents.new[number].labels) {
                self.cache.insert(name, handle);
            }
        }
    }
}
