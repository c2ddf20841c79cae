//! A shard for the models: a committer, the writer as shipped, and the simulated disk.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Once;
use std::task::Waker;

use loom::thread::{self, JoinHandle};

use crate::commit::commit_mode::CommitMode;
use crate::commit::committer::Committer;
use crate::commit::progress::{Answer, TicketRegistration};
use crate::commit::state_machine::{Driven, StateMachine};
use crate::commit::writer::{CommitPolicy, Writer};
use crate::error::Cause;
use crate::fs::sim::SimFileSystem;
use crate::fs::{FileSystem, OpenMode};
use crate::queue::entry::Entry;
use crate::queue::queue::{PushError, Queue};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::next_record;
use crate::segment::frame_reader::FrameReader;
use crate::segment::header::{ParsedHeader, segment_path};
use crate::segment::header::{Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity};
use crate::segment::writer::prepare;
use crate::segment::writer::{
    Prepared, SealMark, Sealed, SegmentPolicy, SegmentSource, SegmentWriter,
};
use crate::shard::sealer::{SealQueue, Sealer, sealer};
use crate::space::recycle::Recycler;
use crate::util::sync::{Arc, Mutex};
use crate::wait::sleeper::Sleeper;

const DIR: &str = "/shard";
/// The sequence of ticket 0. It is not 0, so that the two are not mixed up.
pub(super) const BASE: u64 = 100;
/// The ticket of a record that was queued before the writer started.
pub(super) const FIRST: u64 = 0;
/// A segment that is never full.
pub(super) const ROOMY: u64 = 1 << 20;
/// A segment that must roll after each commit.
pub(super) const CRAMPED: u64 = 100;

fn identity(number: u64) -> SegmentIdentity {
    SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number }
}

/// Prepares the next segment on request. Syncs a full segment between the writer's first
/// and second question about it, and requests a seal then, as the sealer does.
struct OnTheSpot {
    fs: SimFileSystem,
    queue: Arc<Queue<Entry>>,
    prepared: Option<io::Result<Prepared>>,
    sealed: VecDeque<Sealed>,
    /// Whether the writer has asked about the oldest full segment and got no answer yet.
    was_asked: bool,
}

impl SegmentSource for OnTheSpot {
    fn request(&mut self, number: u64, zeros: u64) {
        self.prepared = Some(prepare(&self.fs, Path::new(DIR), number, zeros));
    }

    fn take(&mut self, _wait: bool) -> Option<io::Result<Prepared>> {
        self.prepared.take()
    }

    fn seal(&mut self, sealed: Sealed, _wait: bool) -> Result<(), Sealed> {
        self.sealed.extend(sealed.mark.map(|_| sealed));
        Ok(())
    }

    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>> {
        if !wait && !self.was_asked && !self.sealed.is_empty() {
            self.was_asked = true;
            self.queue.request_seal();
            return None;
        }
        self.was_asked = false;
        let mut sealed = self.sealed.pop_front()?;
        let mark = sealed.mark.expect("no other is kept");
        Some(sealed.sync_and_cut().map(|()| mark))
    }
}

/// Prepares the next segment on request, and passes full segments to the sealer.
struct ToTheSealer {
    fs: SimFileSystem,
    prepared: Option<io::Result<Prepared>>,
    seals: SealQueue,
}

impl SegmentSource for ToTheSealer {
    fn request(&mut self, number: u64, zeros: u64) {
        self.prepared = Some(prepare(&self.fs, Path::new(DIR), number, zeros));
    }

    fn take(&mut self, _wait: bool) -> Option<io::Result<Prepared>> {
        self.prepared.take()
    }

    fn seal(&mut self, sealed: Sealed, wait: bool) -> Result<(), Sealed> {
        self.seals.seal(sealed, wait)
    }

    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>> {
        self.seals.sealed(wait)
    }

    fn abandon(&mut self) {
        self.seals.abandon();
    }
}

/// One shard whose writer has not started.
pub(super) struct Rig {
    pub(super) fs: SimFileSystem,
    pub(super) committer: Arc<Committer>,
    pub(super) writer: Writer,
}

/// The queue, the commits and the segments of a shard.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// Records in the queue.
    pub(super) queue: usize,
    /// Bytes in the queue; each record counts as one.
    pub(super) queue_bytes: u64,
    /// Records in a commit.
    pub(super) max_commit_records: u64,
    pub(super) mode: CommitMode,
    pub(super) segment_bytes: u64,
}

/// `Durability::Sync`, one segment, room in the queue for two callers.
pub(super) const SYNCED: Shape = Shape {
    queue: 2,
    queue_bytes: u64::MAX,
    max_commit_records: 2,
    mode: CommitMode::WriteAndSync,
    segment_bytes: ROOMY,
};
/// `Durability::Buffered`, the rest as in [`SYNCED`].
pub(super) const UNSYNCED: Shape = Shape { mode: CommitMode::WriteOnly, ..SYNCED };

impl Rig {
    /// A fresh shard with its first segment in place, as open makes it.
    pub(super) fn new(shape: Shape) -> Self {
        Self::driving(shape, None)
    }

    /// A fresh shard whose writer drives a state machine.
    pub(super) fn driving(shape: Shape, machine: Option<Box<dyn StateMachine>>) -> Self {
        Self::with_source(shape, machine, |fs, queue| {
            let (prepared, sealed) = (None, VecDeque::new());
            Box::new(OnTheSpot { fs, queue, prepared, sealed, was_asked: false })
        })
    }

    /// A fresh shard whose full segments go to the sealer as shipped.
    pub(super) fn sealing(shape: Shape) -> (Self, Sealer) {
        let (queues, sealer) = sealer();
        let rig = Self::with_source(shape, None, |fs, _| {
            Box::new(ToTheSealer {
                fs,
                prepared: None,
                seals: queues.queue(0, Recycler::default()),
            })
        });
        (rig, sealer)
    }

    fn with_source(
        shape: Shape,
        machine: Option<Box<dyn StateMachine>>,
        source: impl FnOnce(SimFileSystem, Arc<Queue<Entry>>) -> Box<dyn SegmentSource>,
    ) -> Self {
        let fs = SimFileSystem::with_dir(DIR);
        let header = SegmentHeader {
            identity: identity(1),
            first_sequence: BASE,
            predecessor: Predecessor::default(),
        };
        let path = segment_path(Path::new(DIR), 1);
        fs.write_file(&path, &header.encode());
        let file = fs.open(&path, OpenMode::Write).expect("it was just made");
        let meta = SegmentMeta {
            number: 1,
            first_sequence: BASE,
            next_sequence: None,
            end: 0,
            durable: true,
        };
        let (committer, receiver) = Committer::new(shape.queue, shape.queue_bytes, shape.mode);
        let source = source(fs.clone(), committer.queue.clone());
        let segments = SegmentWriter::new(
            SegmentPolicy {
                segment_bytes: shape.segment_bytes,
                zeros_ahead: false,
                window_bytes: 0,
                header_last: false,
            },
            &header,
            file,
            SEGMENT_HEADER_BYTES as u64,
            BASE,
            source,
            Arc::new(Mutex::new([meta].into())),
        );
        let policy = CommitPolicy {
            records_max: shape.max_commit_records,
            bytes_max: 1 << 16,
            mode: shape.mode,
        };
        let machine = machine.map(Driven::new);
        // Nothing is acknowledged or marked above `BASE` at first.
        let queue = (committer.queue.clone(), committer.progress.clone(), receiver);
        let writer = Writer::new(queue, segments, policy, Arc::new(()), BASE, machine);
        Self { fs, committer, writer }
    }

    /// Queues a record, which gets ticket 0, before the writer starts. Other models explore how
    /// pushes race.
    pub(super) fn with_first(self, key: u64) -> Self {
        assert_eq!(append(&self.committer, key), Ok(FIRST), "the queue was empty");
        self
    }

    /// Starts the writer. A panic ends it, and is reported as the shard's error.
    pub(super) fn start(self) -> (SimFileSystem, Arc<Committer>, JoinHandle<Result<(), Cause>>) {
        silence_planned_panics();
        let Self { fs, committer, writer } = self;
        let serving = committer.clone();
        let writer = thread::spawn(move || serving.run_thread(writer));
        (fs, committer, writer)
    }
}

/// Closes the queue and waits for the writer, in one order only. Other models explore how a
/// close races.
pub(super) fn finish(committer: &Committer, writer: JoinHandle<Result<(), Cause>>) {
    loom::stop_exploring();
    committer.queue.close();
    drop(writer.join());
}

/// Prints no planned panic, because a model has thousands of them.
fn silence_planned_panics() {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with("a planned panic")) {
                usual(info);
            }
        }));
    });
}

/// Queues one record. `Err` if the shard refuses it.
pub(super) fn append(committer: &Committer, key: u64) -> Result<u64, PushError> {
    let pushed = committer.queue.push(1, 1, None, |_, entry| fill(entry, key));
    pushed.map_err(|refused| refused.error)
}

/// Queues one record and commits inline. `Err` if the shard refuses it.
pub(super) fn append_inline(committer: &Committer, key: u64) -> Result<u64, PushError> {
    committer.push_and_commit_inline(1, |_, entry| fill(entry, key))
}

/// Queues one record where there is room, and wakes nobody.
pub(super) fn append_no_wake(committer: &Committer, key: u64) -> Result<u64, PushError> {
    committer.queue.try_push_no_wake(1, 1, |_, entry| fill(entry, key))
}

/// Queues one record for a task.
pub(super) fn append_for_task(
    committer: &Committer,
    key: u64,
    waker: &Waker,
) -> (u64, TicketRegistration) {
    let sleeper = Sleeper::Task(waker.clone());
    let pushed = committer.push_for_task(1, |_, entry| fill(entry, key), sleeper);
    pushed.map_err(|(error, _)| error).expect("there is room")
}

/// A record whose payload repeats its key.
fn fill(entry: &mut Entry, key: u64) {
    let payload = [u8::try_from(key).expect("models use small keys")];
    entry.hold(key, &mut (&payload).into(), 0);
}

/// Waits for the answer to a ticket. Loom reports a deadlock if it never comes.
pub(super) fn answer(committer: &Committer, ticket: u64) -> Answer {
    committer.progress.wait(ticket, None, &TicketRegistration::None).expect("there was no deadline")
}

/// Cuts the power so that only synced bytes survive, and reads the log: the key and
/// sequence of each record.
pub(super) fn after_power_loss(fs: &SimFileSystem) -> Vec<(u64, u64)> {
    gapless(read(&fs.crash(&mut || false)))
}

/// Cuts the power so that all bytes survive, and reads the log.
pub(super) fn after_lucky_power_loss(fs: &SimFileSystem) -> Vec<(u64, u64)> {
    gapless(read(&fs.crash(&mut || true)))
}

fn gapless(records: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let sequences = records.iter().map(|(_, sequence)| *sequence);
    assert!(sequences.eq(BASE..BASE + records.len() as u64), "W1 PREFIX: {records:?}");
    records
}

/// Reads all records, segment by segment, up to the first incomplete frame. Checks each
/// record against its key.
pub(super) fn read(fs: &SimFileSystem) -> Vec<(u64, u64)> {
    let mut records = Vec::new();
    for number in 1.. {
        let path = segment_path(Path::new(DIR), number);
        let Some(bytes) = fs.read_file(&path) else { break };
        let ParsedHeader::Header(header) = SegmentHeader::parse(&bytes, &identity(number)) else {
            break;
        };
        let next = records.last().map_or(BASE, |(_, sequence)| sequence + 1);
        if number > 1 && header.predecessor.next_sequence != next {
            break;
        }
        let file = fs.open(&path, OpenMode::Read).expect("it was just read");
        let (at, end) = (SEGMENT_HEADER_BYTES as u64, bytes.len() as u64);
        let mut frames = FrameReader::new(file, header.identity.seed(), at, end, 4096);
        while let Ok(frame) = frames.next().expect("no fault is left on the disk") {
            let first = header.first_sequence + u64::from(frame.header.first);
            let mut at = 0;
            for sequence in (first..).take(frame.header.records.into()) {
                let (key, payload) = next_record(&frame.body, &mut at).expect("a whole record");
                assert_eq!(u64::from(frame.body[payload][0]), key, "a payload says its key");
                records.push((key, sequence));
            }
        }
    }
    records
}

/// Waits for a record, which must be acknowledged.
pub(super) fn assert_acknowledged(committer: &Committer, ticket: u64) {
    let answer = answer(committer, ticket);
    assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
}

/// Waits for a record. If it is acknowledged, cuts the power and requires the record.
pub(super) fn wait_and_lose_power(
    committer: &Committer,
    fs: &SimFileSystem,
    key: u64,
    ticket: u64,
) {
    if let Answer::Acknowledged = answer(committer, ticket) {
        assert_survived(&after_power_loss(fs), key, ticket);
    }
}

pub(super) fn assert_survived(records: &[(u64, u64)], key: u64, ticket: u64) {
    assert!(
        records.contains(&(key, BASE + ticket)),
        "C2 DURABLE: {key} was acknowledged at {ticket}, there is {records:?}"
    );
}
