//! Rolling, where a whole log would need hours to come there.

use std::path::Path;

use super::*;
use crate::disk::sim::SimDisk;
use crate::disk::{Disk, OpenMode};
use crate::segment::segment_path;

/// Prepares when asked, and finds it a mistake to be waited for unasked.
struct Prompt {
    disk: SimDisk,
    asked: Option<u64>,
}

impl SegmentSource for Prompt {
    fn request(&mut self, number: u64, _zeros: u64) {
        self.asked = Some(number);
    }

    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>> {
        assert!(self.asked.is_some() || !wait, "this wait would never end");
        self.asked.take().map(|number| prepare(&self.disk, Path::new("/"), number, 0))
    }
}

#[test]
fn a_segment_that_is_crowded_though_not_half_full_is_followed_by_the_next() {
    let disk = SimDisk::new();
    let identity = SegmentIdentity { log: [7; 16], generation: 1, shard: 0, number: 1 };
    let header = SegmentHeader { identity, first_sequence: 0, predecessor: Predecessor::default() };
    let file = disk.open(&segment_path(Path::new("/"), 1), OpenMode::CreateNew).unwrap();
    let policy = SegmentPolicy { segment_bytes: 1 << 20, zeros_ahead: false, window_bytes: 0 };
    let source = Box::new(Prompt { disk: disk.clone(), asked: None });
    let mut writer = SegmentWriter::new(policy, &header, file, 88, 0, source, Catalogue::default());
    // A disk that stays full refuses this many in an hour of eager retries.
    let next = SEGMENT_SEQUENCES_MAX + 2;
    let wait = writer.due(next).expect("a u32 is about to pass");
    assert!(writer.roll(wait).unwrap());
    assert!(writer.due(next).is_none());
}
