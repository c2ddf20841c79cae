//! Reads a shard's folder and decides what stands in it. Changes nothing.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode, Unreadable, means_unreadable, read_around};
use crate::error::{Damage, OpenError, RESTORE};
use crate::frame::FRAME_HEADER_BYTES;
use crate::frame_reader::Stop;
use crate::frame_search::{Remains, search_remains};
use crate::parallel::on_threads;
use crate::purge::GIVEN_UP;
use crate::recovery::chain::{Chain, Link};
use crate::recovery::reading::{Reading, Step, steps};
use crate::recovery::told;
use crate::recovery::verdict::{Beyond, Facts, Verdict, judge};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentIdentity, segment_path};
use crate::segment_writer::SegmentMeta;
use crate::spares::Spares;
use crate::sync::Arc;

/// A thread that has less to read than this costs more than it saves.
const THREAD_BYTES: u64 = 8 << 20;

/// A shard's folder and what it should hold.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Reaches every file of the folder. For a shard that is written to it
    /// stands on an open descriptor of the folder.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// The number does not count.
    pub(crate) identity: SegmentIdentity,
    /// Sequences below are gone.
    pub(crate) purged_below: u64,
    /// Where files go that a later segment may use. None but an open log's
    /// shards keeps any.
    pub(crate) spares: Spares,
}

impl Folder {
    /// The least that its next sequence can be.
    fn least_next(&self) -> u64 {
        if self.is_given_up() { 0 } else { self.purged_below }
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// Whether all that the shard ever held was truncated: an old one, then,
    /// whose segments are gone or on their way.
    pub(crate) fn is_given_up(&self) -> bool {
        self.purged_below == GIVEN_UP
    }

    pub(crate) fn seed(&self, number: u64) -> u32 {
        self.identity.with_number(number).seed()
    }
}

/// What stands in a shard's folder.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The segments that hold the log, oldest first, cut at its end.
    pub(crate) links: Vec<Link>,
    /// Their places and sequences, for replay.
    pub(crate) segments: Vec<SegmentMeta>,
    /// The sequence after the last record.
    pub(crate) next_sequence: u64,
    /// The highest durable mark that a frame says.
    pub(crate) durable_below: u64,
    pub(crate) records: u64,
    /// Sequences that a repair could not read.
    pub(crate) gap_sequences: u64,
    /// Bytes of headers and frames that hold the log.
    pub(crate) bytes: u64,
    pub(crate) torn_bytes: u64,
    /// Records whose headers still stand in the torn tail.
    pub(crate) torn_records: u64,
    pub(crate) damage: Option<Damage>,
    /// Whether it is in the newest segment, where a writer may have gone on
    /// while this was read.
    pub(crate) damaged_at_the_end: bool,
    /// The highest number of any segment file, used or not.
    pub(crate) highest_number: u64,
    /// Files that are no part of the log and may go once the next segment
    /// stands.
    pub(crate) superfluous: Vec<PathBuf>,
    /// Those of them that were prepared and never used.
    pub(crate) unused: Vec<PathBuf>,
    /// The numbers of the files that were kept for later segments.
    pub(crate) spares: Vec<u64>,
    /// The sequence below which the log was made durable in place, then read.
    pub(crate) settled_below: u64,
    /// The newest segment, if something stands behind its last frame that is no torn
    /// write: its number, and where the frame ends.
    pub(crate) tail: Option<(u64, u64)>,
}

/// What a survey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To look at the log. Nothing is synced.
    Look,
    /// To go on from it. Segments that no durable mark covers are synced before
    /// they are read, all but the newest.
    GoOn,
}

impl Survey {
    /// Takes back what was found behind the end because a writer went on there.
    pub(crate) fn forget_what_came_meanwhile(&mut self) {
        (self.damage, self.torn_bytes, self.torn_records) = (None, 0, 0);
    }
}

/// Reads a shard's folder, from the disk rather than from the cache, on at most
/// `threads` threads.
pub(crate) fn survey(
    disk: &dyn Disk,
    folder: &Folder,
    threads: usize,
    purpose: Purpose,
) -> Result<Survey, OpenError> {
    let chain = Chain::read(disk, folder)?;
    let mut surveyor = Surveyor { disk, folder, purpose, survey: Survey::default(), broken: None };
    surveyor.survey.highest_number = chain.highest_number;
    surveyor.survey.superfluous = chain.superfluous.clone();
    surveyor.survey.unused = chain.unused.clone();
    surveyor.survey.spares = chain.spares.clone();
    let steps = steps(&chain.links);
    let ends = steps.iter().map(|step| step.link.header.predecessor.end);
    let worth = ends.fold(0, u64::saturating_add) / THREAD_BYTES;
    let threads = threads.min(usize::try_from(worth).unwrap_or(usize::MAX)).max(1);
    let readings = match purpose {
        Purpose::Look => on_threads(threads, &steps, |step| Reading::read(disk, folder, step))?,
        Purpose::GoOn => read_durable(disk, folder, &steps, threads)?,
    };
    for (step, reading) in steps.iter().zip(readings) {
        surveyor.add(step, &reading)?;
    }
    surveyor.judge(&chain)
}

/// Reads the newest segment, whose frames say the highest durable mark, then the
/// others. Those that reach above the mark are synced first: a process that died
/// may have left them in the cache alone.
fn read_durable(
    disk: &dyn Disk,
    folder: &Folder,
    steps: &[Step<'_>],
    threads: usize,
) -> Result<Vec<Reading>, OpenError> {
    let Some((newest, older)) = steps.split_last() else { return Ok(Vec::new()) };
    let newest = Reading::read(disk, folder, newest)?;
    let durable = newest.durable_below.max(folder.purged_below);
    let mut readings = on_threads(threads, older, |step| {
        if step.next_sequence().is_some_and(|next| next <= durable) {
            Reading::read(disk, folder, step)
        } else {
            Reading::read_durable(disk, folder, step)
        }
    })?;
    readings.push(newest);
    Ok(readings)
}

struct Surveyor<'a> {
    disk: &'a dyn Disk,
    folder: &'a Folder,
    purpose: Purpose,
    survey: Survey,
    broken: Option<Broken>,
}

/// The first place where reading stopped short.
struct Broken {
    stop: Stop,
    number: u64,
    offset: u64,
    /// Where the successor saw the segment end.
    successor_end: Option<u64>,
    agrees: bool,
    /// Where the file ends, and how far something stands behind the place.
    file_end: u64,
    remains: u64,
    /// The highest mark seen from here on, a sequence.
    mark: u64,
    /// The highest sequence after a frame seen from here on.
    next: u64,
    /// The first bytes from here on that cannot be read, and their segment.
    unreadable: Option<(u64, Range<u64>)>,
}

impl Surveyor<'_> {
    /// Adds a segment to those before it; behind the first place where reading
    /// stopped short nothing counts but what later frames say was durable.
    fn add(&mut self, step: &Step<'_>, read: &Reading) -> Result<(), OpenError> {
        if self.broken.is_some() {
            return self.read_past_the_break(step, SEGMENT_HEADER_BYTES as u64, read.bytes);
        }
        let number = step.link.header.identity.number;
        self.survey.next_sequence = read.next_sequence;
        self.survey.settled_below = match (self.purpose, step.successor) {
            (Purpose::Look, _) => 0,
            (Purpose::GoOn, Some(_)) => read.next_sequence,
            (Purpose::GoOn, None) => step.link.header.predecessor.next_sequence,
        };
        self.survey.durable_below = self.survey.durable_below.max(read.durable_below);
        self.survey.records += read.records;
        self.survey.gap_sequences += read.gap_sequences;
        self.survey.links.push(step.link.clone());
        self.survey.bytes += read.at;
        self.survey.segments.push(SegmentMeta {
            number,
            first_sequence: step.from,
            next_sequence: Some(read.next_sequence),
            end: read.records_end,
            durable: true,
        });
        // The sequence decides, not the offset: what lies behind the last
        // record is a seal, which was perhaps never synced.
        let predecessor = step.successor.map(|link| link.header.predecessor);
        let agrees = predecessor.is_some_and(|it| it.next_sequence == read.next_sequence);
        // Others were read to their last record alone: a seal may follow.
        let is_read_whole =
            step.successor.is_none() && matches!(read.stop, Stop::End | Stop::Blank);
        if is_read_whole && read.bytes > read.at {
            self.survey.tail = Some((number, read.at));
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

    /// Looks for what later frames say was durable.
    fn read_past_the_break(
        &mut self,
        step: &Step<'_>,
        from: u64,
        end: u64,
    ) -> Result<(), OpenError> {
        let number = step.link.header.identity.number;
        let path = self.folder.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let file = self.disk.open(&path, OpenMode::Read).map_err(io("opening"))?;
        let remains = search_remains(file.as_ref(), self.folder.seed(number), from, end)
            .map_err(io("reading"))?;
        let base = step.link.header.first_sequence;
        let is_bad = matches!(self.broken, Some(Broken { stop: Stop::Bad(_), number: at, .. }) if at == number);
        self.survey.torn_bytes += remains.torn_bytes(if is_bad { FRAME_HEADER_BYTES } else { 0 });
        if let Some(broken) = &mut self.broken {
            broken.mark = broken.mark.max(remains.mark.map_or(0, |mark| absolute(base, mark)));
            broken.next = broken.next.max(remains.next.map_or(0, |next| base + next));
            // Behind the end that the successor saw nothing is the log's.
            let range = remains.unreadable.within(&(from..step.end(end)));
            broken.unreadable = broken.unreadable.take().or(range.map(|range| (number, range)));
            if number == broken.number {
                broken.remains = remains.torn_bytes(0);
            } else {
                self.survey.superfluous.push(path);
            }
        }
        Ok(())
    }

    fn judge(self, chain: &Chain) -> Result<Survey, OpenError> {
        let Self { folder, mut survey, broken, .. } = self;
        survey.torn_bytes += chain.discarded_bytes;
        if let Some(damage) = &chain.damage {
            survey.damage = Some(damage.clone());
            return Ok(survey);
        }
        let here = survey.next_sequence;
        let Some(broken) = broken else {
            // Only a shard without segments comes here.
            survey.next_sequence = here.max(folder.least_next());
            return Ok(survey);
        };
        let mark = broken.mark.max(survey.durable_below).max(chain.discarded_mark);
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
        let path = folder.path(broken.number);
        match judge(facts) {
            Verdict::GoOn => {}
            Verdict::End | Verdict::TornTail => {
                survey.torn_records = broken.next.max(chain.discarded_next).saturating_sub(here);
            }
            Verdict::Damage => {
                let damage = damage(folder, &path, &broken, here, mark);
                survey.damage = Some(match unreadable.filter(|_| mark <= here) {
                    Some((number, range)) => told::unreadable(damage, folder, *number, range),
                    None => damage,
                });
                survey.damaged_at_the_end = broken.successor_end.is_none();
            }
            Verdict::Newer => {
                let what = format!("{} at byte {}", broken.stop, broken.offset);
                return Err(OpenError::NewerFormat { file: path, what });
            }
        }
        survey.next_sequence = here.max(folder.least_next());
        Ok(survey)
    }
}

fn damage(folder: &Folder, path: &Path, broken: &Broken, here: u64, mark: u64) -> Damage {
    let is_blank = matches!(broken.stop, Stop::End | Stop::Blank) && broken.remains == 0;
    let damage = Damage {
        generation: folder.identity.generation,
        shard: folder.identity.shard,
        file: path.to_path_buf(),
        offset: broken.offset,
        first_sequence: here,
        durable_below: mark,
        what: broken.stop.to_string(),
        advice: RESTORE.into(),
    };
    match broken.successor_end {
        Some(end) if broken.offset < end && (broken.file_end < end || is_blank) => {
            told::cut_short(damage, broken.file_end, end)
        }
        _ => damage,
    }
}

/// A mark relative to a segment's first sequence, as a sequence.
pub(crate) fn absolute(base: u64, mark: i64) -> u64 {
    base.saturating_add_signed(mark)
}

/// What stands in a segment whose header cannot be used.
pub(crate) fn search_file(
    disk: &dyn Disk,
    folder: &Folder,
    number: u64,
) -> Result<Remains, OpenError> {
    let path = folder.path(number);
    let io = |doing| OpenError::io(doing, &path);
    let file = disk.open(&path, OpenMode::Read).map_err(io("opening"))?;
    file.drop_cache();
    let bytes = file.len().map_err(io("reading the size of"))?;
    search_remains(file.as_ref(), folder.seed(number), 0, bytes).map_err(io("reading"))
}

/// The bytes that a segment's header takes, or fewer where the file is shorter.
/// `None` where the disk cannot read them, or not even what file it is.
pub(crate) fn read_header(
    disk: &dyn Disk,
    folder: &Folder,
    number: u64,
) -> Result<Option<Vec<u8>>, OpenError> {
    let path = folder.path(number);
    let open = || disk.open(&path, OpenMode::Read);
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
