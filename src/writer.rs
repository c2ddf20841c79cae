//! The writer: the only owner of a shard's segment, driven by one thread at a time.
//!
//! What arrived during the last sync is the next commit: drain, encode once,
//! write once, sync once, raise the mark, wake. It keeps no clock (an
//! [`Observer`] does) and no timer; the housekeeping thread posts the requests
//! that time brings.
//!
//! Invariants:
//!
//! - W1 PREFIX: what is in the log is a prefix of what was queued, less what was refused
//! - W2 STICKY: after a failed sync, or a failed write that could not be taken back, nothing is
//!   written or synced again
//! - C3 ANSWER: every ticket is answered: dropping the writer, by return or by panic, answers
//!   what is left

use std::io;

use crate::entry::Entry;
use crate::error::Cause;
use crate::frame::Encoder;
use crate::mailbox::{Mailbox, PushError, Received, Receiver, Work};
use crate::progress::Progress;
use crate::segment_writer::{SegmentWriter, Wait, WriteError};
use crate::state_machine::Driven;
use crate::stats::{CommitSample, Observer};
use crate::sync::Arc;
use crate::trace;

/// A commit that ends with no sync takes no more once it has these bytes: they are
/// still in the core's cache as the system copies them (docs/performance.md, "`Os`:
/// what was tried").
pub(crate) const CACHED_COMMIT_BYTES_MAX: usize = 128 << 10;

/// Limits of a commit, and what it ends with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitPolicy {
    /// A commit takes no more records once it has these.
    pub(crate) records_max: u64,
    /// A commit takes no more once it has these bytes.
    pub(crate) bytes_max: usize,
    /// Whether each commit ends with a sync.
    pub(crate) sync: bool,
}

/// See the module's words.
pub(crate) struct Writer {
    mailbox: Arc<Mailbox<Entry>>,
    progress: Arc<Progress>,
    receiver: Receiver<Entry>,
    segments: SegmentWriter,
    policy: CommitPolicy,
    observer: Arc<dyn Observer>,
    /// The sequence of ticket 0.
    base: u64,
    encoder: Encoder,
    /// What is driven beside the log, if anything.
    machine: Option<Driven>,
    /// Stamps of the commit's sampled records.
    stamps: Vec<u64>,
    /// The sequence after the last record or seal that was synced. Sequences
    /// refused since are not covered: no frame stands for them, and a mark
    /// above what can be read means damage to recovery.
    durable: u64,
    /// The highest durable mark that stands in a frame, a sequence.
    marked: u64,
    /// Whether a sync was asked for that the sealer has to finish first.
    sync_is_due: bool,
    last_commit_records: u64,
    end: End,
}

/// What a writer serves: the queue, what its callers wait for, and the queue's
/// receiving end.
pub(crate) type Queue = (Arc<Mailbox<Entry>>, Arc<Progress>, Receiver<Entry>);

/// Whether there is more to come of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// There is.
    GoesOn,
    /// It was closed, or has failed: it must be dropped.
    Ended,
}

/// How the writer ended. `Running` when it is dropped means a panic.
enum End {
    Running,
    Stopped(Cause),
    InOrder,
}

impl Writer {
    /// A writer whose ticket 0 gets the sequence `base`, all below which is
    /// durable and said to be so in a frame.
    pub(crate) fn new(
        (mailbox, progress, receiver): Queue,
        segments: SegmentWriter,
        policy: CommitPolicy,
        observer: Arc<dyn Observer>,
        base: u64,
        machine: Option<Driven>,
    ) -> Self {
        Self {
            mailbox,
            progress,
            receiver,
            segments,
            policy,
            observer,
            base,
            encoder: Encoder::default(),
            machine,
            stamps: Vec::new(),
            durable: base,
            marked: base,
            sync_is_due: false,
            last_commit_records: 0,
            end: End::Running,
        }
    }

    /// Queues a value for whoever has the writer, who commits next.
    pub(crate) fn try_push(
        &mut self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut Entry),
    ) -> Result<u64, PushError> {
        self.receiver.try_push(bytes, fill)
    }

    /// Whether there is something to commit that the mailbox does not show.
    pub(crate) fn has_own(&self) -> bool {
        self.receiver.has_own()
    }

    /// Does what the mailbox has shown there is to do.
    pub(crate) fn step(&mut self, work: Work) -> Flow {
        self.receiver.begin(work);
        let done = match work {
            Work::Stop => self.check_condemned(),
            Work::Values => self.commit(),
            Work::Sync => self.sync_unless_sealing(),
            Work::Seal => self.seal(),
            Work::Mark => self.mark(),
            Work::Closed => self.finish(),
        };
        self.end = match done {
            Ok(()) if work == Work::Closed => End::InOrder,
            Ok(()) => return Flow::GoesOn,
            Err(cause) => End::Stopped(cause),
        };
        Flow::Ended
    }

    /// How many records the last commit had, if any.
    pub(crate) fn last_commit_records(&self) -> u64 {
        self.last_commit_records
    }

    /// All that has arrived, up to the limits, becomes one write and one sync.
    fn commit(&mut self) -> Result<(), Cause> {
        self.take_sealed()?;
        if let Err(error) = self.roll_if_due() {
            return self.refuse_all(error);
        }
        let first = self.receiver.head();
        let depth = self.mailbox.depth();
        let bytes = self.drain_and_encode();
        // Timed where one of its records is.
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
        if self.policy.sync {
            self.sync()?;
        }
        self.check_condemned()?;
        // S2 APPLY: whoever is told finds it applied.
        self.machine.iter_mut().for_each(Driven::apply);
        self.progress.acknowledge(head);
        self.report_acknowledged();
        self.segments.prepare_ahead();
        Ok(())
    }

    /// Encodes what the mailbox holds; returns the payloads' bytes.
    fn drain_and_encode(&mut self) -> u64 {
        let first = self.sequence(self.receiver.head());
        let durable = self.durable;
        let place = self.segments.begin(&mut self.encoder, first);
        let mut now = None;
        let Self { receiver, encoder, machine, stamps, observer, policy, base, .. } = self;
        // What it must begin with is none of it.
        let bytes_max = encoder.len() + policy.bytes_max;
        let (mut records, mut bytes) = (0, 0);
        receiver.drain(|Received { ticket, tickets, bytes: payload_bytes, value: entry }| {
            let first = *base + ticket;
            match machine {
                Some(machine) => {
                    entry.each_record(|key, payload| machine.store(key, payload));
                    machine.encode_batch(encoder, &place, durable, first + u64::from(tickets));
                }
                None => encoder.batch(&place, durable, first, tickets as usize, entry.body()),
            }
            entry.let_go();
            if entry.stamp() != 0 {
                let now = *now.get_or_insert_with(|| observer.now());
                observer.queue_waited(now.saturating_sub(entry.stamp()));
                stamps.push(entry.stamp());
            }
            records += u64::from(tickets);
            bytes += u64::from(payload_bytes);
            records < policy.records_max && encoder.len() < bytes_max
        });
        encoder.close_frame(&place, durable);
        bytes
    }

    fn roll_if_due(&mut self) -> Result<(), WriteError> {
        let next = self.sequence(self.receiver.head());
        let Some(wait) = self.segments.due(next) else { return Ok(()) };
        self.roll(wait).map(drop)
    }

    /// Goes on in the next segment if it is ready, or `wait` says to wait for it.
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

    /// There is no next segment to write to: refuses what has arrived. What comes
    /// meanwhile tries it again.
    fn refuse_all(&mut self, error: WriteError) -> Result<(), Cause> {
        let first = self.receiver.head();
        match error {
            WriteError::NotWritten(error) => {
                let Self { receiver, machine, .. } = self;
                receiver.drain_present(|received| {
                    if let Some(machine) = machine {
                        received.value.each_record(|key, payload| machine.refuse(key, payload));
                    }
                    received.value.let_go();
                });
                self.refuse(first, error)
            }
            WriteError::Fatal(error) => Err(self.poison(error)),
        }
    }

    /// Answers `first` and all after it that was received: there was no room.
    fn refuse(&mut self, first: u64, error: io::Error) -> Result<(), Cause> {
        let end = self.receiver.head();
        self.stamps.clear();
        self.machine.iter_mut().for_each(Driven::discard);
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

    /// All that was received is on stable storage when this returns `Ok`.
    fn sync(&mut self) -> Result<(), Cause> {
        if !self.segments.is_synced() {
            let began = self.observer.now();
            // W2 STICKY: never called again after an error.
            self.segments.sync().map_err(|error| self.poison(error))?;
            self.observer.synced(self.observer.now().saturating_sub(began));
        }
        self.check_condemned()?;
        self.sync_is_due = false;
        self.durable = self.segments.next_sequence();
        self.progress.mark_synced(self.receiver.head());
        Ok(())
    }

    /// Syncs at once what the active segment holds. Where full segments are still on
    /// their way, the marks rise when the sealer has synced them: their turn may come
    /// after other shards' segments, and no append waits for those.
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

    /// Full segments that were synced since by the sealer: all up to them is durable.
    fn take_sealed(&mut self) -> Result<(), Cause> {
        let sealed = self.segments.take_sealed().map_err(|error| self.poison(error))?;
        if self.sync_is_due && !self.segments.is_sealing() {
            return self.sync();
        }
        if let Some(mark) = sealed {
            self.check_condemned()?;
            self.durable = mark.next_sequence;
            self.progress.mark_synced(mark.reach - self.base);
        }
        Ok(())
    }

    /// Writes the durable mark down where no frame says it yet, so that damage
    /// below it can be told from a torn tail. It needs no sync of its own.
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
        let place = self.segments.begin(&mut self.encoder, next);
        self.encoder.seal(&place, next, durable);
        match self.segments.append(self.encoder.bytes(), next, next) {
            Ok(()) => self.marked = durable,
            // Nobody waits for a seal; the next commit carries the mark.
            Err(WriteError::NotWritten(_)) => {}
            Err(WriteError::Fatal(error)) => return Err(self.poison(error)),
        }
        Ok(())
    }

    /// Says where the shard stands: the sequence after the last record that is
    /// written, not after one that was refused, whose number may be used again.
    fn mark(&mut self) -> Result<(), Cause> {
        if self.segments.is_room_low() || self.progress.is_disk_full() {
            self.leave_segment()?;
        }
        let next = self.segments.next_sequence();
        self.machine.iter_mut().for_each(|machine| machine.mark(next));
        Ok(())
    }

    /// Begins the next segment, with a frame that holds no record, so that a
    /// truncation can delete all before it. Where there is no room for that, the
    /// shard stays in its segment.
    fn leave_segment(&mut self) -> Result<(), Cause> {
        if !self.segments.holds_records() {
            return Ok(());
        }
        match self.roll(Wait::Yes) {
            Ok(true) => {
                self.write_mark()?;
                // A segment is deleted once its successor is durable, and no
                // record may come whose sync makes it so.
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

    /// C2 DURABLE: fails if another thread has found what ends the shard, as that
    /// its folder is gone. Looked at before anything is acknowledged.
    fn check_condemned(&self) -> Result<(), Cause> {
        if !self.mailbox.is_stop_requested() {
            return Ok(());
        }
        let error = self.progress.take_condemnation();
        Err(self.poison(error.unwrap_or_else(|| io::Error::other("the shard was stopped"))))
    }

    fn poison(&self, error: io::Error) -> Cause {
        self.observer.poisoned();
        let cause = Cause::Poisoned(error.into());
        trace::poisoned(self.segments.identity(), &cause);
        cause
    }

    fn sequence(&self, ticket: u64) -> u64 {
        self.base + ticket
    }
}

impl Drop for Writer {
    /// C3 ANSWER: what was received and not acknowledged may be in the log,
    /// what is still queued is not, and nobody may queue any more.
    fn drop(&mut self) {
        let cause = match &self.end {
            End::InOrder => return,
            End::Stopped(cause) => cause.clone(),
            End::Running => Cause::WriterPanicked,
        };
        self.segments.abandon();
        // The cause first: whoever finds the queue closed finds out why. What
        // is queued between the two is answered as never written.
        self.progress.fail(self.receiver.head(), cause);
        self.mailbox.close();
    }
}
