//! What a shard's writer drives beside its log: how payloads are stored, and
//! what becomes of them once they are.
//!
//! The writer alone knows the order of a shard's records, where a segment
//! begins, and which commits are in the log. State that depends on any of it
//! (a dictionary, a table in memory) lives here, touched by one thread at a
//! time, and needs no lock. This file does not know what the state is.
//!
//! Invariants:
//!
//! - S1 FRESH: what is stored depends on nothing before the last fresh record, and none before
//!   a segment's first is relied on
//! - S2 APPLY: a record is applied once, in the log's order, after the mode's condition held
//!   for it and before its caller is told

use crate::config::BATCH_BYTES_MAX;
use crate::foreign::Foreign;
use crate::frame::{Encoder, Place, record_bytes};

/// Follows one shard's records. See [`crate::ShardedWal::open_with`].
///
/// Every method is called by the shard's writer thread or by a caller that lends
/// it a hand ([`crate::ShardedWal::append_wait`]), one at a time, so none of them
/// should block: nothing is written meanwhile. Who calls that must hold nothing
/// that they wait for. A panic ends the shard as any panic of
/// its writer does: every caller is answered, the other shards go on.
pub trait StateMachine: Send {
    /// Appends to `stored` what is to stand in the log for `payload`: at most
    /// [`BATCH_BYTES_MAX`] bytes for a batch. Replay hands out what was stored.
    ///
    /// `fresh` says that nothing stored before may be relied on by whoever
    /// reads this record or a later one: it is the first in its segment, the
    /// first after open, after a [`StateMachine::mark`], or after a commit that
    /// was discarded.
    fn store(&mut self, fresh: bool, key: u64, payload: &[u8], stored: &mut Vec<u8>);

    /// Everything stored since the last call is in the log as the log's
    /// [`crate::Durability`] says. Its callers are told when this returns.
    fn apply(&mut self);

    /// Nothing stored since the last [`StateMachine::apply`] is in the log, nor
    /// ever will be: there was no room.
    fn discard(&mut self);

    /// A payload that was queued is refused without being stored, and never will
    /// be: there was no room for the next segment. A machine that counts what is
    /// queued for it counts it off. Payloads that are still queued when the
    /// shard ends are not named here: the machine is dropped.
    fn refuse(&mut self, key: u64, payload: &[u8]) {
        let _counts_nothing = (key, payload);
    }

    /// [`crate::ShardedWal::mark`] was called: all that was applied lies below
    /// the sequence `next`, and the next record will be fresh.
    fn mark(&mut self, next: u64);
}

/// A writer's state machine, and what it has stored of the batch at hand.
pub(crate) struct Driven {
    machine: Foreign<Box<dyn StateMachine>>,
    /// S1 FRESH: whether the next record must rely on nothing.
    fresh: bool,
    stored: Vec<u8>,
    /// Of each record of the batch: its key, and where it ends in `stored`.
    records: Vec<(u64, usize)>,
    body_bytes: usize,
}

impl Driven {
    pub(crate) fn new(machine: Box<dyn StateMachine>) -> Self {
        let (stored, records) = (Vec::new(), Vec::new());
        let machine = Foreign::new(machine);
        Self { machine, fresh: true, stored, records, body_bytes: 0 }
    }

    /// A new segment begins.
    pub(crate) fn begin_segment(&mut self) {
        self.fresh = true;
    }

    /// Stores a record of the batch at hand.
    pub(crate) fn store(&mut self, key: u64, payload: &[u8]) {
        let began = self.stored.len();
        self.machine.store(std::mem::take(&mut self.fresh), key, payload, &mut self.stored);
        let bytes = self.stored.len().checked_sub(began);
        let bytes = bytes.expect("a state machine appends to what is stored");
        self.body_bytes += record_bytes(bytes);
        self.records.push((key, self.stored.len()));
    }

    /// The batch is complete: hands it to the encoder, `end` being the sequence
    /// after its last record.
    pub(crate) fn encode_batch(
        &mut self,
        encoder: &mut Encoder,
        place: &Place,
        durable: u64,
        end: u64,
    ) {
        let stored = self.stored.len();
        assert!(stored <= BATCH_BYTES_MAX, "a state machine stored {stored} bytes for one batch");
        encoder.begin_batch(place, durable, self.records.len(), self.body_bytes);
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

    /// A record will never be stored.
    pub(crate) fn refuse(&mut self, key: u64, payload: &[u8]) {
        self.machine.refuse(key, payload);
    }

    pub(crate) fn discard(&mut self) {
        self.machine.discard();
        self.fresh = true;
    }

    pub(crate) fn mark(&mut self, next: u64) {
        self.machine.mark(next);
        self.fresh = true;
    }
}
