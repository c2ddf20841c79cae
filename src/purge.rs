//! The purge mark of a shard: the sequence below which records are gone.
//!
//! One small file a shard, made with the shard: two slots that are written in
//! turn, so that a truncation needs no space and a torn write leaves the mark
//! before it. Below the mark, missing segments are no damage.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::disk::{Disk, DiskFile, OpenMode, Unreadable, read_around, write_full};
use crate::error::OpenError;
use crate::segment::{NUMBER_MAX, SegmentIdentity};

const FILE: &str = "purge";
/// Each slot has a block of its own, so that no write touches both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const SLOT_BYTES: usize = 32;
const FILE_BYTES: usize = 8192;
const MAGIC: [u8; 8] = *b"purgemrk";

/// The purge mark of a shard that nothing is left of.
pub(crate) const GIVEN_UP: u64 = u64::MAX;

/// A mark as it stands in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PurgeMark {
    /// Rises with each write; the higher of the two slots holds.
    epoch: u64,
    /// Sequences below are gone.
    pub(crate) below: u64,
    /// What `below` was before this mark was written; `u64::MAX` where the other
    /// slot does not say so.
    before: u64,
}

impl PurgeMark {
    /// In a shard that nothing is left of: the sequence after its last record.
    /// It is the mark that is written before [`GIVEN_UP`].
    pub(crate) fn ended(&self) -> u64 {
        self.before
    }
}

/// Whether the name is of a file that this module makes.
pub(crate) fn is_mark(name: &str) -> bool {
    name == FILE
}

/// The file of a shard's purge mark.
pub(crate) fn purge_path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Makes the file of a new shard, durable but for its name.
pub(crate) fn create(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut file = disk.open(&purge_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &[0; FILE_BYTES], 0)?;
    file.sync_data()
}

/// Makes the file of a copied shard, with the mark and the one before it, durable
/// but for its name.
pub(crate) fn create_copy(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: PurgeMark,
) -> io::Result<()> {
    let mut bytes = vec![0; FILE_BYTES];
    let before = mark.epoch.checked_sub(1).filter(|epoch| *epoch > 0 && mark.before != u64::MAX);
    let before = before.map(|epoch| PurgeMark { epoch, below: mark.before, before: 0 });
    for mark in [Some(mark).filter(|mark| mark.epoch > 0), before].into_iter().flatten() {
        let at = usize::try_from(slot_offset(mark.epoch)).unwrap_or(0);
        bytes[at..at + SLOT_BYTES].copy_from_slice(&encode(mark, identity));
    }
    let mut file = disk.open(&purge_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &bytes, 0)?;
    file.sync_data()
}

/// Where the mark with this epoch stands.
fn slot_offset(epoch: u64) -> u64 {
    SLOT_OFFSETS[usize::from(epoch % 2 == 1)]
}

/// Reads the mark of a shard. `identity` names it; its number does not count.
pub(crate) fn load(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<PurgeMark, OpenError> {
    let path = purge_path(dir);
    let file = match disk.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "it is missing, and with it perhaps the shard's folder".into();
            return Err(OpenError::Manifest { file: path, what });
        }
        opened => opened.map_err(OpenError::io("opening", &path))?,
    };
    file.drop_cache();
    let (mut marks, mut unreadable) = (Vec::new(), Unreadable::default());
    for offset in SLOT_OFFSETS {
        let mut slot = [0; SLOT_BYTES];
        read_around(file.as_ref(), &mut slot, offset, &mut unreadable)
            .map_err(OpenError::io("reading", &path))?;
        marks.extend(parse(&slot, identity));
    }
    // The slot that can be read may be the older one, and would bring records back.
    if let Some(range) = unreadable.first() {
        let what = format!("the disk cannot read bytes {}..{} of it", range.start, range.end);
        return Err(OpenError::Manifest { file: path, what });
    }
    marks.sort_by_key(|mark| mark.epoch);
    match marks.pop() {
        Some(mark) => {
            let last = marks.pop().filter(|last| last.epoch + 1 == mark.epoch);
            Ok(PurgeMark { before: last.map_or(u64::MAX, |last| last.below), ..mark })
        }
        None => Err(OpenError::Manifest {
            file: path,
            what: "neither of its two purge marks can be read".into(),
        }),
    }
}

/// Makes a mark that [`load`] found durable: a process that was killed may have
/// left it in the cache alone, and what it covers is deleted on its word.
pub(crate) fn settle(disk: &dyn Disk, dir: &Path, mark: PurgeMark) -> Result<(), OpenError> {
    if mark.below == 0 {
        return Ok(());
    }
    let path = purge_path(dir);
    let mut file = disk.open(&path, OpenMode::Write).map_err(OpenError::io("opening", &path))?;
    file.sync_data().map_err(OpenError::io("syncing", &path))
}

/// Opens the file of a shard's mark, for [`store`]. An error here changes nothing.
pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<Box<dyn DiskFile>> {
    disk.open(&purge_path(dir), OpenMode::Write)
}

/// Writes the next mark into the slot that does not hold the last, durably.
/// After an error the mark on the disk is the old or the new one.
pub(crate) fn store(
    mut file: Box<dyn DiskFile>,
    identity: &SegmentIdentity,
    last: PurgeMark,
    below: u64,
) -> io::Result<PurgeMark> {
    let mark = PurgeMark { epoch: last.epoch + 1, below, before: last.below };
    let offset = slot_offset(mark.epoch);
    write_full(file.as_mut(), &encode(mark, identity), offset)?;
    file.sync_data()?;
    Ok(mark)
}

fn encode(mark: PurgeMark, identity: &SegmentIdentity) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&mark.epoch.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.below.to_le_bytes());
    let crc = crc(&bytes[..24], identity);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The mark in a slot; blank slots hold the mark 0.
fn parse(bytes: &[u8; SLOT_BYTES], identity: &SegmentIdentity) -> Option<PurgeMark> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(PurgeMark::default());
    }
    if bytes[..8] != MAGIC || bytes[24..28] != crc(&bytes[..24], identity).to_le_bytes() {
        return None;
    }
    let long = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let mark = PurgeMark { epoch: long(8), below: long(16), before: 0 };
    let believed = mark.below <= NUMBER_MAX || mark.below == GIVEN_UP;
    (believed && mark.epoch <= NUMBER_MAX).then_some(mark)
}

fn crc(bytes: &[u8], identity: &SegmentIdentity) -> u32 {
    let mut hasher = Hasher::new_with_initial(identity.with_number(0).seed());
    hasher.update(bytes);
    hasher.finalize()
}
