//! Applies the batches of a replay to the head. It does not know how the log is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::head::{Head, Restorer};
use super::storage_error::StorageError;
use parking_lot::Mutex;
use shardwal::Position;

/// Whether a repair truncated records of a shard of a generation.
type HasGap<'a> = &'a (dyn Fn(u32, u32) -> bool + Sync);

/// A restorer that the threads of a replay take in turn.
type SharedRestorer<'a> = Arc<Mutex<Restorer<'a>>>;

/// The batches of a replay, of all shards at once.
pub(crate) struct ReplayedBatches<'a> {
    head: &'a Head,
    has_gap: HasGap<'a>,
    /// One restorer per shard of each generation. Only one replay thread uses each of them.
    restorers: Mutex<HashMap<(u32, u32), SharedRestorer<'a>>>,
    /// Batches that continue lost ones.
    lost: AtomicU64,
}

impl<'a> ReplayedBatches<'a> {
    pub(crate) fn new(head: &'a Head, has_gap: HasGap<'a>) -> Self {
        Self { head, has_gap, restorers: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// Applies the next batch of its shard.
    pub(crate) fn restore(&self, position: Position, batch: &[u8]) -> Result<(), StorageError> {
        let run = (position.generation, position.shard);
        let new = || Arc::new(Mutex::new(Restorer::new(self.head)));
        let restorer = self.restorers.lock().entry(run).or_insert_with(new).clone();
        match restorer.lock().restore(batch) {
            Ok(()) => Ok(()),
            Err(error) if error.fault.lacks_another() && (self.has_gap)(run.0, run.1) => {
                // ORDERING: Relaxed; the replay's end orders it.
                self.lost.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(StorageError::Batch { position, error }),
        }
    }

    /// Number of whole batches that continue lost ones.
    pub(crate) fn lost(&self) -> u64 {
        // ORDERING: Relaxed; see `restore`.
        self.lost.load(Ordering::Relaxed)
    }
}
