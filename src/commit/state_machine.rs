//! The state machine that a shard's writer drives: it encodes payloads for the log, and
//! applies them once they are in it.
//!
//! Only the writer knows the order of a shard's records, the start of each segment, and
//! which commits are in the log. State that depends on these (a dictionary, a table in
//! memory) belongs here. One thread at a time uses it, so it needs no lock. This file does
//! not know what the state is.
//!
//! Invariants:
//!
//! - S1 FRESH: what is stored depends on nothing before the last fresh record, and none before
//!   a segment's first is relied on
//! - S2 APPLY: a record is applied once, in the log's order, after the mode's condition held
//!   for it and before its caller is answered

use crate::config::BATCH_BYTES_MAX;
use crate::segment::frame::{Encoder, FrameOrigin, record_bytes};
use crate::util::catch_panic::CallerCode;

/// Follows the records of one shard. See [`crate::ShardedWal::open_with_state_machine`].
///
/// The shard's writer thread calls each method, or a caller that commits inline
/// ([`crate::ShardedWal::append_wait`]), one at a time. No method should block, because
/// nothing is written meanwhile. A caller must not hold a lock that these methods take. A
/// panic ends the shard, as any panic of its writer does: every caller is answered, and the
/// other shards go on.
pub trait StateMachine: Send {
    /// Encodes a payload: appends to `stored` the bytes that the log is to hold for it. The
    /// payloads of one batch may have at most [`BATCH_BYTES_MAX`] encoded bytes. Replay returns
    /// the encoded bytes.
    ///
    /// If `reset` is true, a reader of this record or a later one must not depend on anything
    /// encoded before. That is so for the first record in a segment, the first after open, after
    /// [`StateMachine::snapshot`], and after [`StateMachine::rollback`].
    fn encode(&mut self, reset: bool, key: u64, payload: &[u8], stored: &mut Vec<u8>);

    /// Applies every record encoded since the last call: they are in the log, as far as its
    /// [`crate::Durability`] promises. Their callers get their answers when this returns.
    fn apply(&mut self);

    /// Rolls back every record encoded since the last [`StateMachine::apply`]: there was no
    /// room. They are not in the log and never will be.
    fn rollback(&mut self);

    /// Reports a queued payload that is refused and never encoded, because there was no room
    /// for the next segment. A state machine that counts the payloads queued for it counts
    /// this one off. It is not called for payloads that are still queued when the shard ends:
    /// the state machine is dropped.
    fn refuse(&mut self, key: u64, payload: &[u8]) {
        let _counts_nothing = (key, payload);
    }

    /// Takes a snapshot, because [`crate::ShardedWal::request_snapshot`] was called. Every
    /// applied record has a sequence below `next`, and the next record will be fresh.
    fn snapshot(&mut self, next: u64);
}

/// A writer's state machine, and its encoded records of the current batch.
pub(crate) struct Driven {
    machine: CallerCode<Box<dyn StateMachine>>,
    /// S1 FRESH: whether the next record must not depend on earlier ones.
    fresh: bool,
    stored: Vec<u8>,
    /// The key of each record of the batch, and its end in `stored`.
    records: Vec<(u64, usize)>,
    body_bytes: usize,
}

impl Driven {
    pub(crate) fn new(machine: Box<dyn StateMachine>) -> Self {
        let (stored, records) = (Vec::new(), Vec::new());
        let machine = CallerCode::new(machine);
        Self { machine, fresh: true, stored, records, body_bytes: 0 }
    }

    /// Makes the next record fresh, because a new segment begins.
    pub(crate) fn begin_segment(&mut self) {
        self.fresh = true;
    }

    /// Encodes a record of the current batch.
    pub(crate) fn encode(&mut self, key: u64, payload: &[u8]) {
        let began = self.stored.len();
        self.machine.encode(std::mem::take(&mut self.fresh), key, payload, &mut self.stored);
        let bytes = self.stored.len().checked_sub(began);
        let bytes = bytes.expect("a state machine appends to what is stored");
        self.body_bytes += record_bytes(bytes);
        self.records.push((key, self.stored.len()));
    }

    /// Passes the complete batch to the encoder. `end` is the sequence after its last record.
    pub(crate) fn encode_batch(
        &mut self,
        encoder: &mut Encoder,
        origin: &FrameOrigin,
        durable: u64,
        end: u64,
    ) {
        let stored = self.stored.len();
        assert!(stored <= BATCH_BYTES_MAX, "a state machine stored {stored} bytes for one batch");
        encoder.begin_batch(origin, durable, self.records.len(), self.body_bytes);
        let first = end - self.records.len() as u64;
        let mut began = 0;
        for (sequence, (key, ended)) in (first..).zip(self.records.drain(..)) {
            encoder.record(sequence, key, &self.stored[began..ended]);
            began = ended;
        }
        self.stored.clear();
        self.body_bytes = 0;
    }

    pub(crate) fn apply(&mut self) {
        self.machine.apply();
    }

    /// Reports a record that will never be encoded.
    pub(crate) fn refuse(&mut self, key: u64, payload: &[u8]) {
        self.machine.refuse(key, payload);
    }

    pub(crate) fn rollback(&mut self) {
        self.machine.rollback();
        self.fresh = true;
    }

    pub(crate) fn snapshot(&mut self, next: u64) {
        self.machine.snapshot(next);
        self.fresh = true;
    }
}
