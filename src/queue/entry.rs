//! An append in the queue: its records, encoded as they will be in a frame.
//!
//! The caller encodes, so that the writer only copies. An entry lives in its slot and keeps
//! a buffer there. Small records are copied into the buffer: nothing is allocated, and
//! nothing is freed on another thread. This file does not know tickets or frames.

use bytes::Bytes;

use crate::config::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::payload::Payload;
use crate::segment::frame::{next_record, put_record_head, record_bytes};
use crate::util::catch_panic::catch_panic;

/// Largest payload, in bytes, that is copied into the slot's buffer. The buffer stays, so
/// this also bounds the memory that a queue keeps per slot. Larger payloads are moved.
const COPIED_BYTES_MAX: usize = 1 << 10;

/// The records of one append.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Encoded records, or the head of one large record. This is the slot's own buffer,
    /// which is reused.
    copied: Vec<u8>,
    /// The bytes after those in `copied`: a large payload, or a batch's body.
    moved: Option<Box<Bytes>>,
    /// The time at which it was queued, by the observer's clock. 0 if it is not sampled.
    stamp: u64,
}

impl Entry {
    /// Stores one record. A payload that is copied stays with the caller, because dropping it
    /// may run the caller's code, which must not run while a slot is claimed.
    pub(crate) fn hold(&mut self, key: u64, payload: &mut Payload<'_>, stamp: u64) {
        self.copied.clear();
        self.drop_moved();
        self.stamp = stamp;
        if payload.len() <= COPIED_BYTES_MAX {
            self.copied.reserve(record_bytes(payload.len()));
            put_record_head(&mut self.copied, key, payload.len());
            self.copied.extend_from_slice(payload);
        } else {
            put_record_head(&mut self.copied, key, payload.len());
            self.moved = Some(Box::new(std::mem::take(payload).into_bytes()));
        }
    }

    /// Stores a batch's part.
    pub(crate) fn hold_batch(&mut self, body: Vec<u8>, stamp: u64) {
        self.copied.clear();
        self.drop_moved();
        self.stamp = stamp;
        self.moved = Some(Box::new(body.into()));
    }

    /// The time at which it was queued, by the observer's clock. 0 if it is not sampled.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The encoded records, in two pieces.
    pub(crate) fn body(&self) -> [&[u8]; 2] {
        [&self.copied, self.moved.as_ref().map_or(&[], |moved| moved)]
    }

    /// Calls `visit` with the key and payload of each record.
    pub(crate) fn for_each_record(&self, mut visit: impl FnMut(u64, &[u8])) {
        let (body, large) = match self.body() {
            [copied, []] => (copied, None),
            [[], batch] => (batch, None),
            [head, payload] => (head, Some(payload)),
        };
        if let Some(payload) = large {
            let key = body.first_chunk().expect("a record's head begins with its key");
            return visit(u64::from_le_bytes(*key), payload);
        }
        let mut at = 0;
        while at < body.len() {
            let (key, payload) = next_record(body, &mut at).expect("this process encoded it");
            visit(key, &body[payload]);
        }
    }

    /// Takes a large payload back out, for a caller whose push was refused.
    pub(crate) fn take_moved(&mut self) -> Option<Bytes> {
        self.moved.take().map(|moved| *moved)
    }

    /// Drops what was moved in. Its `Drop` may be a caller's code. Its panic is contained,
    /// because another caller's record may come next.
    pub(crate) fn drop_moved(&mut self) {
        if let Some(moved) = self.moved.take() {
            catch_panic(move || drop(moved));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.drop_moved();
    }
}

/// A batch's part in one shard, encoded as it will be in a frame.
#[derive(Debug, Default)]
pub(crate) struct BatchBody {
    pub(crate) body: Vec<u8>,
    pub(crate) records: u64,
    pub(crate) payload_bytes: u64,
}

impl BatchBody {
    /// Adds a record. A record beyond the batch limits is counted but not kept, because such a
    /// batch is refused. The first record reserves memory for `expected` records of its size.
    pub(crate) fn add(&mut self, key: u64, payload: &[u8], expected: usize) {
        self.records += 1;
        self.payload_bytes += payload.len() as u64;
        if self.payload_bytes > BATCH_BYTES_MAX as u64 || self.records > BATCH_RECORDS_MAX as u64 {
            return;
        }
        if self.records == 1 {
            let bytes = record_bytes(payload.len()).saturating_mul(expected);
            self.body.reserve(bytes.min(RESERVE_BYTES_MAX));
        }
        put_record_head(&mut self.body, key, payload.len());
        self.body.extend_from_slice(payload);
    }
}

/// Largest number of bytes reserved on the strength of that guess.
const RESERVE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn records(entry: &Entry) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        entry.for_each_record(|key, payload| found.push((key, payload.len())));
        found
    }

    #[test]
    fn an_entry_holds_what_it_was_last_given() {
        let mut entry = Entry::default();
        for length in [0, 1, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 5] {
            entry.hold(7, &mut vec![1; length].into(), 3);
            assert_eq!(records(&entry), [(7, length)]);
            assert_eq!(entry.body().concat().len(), record_bytes(length));
            assert_eq!(entry.stamp(), 3);
            entry.drop_moved();
        }
        let mut batch = BatchBody::default();
        (0..3).for_each(|key| batch.add(key, &[2; 2000], 3));
        entry.hold_batch(batch.body, 0);
        assert_eq!(records(&entry), [(0, 2000), (1, 2000), (2, 2000)]);
    }

    #[test]
    fn a_batch_that_is_too_large_is_counted_and_not_kept() {
        let mut batch = BatchBody::default();
        let payload = vec![0; BATCH_BYTES_MAX / 2];
        (0..4).for_each(|key| batch.add(key, &payload, 4));
        assert_eq!((batch.records, batch.payload_bytes), (4, 2 * BATCH_BYTES_MAX as u64));
        assert_eq!(batch.body.len(), 2 * record_bytes(payload.len()));
        let mut batch = BatchBody::default();
        (0..100_000).for_each(|key| batch.add(key, &[], 0));
        assert_eq!(batch.records, 100_000);
        assert_eq!(batch.body.len(), BATCH_RECORDS_MAX * record_bytes(0));
    }
}
