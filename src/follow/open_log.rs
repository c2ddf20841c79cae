//! The shards of an open log, followed in the process that has it open.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use crate::error::{Cause, OpenError};
use crate::follow::shard_source::ShardSource;
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;
use crate::shard::shard::WalShard;
use crate::shard::truncate::OldShard;
use crate::util::sync::{Arc, Mutex};
use crate::wait::waiter::Registration;

/// A shard that takes appends. Its writer wakes the follower.
#[derive(Debug)]
pub(crate) struct OpenShard {
    shard: Arc<WalShard>,
    /// The tickets that were durable or refused at the last look.
    seen: u64,
    registration: Option<Registration>,
}

impl OpenShard {
    pub(crate) fn new(shard: Arc<WalShard>) -> Self {
        Self { shard, seen: 0, registration: None }
    }
}

impl ShardSource for OpenShard {
    fn shard_dir(&self) -> &ShardDir {
        self.shard.shard_dir()
    }

    fn durable_below(&mut self) -> Result<u64, OpenError> {
        // Before the sequence: a mark that rises in between is only seen once more.
        self.seen = self.shard.committer().progress.synced();
        Ok(self.shard.durable_below())
    }

    fn truncated_below(&mut self) -> Result<u64, OpenError> {
        let below = *self.shard.truncated_below().lock();
        Ok(self.shard.records_end(below))
    }

    fn segment(&mut self, sequence: u64) -> Result<Option<SegmentMeta>, OpenError> {
        Ok(segment_of(self.shard.catalogue(), sequence))
    }

    fn poll_advanced(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let progress = &self.shard.committer().progress;
        let next = self.seen + 1;
        let answer = match self.shard.forked() {
            Some(cause) => progress.synced_answer(next).or(Some(Err(cause))),
            None => progress.poll_synced(next, context, &mut self.registration),
        };
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    fn would_deadlock(&self) -> Option<Cause> {
        self.shard.would_deadlock()
    }
}

/// A shard of an earlier generation. It gets no more records.
#[derive(Debug)]
pub(crate) struct EarlierShard(pub(crate) Arc<OldShard>);

impl ShardSource for EarlierShard {
    fn shard_dir(&self) -> &ShardDir {
        &self.0.shard_dir
    }

    fn durable_below(&mut self) -> Result<u64, OpenError> {
        Ok(self.0.next_sequence)
    }

    fn truncated_below(&mut self) -> Result<u64, OpenError> {
        Ok(*self.0.truncated_below.lock())
    }

    fn segment(&mut self, sequence: u64) -> Result<Option<SegmentMeta>, OpenError> {
        Ok(segment_of(&self.0.segments, sequence))
    }

    fn poll_advanced(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        Poll::Ready(Err(Cause::Closed))
    }

    fn would_deadlock(&self) -> Option<Cause> {
        None
    }
}

fn segment_of(catalogue: &Mutex<VecDeque<SegmentMeta>>, sequence: u64) -> Option<SegmentMeta> {
    let segments = catalogue.lock();
    segments.iter().find(|meta| meta.reaches(sequence)).copied()
}
