//! The snapshot file: all series and samples below one position in every shard.
//!
//! The file is `SWSNAP`, a version, and blocks. A block is its length, its checksum and its bytes.
//! The first block is the position of every shard. Coded batches follow; each shard's first batch
//! is fresh. The last block is empty. FORMAT.md specifies each byte.
//!
//! The file is renamed into place when it is whole and durable, so that a valid snapshot always
//! exists. This file does not know the log's format.

use std::io;
use std::path::{Path, PathBuf};

use super::admission::sample_bytes_max;
use super::codec::{BatchEncoder, SeriesHistogram, SeriesSample};
use super::column::Column;
use super::columns::Columns;
use super::head::{Head, Restorer};
use super::head_shard::HeadShard;
use super::histogram_column::HistogramColumn;
use super::state_machine::ShardSnapshot;
use super::storage_error::StorageError;
use super::{HISTOGRAM_BYTES_MAX, LABELS_BYTES_MAX};
use shardwal::SHARDS_MAX;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::internals::{read_full, unlink_if_exists, write_full};
use shardwal::{Checkpoint, LogId};

const NAME: &str = "snapshot";
const UNFINISHED_NAME: &str = "snapshot.unfinished";
/// The last byte is the version.
const MAGIC: [u8; 8] = *b"SWSNAP\0\x01";
/// Length and checksum, before the bytes of a block.
const BLOCK_HEAD_BYTES: usize = 8;
/// A block ends once it has this number of samples, or this number of label bytes.
const BLOCK_SAMPLES: usize = 16_384;
const BLOCK_LABELS_BYTES: usize = 1 << 20;
/// The largest block that a writer can produce. A reader rejects larger lengths.
const BLOCK_BYTES_MAX: usize = BLOCK_SAMPLES * sample_bytes_max(0)
    + sample_bytes_max(BLOCK_LABELS_BYTES + 2 * LABELS_BYTES_MAX);
const _: () = assert!(16 + 8 + SHARDS_MAX * 8 <= BLOCK_BYTES_MAX);
/// A block of histograms ends once it may have this number of bytes.
const BLOCK_HISTOGRAMS_BYTES: usize = 4 << 20;
/// A period ends with the block in which it reaches this number of series. So neither the writer
/// nor a reader holds state for every series at once.
const PERIOD_SERIES: usize = 16_384;
const _: () = assert!(
    BLOCK_HISTOGRAMS_BYTES
        + HISTOGRAM_BYTES_MAX
        + sample_bytes_max(0)
        + sample_bytes_max(LABELS_BYTES_MAX)
        <= BLOCK_BYTES_MAX
);

/// Path of the snapshot of the storage in `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// What a snapshot contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Number of series with samples or histograms.
    pub series: u64,
    /// Number of samples and histograms.
    pub samples: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Removes an unfinished snapshot. It takes space that the log may need.
pub(crate) fn remove_unfinished(fs: &dyn FileSystem, dir: &Path) -> Result<(), StorageError> {
    let unfinished = dir.join(UNFINISHED_NAME);
    unlink_if_exists(fs, &unfinished).map_err(StorageError::io("removing", &unfinished))
}

/// Writes a snapshot of the shards at `snapshots`. When this returns `Ok`, the snapshot is durable
/// and has replaced the one before. After an error, either the new or the old snapshot is in place,
/// whole.
///
/// Empties the cuts group by group, as it writes them. A commit copies the columns that it changes
/// only as long as a cut shares them.
pub(crate) fn write(
    fs: &dyn FileSystem,
    dir: &Path,
    log: LogId,
    generation: u32,
    snapshots: &mut [ShardSnapshot],
) -> Result<SnapshotReport, StorageError> {
    let unfinished = dir.join(UNFINISHED_NAME);
    let doing = |what: &'static str| StorageError::io(what, &unfinished);
    remove_unfinished(fs, dir)?;
    let file = fs.open(&unfinished, OpenMode::CreateNew).map_err(doing("creating"))?;
    let written = Writer::new(file).write(log, generation, snapshots);
    if written.is_err() {
        // The file may have exhausted the space. If the unlink fails, `open` removes it.
        drop(fs.unlink(&unfinished));
    }
    let report = written.map_err(doing("writing"))?;
    let named = fs.rename(&unfinished, &path(dir)).and_then(|()| fs.sync_dir(dir));
    named.map_err(doing("renaming"))?;
    Ok(report)
}

struct Writer {
    file: Box<dyn FileHandle>,
    position: u64,
    blocks: u64,
    report: SnapshotReport,
}

/// Encodes the batches of one shard.
struct ShardEncoder<'s> {
    shard: &'s HeadShard,
    encoder: BatchEncoder,
    /// Series of the period: at least those that have begun in it.
    series: usize,
}

impl<'s> ShardEncoder<'s> {
    fn new(shard: &'s HeadShard) -> Self {
        Self { shard, encoder: BatchEncoder::new(), series: 0 }
    }

    /// Encodes the next batch. Begins a period if the one before is full.
    fn encode(&mut self, samples: &[SeriesSample], histograms: &[SeriesHistogram]) -> Vec<u8> {
        if self.series >= PERIOD_SERIES {
            *self = Self::new(self.shard);
        }
        self.series += samples.chunk_by(|one, other| one.series == other.series).count();
        self.series += histograms.chunk_by(|one, other| one.series == other.series).count();
        let mut batch = Vec::new();
        self.encoder.encode(false, samples, histograms, self.shard, &mut batch);
        batch
    }
}

impl Writer {
    fn new(file: Box<dyn FileHandle>) -> Self {
        Self { file, position: 0, blocks: 0, report: SnapshotReport::default() }
    }

    fn write(
        mut self,
        log: LogId,
        generation: u32,
        snapshots: &mut [ShardSnapshot],
    ) -> io::Result<SnapshotReport> {
        write_full(self.file.as_mut(), &MAGIC, 0)?;
        self.position = MAGIC.len() as u64;
        let mut bytes = log.to_bytes().to_vec();
        bytes.extend_from_slice(&generation.to_le_bytes());
        let shards = u32::try_from(snapshots.len()).expect("the config bounds the shards");
        bytes.extend_from_slice(&shards.to_le_bytes());
        snapshots.iter().for_each(|snapshot| bytes.extend_from_slice(&snapshot.next.to_le_bytes()));
        self.block(&bytes)?;
        snapshots.iter_mut().try_for_each(|snapshot| self.shard(snapshot))?;
        self.block(&[])?;
        self.file.sync_data()?;
        self.report.bytes = self.position;
        Ok(self.report)
    }

    fn shard(&mut self, snapshot: &mut ShardSnapshot) -> io::Result<()> {
        let cut = std::mem::take(&mut snapshot.cut);
        let only_histograms = cut.histograms.iter().filter(|(n, _)| cut.samples.get(*n).is_none());
        self.report.series += only_histograms.count() as u64;
        let mut encoder = ShardEncoder::new(&snapshot.shard);
        self.samples(&mut encoder, cut.samples)?;
        self.histograms(&mut encoder, cut.histograms)
    }

    /// Writes the samples of a shard.
    fn samples(
        &mut self,
        encoder: &mut ShardEncoder<'_>,
        columns: Columns<Column>,
    ) -> io::Result<()> {
        let (mut samples, mut labels_bytes) = (Vec::new(), 0);
        for group in columns.into_groups() {
            for (number, column) in group.iter() {
                self.report.series += 1;
                labels_bytes += encoder.shard.labels_bytes_of(number);
                for sample in column.samples() {
                    samples.push(SeriesSample { series: number, sample });
                    if samples.len() >= BLOCK_SAMPLES || labels_bytes >= BLOCK_LABELS_BYTES {
                        self.batch(encoder, &samples, &[])?;
                        samples.clear();
                        labels_bytes = 0;
                    }
                }
            }
        }
        self.batch(encoder, &samples, &[])
    }

    /// Writes the native histograms of a shard, after its samples.
    fn histograms(
        &mut self,
        encoder: &mut ShardEncoder<'_>,
        columns: Columns<HistogramColumn>,
    ) -> io::Result<()> {
        let (mut histograms, mut bytes) = (Vec::new(), 0);
        for group in columns.into_groups() {
            for (number, column) in group.iter() {
                bytes += sample_bytes_max(encoder.shard.labels_bytes_of(number));
                for histogram in column.iter() {
                    bytes += sample_bytes_max(0) + histogram.bytes.len();
                    let histogram = histogram.clone();
                    histograms.push(SeriesHistogram { series: number, histogram });
                    if bytes >= BLOCK_HISTOGRAMS_BYTES {
                        self.batch(encoder, &[], &histograms)?;
                        histograms.clear();
                        bytes = 0;
                    }
                }
            }
        }
        self.batch(encoder, &[], &histograms)
    }

    fn batch(
        &mut self,
        encoder: &mut ShardEncoder<'_>,
        samples: &[SeriesSample],
        histograms: &[SeriesHistogram],
    ) -> io::Result<()> {
        if samples.is_empty() && histograms.is_empty() {
            return Ok(());
        }
        self.report.samples += (samples.len() + histograms.len()) as u64;
        self.block(&encoder.encode(samples, histograms))
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= BLOCK_BYTES_MAX, "a block of {} bytes", bytes.len());
        let mut block = Vec::with_capacity(BLOCK_HEAD_BYTES + bytes.len());
        let length = u32::try_from(bytes.len()).expect("a block is bounded far below u32");
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&checksum(self.blocks, bytes).to_le_bytes());
        block.extend_from_slice(bytes);
        write_full(self.file.as_mut(), &block, self.position)?;
        self.position += block.len() as u64;
        self.blocks += 1;
        Ok(())
    }
}

/// Covers the block's number and length too, so that blocks cannot be exchanged.
fn checksum(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Loads the snapshot into the head, if it exists, and returns the position that it covers. `check`
/// compares that position with the log before any batch is read. It receives `None` if there is no
/// snapshot.
pub(crate) fn load(
    fs: &dyn FileSystem,
    dir: &Path,
    check: &dyn Fn(Option<&Checkpoint>) -> Result<(), StorageError>,
    head: &Head,
) -> Result<Option<Checkpoint>, StorageError> {
    let path = path(dir);
    let file = match fs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check(None).map(|()| None),
        opened => opened.map_err(StorageError::io("opening", &path))?,
    };
    file.drop_cache();
    let length = file.len().map_err(StorageError::io("reading the size of", &path))?;
    let mut reader = Reader { path, file, length, position: 0, blocks: 0 };
    let mut magic = MAGIC;
    reader.exactly(&mut magic)?;
    if magic != MAGIC {
        return Err(reader.corrupted("it does not begin with a header of this version"));
    }
    let bytes = reader.block()?;
    let bytes = checkpoint(&bytes);
    let checkpoint = bytes.ok_or_else(|| reader.corrupted("its position is malformed"))?;
    check(Some(&checkpoint))?;
    let mut restorer = Restorer::new(head);
    loop {
        let batch = reader.block()?;
        if batch.is_empty() {
            break;
        }
        let restored = restorer.restore(&batch);
        restored.map_err(|_| reader.corrupted("a block is not a batch of samples"))?;
    }
    if reader.position != reader.length {
        return Err(reader.corrupted("bytes follow its last block"));
    }
    Ok(Some(checkpoint))
}

/// Parses the position of every shard.
fn checkpoint(bytes: &[u8]) -> Option<Checkpoint> {
    let (log, rest) = bytes.split_first_chunk::<16>()?;
    let (generation, rest) = rest.split_first_chunk::<4>()?;
    let (shards, rest) = rest.split_first_chunk::<4>()?;
    let (sequences, tail) = rest.as_chunks::<8>();
    let whole = tail.is_empty() && u32::from_le_bytes(*shards) as usize == sequences.len();
    let sequences = sequences.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let log = LogId::from(*log);
    whole.then(|| Checkpoint::new(u32::from_le_bytes(*generation), sequences).of_log(log))
}

struct Reader {
    path: PathBuf,
    file: Box<dyn FileHandle>,
    length: u64,
    position: u64,
    blocks: u64,
}

impl Reader {
    fn block(&mut self) -> Result<Vec<u8>, StorageError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.exactly(&mut head)?;
        let [l0, l1, l2, l3, crc @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let left = self.length - self.position;
        if length > BLOCK_BYTES_MAX || length as u64 > left {
            return Err(self.corrupted("a block's length is out of range"));
        }
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        if checksum(self.blocks, &bytes) != u32::from_le_bytes(crc) {
            return Err(self.corrupted("a block does not match its checksum"));
        }
        self.blocks += 1;
        Ok(bytes)
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), StorageError> {
        let read = read_full(self.file.as_ref(), bytes, self.position)
            .map_err(StorageError::io("reading", &self.path))?;
        if read < bytes.len() {
            return Err(self.corrupted("the file ends too early"));
        }
        self.position += read as u64;
        Ok(())
    }

    fn corrupted(&self, what: &'static str) -> StorageError {
        let path = self.path.clone();
        StorageError::CorruptedSnapshot { path, offset: self.position, what }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::budget::Budget;
    use super::super::{Labels, Sample};
    use super::{
        BLOCK_HEAD_BYTES, FileHandle, HeadShard, LogId, SeriesSample, ShardSnapshot, Writer,
    };

    /// Of each write to the file: the first byte of its block, and the groups of columns that the
    /// head shares with the snapshot meanwhile.
    type Writes = Arc<Mutex<Vec<(Option<u8>, usize)>>>;

    #[derive(Debug)]
    struct Watching(Arc<HeadShard>, Writes);

    impl FileHandle for Watching {
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }
        fn write_at(&mut self, bytes: &[u8], _: u64) -> io::Result<usize> {
            let first = bytes.get(BLOCK_HEAD_BYTES).copied();
            self.1.lock().push((first, self.0.shared_groups()));
            Ok(bytes.len())
        }
        fn sync_data(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn set_len(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
        fn drop_cache(&self) {}
    }

    /// A group of columns has as many series as a block has samples and a period has series. So
    /// each block is of another group, and begins a period.
    #[test]
    fn a_snapshot_holds_neither_columns_nor_labels_that_it_has_written() {
        const SERIES: u32 = 3 * 16_384;
        let shard = Arc::new(HeadShard::new(Budget::new(0)));
        for host in 0..SERIES {
            let labels = Labels::new([("host", host.to_string())]).expect("they are valid");
            let series = shard.restored_number(&labels);
            shard.restore(&[SeriesSample { series, sample: Sample::new(1, 1.0) }], &[]);
        }
        let (hold, cut, inserted) = shard.snapshot();
        let mut snapshots = [ShardSnapshot { hold, next: 9, cut, inserted, shard: shard.clone() }];
        let writes = Writes::default();
        let writer = Writer::new(Box::new(Watching(shard.clone(), writes.clone())));
        let report = writer.write(LogId::from([1; 16]), 1, &mut snapshots);
        let report = report.expect("the file accepts everything");
        assert_eq!((report.series, report.samples), (SERIES.into(), SERIES.into()));
        let found = writes.lock().clone();
        let [magic, position, blocks @ .., end] = &found[..] else { panic!("{found:?}") };
        assert_eq!([magic, position], [&(None, 3), &(Some(1), 3)]);
        assert_eq!(blocks, [(Some(1), 3), (Some(1), 2), (Some(1), 1)], "fresh batches");
        assert_eq!(*end, (None, 0));
    }
}
