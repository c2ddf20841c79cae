//! The threads of a replay: each takes a shard and reads its segments in order.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::options::{Record, ReplayOptions, ReplayProgress, ReplayReport};
use super::{ShardId, ShardPlan, ShardVisitor, Visitors};
use crate::error::{OpenError, Position, ReplayError};
use crate::recovery::open_segment::{OpenSegment, missing};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::{FrameKind, next_record};
use crate::segment::frame_reader::{Frame, Stop};
use crate::segment::header::SegmentIdentity;

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
        let mut segment = OpenSegment::open(&plan.shard_dir, *meta, plan.to, chunk_bytes)
            .map_err(ReplayError::Log)?;
        let (path, end) = (plan.shard_dir.path(meta.number), segment.frames.end());
        let needed = meta.next_sequence.unwrap_or(plan.to).min(plan.to);
        let mut next = meta.first_sequence;
        let mut reported = 0;
        let mut replayed = ReplayReport::default();
        while next < needed {
            // ORDERING: Relaxed; a hint to stop early.
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let read = segment.frames.next().map_err(OpenError::io("reading", &path));
            match read.map_err(ReplayError::Log)? {
                Ok(frame) => {
                    // A seal does not count, as in the scan: a seal that names a
                    // sequence past the last record must not hide records.
                    if frame.header.kind.advances_sequence() {
                        next = segment.base() + frame.header.next();
                    }
                    if frame.header.kind == FrameKind::Records {
                        Self::run_frame(plan, &segment, &frame, visitor, &mut replayed)?;
                    }
                }
                Err(stop) => {
                    let (number, at) = (meta.number, segment.frames.at());
                    let missing = missing(&plan.shard_dir, number, at, next..needed, stop);
                    return Err(ReplayError::Log(missing));
                }
            }
            let at = segment.frames.at();
            if at - reported >= chunk_bytes as u64 {
                self.report(at - reported);
                reported = at;
            }
        }
        self.report(end - reported);
        // ORDERING: Relaxed; read after the join.
        self.records.fetch_add(replayed.records, Ordering::Relaxed);
        self.payload_bytes.fetch_add(replayed.payload_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn run_frame(
        plan: &ShardPlan,
        segment: &OpenSegment,
        frame: &Frame,
        visitor: &mut dyn ShardVisitor<E>,
        replayed: &mut ReplayReport,
    ) -> Result<(), ReplayError<E>> {
        let first = segment.base() + u64::from(frame.header.first);
        let mut at = 0;
        for sequence in first..first + u64::from(frame.header.records) {
            let Some((key, range)) = next_record(&frame.body, &mut at) else {
                let stop = Stop::Bad("a frame contradicts itself");
                let lost = sequence..plan.to;
                let number = segment.meta.number;
                let missing = missing(&plan.shard_dir, number, frame.offset, lost, stop);
                return Err(ReplayError::Log(missing));
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
