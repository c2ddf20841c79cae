//! A shard whose file and durable mark a test sets.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use crate::commit::progress::Progress;
use crate::error::{Cause, OpenError};
use crate::follow::shard_source::ShardSource;
use crate::fs::sim::SimFileSystem;
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::{Encoder, FrameOrigin};
use crate::segment::header::{
    Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity, segment_path,
};
use crate::space::recycle::Recycler;
use crate::util::sync::Arc;
use crate::wait::waiter::Registration;

const DIR: &str = "/";
const IDENTITY: SegmentIdentity =
    SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 1 };

/// A shard of one segment, whose sequences are the tickets of `progress`.
#[derive(Debug)]
pub(crate) struct ScriptedShard {
    shard_dir: ShardDir,
    pub(crate) progress: Arc<Progress>,
    seen: u64,
    registration: Option<Registration>,
}

impl ScriptedShard {
    pub(crate) fn new(fs: &SimFileSystem) -> Self {
        let shard_dir = ShardDir {
            fs: Arc::new(fs.clone()),
            dir: PathBuf::from(DIR),
            identity: IDENTITY,
            truncated_below: 0,
            recycler: Recycler::default(),
        };
        Self { shard_dir, progress: Arc::new(Progress::new(4)), seen: 0, registration: None }
    }

    /// Writes the segment: a frame per payload, whose sequences rise from 0.
    pub(crate) fn write(fs: &SimFileSystem, payloads: &[&[u8]]) {
        let header =
            SegmentHeader { identity: IDENTITY, first_sequence: 0, predecessor: NO_PREDECESSOR };
        let mut encoder = Encoder::default();
        encoder.begin(&header.encode(), 1);
        let origin = FrameOrigin { seed: IDENTITY.seed(), first_sequence: 0, offset: 0 };
        for (sequence, payload) in (0..).zip(payloads) {
            encoder.record(sequence, sequence, payload);
            encoder.close_frame(&origin, 0);
        }
        assert!(encoder.len() > SEGMENT_HEADER_BYTES);
        fs.write_file(segment_path(Path::new(DIR), IDENTITY.number), encoder.bytes());
    }
}

const NO_PREDECESSOR: Predecessor = Predecessor { number: 0, end: 0, next_sequence: 0 };

impl ShardSource for ScriptedShard {
    fn shard_dir(&self) -> &ShardDir {
        &self.shard_dir
    }

    fn durable_below(&mut self) -> Result<u64, OpenError> {
        self.seen = self.progress.synced();
        Ok(self.progress.synced_records_end())
    }

    fn truncated_below(&mut self) -> Result<u64, OpenError> {
        Ok(0)
    }

    fn segment(&mut self, _sequence: u64) -> Result<Option<SegmentMeta>, OpenError> {
        let number = IDENTITY.number;
        let (first_sequence, next_sequence, end, durable) = (0, None, 0, false);
        Ok(Some(SegmentMeta { number, first_sequence, next_sequence, end, durable }))
    }

    fn poll_advanced(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        let Self { progress, seen, registration, .. } = self;
        let answer = progress.poll_synced(*seen + 1, context, registration);
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    fn would_deadlock(&self) -> Option<Cause> {
        None
    }
}
