//! The purge mark of a shard: the sequence below which records are gone. Below it,
//! missing segments are no damage.
//!
//! A truncation needs no room and changes no file in place: the mark is said by a
//! file's name ([`name`]). Before that it was written into one of two slots of the
//! file `purge`; both are read, and the highest epoch holds. The slots are written
//! only where there is no file to rename or no room to rename it, and only if no
//! other name shares the file.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::disk::{Disk, OpenMode, Unreadable, read_around, unlink_if_there, write_full};
use crate::error::{OpenError, means_full};
use crate::segment::{NUMBER_MAX, SegmentIdentity};

mod name;

const FILE: &str = "purge";
/// Each slot has a block of its own, so that no write touches both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const SLOT_BYTES: usize = 32;
const FILE_BYTES: usize = 8192;
const MAGIC: [u8; 8] = *b"purgemrk";

/// The purge mark of a shard that nothing is left of.
pub(crate) const GIVEN_UP: u64 = u64::MAX;

/// A mark as a slot or a name says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    /// One more with each mark; the highest holds.
    epoch: u64,
    /// Sequences below are gone.
    below: u64,
}

impl Mark {
    fn is_believed(self) -> bool {
        self.epoch <= NUMBER_MAX && (self.below <= NUMBER_MAX || self.below == GIVEN_UP)
    }
}

/// The mark of a shard, and the files that can carry the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PurgeMark {
    epoch: u64,
    /// Sequences below are gone.
    pub(crate) below: u64,
    /// What `below` was before this mark was written; `u64::MAX` if nothing says so.
    before: u64,
    /// What the name of each carrier says; `None` if there is no such file.
    carriers: [Option<Mark>; 2],
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
    name == FILE || name.starts_with("purge-")
}

/// Why a mark was not stored.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The mark is the one before.
    Unchanged(io::Error),
    /// It is the one before or the new one: a sync has failed, which proves nothing.
    Unknown(io::Error),
}

/// The file of a shard's purge mark.
pub(crate) fn purge_path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Makes the files of a new shard, durable but for their names.
pub(crate) fn create(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
) -> io::Result<PurgeMark> {
    let mut file = disk.open(&purge_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &[0; FILE_BYTES], 0)?;
    file.sync_data()?;
    let mut mark = PurgeMark::default();
    for (index, carrier) in mark.carriers.iter_mut().enumerate() {
        *carrier = Some(create_carrier(disk, dir, identity, index)?);
    }
    Ok(mark)
}

/// Makes a file that can carry a later mark. It says the mark of a new shard.
fn create_carrier(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
    index: usize,
) -> io::Result<Mark> {
    let mark = Mark::default();
    disk.open(&dir.join(name::name(index, mark, identity)), OpenMode::CreateNew)?;
    Ok(mark)
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
    let before = before.map(|epoch| Mark { epoch, below: mark.before });
    let last = Mark { epoch: mark.epoch, below: mark.below };
    for mark in [Some(last).filter(|mark| mark.epoch > 0), before].into_iter().flatten() {
        let at = usize::try_from(slot_offset(mark.epoch)).unwrap_or(0);
        bytes[at..at + SLOT_BYTES].copy_from_slice(&encode(mark, identity));
    }
    let mut file = disk.open(&purge_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &bytes, 0)?;
    file.sync_data()
}

/// Where the mark with this epoch stands.
fn slot_offset(epoch: u64) -> u64 {
    SLOT_OFFSETS[name::carrier(epoch)]
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
    if marks.is_empty() {
        let what = "neither of its two purge marks can be read".into();
        return Err(OpenError::Manifest { file: path, what });
    }
    let mut carriers = [None; 2];
    for (_, index, mark) in said_by_names(disk, dir, identity)? {
        carriers[index] = carriers[index].max(Some(mark));
        marks.push(mark);
    }
    let mark = marks.iter().copied().max().unwrap_or_default();
    let before = marks.iter().filter(|it| it.epoch + 1 == mark.epoch).map(|it| it.below).max();
    let Mark { epoch, below } = mark;
    Ok(PurgeMark { epoch, below, before: before.unwrap_or(u64::MAX), carriers })
}

/// The names that say a mark of this shard: the name, the carrier and the mark.
fn said_by_names(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<Vec<(String, usize, Mark)>, OpenError> {
    let names = disk.list(dir).map_err(OpenError::io("listing", dir))?;
    let said = |text: String| {
        let (carrier, mark) = name::parse(&text, identity)?;
        Some((text, carrier, mark))
    };
    Ok(names.into_iter().filter_map(said).collect())
}

/// Makes a mark that [`load`] found durable: a process that was killed may have
/// left it in the cache alone, and what it covers is deleted on its word. Then sees
/// to it that there are two carriers, if there is room for them.
pub(crate) fn settle(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: PurgeMark,
) -> Result<PurgeMark, OpenError> {
    if mark.below != 0 {
        disk.sync_dir(dir).map_err(OpenError::io("syncing", dir))?;
        let path = purge_path(dir);
        let mut file =
            disk.open(&path, OpenMode::Write).map_err(OpenError::io("opening", &path))?;
        file.sync_data().map_err(OpenError::io("syncing", &path))?;
    }
    let mut settled = mark;
    for (index, carrier) in settled.carriers.iter_mut().enumerate() {
        // Logs from before there were any have none. Without one, slots serve.
        *carrier = carrier.or_else(|| create_carrier(disk, dir, identity, index).ok());
    }
    // A power loss within a rename, or a copy onto an older one, leaves two names.
    for (text, index, said) in said_by_names(disk, dir, identity)? {
        if settled.carriers[index].is_some_and(|carrier| said < carrier) {
            let path = dir.join(text);
            unlink_if_there(disk, &path).map_err(OpenError::io("removing", &path))?;
        }
    }
    Ok(settled)
}

/// Stores the next mark, durably. Takes no room but where the shard has no carrier.
pub(crate) fn store(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
    last: PurgeMark,
    below: u64,
) -> Result<PurgeMark, StoreError> {
    let mark = Mark { epoch: last.epoch + 1, below };
    let index = name::carrier(mark.epoch);
    let mut next = PurgeMark { epoch: mark.epoch, below, before: last.below, ..last };
    let renamed = match last.carriers[index] {
        None => Err(io::ErrorKind::NotFound.into()),
        Some(said) => {
            let path = |mark| dir.join(name::name(index, mark, identity));
            disk.rename(&path(said), &path(mark))
        }
    };
    match renamed {
        Ok(()) => {
            disk.sync_dir(dir).map_err(StoreError::Unknown)?;
            next.carriers[index] = Some(mark);
        }
        Err(error) if means_full(&error) || error.kind() == io::ErrorKind::NotFound => {
            store_in_place(disk, dir, identity, mark)?;
        }
        Err(error) => return Err(StoreError::Unchanged(error)),
    }
    Ok(next)
}

/// Writes a mark into the slot that does not hold the one before. A slot that was
/// written in part says nothing, so the mark before holds until the sync.
fn store_in_place(
    disk: &dyn Disk,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: Mark,
) -> Result<(), StoreError> {
    let mut file = disk.open(&purge_path(dir), OpenMode::Write).map_err(StoreError::Unchanged)?;
    if file.has_other_names().map_err(StoreError::Unchanged)? {
        let shared = "the purge file has another name, and no file can carry the mark instead";
        return Err(StoreError::Unchanged(io::Error::other(shared)));
    }
    let offset = slot_offset(mark.epoch);
    write_full(file.as_mut(), &encode(mark, identity), offset).map_err(StoreError::Unchanged)?;
    file.sync_data().map_err(StoreError::Unknown)
}

fn encode(mark: Mark, identity: &SegmentIdentity) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&mark.epoch.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.below.to_le_bytes());
    let crc = crc(&bytes[..24], identity);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The mark in a slot; blank slots hold the mark 0.
fn parse(bytes: &[u8; SLOT_BYTES], identity: &SegmentIdentity) -> Option<Mark> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(Mark::default());
    }
    if bytes[..8] != MAGIC || bytes[24..28] != crc(&bytes[..24], identity).to_le_bytes() {
        return None;
    }
    let long = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let mark = Mark { epoch: long(8), below: long(16) };
    mark.is_believed().then_some(mark)
}

fn crc(bytes: &[u8], identity: &SegmentIdentity) -> u32 {
    let mut hasher = Hasher::new_with_initial(identity.with_number(0).seed());
    hasher.update(bytes);
    hasher.finalize()
}
