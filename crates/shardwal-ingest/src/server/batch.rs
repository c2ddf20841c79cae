//! A batch: the samples of one request. Samples of cached series are written by handle, others by
//! labels. A series enters the cache, and the storage, only once the batch is acknowledged. A
//! refused request therefore leaves nothing behind. This file knows the bytes that name a series,
//! not their meaning.

use std::collections::HashMap;

use shardwal_timeseries::{HistogramSample, Labels, Sample, SeriesHandle, Storage, TimeSeries};

use super::budget::Reservation;
use super::refusal::Refusal;
use super::series_cache::{CacheReader, SeriesCache};

/// Initial room of a batch, and of each new series, in samples.
const BATCH_STEP: usize = 4096;
const SERIES_STEP: usize = 1;

/// From this number of samples on, unused room of a batch is returned before it is written.
const SHRINK_MIN: usize = 16 * BATCH_STEP;

/// Bytes per name or head beside its own: its allocation, its place in a map, and the room that the
/// map has left after it grew.
const NAME_BYTES: usize = 128;

/// Bytes per new series beside its name, its labels and its samples: allocations, its places in the
/// batch and in a map, and the room that both have left after they grew.
const NEW_SERIES_BYTES: usize = 320;

/// Bytes per sample while a batch is written: its place in the shard's part, and in the log's
/// queue.
const WRITE_SAMPLE_BYTES: usize = 24 + 20;

/// Bytes per histogram while a batch is written, beside twice its own: as for a sample, and an
/// allocation.
const WRITE_HISTOGRAM_BYTES: usize = 96;

/// Bytes of a histogram's allocation beside its own.
const HISTOGRAM_HEAD_BYTES: usize = 24;

/// Bytes per new series while a batch is written, beside its labels.
const WRITE_SERIES_BYTES: usize = 32;

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
    names: Names,
    /// Indices of the new series. Two names may name one series.
    new: HashMap<Labels, usize>,
    contents: Contents,
}

/// What a batch adds to the cache. The hashes of the maps have random keys.
#[derive(Debug, Default)]
struct Names {
    series: HashMap<Box<[u8]>, Series>,
    /// Numbers of heads.
    heads: HashMap<Box<[u8]>, u64>,
}

/// The samples and native histograms to write.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) samples: Vec<(SeriesHandle, Sample)>,
    pub(crate) histograms: Vec<(SeriesHandle, HistogramSample)>,
    pub(crate) new: Vec<TimeSeries>,
}

/// Numbers of what is written, or was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) samples: u64,
    pub(crate) histograms: u64,
}

impl Written {
    /// What a new series has.
    fn of(series: &TimeSeries) -> Self {
        let TimeSeries { samples, histograms, .. } = series;
        Self { samples: samples.len() as u64, histograms: histograms.len() as u64 }
    }

    /// Subtracts what is left out with a series.
    pub(crate) fn leave_out(&mut self, series: &TimeSeries) {
        let Self { samples, histograms } = Self::of(series);
        self.samples -= samples;
        self.histograms -= histograms;
    }

    /// The number of both.
    pub(crate) fn all(self) -> u64 {
        self.samples + self.histograms
    }
}

/// A batch whose request has been parsed completely.
#[derive(Debug)]
pub(crate) struct Complete<'app> {
    pub(crate) contents: Contents,
    /// Whether nothing is written if new series must be left out.
    pub(crate) all_or_none: bool,
    cache: &'app SeriesCache,
    names: Names,
}

impl<'app> Batch<'app> {
    pub(crate) fn new(storage: &'app Storage, cache: &'app SeriesCache) -> Self {
        let (names, contents) = Default::default();
        Self { storage, cache, known: cache.reader(), names, new: HashMap::new(), contents }
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
        if let Some(series) = self.names.series.get(name) {
            return Ok(*series);
        }
        let labels = labels()?;
        reservation.grow(name.len() + NAME_BYTES).map_err(Refusal::from)?;
        let series = match self.storage.find_handle(&labels) {
            Some(handle) => Series::Known(handle),
            None => self.new_series(labels, reservation)?,
        };
        self.names.series.insert(name.into(), series);
        Ok(series)
    }

    fn new_series(
        &mut self,
        labels: Labels,
        reservation: &mut Reservation,
    ) -> Result<Series, Refusal> {
        if let Some(number) = self.new.get(&labels) {
            return Ok(Series::New(*number));
        }
        reservation.grow(labels.canonical().len() + NEW_SERIES_BYTES)?;
        let number = self.contents.new.len();
        self.new.insert(labels.clone(), number);
        self.contents.new.push(TimeSeries::new(labels, Vec::new()));
        Ok(Series::New(number))
    }

    /// Returns the number of a head: of bytes that many series' names begin with. Such names hold
    /// the number in place of the head. The same head may get another number later.
    ///
    /// # Errors
    /// The budget is exhausted.
    #[inline]
    pub(crate) fn head(
        &mut self,
        head: &[u8],
        reservation: &mut Reservation,
    ) -> Result<u64, Refusal> {
        if let Some(number) = self.known.head(head) {
            return Ok(number);
        }
        if let Some(number) = self.names.heads.get(head) {
            return Ok(*number);
        }
        reservation.grow(head.len() + NAME_BYTES)?;
        let number = self.cache.new_number();
        self.names.heads.insert(head.into(), number);
        Ok(number)
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
        let Contents { samples, new, .. } = &mut self.contents;
        match series {
            Series::Known(handle) => {
                reservation.make_room(samples, BATCH_STEP)?;
                samples.push((handle, sample));
            }
            Series::New(number) => {
                let samples = &mut new[number].samples;
                reservation.make_room(samples, SERIES_STEP)?;
                samples.push(sample);
            }
        }
        Ok(())
    }

    /// Adds a native histogram.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn add_histogram(
        &mut self,
        series: Series,
        histogram: HistogramSample,
        reservation: &mut Reservation,
    ) -> Result<(), Refusal> {
        reservation.grow(histogram.bytes.len() + HISTOGRAM_HEAD_BYTES)?;
        let Contents { histograms, new, .. } = &mut self.contents;
        match series {
            Series::Known(handle) => {
                reservation.make_room(histograms, SERIES_STEP)?;
                histograms.push((handle, histogram));
            }
            Series::New(number) => {
                let histograms = &mut new[number].histograms;
                reservation.make_room(histograms, SERIES_STEP)?;
                histograms.push(histogram);
            }
        }
        Ok(())
    }

    /// Ends parsing. Releases the read lock on the cache, so that other requests can update it.
    pub(crate) fn complete(self) -> Complete<'app> {
        let Self { cache, names, contents, .. } = self;
        Complete { contents, all_or_none: false, cache, names }
    }
}

impl Contents {
    /// What there is to write.
    pub(crate) fn count(&self) -> Written {
        let new = self.new.iter().map(Written::of);
        let known = Written {
            samples: self.samples.len() as u64,
            histograms: self.histograms.len() as u64,
        };
        new.fold(known, |all, new| Written {
            samples: all.samples + new.samples,
            histograms: all.histograms + new.histograms,
        })
    }

    /// Returns room that a large batch left unused.
    pub(crate) fn shrink(&mut self, reservation: &mut Reservation) {
        let room = self.samples.capacity() - self.samples.len();
        if room >= SHRINK_MIN {
            self.samples.shrink_to_fit();
            reservation.release(room * size_of::<(SeriesHandle, Sample)>());
        }
    }

    /// Bytes that a write takes beside this.
    pub(crate) fn write_bytes(&self) -> usize {
        let labels = self.new.iter().map(|series| series.labels.canonical().len());
        let labels = labels.map(|bytes| bytes + WRITE_SERIES_BYTES).sum::<usize>();
        let known = self.histograms.iter().map(|(_, histogram)| histogram);
        let histograms = known.chain(self.new.iter().flat_map(|series| &series.histograms));
        let histograms =
            histograms.map(|histogram| 2 * histogram.bytes.len() + WRITE_HISTOGRAM_BYTES);
        let samples =
            self.samples.len() + self.new.iter().map(|series| series.samples.len()).sum::<usize>();
        samples * WRITE_SAMPLE_BYTES + histograms.sum::<usize>() + labels
    }
}

impl Complete<'_> {
    /// Adds the names of an acknowledged batch to the cache.
    pub(crate) fn acknowledged(self, storage: &Storage) {
        let Self { contents, cache, names, .. } = self;
        cache.add_heads(names.heads);
        let handle = |series| match series {
            Series::Known(handle) => Some(handle),
            Series::New(number) => storage.find_handle(&contents.new[number].labels),
        };
        let series = names.series.into_iter();
        cache.add_series(series.filter_map(|(name, series)| Some((name, handle(series)?))));
    }
}
