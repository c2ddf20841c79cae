//! The shard scan: reads a shard's directory and decides what it holds.
//!
//! It combines the segment scans, and asks the verdict what the end means. It
//! changes no file, but may sync segments. It does not know how to go on.

use std::path::PathBuf;

use crate::error::{Corruption, OpenError};
use crate::fs::{FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::diagnosis;
use crate::recovery::log_end::{BytesBeyond, LogEnd};
use crate::recovery::segment_chain::{Link, SegmentChain};
use crate::recovery::segment_scan::{SegmentScan, Step, steps};
use crate::recovery::verdict::{Beyond, Verdict, judge};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::FRAME_HEADER_BYTES;
use crate::segment::frame_reader::Stop;
use crate::segment::frame_scan::search_remains;
use crate::segment::header::SEGMENT_HEADER_BYTES;
use crate::util::parallel::on_threads;

/// Bytes to read per thread, at least. For fewer, a thread costs more than it
/// saves.
const THREAD_BYTES: u64 = 8 << 20;

/// What a shard's directory holds.
#[derive(Debug, Default)]
pub(crate) struct ShardScan {
    /// The segments that hold the log, oldest first, up to its end.
    pub(crate) links: Vec<Link>,
    /// Their ends and sequences, for replay.
    pub(crate) segments: Vec<SegmentMeta>,
    /// The sequence after the last record.
    pub(crate) next_sequence: u64,
    /// The highest durable mark of any frame.
    pub(crate) durable_below: u64,
    pub(crate) records: u64,
    /// The sequences that earlier repairs lost.
    pub(crate) lost_sequences: u64,
    /// The bytes of headers and frames that hold the log.
    pub(crate) bytes: u64,
    pub(crate) torn_bytes: u64,
    /// The records in the torn tail, as far as its frame headers can be read.
    pub(crate) torn_records: u64,
    pub(crate) corruption: Option<Corruption>,
    /// Whether the corruption is in the newest segment. A writer may have appended
    /// there during the scan.
    pub(crate) is_corrupted_at_end: bool,
    /// The highest number of any segment file, used or not.
    pub(crate) highest_number: u64,
    /// Files that are not part of the log. They may be deleted once the next
    /// segment is durable.
    pub(crate) superfluous: Vec<PathBuf>,
    /// The files of `superfluous` that were prepared and never used.
    pub(crate) unused: Vec<PathBuf>,
    /// The numbers of the recycled segments.
    pub(crate) recycled: Vec<u64>,
    /// The scan synced the log below this sequence in place, then read it.
    pub(crate) synced_below: u64,
    /// The newest segment, if bytes follow its last frame that are no torn write:
    /// its number, and the offset at which the frame ends.
    pub(crate) tail: Option<(u64, u64)>,
}

/// What a scan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanPurpose {
    /// To read the log. The scan syncs nothing.
    Inspect,
    /// To append to the log. The scan syncs segments that no durable mark covers
    /// before it reads them, except the newest.
    Resume,
}

impl ShardScan {
    /// Drops findings after the log's end that a writer's later append explains.
    pub(crate) fn forget_concurrent_appends(&mut self) {
        (self.corruption, self.torn_bytes, self.torn_records) = (None, 0, 0);
    }
}

/// Scans a shard's directory on at most `threads` threads. Reads from the disk,
/// not from the cache. Corruption is no error: [`ShardScan::corruption`] reports it.
pub(crate) fn scan_shard(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    threads: usize,
    purpose: ScanPurpose,
) -> Result<ShardScan, OpenError> {
    let chain = SegmentChain::read(fs, shard_dir)?;
    let mut scanner =
        ShardScanner { fs, shard_dir, purpose, scan: ShardScan::default(), end: None };
    scanner.scan.highest_number = chain.highest_number;
    scanner.scan.superfluous = chain.superfluous.clone();
    scanner.scan.unused = chain.unused.clone();
    scanner.scan.recycled = chain.recycled.clone();
    let steps = steps(&chain.links);
    let ends = steps.iter().map(|step| step.link.header.predecessor.end);
    let worth = ends.fold(0, u64::saturating_add) / THREAD_BYTES;
    let threads = threads.min(usize::try_from(worth).unwrap_or(usize::MAX)).max(1);
    let scans = match purpose {
        ScanPurpose::Inspect => {
            on_threads(threads, &steps, |step| SegmentScan::read(fs, shard_dir, step))?
        }
        ScanPurpose::Resume => read_durable(fs, shard_dir, &steps, threads)?,
    };
    for (step, segment_scan) in steps.iter().zip(scans) {
        scanner.add(step, &segment_scan)?;
    }
    scanner.judge(&chain)
}

/// Reads the newest segment first, because its frames have the highest durable
/// mark. Then reads the others. Segments that reach above the mark are synced
/// before: a process that died may have left them in the cache only.
fn read_durable(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    steps: &[Step<'_>],
    threads: usize,
) -> Result<Vec<SegmentScan>, OpenError> {
    let Some((newest, older)) = steps.split_last() else { return Ok(Vec::new()) };
    let newest = SegmentScan::read(fs, shard_dir, newest)?;
    let durable = newest.durable_below.max(shard_dir.truncated_below);
    let mut scans = on_threads(threads, older, |step| {
        if step.next_sequence().is_some_and(|next| next <= durable) {
            SegmentScan::read(fs, shard_dir, step)
        } else {
            SegmentScan::read_durable(fs, shard_dir, step)
        }
    })?;
    scans.push(newest);
    Ok(scans)
}

struct ShardScanner<'a> {
    fs: &'a dyn FileSystem,
    shard_dir: &'a ShardDir,
    purpose: ScanPurpose,
    scan: ShardScan,
    /// `None` while every segment agrees with its successor.
    end: Option<LogEnd>,
}

impl ShardScanner<'_> {
    /// Adds the next segment. After the log's end, segments count only for the durable
    /// marks of their frames.
    fn add(&mut self, step: &Step<'_>, read: &SegmentScan) -> Result<(), OpenError> {
        if self.end.is_some() {
            return self.search_beyond_end(step, SEGMENT_HEADER_BYTES as u64, read.bytes);
        }
        let number = step.link.header.identity.number;
        self.scan.next_sequence = read.next_sequence;
        self.scan.synced_below = match (self.purpose, step.successor) {
            (ScanPurpose::Inspect, _) => 0,
            (ScanPurpose::Resume, Some(_)) => read.next_sequence,
            (ScanPurpose::Resume, None) => step.link.header.predecessor.next_sequence,
        };
        self.scan.durable_below = self.scan.durable_below.max(read.durable_below);
        self.scan.records += read.records;
        self.scan.lost_sequences += read.lost_sequences;
        self.scan.links.push(step.link.clone());
        self.scan.bytes += read.at;
        self.scan.segments.push(SegmentMeta {
            number,
            first_sequence: step.from,
            next_sequence: Some(read.next_sequence),
            end: read.records_end,
            durable: true,
        });
        // The sequence decides, not the offset: a seal may follow the last record,
        // and may never have been synced.
        let predecessor = step.successor.map(|link| link.header.predecessor);
        let agrees = predecessor.is_some_and(|it| it.next_sequence == read.next_sequence);
        // Only the newest segment was read past its last record, where a seal may be.
        let is_read_whole =
            step.successor.is_none() && matches!(read.stop, Stop::End | Stop::Blank);
        if is_read_whole && read.bytes > read.at {
            self.scan.tail = Some((number, read.at));
        }
        if agrees && !matches!(read.stop, Stop::UnknownKind(_)) {
            return Ok(());
        }
        self.end = Some(LogEnd {
            stop: read.stop,
            number,
            offset: read.at,
            successor_end: predecessor.map(|it| it.end),
            agrees,
            file_end: read.bytes,
            beyond: BytesBeyond::default(),
        });
        self.search_beyond_end(step, read.at, read.bytes)
    }

    /// Searches the bytes after the log's end for frames with durable marks.
    fn search_beyond_end(&mut self, step: &Step<'_>, from: u64, end: u64) -> Result<(), OpenError> {
        let number = step.link.header.identity.number;
        let path = self.shard_dir.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let file = self.fs.open(&path, OpenMode::Read).map_err(io("opening"))?;
        let remains = search_remains(file.as_ref(), self.shard_dir.seed(number), from, end)
            .map_err(io("reading"))?;
        let base = step.link.header.first_sequence;
        let Some(log_end) = &mut self.end else { return Ok(()) };
        let is_end = number == log_end.number;
        let is_bad = is_end && matches!(log_end.stop, Stop::Bad(_));
        self.scan.torn_bytes += remains.torn_bytes(if is_bad { FRAME_HEADER_BYTES } else { 0 });
        // Bytes past the end that the successor names are not the log's.
        log_end.add(number, base, &remains, &(from..step.end(end)));
        if !is_end {
            self.scan.superfluous.push(path);
        }
        Ok(())
    }

    fn judge(self, chain: &SegmentChain) -> Result<ShardScan, OpenError> {
        let Self { shard_dir, mut scan, end, .. } = self;
        scan.torn_bytes += chain.discarded_bytes;
        if let Some(corruption) = &chain.corruption {
            scan.corruption = Some(corruption.clone());
            return Ok(scan);
        }
        let here = scan.next_sequence;
        let Some(end) = end else {
            // Only a shard without segments gets here.
            scan.next_sequence = here.max(shard_dir.least_next());
            return Ok(scan);
        };
        let mark = end.beyond.mark.max(scan.durable_below).max(chain.discarded_mark);
        let unreadable = end.beyond.unreadable.as_ref().or(chain.discarded_unreadable.as_ref());
        let durable_beyond = match unreadable {
            _ if mark > here => Beyond::Yes,
            Some(_) => Beyond::Unreadable,
            None => Beyond::No,
        };
        match judge(end.facts(durable_beyond)) {
            Verdict::GoOn => {}
            Verdict::End | Verdict::TornTail => {
                scan.torn_records = end.beyond.next.max(chain.discarded_next).saturating_sub(here);
            }
            Verdict::Corruption => {
                let corruption = end.corruption(shard_dir, here, mark);
                scan.corruption = Some(match unreadable.filter(|_| mark <= here) {
                    Some((number, range)) => {
                        diagnosis::unreadable(corruption, shard_dir, *number, range)
                    }
                    None => corruption,
                });
                scan.is_corrupted_at_end = end.successor_end.is_none();
            }
            Verdict::Newer => {
                let what = format!("{} at byte {}", end.stop, end.offset);
                return Err(OpenError::NewerFormat { file: shard_dir.path(end.number), what });
            }
        }
        scan.next_sequence = here.max(shard_dir.least_next());
        Ok(scan)
    }
}
