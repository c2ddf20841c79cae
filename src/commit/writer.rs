//! The writer: the only owner of a shard's segment, driven by one thread at a time.
//!
//! The records that arrive during a sync form the next commit. The writer drains them,
//! encodes, writes and syncs once, raises the mark and wakes the waiters. It has no clock
//! (an [`Observer`] has) and no timer: the housekeeping thread makes the timed requests.
//! It does not know which thread drives it, nor how callers wait.
//!
//! Invariants:
//!
//! - W1 PREFIX: what is in the log is a prefix of what was queued, less what was refused
//! - W2 STICKY: after a failed sync, or a failed write that could not be taken back, nothing is
//!   written or synced again
//! - C3 ANSWER: every ticket is answered: a writer that fails, or is dropped by a panic, answers
//!   those that are left

use std::io;

use crate::commit::commit_mode::CommitMode;
use crate::commit::progress::Progress;
use crate::commit::snapshots::{SnapshotTaker, Snapshots};
use crate::commit::state_machine::Driven;
use crate::error::Cause;
use crate::queue::entry::Entry;
use crate::queue::queue::{PushError, Queue};
use crate::queue::receiver::{Received, Receiver};
use crate::queue::requests::Work;
use crate::segment::frame::Encoder;
use crate::segment::writer::{SegmentWriter, Wait, WriteError};
use crate::stats::{CommitSample, Observer};
use crate::trace;
use crate::util::sync::Arc;

/// The limits of a commit, and how it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPolicy {
    /// Records at which a commit takes no more.
    pub(crate) records_max: u64,
    /// Bytes at which a commit takes no more records.
    pub(crate) bytes_max: usize,
    pub(crate) mode: CommitMode,
}

/// Commits the records of one shard to its segments.
pub(crate) struct Writer {
    queue: Arc<Queue<Entry>>,
    progress: Arc<Progress>,
    receiver: Receiver<Entry>,
    segments: SegmentWriter,
    policy: CommitPolicy,
    observer: Arc<dyn Observer>,
    /// The sequence of ticket 0.
    base: u64,
    encoder: Encoder,
    /// The state machine of the shard, if it has one.
    machine: Option<Driven>,
    snapshots: SnapshotTaker,
    /// The time stamps of the commit's sampled records.
    stamps: Vec<u64>,
    /// The sequence after the last synced record or seal. It does not cover sequences refused
    /// since: no frame holds them, and recovery takes a mark above the readable records as
    /// corruption.
    durable: u64,
    /// The highest durable mark in a frame, as a sequence.
    marked: u64,
    /// Whether a requested sync waits for the sealer.
    sync_is_due: bool,
    last_commit_records: u64,
    /// Whether the writer was closed or has failed. If not, its drop is that of a panic.
    has_ended: bool,
}

/// The queue, the progress that its callers wait for, and the queue's receiver.
pub(crate) type QueueEnds = (Arc<Queue<Entry>>, Arc<Progress>, Receiver<Entry>);

/// Whether the writer can go on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It can.
    GoesOn,
    /// It was closed or has failed, and must be dropped.
    Ended,
}

impl Writer {
    /// A writer that gives ticket 0 the sequence `base`. Every record below `base` must be
    /// durable, and a frame must say so.
    pub(crate) fn new(
        (queue, progress, receiver): QueueEnds,
        segments: SegmentWriter,
        policy: CommitPolicy,
        observer: Arc<dyn Observer>,
        base: u64,
        machine: Option<Driven>,
    ) -> Self {
        Self {
            queue,
            progress,
            receiver,
            segments,
            policy,
            observer,
            base,
            encoder: Encoder::default(),
            machine,
            snapshots: SnapshotTaker::default(),
            stamps: Vec::new(),
            durable: base,
            marked: base,
            sync_is_due: false,
            last_commit_records: 0,
            has_ended: false,
        }
    }

    /// Sets where the writer answers requests for snapshots.
    pub(crate) fn with_snapshots(mut self, snapshots: Arc<Snapshots>) -> Self {
        self.snapshots = SnapshotTaker::new(snapshots);
        self
    }

    /// Queues a value for the thread that has the writer, which commits next.
    pub(crate) fn try_push(
        &mut self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
    ) -> Result<u64, PushError> {
        self.receiver.try_push(bytes, fill)
    }

    /// Whether there is a value to commit that the queue does not show.
    pub(crate) fn has_bypassed(&self) -> bool {
        self.receiver.has_bypassed()
    }

    /// The next work, a value that the queue does not show included.
    pub(crate) fn next_work(&self) -> Option<Work> {
        self.receiver.next_work()
    }

    /// Does the work that the queue reported.
    pub(crate) fn step(&mut self, work: Work) -> Flow {
        self.receiver.accept(work);
        let done = match work {
            Work::Stop => self.check_fail_request(),
            Work::Values => self.commit(),
            Work::Sync => self.sync_unless_sealing(),
            Work::Seal => self.seal(),
            Work::Snapshot => self.take_snapshots(),
            Work::Admit => {
                self.admit();
                Ok(())
            }
            Work::Closed => self.finish(),
        };
        match done {
            Ok(()) if work != Work::Closed => return Flow::GoesOn,
            Ok(()) => self.end(),
            Err(cause) => self.fail(cause),
        }
        Flow::Ended
    }

    /// The number of records in the last commit, or 0.
    pub(crate) fn last_commit_records(&self) -> u64 {
        self.last_commit_records
    }

    /// B1 FIFO: admits the appends that wait for room, and wakes those that wait for nothing else.
    fn admit(&mut self) {
        drop(self.receiver.admit(self.progress.registrar()));
    }

    /// Commits the queued records, up to the limits, with one write and one sync.
    fn commit(&mut self) -> Result<(), Cause> {
        self.take_sealed()?;
        if let Err(error) = self.roll_if_due() {
            return self.refuse_all(error);
        }
        let first = self.receiver.head();
        let depth = self.queue.depth();
        let bytes = self.drain_and_encode();
        if self.policy.mode.syncs_each_commit() {
            // Whatever room there is, because a sync may take long.
            self.admit();
        }
        // The write is timed if one of its records is sampled.
        let began = (!self.stamps.is_empty()).then(|| self.observer.now());
        let head = self.receiver.head();
        let (from, next) = (self.sequence(first), self.sequence(head));
        match self.segments.append(self.encoder.bytes(), from, next) {
            Ok(()) => self.marked = self.durable,
            Err(WriteError::NotWritten(error)) => return self.refuse(first, error),
            Err(WriteError::Fatal(error)) => return Err(self.poison(error)),
        }
        self.last_commit_records = head - first;
        self.observer.committed(CommitSample {
            records: head - first,
            bytes,
            queue_depth: depth,
            write_nanos: began.map(|began| self.observer.now().saturating_sub(began)),
        });
        if self.policy.mode.syncs_each_commit() {
            self.sync()?;
        }
        self.check_fail_request()?;
        // S2 APPLY: a record is applied before its caller is answered.
        self.machine.iter_mut().for_each(Driven::apply);
        self.progress.acknowledge(head);
        self.report_acknowledged();
        self.segments.prepare_ahead();
        Ok(())
    }

    /// Encodes the queued records. Returns the number of payload bytes.
    fn drain_and_encode(&mut self) -> u64 {
        let first = self.sequence(self.receiver.head());
        let durable = self.durable;
        let origin = self.segments.begin(&mut self.encoder, first);
        let mut now = None;
        let Self { receiver, encoder, machine, stamps, observer, policy, base, progress, .. } =
            self;
        // Bytes that precede the records, such as a segment's header, do not count.
        let bytes_max = encoder.len() + policy.bytes_max;
        let (mut records, mut bytes) = (0, 0);
        let take = |received: Received<'_, Entry>| {
            let Received { ticket, tickets, bytes: payload_bytes, value: entry } = received;
            let first = *base + ticket;
            match machine {
                Some(machine) => {
                    entry.for_each_record(|key, payload| machine.encode(key, payload));
                    machine.encode_batch(encoder, &origin, durable, first + u64::from(tickets));
                }
                None => encoder.batch(&origin, durable, first, tickets as usize, entry.body()),
            }
            entry.drop_moved();
            if entry.stamp() != 0 {
                let now = *now.get_or_insert_with(|| observer.now());
                observer.queue_waited(now.saturating_sub(entry.stamp()));
                stamps.push(entry.stamp());
            }
            records += u64::from(tickets);
            bytes += u64::from(payload_bytes);
            records < policy.records_max && encoder.len() < bytes_max
        };
        let admitted = receiver.drain(progress.registrar(), take);
        encoder.close_frame(&origin, durable);
        drop(admitted);
        bytes
    }

    fn roll_if_due(&mut self) -> Result<(), WriteError> {
        let next = self.sequence(self.receiver.head());
        let Some(wait) = self.segments.due(next) else { return Ok(()) };
        self.roll(wait).map(drop)
    }

    /// Rolls to the next segment if it is ready, or once it is ready if `wait` says so.
    /// Returns whether it rolled.
    fn roll(&mut self, wait: Wait) -> Result<bool, WriteError> {
        let next = self.sequence(self.receiver.head());
        self.progress.set_segment_late(wait == Wait::Yes);
        let rolled = self.segments.roll(wait, next);
        self.progress.set_segment_late(false);
        let rolled = rolled?;
        if rolled {
            self.machine.iter_mut().for_each(Driven::begin_segment);
            self.observer.rolled();
            trace::rolled(self.segments.identity());
        }
        Ok(rolled)
    }

    /// Refuses every record queued by now, because there is no next segment. Records that
    /// arrive meanwhile try again.
    fn refuse_all(&mut self, error: WriteError) -> Result<(), Cause> {
        let first = self.receiver.head();
        match error {
            WriteError::NotWritten(error) => {
                let Self { receiver, machine, progress, .. } = self;
                drop(receiver.drain_present(progress.registrar(), |received| {
                    if let Some(machine) = machine {
                        received.value.for_each_record(|key, payload| machine.refuse(key, payload));
                    }
                    received.value.drop_moved();
                }));
                self.refuse(first, error)
            }
            WriteError::Fatal(error) => Err(self.poison(error)),
        }
    }

    /// Refuses the received records from ticket `first` on, because there was no room.
    fn refuse(&mut self, first: u64, error: io::Error) -> Result<(), Cause> {
        let end = self.receiver.head();
        self.stamps.clear();
        self.machine.iter_mut().for_each(Driven::rollback);
        self.observer.refused(end - first);
        self.progress.refuse(first, end, Cause::of_refusal(error));
        Ok(())
    }

    fn report_acknowledged(&mut self) {
        if self.stamps.is_empty() {
            return;
        }
        let now = self.observer.now();
        for stamp in self.stamps.drain(..) {
            self.observer.acknowledged(now.saturating_sub(stamp));
        }
    }

    /// Syncs. When it returns `Ok`, every received record is on stable storage.
    fn sync(&mut self) -> Result<(), Cause> {
        if !self.segments.is_synced() {
            let began = self.observer.now();
            // W2 STICKY: never called again after an error.
            self.segments.sync().map_err(|error| self.poison(error))?;
            self.observer.synced(self.observer.now().saturating_sub(began));
        }
        self.check_fail_request()?;
        self.sync_is_due = false;
        self.durable = self.segments.next_sequence();
        self.progress.mark_synced(self.receiver.head());
        Ok(())
    }

    /// Syncs the active segment now. If full segments are still to be synced, the marks rise
    /// once the sealer has synced those. It may sync other shards' segments first, and no
    /// append waits for them.
    fn sync_unless_sealing(&mut self) -> Result<(), Cause> {
        self.take_sealed()?;
        if !self.segments.is_sealing() {
            return self.sync();
        }
        // W2 STICKY: never called again after an error.
        self.segments.sync_active().map_err(|error| self.poison(error))?;
        self.sync_is_due = true;
        Ok(())
    }

    /// Raises the durable mark over full segments that the sealer has synced since.
    fn take_sealed(&mut self) -> Result<(), Cause> {
        let sealed = self.segments.take_sealed().map_err(|error| self.poison(error))?;
        if self.sync_is_due && !self.segments.is_sealing() {
            return self.sync();
        }
        if let Some(mark) = sealed {
            self.check_fail_request()?;
            self.durable = mark.next_sequence;
            self.progress.mark_synced(mark.reach - self.base);
        }
        Ok(())
    }

    /// Writes the durable mark into a frame, unless a frame has it already. Recovery then
    /// distinguishes corruption below the mark from a torn tail. The frame needs no sync of
    /// its own.
    fn seal(&mut self) -> Result<(), Cause> {
        self.take_sealed()?;
        if self.durable <= self.marked {
            return Ok(());
        }
        self.write_mark()
    }

    fn write_mark(&mut self) -> Result<(), Cause> {
        let durable = self.durable;
        let next = self.segments.next_sequence();
        let origin = self.segments.begin(&mut self.encoder, next);
        self.encoder.seal(&origin, next, durable);
        match self.segments.append(self.encoder.bytes(), next, next) {
            Ok(()) => self.marked = durable,
            // No caller waits for a seal. The next commit carries the mark.
            Err(WriteError::NotWritten(_)) => {}
            Err(WriteError::Fatal(error)) => return Err(self.poison(error)),
        }
        Ok(())
    }

    /// Lets the state machine take a snapshot. It gets the sequence after the last written
    /// record. Refused sequences do not count, because they may be used again.
    fn take_snapshots(&mut self) -> Result<(), Cause> {
        let requests = self.snapshots.begin();
        if self.segments.is_space_low() || self.progress.is_disk_full() {
            self.leave_segment()?;
        }
        let next = self.segments.next_sequence();
        self.machine.iter_mut().for_each(|machine| machine.snapshot(next));
        self.snapshots.taken(requests, next);
        Ok(())
    }

    /// Rolls to the next segment and writes a frame without records, so that a truncation can
    /// delete every earlier segment. If there is no room, the shard stays in its segment.
    fn leave_segment(&mut self) -> Result<(), Cause> {
        if !self.segments.holds_records() {
            return Ok(());
        }
        match self.roll(Wait::Yes) {
            Ok(true) => {
                self.write_mark()?;
                // A segment is deleted once its successor is durable, and there may be no
                // further record whose sync would make it so.
                self.sync()
            }
            Ok(false) | Err(WriteError::NotWritten(_)) => Ok(()),
            Err(WriteError::Fatal(error)) => Err(self.poison(error)),
        }
    }

    fn finish(&mut self) -> Result<(), Cause> {
        self.sync()?;
        self.seal()?;
        self.sync()?;
        self.segments.cut_tail();
        Ok(())
    }

    /// C3 ANSWER: ends the shard in order.
    fn end(&mut self) {
        self.has_ended = true;
        self.progress.close();
    }

    /// C2 DURABLE: fails if another thread has ended the shard, for example because its
    /// directory is gone. Called before any record is acknowledged.
    fn check_fail_request(&self) -> Result<(), Cause> {
        if !self.queue.is_stop_requested() {
            return Ok(());
        }
        let error = self.progress.take_fail_request();
        Err(self.poison(error.unwrap_or_else(|| io::Error::other("the shard was stopped"))))
    }

    fn poison(&self, error: io::Error) -> Cause {
        self.observer.poisoned();
        let cause = Cause::Poisoned(error.into());
        trace::poisoned(self.segments.identity(), &cause);
        cause
    }

    /// C3 ANSWER: ends the shard. A record that was received and not acknowledged may be
    /// in the log. A queued record is not in the log, and no more can be queued.
    fn fail(&mut self, cause: Cause) {
        self.has_ended = true;
        self.segments.abandon();
        // Store the cause before the queue closes, so that a refused caller finds it. A
        // record queued in between is answered `NotWritten`.
        self.progress.fail(self.receiver.head(), cause);
        self.queue.close();
    }

    fn sequence(&self, ticket: u64) -> u64 {
        self.base + ticket
    }
}

impl Drop for Writer {
    /// C3 ANSWER: a writer that has not ended is dropped by a panic, and fails then.
    fn drop(&mut self) {
        if !self.has_ended {
            self.fail(Cause::WriterPanicked);
        }
    }
}
