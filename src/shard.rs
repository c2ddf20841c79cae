//! A shard as callers see it: its queue, its progress, its thread.

use std::fmt;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::completion::Completion;
use crate::error::{AppendError, Cause, Position, Refused};
use crate::mailbox::PushError;
use crate::progress::Answer;
use crate::purge::PurgeMark;
use crate::recovery::Folder;
use crate::segment::SegmentIdentity;
use crate::segment_writer::Catalogue;
use crate::stats::{Observer, Recorder};
use crate::sync::{Arc, JoinHandle, Mutex, now};
use crate::truncate::Purge;
use crate::waiters::Waiter;
use crate::writer::{Entry, Lane, batch_body_bytes};

/// One record in so many is timed. A power of two.
const SAMPLED_EACH: u64 = 8;
const _: () = assert!(SAMPLED_EACH.is_power_of_two());

/// What joining a writer thread gives.
type Writer = JoinHandle<Result<(), Cause>>;

/// One lane of the log: one queue, one writer thread, one folder.
pub(crate) struct WalShard {
    folder: Folder,
    /// The sequence of ticket 0.
    base: u64,
    lane: Arc<Lane>,
    recorder: Arc<Recorder>,
    catalogue: Catalogue,
    /// Held while a truncation is under way.
    purge: Purge,
    /// Sequences below are not replayed. Truncation stores, replay reads.
    purged_below: Mutex<u64>,
    /// Taken by close.
    writer: Mutex<Option<Writer>>,
}

impl fmt::Debug for WalShard {
    /// Which it is; not each slot of its queue, which every completion would show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentIdentity { generation, shard, .. } = self.folder.identity;
        let mut shown = f.debug_struct("WalShard");
        shown.field("generation", &generation).field("shard", &shard).finish_non_exhaustive()
    }
}

impl WalShard {
    pub(crate) fn new(
        folder: Folder,
        base: u64,
        lane: Arc<Lane>,
        recorder: Arc<Recorder>,
        catalogue: Catalogue,
        purge: PurgeMark,
        writer: Writer,
    ) -> Self {
        let purged_below = Mutex::new(purge.below);
        let (purge, writer) = (Mutex::new(Some(purge)), Mutex::new(Some(writer)));
        Self { folder, base, lane, recorder, catalogue, purge, purged_below, writer }
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(crate) fn purge(&self) -> &Purge {
        &self.purge
    }

    pub(crate) fn purged_below(&self) -> &Mutex<u64> {
        &self.purged_below
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The sequence below which all is answered, and after the last record of
    /// it: sequences that were refused at the end are left out, for no frame
    /// says them and the next open may give them to other records.
    pub(crate) fn acknowledged_below(&self) -> u64 {
        let progress = &self.lane.progress;
        self.base + progress.records_end(progress.acknowledged())
    }

    /// The sequence below which all is on stable storage, likewise.
    pub(crate) fn durable_below(&self) -> u64 {
        let progress = &self.lane.progress;
        self.base + progress.records_end(progress.synced())
    }

    /// The place of a ticket.
    pub(crate) fn position(&self, ticket: u64) -> Position {
        let identity = &self.folder.identity;
        Position {
            generation: identity.generation,
            shard: identity.shard,
            sequence: self.base + ticket,
        }
    }

    /// An answer in the caller's terms.
    pub(crate) fn outcome(&self, ticket: u64, answer: Answer) -> Result<Position, AppendError> {
        let position = self.position(ticket);
        match answer {
            Answer::Acknowledged => Ok(position),
            Answer::NotWritten(cause) => {
                Err(AppendError::NotWritten { position: Some(position), cause })
            }
            Answer::Indeterminate(cause) => Err(AppendError::Indeterminate { position, cause }),
        }
    }

    /// Appends, blocking while the queue is full, until the deadline.
    pub(crate) fn append(
        &self,
        key: u64,
        payload: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Completion<'_>, Refused> {
        match self.try_append(key, payload) {
            Err(Refused { payload, cause: Cause::QueueFull | Cause::SegmentNotReady })
                if deadline.is_none_or(|deadline| deadline > now()) =>
            {
                self.append_when_there_is_room(key, payload, deadline)
            }
            decided => decided,
        }
    }

    /// Appends, or gives the payload back at once with the reason.
    pub(crate) fn try_append(&self, key: u64, payload: Bytes) -> Result<Completion<'_>, Refused> {
        if let Some(cause) = self.check(&payload) {
            return Err(Refused { payload, cause });
        }
        let mut parts = Parts::new(self, key, payload);
        let pushed = self.lane.mailbox.try_push(1, parts.weight(), |ticket| parts.entry(ticket));
        self.completion(pushed, parts)
    }

    #[cold]
    fn append_when_there_is_room(
        &self,
        key: u64,
        payload: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Completion<'_>, Refused> {
        let began = Instant::now();
        let mut parts = Parts::new(self, key, payload);
        let weight = parts.weight();
        let pushed = self.lane.mailbox.push(1, weight, deadline, |ticket| parts.entry(ticket));
        self.recorder.blocked(nanos(began.elapsed()));
        self.completion(pushed, parts)
    }

    /// The same for a task; `None` means that its waker will be called.
    pub(crate) fn poll_append(
        &self,
        key: u64,
        payload: &mut Option<Bytes>,
        context: &mut Context<'_>,
        enrolled: &mut Option<Arc<Waiter>>,
    ) -> Option<Result<Completion<'_>, Refused>> {
        let given = payload.take().expect("an append future is not polled after it resolved");
        if let Some(cause) = self.check(&given) {
            return Some(Err(Refused { payload: given, cause }));
        }
        let mut parts = Parts::new(self, key, given);
        let weight = parts.weight();
        let mailbox = &self.lane.mailbox;
        match mailbox.poll_push(weight, context, enrolled, |ticket| parts.entry(ticket)) {
            Some(pushed) => Some(self.completion(pushed, parts)),
            None => {
                *payload = Some(parts.payload);
                None
            }
        }
    }

    /// Appends a batch's part in this shard, whole; blocks while there is no
    /// room. The completion is the last record's.
    pub(crate) fn append_part(&self, mut records: Vec<(u64, Bytes)>) -> Completion<'_> {
        if let Some(cause) = self.check_part(&records).or_else(|| self.check_state()) {
            return Completion::refused(cause);
        }
        let count = records.len() as u64;
        let weight = records.iter().map(|(_, payload)| payload.len() as u64).sum();
        let body = batch_body_bytes(records.iter().map(|(_, payload)| payload.len()));
        // The mailbox asks for the entries last to first.
        let mut make = |ticket: u64| {
            let (key, payload) = records.pop().unwrap_or_default();
            let (batch_records, batch_bytes) =
                if records.is_empty() { (small(count), small(body as u64)) } else { (0, 0) };
            Entry { key, payload, stamp: self.stamp(ticket), batch_records, batch_bytes }
        };
        let mailbox = &self.lane.mailbox;
        let pushed = match mailbox.try_push(count, weight, &mut make) {
            Err(PushError::Full) => {
                let began = Instant::now();
                let pushed = mailbox.push(count, weight, None, make);
                self.recorder.blocked(nanos(began.elapsed()));
                pushed
            }
            decided => decided,
        };
        match pushed {
            Ok(first) => Completion::queued(self, first + count - 1),
            Err(error) => Completion::refused(self.refusal(error)),
        }
    }

    /// Whether a batch's part could ever be appended.
    pub(crate) fn check_part(&self, records: &[(u64, Bytes)]) -> Option<Cause> {
        let max = self.lane.mailbox.capacity().min(crate::config::BATCH_RECORDS_MAX as u64);
        let found = records.len() as u64;
        if found > max {
            return Some(Cause::TooLarge { limit: "records of a batch in one shard", found, max });
        }
        let found = records.iter().map(|(_, payload)| payload.len() as u64).sum();
        too_large("payload bytes of a batch in one shard", found)
    }

    fn check(&self, payload: &Bytes) -> Option<Cause> {
        too_large("payload bytes of a record", payload.len() as u64).or_else(|| self.check_state())
    }

    /// While the disk is full, what is queued tries it; more would only wait
    /// to be refused.
    fn check_state(&self) -> Option<Cause> {
        let progress = &self.lane.progress;
        if progress.is_disk_full() && self.lane.mailbox.depth() > 0 {
            return progress.last_refusal();
        }
        None
    }

    fn completion(
        &self,
        pushed: Result<u64, PushError>,
        parts: Parts<'_>,
    ) -> Result<Completion<'_>, Refused> {
        match pushed {
            Ok(ticket) => Ok(Completion::queued(self, ticket)),
            Err(error) => Err(Refused { payload: parts.payload, cause: self.refusal(error) }),
        }
    }

    fn refusal(&self, error: PushError) -> Cause {
        let progress = &self.lane.progress;
        match error {
            PushError::Full if progress.is_segment_late() => Cause::SegmentNotReady,
            PushError::Full => Cause::QueueFull,
            PushError::Closed => progress.failure().unwrap_or(Cause::Closed),
        }
    }

    fn stamp(&self, ticket: u64) -> u64 {
        if ticket.is_multiple_of(SAMPLED_EACH) { self.recorder.now() } else { 0 }
    }

    /// Refuses every later append.
    pub(crate) fn close_queue(&self) {
        self.lane.mailbox.close();
    }

    /// Waits for the writer to finish what was queued. Who closes at the same
    /// time waits for the lock, so that both get the same answer.
    pub(crate) fn join(&self) -> Result<(), Cause> {
        let mut running = self.writer.lock();
        let Some(writer) = running.take() else { return self.ended() };
        match writer.join() {
            Ok(ended) => ended,
            Err(_panic) => Err(Cause::WriterPanicked),
        }
    }

    fn ended(&self) -> Result<(), Cause> {
        self.lane.progress.failure().map_or(Ok(()), Err)
    }
}

impl Drop for WalShard {
    /// For a shard that is dropped before its log was made; close has done all
    /// of it otherwise.
    fn drop(&mut self) {
        self.close_queue();
        drop(self.join());
    }
}

fn too_large(limit: &'static str, found: u64) -> Option<Cause> {
    let max = crate::config::BATCH_BYTES_MAX as u64;
    (found > max).then_some(Cause::TooLarge { limit, found, max })
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("a batch is bounded far below u32")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A record until it is an entry: what is refused is given back.
struct Parts<'a> {
    shard: &'a WalShard,
    key: u64,
    payload: Bytes,
}

impl<'a> Parts<'a> {
    fn new(shard: &'a WalShard, key: u64, payload: Bytes) -> Self {
        Self { shard, key, payload }
    }

    fn weight(&self) -> u64 {
        self.payload.len() as u64
    }

    /// Called once, when the record has its ticket.
    fn entry(&mut self, ticket: u64) -> Entry {
        let payload = std::mem::take(&mut self.payload);
        let batch_bytes = small(crate::frame::record_bytes(payload.len()) as u64);
        let stamp = self.shard.stamp(ticket);
        Entry { key: self.key, payload, stamp, batch_records: 1, batch_bytes }
    }
}
