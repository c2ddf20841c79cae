//! Tests for gathering: which commits yield first. The yields are counted.

use std::io;
use std::path::Path;
use std::task::{Context, Waker};

use super::*;
use crate::commit::writer::CommitPolicy;
use crate::fs::sim::SimDisk;
use crate::fs::{Disk, OpenMode};
use crate::segment::header::{Predecessor, SegmentHeader, SegmentIdentity, segment_path};
use crate::segment::writer::{
    Catalogue, Prepared, SealMark, Sealed, SegmentPolicy, SegmentSource, SegmentWriter,
};
use crate::util::sync::turns_given_away;

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
    let disk = SimDisk::new();
    let identity = SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 1 };
    let header = SegmentHeader { identity, first_sequence: 0, predecessor: Predecessor::default() };
    let file = disk
        .open(&segment_path(Path::new("/"), 1), OpenMode::CreateNew)
        .expect("the disk is empty");
    let policy = SegmentPolicy {
        segment_bytes: 1 << 20,
        zeros_ahead: false,
        window_bytes: 0,
        header_last: false,
    };
    SegmentWriter::new(policy, &header, file, 88, 0, Box::new(NoNext), Catalogue::default())
}

/// Yields that two commits of `records` in all make, if `waiting` tasks wait for the first.
fn turns_given(records: u64, waiting: u64, sync: bool) -> u32 {
    let (lane, receiver) = Lane::new(16, u64::MAX, sync);
    let queue = (lane.mailbox.clone(), lane.progress.clone(), receiver);
    let policy = CommitPolicy { records_max: COMMIT_RECORDS, bytes_max: 1 << 16, sync };
    let writer = Writer::new(queue, segments(), policy, Arc::new(()), 0, None);
    for _ in 0..records {
        let fill = |_, entry: &mut Entry| entry.hold(1, &mut (&[7]).into(), 0);
        lane.mailbox.try_push(1, 1, fill).expect("there is room");
    }
    for ticket in 0..waiting {
        let mut context = Context::from_waker(Waker::noop());
        assert!(lane.progress.poll(ticket, &mut context, &mut None).is_none(), "it waits");
    }
    let before = turns_given_away();
    let turn = lane.turn.bring(Box::new(writer));
    drop(lane.work(turn, None, Chain::default(), |_| true));
    assert_eq!(lane.progress.acknowledged(), records);
    turns_given_away() - before
}

#[test]
fn a_commit_gathers_where_several_waited_for_the_last_and_fewer_have_come() {
    assert_eq!(turns_given(COMMIT_RECORDS + 2, 2, true), GATHERING_TURNS);
    assert_eq!(turns_given(COMMIT_RECORDS + 2, 4, true), GATHERING_TURNS);
    assert_eq!(turns_given(2 * COMMIT_RECORDS, 4, true), 0, "as many have come");
}

#[test]
fn a_commit_gathers_for_nobody_who_does_not_wait_nor_for_one_alone() {
    assert_eq!(turns_given(COMMIT_RECORDS + 2, 0, true), 0);
    assert_eq!(turns_given(COMMIT_RECORDS + 2, 1, true), 0);
    assert_eq!(turns_given(COMMIT_RECORDS + 2, 4, false), 0, "commits end without a sync");
}
