//! The segment chain: which of a shard's files are the log.
//!
//! The chain begins at the newest segment with a header. Each header names the
//! segment's predecessor. This module reads headers and the remains of segments
//! without one; it does not know what a chained segment holds. It changes nothing.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use crate::error::{Corruption, OpenError};
use crate::fs::FileSystem;
use crate::layout::shard_dir::ShardDir;
use crate::recovery::diagnosis;
use crate::recovery::segment_file::{absolute, read_header, search_file};
use crate::segment::header::{
    NUMBER_MAX, ParsedHeader, SEGMENT_HEADER_BYTES, SegmentHeader, is_unfinished, recycled_number,
    segment_number,
};

/// A segment of the log.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) header: SegmentHeader,
}

/// A shard's files, sorted into the log and the rest.
#[derive(Debug, Default)]
pub(crate) struct SegmentChain {
    /// The log's segments, oldest first.
    pub(crate) links: Vec<Link>,
    /// The highest number of any segment file.
    pub(crate) highest_number: u64,
    /// Files that are not part of the log: superseded by an earlier open,
    /// prepared and never used, or torn.
    pub(crate) superfluous: Vec<PathBuf>,
    /// The files of `superfluous` that were prepared and never used. They are
    /// empty.
    pub(crate) unused: Vec<PathBuf>,
    /// The numbers of the recycled segments.
    pub(crate) recycled: Vec<u64>,
    /// Bytes in the segments that were left out because a header is missing.
    pub(crate) discarded_bytes: u64,
    /// The highest durable mark in the segments that were left out.
    pub(crate) discarded_mark: u64,
    /// The highest sequence after a frame in the segments that were left out.
    pub(crate) discarded_next: u64,
    /// The first unreadable bytes in the segments that were left out, and the
    /// number of their segment.
    pub(crate) discarded_unreadable: Option<(u64, Range<u64>)>,
    /// The corruption that leaves the chain undecided.
    pub(crate) corruption: Option<Corruption>,
}

impl SegmentChain {
    pub(crate) fn read(fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<Self, OpenError> {
        let names = fs.list(&shard_dir.dir).map_err(OpenError::io("listing", &shard_dir.dir))?;
        let mut numbers: BTreeSet<u64> =
            names.iter().filter_map(|name| segment_number(name)).collect();
        let mut chain =
            Self { highest_number: numbers.last().copied().unwrap_or(0), ..Self::default() };
        let unfinished = names.iter().filter(|name| is_unfinished(name));
        chain.superfluous.extend(unfinished.map(|name| shard_dir.dir.join(name)));
        chain.recycled = names.iter().filter_map(|name| recycled_number(name)).collect();
        if shard_dir.is_all_truncated() {
            chain.superfluous.extend(numbers.iter().map(|number| shard_dir.path(*number)));
            return Ok(chain);
        }
        if chain.highest_number >= NUMBER_MAX {
            chain.corruption = Some(diagnosis::last_number(shard_dir, chain.highest_number));
            return Ok(chain);
        }
        while let Some(newest) = numbers.pop_last() {
            match chain.follow(fs, shard_dir, newest, &numbers)? {
                Attempt::Whole | Attempt::Corrupted => {
                    chain.add_superseded(shard_dir, &numbers);
                    return Ok(chain);
                }
                // Leave out the segments from `torn` on, and try the older ones.
                Attempt::Torn(torn) => {
                    drop(numbers.split_off(&torn));
                }
            }
        }
        chain.corruption = Some(diagnosis::no_segment(shard_dir));
        Ok(chain)
    }

    /// Follows the predecessors from the segment `newest`.
    fn follow(
        &mut self,
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        newest: u64,
        older: &BTreeSet<u64>,
    ) -> Result<Attempt, OpenError> {
        let mut links: Vec<Link> = Vec::new();
        let mut number = newest;
        loop {
            let header = match self.chained_header(fs, shard_dir, number, &links)? {
                ControlFlow::Continue(header) => header,
                ControlFlow::Break(attempt) => return Ok(attempt),
            };
            let predecessor = header.predecessor;
            links.push(Link { header });
            // Segments below the truncation mark may be deleted already.
            if predecessor.number == 0 || predecessor.next_sequence <= shard_dir.truncated_below {
                break;
            }
            if predecessor.number >= number || !older.contains(&predecessor.number) {
                self.corruption = Some(diagnosis::missing(shard_dir, &header));
                return Ok(Attempt::Corrupted);
            }
            number = predecessor.number;
        }
        links.reverse();
        self.links = links;
        Ok(Attempt::Whole)
    }

    /// The header of a segment that the chain reaches, or how the attempt ends there.
    fn chained_header(
        &mut self,
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        number: u64,
        links: &[Link],
    ) -> Result<ControlFlow<Attempt, SegmentHeader>, OpenError> {
        let Some(bytes) = read_header(fs, shard_dir, number)? else {
            self.corruption = Some(diagnosis::unreadable_header(shard_dir, number));
            return Ok(ControlFlow::Break(Attempt::Corrupted));
        };
        let file = || shard_dir.path(number);
        let what = |version| format!("its format is version {version}");
        let torn_bytes_min =
            match SegmentHeader::parse(&bytes, &shard_dir.identity.with_number(number)) {
                ParsedHeader::Header(header) => return Ok(ControlFlow::Continue(header)),
                ParsedHeader::Newer(version) => {
                    return Err(OpenError::NewerFormat { file: file(), what: what(version) });
                }
                ParsedHeader::Older(version) => {
                    return Err(OpenError::OlderFormat { file: file(), what: what(version) });
                }
                ParsedHeader::Foreign(identity) => {
                    self.corruption = Some(diagnosis::foreign(shard_dir, number, &identity));
                    return Ok(ControlFlow::Break(Attempt::Corrupted));
                }
                ParsedHeader::Blank => 0,
                ParsedHeader::Bad => SEGMENT_HEADER_BYTES,
            };
        self.leave_out(fs, shard_dir, number, torn_bytes_min, links).map(ControlFlow::Break)
    }

    /// Leaves out a segment without a header, and all later ones: their writes
    /// never completed. It is corruption instead if something in them was durable.
    fn leave_out(
        &mut self,
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        number: u64,
        torn_bytes_min: usize,
        later: &[Link],
    ) -> Result<Attempt, OpenError> {
        let remains = search_file(fs, shard_dir, number)?;
        self.superfluous.push(shard_dir.path(number));
        if torn_bytes_min == 0 && remains.torn_bytes(0) == 0 {
            self.unused.push(shard_dir.path(number));
        }
        self.discarded_bytes += remains.torn_bytes(torn_bytes_min);
        // The first sequence is unknown without the header. But marks are relative
        // to it, so a positive mark proves that a record of this segment was durable.
        if let Some(mark) = remains.mark.filter(|mark| *mark > 0) {
            self.corruption = Some(diagnosis::headerless(shard_dir, number, mark.unsigned_abs()));
            return Ok(Attempt::Corrupted);
        }
        // A blank header needs no such check: nothing is ever written behind zeros.
        if torn_bytes_min > 0
            && let Some(range) = remains.unreadable.first()
        {
            self.corruption = Some(diagnosis::unreadable_without_header(shard_dir, number, &range));
            return Ok(Attempt::Corrupted);
        }
        for link in later {
            let base = link.header.first_sequence;
            let remains = search_file(fs, shard_dir, link.header.identity.number)?;
            self.superfluous.push(shard_dir.path(link.header.identity.number));
            self.discarded_bytes += remains.torn_bytes(SEGMENT_HEADER_BYTES);
            let mark = remains.mark.map_or(0, |mark| absolute(base, mark));
            self.discarded_mark = self.discarded_mark.max(mark);
            let next = remains.next.map_or(0, |next| base + next);
            self.discarded_next = self.discarded_next.max(next);
            let range = remains.unreadable.first();
            let range = range.map(|range| (link.header.identity.number, range));
            self.discarded_unreadable = self.discarded_unreadable.take().or(range);
        }
        Ok(Attempt::Torn(number))
    }

    /// Counts segments below the newest that no successor names as superfluous: a
    /// later segment superseded them.
    fn add_superseded(&mut self, shard_dir: &ShardDir, older: &BTreeSet<u64>) {
        let is_link =
            |number: &u64| self.links.iter().any(|link| link.header.identity.number == *number);
        let superseded: Vec<_> = older.iter().filter(|number| !is_link(number)).collect();
        self.superfluous.extend(superseded.into_iter().map(|number| shard_dir.path(*number)));
    }
}

enum Attempt {
    Whole,
    Corrupted,
    Torn(u64),
}
