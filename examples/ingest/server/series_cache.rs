//! Which series some bytes name.
//!
//! A client names its series with the same bytes each time; the cache leads
//! from those to the storage's handle, so that labels are parsed only when a
//! series is first seen. It knows bytes and handles, not what the bytes mean.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use foldhash::fast::RandomState;
use shardwal::timeseries::SeriesHandle;

/// What the cache may hold; when it is full it starts anew, which costs one
/// parse a series and nothing else.
const CACHE_BYTES_MAX: usize = 128 << 20;

/// What an entry takes beside its bytes: the table's slot and the allocation.
pub(crate) const ENTRY_BYTES: usize = 64;

/// A cache from bytes to series. The hash is seeded, so that no client can
/// choose names that collide.
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
    /// A view for many look-ups: one lock a request, not one a sample.
    pub(crate) fn reader(&self) -> CacheReader<'_> {
        CacheReader { cache: self, known: Some(self.read()) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // What is behind the lock is whole between any two of its statements.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a series that the storage has: no other may be noted.
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

/// A view of the cache.
#[derive(Debug)]
pub(crate) struct CacheReader<'cache> {
    cache: &'cache SeriesCache,
    /// `None` only within [`CacheReader::insert`].
    known: Option<RwLockReadGuard<'cache, Known>>,
}

impl CacheReader<'_> {
    /// The series of these bytes, if it is known.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<SeriesHandle> {
        self.known.as_ref().and_then(|known| known.handles.get(name)).copied()
    }

    /// Notes a series, as [`SeriesCache::insert`] does.
    pub(crate) fn insert(&mut self, name: &[u8], handle: SeriesHandle) {
        self.known = None;
        self.cache.insert(name.into(), handle);
        self.known = Some(self.cache.read());
    }
}
