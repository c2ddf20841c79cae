//! Unit tests of rolling, for cases that would take a whole log hours to reach.

use std::path::Path;

use super::*;
use crate::fs::sim::SimFileSystem;
use crate::fs::{FileSystem, OpenMode};
use crate::segment::header::segment_path;

/// A source that prepares a segment on request. Waiting without a request is a test
/// error.
struct Prompt {
    fs: SimFileSystem,
    asked: Option<u64>,
}

impl SegmentSource for Prompt {
    fn request(&mut self, number: u64, _zeros: u64) {
        self.asked = Some(number);
    }

    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>> {
        assert!(self.asked.is_some() || !wait, "this wait would never end");
        self.asked.take().map(|number| prepare(&self.fs, Path::new("/"), number, 0))
    }

    fn seal(&mut self, sealed: Sealed, _wait: bool) -> Result<(), Sealed> {
        assert_eq!(sealed.mark, None, "nothing is written to the first segment");
        Ok(())
    }

    fn sealed(&mut self, _wait: bool) -> Option<io::Result<SealMark>> {
        None
    }
}

fn writer(fs: &SimFileSystem, window_bytes: u64) -> SegmentWriter {
    let identity = SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 1 };
    let header = SegmentHeader { identity, first_sequence: 0, predecessor: Predecessor::default() };
    let file = fs.open(&segment_path(Path::new("/"), 1), OpenMode::CreateNew).unwrap();
    let policy = SegmentPolicy {
        segment_bytes: 1 << 20,
        zeros_ahead: false,
        window_bytes,
        header_last: false,
    };
    let source = Box::new(Prompt { fs: fs.clone(), asked: None });
    SegmentWriter::new(policy, &header, file, 88, 0, source, Catalogue::default())
}

#[test]
fn a_segment_that_is_crowded_though_not_half_full_is_followed_by_the_next() {
    let fs = SimFileSystem::new();
    let mut writer = writer(&fs, 0);
    // A full disk refuses this many sequences in an hour of eager retries.
    let next = SEGMENT_SEQUENCES_MAX + 2;
    let wait = writer.due(next).expect("a u32 is about to pass");
    assert!(writer.roll(wait, next).unwrap());
    assert!(writer.due(next).is_none());
}

#[test]
fn a_commit_grows_its_file_by_a_window_where_there_is_room_for_one_and_else_by_itself() {
    let fs = SimFileSystem::new();
    let mut writer = writer(&fs, 16 << 10);
    let file = || fs.read_file(segment_path(Path::new("/"), 1)).unwrap();
    let mut commit = |length: usize, of: u8, first: u64| {
        let mut bytes = AlignedBuf::zeros(length, 1);
        bytes.fill(of);
        writer.append(&mut bytes, first, first + 1).expect("there is room for it");
        assert_eq!(*bytes, *vec![of; length], "it is given back as it was");
    };
    commit(100, 1, 0);
    assert_eq!(file(), [vec![0; 88], vec![1; 100], vec![0; (16 << 10) - 188]].concat());
    commit(100, 2, 1);
    assert_eq!(file().len(), 16 << 10, "the zeros are written over");
    fs.set_capacity(Some(24 << 10));
    commit(16 << 10, 3, 2);
    commit(100, 4, 3);
    let written = [vec![0; 88], vec![1; 100], vec![2; 100], vec![3; 16 << 10], vec![4; 100]];
    assert!(file().starts_with(&written.concat()));
    assert!(file().len() <= 24 << 10, "there was no room for a window");
}

#[test]
fn a_commit_that_goes_past_the_zeros_goes_through_the_cache_and_repeats_nothing() {
    let fs = SimFileSystem::new();
    fs.set_direct_io_alignment(Some(512));
    let mut writer = writer(&fs, 0);
    let prepared = prepare(&fs, Path::new("/"), 2, 8 << 10).expect("there is room for it");
    assert_eq!(prepared.direct_block, Some(512));
    assert!(writer.continue_in(prepared, Wait::No, 0));
    let mut encoder = Encoder::default();
    let mut expected = Vec::new();
    for (first, length) in (0..).zip([1000_usize, 300, 9000, 70]) {
        let origin = writer.begin(&mut encoder, first);
        assert_eq!(origin.offset, (expected.len() - writer.active.begun().len()) as u64);
        encoder.record(first, 7, &vec![1 + length.to_le_bytes()[0]; length]);
        encoder.close_frame(&origin, 0);
        expected.truncate(expected.len() - writer.active.begun().len());
        expected.extend_from_slice(encoder.bytes());
        writer.append(encoder.bytes(), first, first + 1).expect("there is room for it");
        assert_eq!(writer.active.direct.is_some(), expected.len() <= 8 << 10);
        assert!(fs.read_file(segment_path(Path::new("/"), 2)).unwrap().starts_with(&expected));
    }
}

#[test]
fn a_writer_that_starts_between_segments_takes_the_next_and_names_the_one_before() {
    let fs = SimFileSystem::new();
    let last = SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 6 };
    let predecessor = Predecessor { number: 4, end: 300, next_sequence: 12 };
    let policy = SegmentPolicy {
        segment_bytes: 1 << 20,
        zeros_ahead: false,
        window_bytes: 0,
        header_last: false,
    };
    let source = Box::new(Prompt { fs: fs.clone(), asked: None });
    let catalogue = Catalogue::default();
    let mut writer = SegmentWriter::between(policy, last, predecessor, 15, source, catalogue);
    assert!(writer.is_synced(), "nothing was written");
    assert_eq!(writer.due(15), Some(Wait::Yes));
    assert!(writer.roll(Wait::Yes, 15).unwrap());
    assert!(writer.due(15).is_none());
    let mut encoder = Encoder::default();
    let origin = writer.begin(&mut encoder, 15);
    encoder.record(15, 7, b"first");
    encoder.close_frame(&origin, 15);
    writer.append(encoder.bytes(), 15, 16).expect("there is room for it");
    let written = fs.read_file(segment_path(Path::new("/"), 7)).expect("it has its number");
    let identity = last.with_number(7);
    let expected = SegmentHeader { identity, first_sequence: 15, predecessor };
    assert!(written.starts_with(&expected.encode()));
}
