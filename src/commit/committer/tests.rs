//! Tests for gathering: which commits yield first. The yields are counted.

use std::io;
use std::path::Path;
use std::task::{Context, Waker};

use super::*;
use crate::commit::progress::TicketRegistration;
use crate::commit::writer::CommitPolicy;
use crate::fs::sim::SimFileSystem;
use crate::fs::{FileSystem, OpenMode};
use crate::segment::catalogue::Catalogue;
use crate::segment::header::{Predecessor, SegmentHeader, SegmentIdentity, segment_path};
use crate::segment::writer::{
    Prepared, SealMark, Sealed, SegmentPolicy, SegmentSource, SegmentWriter,
};
use crate::util::sync::yields;

use CommitMode::{WriteAndSync, WriteOnly};

/// The record limit of a commit.
const COMMIT_RECORDS: u64 = 4;

/// A source of no segments: the first segment never fills.
struct NoNext;

impl SegmentSource for NoNext {
    fn request(&mut self, _number: u64, _zeros: u64) {}

    fn take(&mut self, _wait: bool) -> Option<io::Result<Prepared>> {
        None
    }

    fn seal(&mut self, _sealed: Sealed, _wait: bool) -> Result<(), Sealed> {
        Ok(())
    }

    fn sealed(&mut self, _wait: bool) -> Option<io::Result<SealMark>> {
        None
    }
}

fn segments() -> SegmentWriter {
    let fs = SimFileSystem::new();
    let identity = SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 1 };
    let header = SegmentHeader { identity, first_sequence: 0, predecessor: Predecessor::default() };
    let file =
        fs.open(&segment_path(Path::new("/"), 1), OpenMode::CreateNew).expect("the disk is empty");
    let policy = SegmentPolicy {
        segment_bytes: 1 << 20,
        zeros_ahead: false,
        window_bytes: 0,
        header_last: false,
    };
    SegmentWriter::new(policy, &header, file, 88, 0, Box::new(NoNext), Catalogue::default())
}

/// Yields that two commits of `records` in all make, if `waiting` tasks wait for the first.
fn yields_of(records: u64, waiting: u64, mode: CommitMode) -> u32 {
    let (committer, receiver) = Committer::new(16, u64::MAX, mode);
    let queue = (committer.queue.clone(), committer.progress.clone(), receiver);
    let policy = CommitPolicy { records_max: COMMIT_RECORDS, bytes_max: 1 << 16, mode };
    let writer = Writer::new(queue, segments(), policy, Arc::new(()), 0, None);
    for _ in 0..records {
        let fill = |_, entry: &mut Entry| entry.hold(1, &mut (&[7]).into(), 0);
        committer.queue.try_push(1, 1, fill).expect("there is room");
    }
    for ticket in 0..waiting {
        let mut context = Context::from_waker(Waker::noop());
        let mut registration = TicketRegistration::default();
        let polled = committer.progress.poll(ticket, &mut context, &mut registration);
        assert!(polled.is_none(), "it waits");
    }
    let before = yields();
    let mut locked = Some(committer.lock.init(Box::new(writer)));
    while let Some(guard) = locked {
        drop(committer.thread_loop(guard, WakeChain::default()));
        locked = committer.queue.next_work().and_then(|_| committer.lock.try_lock());
    }
    assert_eq!(committer.progress.acknowledged(), records);
    yields() - before
}

#[test]
fn a_commit_gathers_if_several_waited_and_fewer_have_come() {
    assert_eq!(yields_of(COMMIT_RECORDS + 2, 2, WriteAndSync), GATHER_YIELDS_MAX);
    assert_eq!(yields_of(COMMIT_RECORDS + 2, 4, WriteAndSync), GATHER_YIELDS_MAX);
    assert_eq!(yields_of(2 * COMMIT_RECORDS, 4, WriteAndSync), 0, "as many have come");
}

#[test]
fn a_commit_does_not_gather_without_waiters_nor_for_one() {
    assert_eq!(yields_of(COMMIT_RECORDS + 2, 0, WriteAndSync), 0);
    assert_eq!(yields_of(COMMIT_RECORDS + 2, 1, WriteAndSync), 0);
    assert_eq!(yields_of(COMMIT_RECORDS + 2, 4, WriteOnly), 0, "commits end without a sync");
}
