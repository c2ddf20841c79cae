//! The shard scan: reads a shard's directory and decides what it holds.
//!
//! It combines the segment scans, and asks the verdict what the end means. It
//! changes no file, but may sync segments. It does not know how to go on.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Corruption, OpenError, RESTORE};
use crate::fs::{FileSystem, OpenMode, Unreadable, means_unreadable, read_around};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::diagnosis;
use crate::recovery::segment_chain::{Link, SegmentChain};
use crate::recovery::segment_scan::{SegmentScan, Step, steps};
use crate::recovery::verdict::{Beyond, Facts, Verdict, judge};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::FRAME_HEADER_BYTES;
use crate::segment::frame_reader::Stop;
use crate::segment::frame_scan::{Remains, search_remains};
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
        ShardScanner { fs, shard_dir, purpose, scan: ShardScan::default(), broken: None };
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
    broken: Option<Broken>,
}

/// The first place where reading stopped before the expected end.
struct Broken {
    stop: Stop,
    number: u64,
    offset: u64,
    /// The segment's end according to its successor.
    successor_end: Option<u64>,
    agrees: bool,
    /// The file's length.
    file_end: u64,
    /// The bytes after the place that belong to frames.
    remains: u64,
    /// The highest durable mark from here on, as a sequence.
    mark: u64,
    /// The highest sequence after a frame from here on.
    next: u64,
    /// The first unreadable bytes from here on, and the number of their segment.
    unreadable: Option<(u64, Range<u64>)>,
}

impl ShardScanner<'_> {
    /// Adds the next segment. After the first broken place, segments count only
    /// for the durable marks of their frames.
    fn add(&mut self, step: &Step<'_>, read: &SegmentScan) -> Result<(), OpenError> {
        if self.broken.is_some() {
            return self.read_past_the_break(step, SEGMENT_HEADER_BYTES as u64, read.bytes);
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
        self.broken = Some(Broken {
            stop: read.stop,
            number,
            offset: read.at,
            successor_end: predecessor.map(|it| it.end),
            agrees,
            file_end: read.bytes,
            remains: 0,
            mark: 0,
            next: 0,
            unreadable: None,
        });
        self.read_past_the_break(step, read.at, read.bytes)
    }

    /// Searches the bytes after the broken place for frames with durable marks.
    fn read_past_the_break(
        &mut self,
        step: &Step<'_>,
        from: u64,
        end: u64,
    ) -> Result<(), OpenError> {
        let number = step.link.header.identity.number;
        let path = self.shard_dir.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let file = self.fs.open(&path, OpenMode::Read).map_err(io("opening"))?;
        let remains = search_remains(file.as_ref(), self.shard_dir.seed(number), from, end)
            .map_err(io("reading"))?;
        let base = step.link.header.first_sequence;
        let is_bad = self
            .broken
            .as_ref()
            .is_some_and(|broken| broken.number == number && matches!(broken.stop, Stop::Bad(_)));
        self.scan.torn_bytes += remains.torn_bytes(if is_bad { FRAME_HEADER_BYTES } else { 0 });
        if let Some(broken) = &mut self.broken {
            broken.mark = broken.mark.max(remains.mark.map_or(0, |mark| absolute(base, mark)));
            broken.next = broken.next.max(remains.next.map_or(0, |next| base + next));
            // Bytes past the end that the successor names are not the log's.
            let range = remains.unreadable.within(&(from..step.end(end)));
            broken.unreadable = broken.unreadable.take().or(range.map(|range| (number, range)));
            if number == broken.number {
                broken.remains = remains.torn_bytes(0);
            } else {
                self.scan.superfluous.push(path);
            }
        }
        Ok(())
    }

    fn judge(self, chain: &SegmentChain) -> Result<ShardScan, OpenError> {
        let Self { shard_dir, mut scan, broken, .. } = self;
        scan.torn_bytes += chain.discarded_bytes;
        if let Some(corruption) = &chain.corruption {
            scan.corruption = Some(corruption.clone());
            return Ok(scan);
        }
        let here = scan.next_sequence;
        let Some(broken) = broken else {
            // Only a shard without segments gets here.
            scan.next_sequence = here.max(shard_dir.least_next());
            return Ok(scan);
        };
        let mark = broken.mark.max(scan.durable_below).max(chain.discarded_mark);
        let unreadable = broken.unreadable.as_ref().or(chain.discarded_unreadable.as_ref());
        let facts = Facts {
            stop: broken.stop,
            has_successor: broken.successor_end.is_some(),
            agrees: broken.agrees,
            durable_beyond: match unreadable {
                _ if mark > here => Beyond::Yes,
                Some(_) => Beyond::Unreadable,
                None => Beyond::No,
            },
        };
        let path = shard_dir.path(broken.number);
        match judge(facts) {
            Verdict::GoOn => {}
            Verdict::End | Verdict::TornTail => {
                scan.torn_records = broken.next.max(chain.discarded_next).saturating_sub(here);
            }
            Verdict::Corruption => {
                let corruption = corruption(shard_dir, &path, &broken, here, mark);
                scan.corruption = Some(match unreadable.filter(|_| mark <= here) {
                    Some((number, range)) => {
                        diagnosis::unreadable(corruption, shard_dir, *number, range)
                    }
                    None => corruption,
                });
                scan.is_corrupted_at_end = broken.successor_end.is_none();
            }
            Verdict::Newer => {
                let what = format!("{} at byte {}", broken.stop, broken.offset);
                return Err(OpenError::NewerFormat { file: path, what });
            }
        }
        scan.next_sequence = here.max(shard_dir.least_next());
        Ok(scan)
    }
}

fn corruption(
    shard_dir: &ShardDir,
    path: &Path,
    broken: &Broken,
    here: u64,
    mark: u64,
) -> Corruption {
    let is_blank = matches!(broken.stop, Stop::End | Stop::Blank) && broken.remains == 0;
    let corruption = Corruption {
        generation: shard_dir.identity.generation,
        shard: shard_dir.identity.shard,
        file: path.to_path_buf(),
        offset: broken.offset,
        first_sequence: here,
        durable_below: mark,
        what: broken.stop.to_string(),
        advice: RESTORE.into(),
    };
    match broken.successor_end {
        Some(end) if broken.offset < end && (broken.file_end < end || is_blank) => {
            diagnosis::cut_short(corruption, broken.file_end, end)
        }
        _ => corruption,
    }
}

/// Turns a mark relative to a segment's first sequence into a sequence.
pub(crate) fn absolute(base: u64, mark: i64) -> u64 {
    base.saturating_add_signed(mark)
}

/// Searches a segment without a usable header for frames.
pub(crate) fn search_file(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    number: u64,
) -> Result<Remains, OpenError> {
    let path = shard_dir.path(number);
    let io = |doing| OpenError::io(doing, &path);
    let file = fs.open(&path, OpenMode::Read).map_err(io("opening"))?;
    file.drop_cache();
    let bytes = file.len().map_err(io("reading the size of"))?;
    search_remains(file.as_ref(), shard_dir.seed(number), 0, bytes).map_err(io("reading"))
}

/// The bytes of a segment's header, or fewer if the file is shorter. `None` if the
/// disk cannot read them, or cannot open the file.
pub(crate) fn read_header(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    number: u64,
) -> Result<Option<Vec<u8>>, OpenError> {
    let path = shard_dir.path(number);
    let open = || fs.open(&path, OpenMode::Read);
    let once_more = |error| if means_unreadable(&error) { open() } else { Err(error) };
    let file = match open().or_else(once_more) {
        Err(error) if means_unreadable(&error) => return Ok(None),
        opened => opened.map_err(OpenError::io("opening", &path))?,
    };
    file.drop_cache();
    let (mut bytes, mut unreadable) = (vec![0; SEGMENT_HEADER_BYTES], Unreadable::default());
    let read = read_around(file.as_ref(), &mut bytes, 0, &mut unreadable);
    bytes.truncate(read.map_err(OpenError::io("reading", &path))?);
    Ok(unreadable.first().is_none().then_some(bytes))
}
