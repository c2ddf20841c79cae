//! What a request writes: samples of series that the cache knows, by handle, and
//! samples of the others, by labels. A series becomes known, to the cache and to
//! the storage, once samples of it are acknowledged: a request that is refused
//! leaves nothing behind. This file knows bytes that name series, and does not
//! know what they mean.

use std::collections::HashMap;

use shardwal::timeseries::{Labels, Sample, SeriesHandle, Storage, TimeSeries};

use super::budget::Reservation;
use super::refusal::Refusal;
use super::series_cache::{CacheReader, ENTRY_BYTES, SeriesCache};

/// The samples that a batch, and each new series, has room for at first.
const BATCH_STEP: usize = 4096;
const SERIES_STEP: usize = 1;

/// Which series of a batch a sample belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Series {
    Known(SeriesHandle),
    /// One of the new ones.
    New(usize),
}

/// A batch while its request is read.
pub(crate) struct Batch<'app> {
    storage: &'app Storage,
    cache: &'app SeriesCache,
    known: CacheReader<'app>,
    /// By the bytes that name it, which of the new series it is. The map's hash
    /// has a random key.
    numbers: HashMap<Box<[u8]>, usize>,
    contents: Contents,
}

/// What is written.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) samples: Vec<(SeriesHandle, Sample)>,
    pub(crate) new: Vec<TimeSeries>,
}

/// A batch that is complete.
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

    /// The series of these bytes; if neither the cache nor this batch knows it,
    /// `labels` says which.
    ///
    /// # Errors
    /// Those of `labels`, or too much is in flight.
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
    /// If too much is in flight.
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

    /// Lets go of the cache, which others want to change.
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
    /// The batch is acknowledged: its series are known from now on.
    pub(crate) fn acknowledged(self, storage: &Storage) {
        for (name, number) in self.names {
            if let Some(handle) = storage.find_handle(&self.contents.new[number].labels) {
                self.cache.insert(name, handle);
            }
        }
    }
}
