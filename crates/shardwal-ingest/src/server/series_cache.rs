//! The series cache: maps the bytes that name a series to its handle.
//!
//! A client names a series by equal bytes every time. The cache avoids parsing its labels again. It
//! knows bytes and handles, not what the bytes mean.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use foldhash::fast::RandomState;
use shardwal_timeseries::SeriesHandle;

/// Maximum bytes of the cache. A full cache is cleared, which costs one parse per series.
const CACHE_BYTES_MAX: usize = 128 << 20;

/// Bytes per entry beside its key: the slot in the table and the allocation.
pub(crate) const ENTRY_BYTES: usize = 64;

/// A cache from bytes to series. Its hash is seeded, so that clients cannot choose names that
/// collide.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    handles: HashMap<Box<[u8]>, SeriesHandle, RandomState>,
    bytes: usize,
}

impl SeriesCache {
    /// A view for many look-ups: one lock per request, not per sample.
    pub(crate) fn reader(&self) -> CacheReader<'_> {
        CacheReader { cache: self, known: Some(self.read()) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // Ignoring poison is safe: the cache is consistent between any two statements.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a series. The storage must already have it.
    pub(crate) fn insert(&self, name: Box<[u8]>, handle: SeriesHandle) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let bytes = name.len() + ENTRY_BYTES;
        if known.bytes + bytes > CACHE_BYTES_MAX {
            *known = Known::default();
        }
        if known.handles.insert(name, handle).is_none() {
            known.bytes += bytes;
        }
    }
}

/// A read view of the cache.
#[derive(Debug)]
pub(crate) struct CacheReader<'cache> {
    cache: &'cache SeriesCache,
    /// `None` only within [`CacheReader::insert`].
    known: Option<RwLockReadGuard<'cache, Known>>,
}

impl CacheReader<'_> {
    /// The handle of the series, if it is cached.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<SeriesHandle> {
        self.known.as_ref().and_then(|known| known.handles.get(name)).copied()
    }

    /// Adds a series, as [`SeriesCache::insert`] does.
    pub(crate) fn insert(&mut self, name: &[u8], handle: SeriesHandle) {
        self.known = None;
        self.cache.insert(name.into(), handle);
        self.known = Some(self.cache.read());
    }
}
