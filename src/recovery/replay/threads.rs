//! The threads of a replay: each takes a shard and reads its segments in order.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::options::{Record, ReplayOptions, ReplayProgress, ReplayReport};
use super::{ShardId, ShardPlan, ShardVisitor, Visitors};
use crate::error::{Corruption, OpenError, Position, RESTORE, ReplayError};
use crate::fs::{FileHandle, OpenMode, Unreadable, read_around};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::{FrameKind, next_record};
use crate::segment::frame_reader::{Frame, FrameReader, Stop};
use crate::segment::header::{ParsedHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity};

/// Limits of a thread's read buffer. A larger buffer reads no faster, and the disk
/// is idle for longer while the thread works through it.
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(1 << 20);

/// The state that the threads of a replay share. The counters order nothing: they
/// are read after the join, or only shown to a user. Hence Relaxed.
pub(super) struct Shared<'a, 'v, E> {
    options: &'a ReplayOptions,
    visitors: &'a Visitors<'v, E>,
    bytes_total: u64,
    bytes_done: AtomicU64,
    records: AtomicU64,
    payload_bytes: AtomicU64,
    /// Set by a thread that failed. The others read it, and stop at their next
    /// frame.
    stop: AtomicBool,
    /// The first failure. Set by a thread that failed, taken after the join.
    failure: Mutex<Option<Failure<E>>>,
}

enum Failure<E> {
    Error(ReplayError<E>),
    Panic(Box<dyn std::any::Any + Send>),
}

impl<'a, 'v, E: Send> Shared<'a, 'v, E> {
    pub(super) fn new(
        options: &'a ReplayOptions,
        visitors: &'a Visitors<'v, E>,
        bytes_total: u64,
    ) -> Self {
        Self {
            options,
            visitors,
            bytes_total,
            bytes_done: AtomicU64::new(0),
            records: AtomicU64::new(0),
            payload_bytes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// What the callback got.
    pub(super) fn into_report(self) -> ReplayReport {
        ReplayReport {
            records: self.records.into_inner(),
            payload_bytes: self.payload_bytes.into_inner(),
        }
    }

    /// Replays the shards of one generation. Blocks until all threads are done.
    pub(super) fn run_generation(&self, plans: Vec<ShardPlan>) -> Result<(), ReplayError<E>> {
        let threads = self.options.threads.min(plans.len()).max(1);
        let memory = self.options.memory_bytes / threads;
        let chunk_bytes = memory.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end());
        let (sender, receiver) = crossbeam_channel::unbounded();
        for plan in plans {
            // Cannot fail: the receiver lives in this function.
            drop(sender.send(plan));
        }
        drop(sender);
        std::thread::scope(|scope| {
            // This thread works too, so a thread that cannot be started only costs
            // speed.
            for _ in 1..threads {
                let plans = receiver.clone();
                let work = move || self.work(&plans, chunk_bytes);
                drop(std::thread::Builder::new().spawn_scoped(scope, work));
            }
            self.work(&receiver, chunk_bytes);
        });
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            None => Ok(()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }

    /// The work of one thread: replays shards until none is left or one failed.
    fn work(&self, plans: &crossbeam_channel::Receiver<ShardPlan>, chunk_bytes: usize) {
        while let Ok(plan) = plans.recv() {
            let done = catch_unwind(AssertUnwindSafe(|| self.run_shard(&plan, chunk_bytes)));
            let failure = match done {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => Failure::Error(error),
                Err(panic) => Failure::Panic(panic),
            };
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            // ORDERING: Relaxed; a hint to stop early, the join orders.
            self.stop.store(true, Ordering::Relaxed);
            return;
        }
    }

    fn run_shard(&self, plan: &ShardPlan, chunk_bytes: usize) -> Result<(), ReplayError<E>> {
        let SegmentIdentity { generation, shard, .. } = plan.shard_dir.identity;
        let mut visitor = (self.visitors)(ShardId { generation, shard });
        for meta in &plan.segments {
            self.run_segment(plan, meta, chunk_bytes, visitor.as_mut())?;
        }
        visitor.end();
        Ok(())
    }

    fn run_segment(
        &self,
        plan: &ShardPlan,
        meta: &SegmentMeta,
        chunk_bytes: usize,
        visitor: &mut dyn ShardVisitor<E>,
    ) -> Result<(), ReplayError<E>> {
        let path = plan.shard_dir.path(meta.number);
        let Opened { mut frames, base, end } = self.open_segment(plan, meta, chunk_bytes)?;
        let needed = meta.next_sequence.unwrap_or(plan.to).min(plan.to);
        let mut next = meta.first_sequence;
        let mut reported = 0;
        let mut replayed = ReplayReport::default();
        while next < needed {
            // ORDERING: Relaxed; a hint to stop early.
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match frames.next().map_err(|error| log_error("reading", &path, error))? {
                Ok(frame) => {
                    // A seal does not count, as in the scan: a seal that names a
                    // sequence past the last record must not hide records.
                    if frame.header.kind.advances_sequence() {
                        next = base + frame.header.next();
                    }
                    if frame.header.kind == FrameKind::Records {
                        Self::run_frame(plan, base, &frame, visitor, &mut replayed)?;
                    }
                }
                Err(stop) => {
                    Self::check_exists(plan, &path)?;
                    return Err(changed(plan, &path, frames.at(), next, needed, stop));
                }
            }
            if frames.at() - reported >= chunk_bytes as u64 {
                self.report(frames.at() - reported);
                reported = frames.at();
            }
        }
        self.report(end - reported);
        // ORDERING: Relaxed; read after the join.
        self.records.fetch_add(replayed.records, Ordering::Relaxed);
        self.payload_bytes.fetch_add(replayed.payload_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn open_segment(
        &self,
        plan: &ShardPlan,
        meta: &SegmentMeta,
        chunk_bytes: usize,
    ) -> Result<Opened, ReplayError<E>> {
        let path = plan.shard_dir.path(meta.number);
        let path = path.as_path();
        let log = |doing| move |error| log_error(doing, path, error);
        let file = plan.shard_dir.fs.open(path, OpenMode::Read).map_err(log("opening"))?;
        let end = match meta.next_sequence {
            Some(_) => meta.end,
            None => file.len().map_err(log("reading the size of"))?,
        };
        let base = self.first_sequence(plan, meta, file.as_ref())?;
        let seed = plan.shard_dir.seed(meta.number);
        let start = SEGMENT_HEADER_BYTES as u64;
        let frames = FrameReader::new(file, seed, start, end, chunk_bytes);
        Ok(Opened { frames, base, end })
    }

    /// Checks that a segment still has its name. A segment that was truncated during
    /// the read may have been recycled, and its file now holds another segment. That
    /// is reported as a missing file, not as corruption.
    fn check_exists(plan: &ShardPlan, path: &Path) -> Result<(), ReplayError<E>> {
        let opened = plan.shard_dir.fs.open(path, OpenMode::Read).map(drop);
        opened.map_err(|error| log_error("opening", path, error))
    }

    fn first_sequence(
        &self,
        plan: &ShardPlan,
        meta: &SegmentMeta,
        file: &dyn FileHandle,
    ) -> Result<u64, ReplayError<E>> {
        let path = plan.shard_dir.path(meta.number);
        let (mut bytes, mut unreadable) = ([0; SEGMENT_HEADER_BYTES], Unreadable::default());
        read_around(file, &mut bytes, 0, &mut unreadable)
            .map_err(|error| log_error("reading", &path, error))?;
        if let Some(Range { start: from, end: to }) = unreadable.first() {
            let (stop, next) = (Stop::Unreadable { from, to }, meta.next_sequence);
            let needed = next.unwrap_or(plan.to);
            return Err(changed(plan, &path, 0, meta.first_sequence, needed, stop));
        }
        let identity = plan.shard_dir.identity.with_number(meta.number);
        match SegmentHeader::parse(&bytes, &identity) {
            ParsedHeader::Header(header) => Ok(header.first_sequence),
            _ => {
                Self::check_exists(plan, &path)?;
                let stop = Stop::Bad("the segment's header does not match");
                let to = meta.next_sequence.unwrap_or(plan.to);
                Err(changed(plan, &path, 0, meta.first_sequence, to, stop))
            }
        }
    }

    fn run_frame(
        plan: &ShardPlan,
        base: u64,
        frame: &Frame,
        visitor: &mut dyn ShardVisitor<E>,
        replayed: &mut ReplayReport,
    ) -> Result<(), ReplayError<E>> {
        let first = base + u64::from(frame.header.first);
        let mut at = 0;
        for sequence in first..first + u64::from(frame.header.records) {
            let Some((key, range)) = next_record(&frame.body, &mut at) else {
                let stop = Stop::Bad("a frame contradicts itself");
                let path = plan.shard_dir.dir.clone();
                return Err(changed(plan, &path, frame.offset, sequence, plan.to, stop));
            };
            if sequence < plan.from || sequence >= plan.to {
                continue;
            }
            let position = Position {
                generation: plan.shard_dir.identity.generation,
                shard: plan.shard_dir.identity.shard,
                sequence,
            };
            let payload = &frame.body[range];
            replayed.records += 1;
            replayed.payload_bytes += payload.len() as u64;
            visitor
                .visit(&Record { position, key, payload, frame: &frame.body })
                .map_err(ReplayError::Callback)?;
        }
        Ok(())
    }

    fn report(&self, bytes: u64) {
        // ORDERING: Relaxed; a figure to show to a user.
        let bytes_done = self.bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(progress) = &self.options.progress {
            progress(ReplayProgress { bytes_done, bytes_total: self.bytes_total });
        }
    }
}

/// A segment to replay: its frames, the sequence of its first record, and its end in bytes.
struct Opened {
    frames: FrameReader,
    base: u64,
    end: u64,
}

fn log_error<E>(doing: &'static str, path: &Path, error: io::Error) -> ReplayError<E> {
    ReplayError::Log(OpenError::io(doing, path)(error))
}

/// The error if a record cannot be read now, but could at open.
fn changed<E>(
    plan: &ShardPlan,
    path: &Path,
    offset: u64,
    first_sequence: u64,
    durable_below: u64,
    stop: Stop,
) -> ReplayError<E> {
    ReplayError::Log(OpenError::Corrupted(Box::new(Corruption {
        generation: plan.shard_dir.identity.generation,
        shard: plan.shard_dir.identity.shard,
        file: PathBuf::from(path),
        offset,
        first_sequence,
        durable_below,
        what: stop.to_string(),
        advice: RESTORE.into(),
    })))
}
