//! The series cache: maps the bytes that name a series to its handle.
//!
//! A client names a series by equal bytes every time. The cache avoids parsing its labels again.
//! The names of many series may begin with equal bytes, the **head**. The cache numbers heads, so
//! that a caller need not repeat them in each name. A number is final before the head is cached, so
//! that a request can use it and leave nothing behind if it is refused. This file knows bytes and
//! handles, not what the bytes mean.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::RandomState;
use shardwal_timeseries::{LABELS_BYTES_MAX, SeriesHandle};

/// Maximum bytes of the cache. A full cache is cleared, which costs one parse per series.
const CACHE_BYTES_MAX: usize = 128 << 20;

/// Maximum bytes of a name. Longer ones are not cached: fields without use make them long.
const NAME_BYTES_MAX: usize = 2 * LABELS_BYTES_MAX;

/// Maximum number of look-ups under one lock.
const LOOKUPS_MAX: u32 = 1024;

/// Maximum number of additions under one lock.
const ADDITIONS_MAX: usize = 256;

/// Bytes per entry beside its key: the slot in the table and the allocation.
const ENTRY_BYTES: usize = 64;

/// A cache from bytes to series. Its hash is seeded, so that clients cannot choose names that
/// collide.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    known: RwLock<Known>,
    /// Relaxed: all that counts is that no number is given twice.
    last_number: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    handles: HashMap<Box<[u8]>, SeriesHandle, RandomState>,
    /// Numbers of heads.
    heads: HashMap<Box<[u8]>, u64, RandomState>,
    bytes: usize,
}

impl Known {
    /// Makes room for a name. Clears the cache if it is full, and returns what it held.
    fn make_room(&mut self, name: &[u8]) -> Option<Self> {
        let bytes = name.len() + ENTRY_BYTES;
        let full = self.bytes + bytes > CACHE_BYTES_MAX;
        let cleared = full.then(|| std::mem::take(self));
        self.bytes += bytes;
        cleared
    }
}

impl SeriesCache {
    /// A view for many look-ups: one lock for many samples.
    pub(crate) fn reader(&self) -> CacheReader<'_> {
        CacheReader { cache: self, known: Some(self.read()), lookups: 0 }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // Ignoring poison is safe: the cache is consistent between any two statements.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a head that is not cached. It never names another head, and is not 0.
    pub(crate) fn new_number(&self) -> u64 {
        // Relaxed: see the field.
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds heads. One that another request has added keeps its number.
    pub(crate) fn add_heads(&self, heads: impl IntoIterator<Item = (Box<[u8]>, u64)>) {
        self.add(heads, |known, head, number| {
            let known = known.heads.entry(head);
            known.or_insert(number);
        });
    }

    /// Adds series. The storage must already have them.
    pub(crate) fn add_series(&self, series: impl IntoIterator<Item = (Box<[u8]>, SeriesHandle)>) {
        self.add(series, |known, name, handle| {
            known.handles.insert(name, handle);
        });
    }

    /// Drops the names of series that have left the storage. Additions wait while it looks through
    /// the cache.
    pub(crate) fn drop_gone(&self, is_current: impl Fn(SeriesHandle) -> bool) {
        let known = self.read();
        let gone = known.handles.iter().filter(|(_, handle)| !is_current(**handle));
        let gone: Vec<_> = gone.map(|(name, _)| name.clone()).collect();
        drop(known);
        for some in gone.chunks(ADDITIONS_MAX) {
            let mut known = self.write();
            for name in some {
                // It may have been cleared, or added again, meanwhile.
                if known.handles.get(name).is_some_and(|handle| !is_current(*handle)) {
                    known.handles.remove(name);
                    known.bytes -= name.len() + ENTRY_BYTES;
                }
            }
        }
    }

    /// Adds entries, a bounded number under one lock.
    fn add<T>(
        &self,
        entries: impl IntoIterator<Item = (Box<[u8]>, T)>,
        add: impl Fn(&mut Known, Box<[u8]>, T),
    ) {
        let short = |(name, _): &(Box<[u8]>, T)| name.len() <= NAME_BYTES_MAX;
        let mut entries = entries.into_iter().filter(short).peekable();
        while entries.peek().is_some() {
            // A full cache holds millions of names. They are freed without the lock.
            let mut cleared = Vec::new();
            let mut known = self.write();
            for (name, entry) in entries.by_ref().take(ADDITIONS_MAX) {
                cleared.extend(known.make_room(&name));
                add(&mut known, name, entry);
            }
            drop(known);
        }
    }
}

/// A read view of the cache. It holds the lock for a bounded number of look-ups, so that other
/// requests can add series during a long one.
#[derive(Debug)]
pub(crate) struct CacheReader<'cache> {
    cache: &'cache SeriesCache,
    /// `None` only while the lock is released.
    known: Option<RwLockReadGuard<'cache, Known>>,
    /// Number of look-ups since the lock was taken.
    lookups: u32,
}

impl CacheReader<'_> {
    /// The handle of the series, if it is cached.
    #[inline]
    pub(crate) fn get(&mut self, name: &[u8]) -> Option<SeriesHandle> {
        self.known()?.handles.get(name).copied()
    }

    /// The number of a head, if it is cached.
    #[inline]
    pub(crate) fn head(&mut self, head: &[u8]) -> Option<u64> {
        self.known()?.heads.get(head).copied()
    }

    #[inline]
    fn known(&mut self) -> Option<&Known> {
        self.lookups += 1;
        if self.lookups >= LOOKUPS_MAX {
            self.known = None;
            self.lock();
        }
        self.known.as_deref()
    }

    fn lock(&mut self) {
        self.known = Some(self.cache.read());
        self.lookups = 0;
    }
}
