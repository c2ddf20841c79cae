//! What a caller passes to a replay and gets from it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Position;
use crate::util::sync::cores;

/// How to replay: threads, memory and progress. `ReplayOptions::default()` has one
/// thread per core, 64 MiB, and no progress.
#[derive(Clone)]
pub struct ReplayOptions {
    pub(super) threads: usize,
    pub(super) memory_bytes: usize,
    pub(super) progress: Option<Arc<dyn Fn(ReplayProgress) + Send + Sync>>,
}

impl fmt::Debug for ReplayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayOptions")
            .field("threads", &self.threads)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

impl Default for ReplayOptions {
    /// One thread per core, 64 MiB, no progress.
    fn default() -> Self {
        Self { threads: cores(), memory_bytes: 64 << 20, progress: None }
    }
}

impl ReplayOptions {
    /// The number of threads that read and call the callback: at least one. A
    /// generation uses at most one thread per shard.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The memory for reading, in bytes, over all threads. Each thread uses at
    /// least 64 KiB, or the size of its largest batch. Payloads that the callback
    /// keeps ([`Record::to_bytes`]) hold more memory on top.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets a callback that reports progress. Any of the threads may call it.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn Fn(ReplayProgress) + Send + Sync>) -> Self {
        self.progress = Some(progress);
        self
    }
}

/// The progress of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// The bytes of segments that were read.
    pub bytes_done: u64,
    /// The bytes of segments to read.
    pub bytes_total: u64,
}

/// A record that a replay passes to its callback, or a follower to its caller.
#[derive(Debug)]
pub struct Record<'a> {
    pub(crate) position: Position,
    pub(crate) key: u64,
    pub(crate) payload: &'a [u8],
    pub(crate) frame: &'a Bytes,
}

impl Record<'_> {
    /// The record's position in the log.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The record's series key.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The record's payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// The record's payload as `Bytes`, without a copy. It shares the read buffer:
    /// the whole buffer stays in memory until the last such payload is dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.frame.slice_ref(self.payload)
    }
}

/// What a replay passed to its callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReplayReport {
    /// The number of records.
    pub records: u64,
    /// The bytes of their payloads.
    pub payload_bytes: u64,
}
