//! What a segment writer asks other threads for: new segments, and the sync of full ones.

use std::io;

use super::{Prepared, SealMark, Sealed};

/// Supplies a writer with new segments, and takes its full ones.
pub(crate) trait SegmentSource: Send {
    /// Requests segment `number` with `zeros` bytes of zeros. Does not block. At most
    /// one request may be open at a time.
    fn request(&mut self, number: u64, zeros: u64);
    /// Takes the requested segment. Returns `None` if it is not ready and `wait` is
    /// false. Blocks if `wait` is true.
    ///
    /// # Errors
    /// The segment could not be made. The request is then closed.
    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>>;
    /// Whether a recycled segment is available, so that no file need be written.
    fn has_recycled(&self) -> bool {
        false
    }
    /// Whether free space is below a configured threshold.
    fn is_space_low(&self) -> bool {
        false
    }
    /// Takes a full segment, to sync it and cut its tail. If too many segments wait
    /// already, it blocks if `wait` is true, and else returns the segment.
    fn seal(&mut self, sealed: Sealed, wait: bool) -> Result<(), Sealed>;
    /// The mark of the oldest segment that was handed over with one and is now synced.
    /// Returns `None` if it is not synced yet and `wait` is false. Blocks if `wait` is
    /// true.
    ///
    /// # Errors
    /// The sync failed; the shard has failed.
    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>>;
    /// Reports that the shard has failed. The sealer leaves its remaining segments as
    /// they are.
    fn abandon(&mut self) {}
}
