//! The truncation mark of a shard: the records below its sequence are truncated.
//! Below it, missing segments are not corruption.
//!
//! A truncation needs no room and changes no file in place: the mark is in a file's
//! name ([`name`]). Earlier versions wrote it into one of two slots of the file
//! `purge`. Slots and names are read, and the mark with the highest epoch counts.
//! A slot is written only if there is no file to rename, or no room for the rename.
//! It is never written if the file has another hard link. This module does not know
//! segments.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

use crate::error::{OpenError, means_full};
use crate::fs::{FileSystem, OpenMode, Unreadable, read_around, unlink_if_exists, write_full};
use crate::segment::header::{NUMBER_MAX, SegmentIdentity};

mod name;

const FILE: &str = "purge";
/// Each slot is in its own block, so that no write touches both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const SLOT_BYTES: usize = 32;
const FILE_BYTES: usize = 8192;
const MAGIC: [u8; 8] = *b"purgemrk";

/// The mark of a shard that was truncated as a whole.
pub(crate) const ALL_TRUNCATED: u64 = u64::MAX;

/// A mark as stored in a slot or in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    /// Rises by one per mark. The mark with the highest epoch counts.
    epoch: u64,
    /// The records below this sequence are truncated.
    below: u64,
}

impl Mark {
    fn is_plausible(self) -> bool {
        self.epoch <= NUMBER_MAX && (self.below <= NUMBER_MAX || self.below == ALL_TRUNCATED)
    }
}

/// The mark of a shard, and the files that can carry the next mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TruncationMark {
    epoch: u64,
    /// The records below this sequence are truncated.
    pub(crate) below: u64,
    /// The previous value of `below`. `u64::MAX` if it is unknown.
    before: u64,
    /// The mark in each carrier's name. `None` if the carrier does not exist.
    carriers: [Option<Mark>; 2],
}

impl TruncationMark {
    /// The sequence after the last record of a shard that was truncated as a whole.
    /// It is the mark that was written before [`ALL_TRUNCATED`].
    pub(crate) fn ended(&self) -> u64 {
        self.before
    }

    /// How many of the two files are there whose names carry marks.
    pub(crate) fn carriers(&self) -> usize {
        self.carriers.iter().flatten().count()
    }
}

/// Whether a file with this name belongs to this module.
pub(crate) fn is_mark(name: &str) -> bool {
    name == FILE || name.starts_with("purge-")
}

/// Why a mark was not stored.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The shard still has the previous mark.
    Unchanged(io::Error),
    /// A sync failed. The shard has the previous mark or the new one.
    Unknown(io::Error),
}

/// The path of the file with the slots.
pub(crate) fn mark_path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Creates the mark's files in a new shard and syncs them. The caller syncs the
/// directory.
pub(crate) fn create(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
) -> io::Result<TruncationMark> {
    let mut file = fs.open(&mark_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &[0; FILE_BYTES], 0)?;
    file.sync_data()?;
    let mut mark = TruncationMark::default();
    for (index, carrier) in mark.carriers.iter_mut().enumerate() {
        *carrier = Some(create_carrier(fs, dir, identity, index)?);
    }
    Ok(mark)
}

/// Creates a file that can carry a later mark. Its name has the mark of a new
/// shard.
fn create_carrier(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
    index: usize,
) -> io::Result<Mark> {
    let mark = Mark::default();
    fs.open(&dir.join(name::name(index, mark, identity)), OpenMode::CreateNew)?;
    Ok(mark)
}

/// Creates the slot file of a copied shard, with the mark and the previous one, and
/// syncs it. The caller syncs the directory.
pub(crate) fn create_copy(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: TruncationMark,
) -> io::Result<()> {
    let mut bytes = vec![0; FILE_BYTES];
    let before = mark.epoch.checked_sub(1).filter(|epoch| *epoch > 0 && mark.before != u64::MAX);
    let before = before.map(|epoch| Mark { epoch, below: mark.before });
    let last = Mark { epoch: mark.epoch, below: mark.below };
    for mark in [Some(last).filter(|mark| mark.epoch > 0), before].into_iter().flatten() {
        let at = usize::try_from(slot_offset(mark.epoch)).unwrap_or(0);
        bytes[at..at + SLOT_BYTES].copy_from_slice(&encode(mark, identity));
    }
    let mut file = fs.open(&mark_path(dir), OpenMode::CreateNew)?;
    write_full(file.as_mut(), &bytes, 0)?;
    file.sync_data()
}

/// The offset of the slot for the mark with this epoch.
fn slot_offset(epoch: u64) -> u64 {
    SLOT_OFFSETS[name::carrier(epoch)]
}

/// Reads the mark of a shard from the disk, not from the cache. The segment number
/// in `identity` means nothing.
pub(crate) fn load(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<TruncationMark, OpenError> {
    let path = mark_path(dir);
    let file = match fs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = "it is missing, and the shard's directory may be missing too".into();
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
    // The readable slot may have the older mark, which would bring back truncated
    // records.
    if let Some(range) = unreadable.first() {
        let what = format!("the disk cannot read bytes {}..{} of it", range.start, range.end);
        return Err(OpenError::Manifest { file: path, what });
    }
    if marks.is_empty() {
        let what = "neither of its two truncation marks can be read".into();
        return Err(OpenError::Manifest { file: path, what });
    }
    let mut carriers = [None; 2];
    // A listing may miss a name that a writer changes meanwhile.
    for _ in 0..2 {
        for (_, index, mark) in marks_in_names(fs, dir, identity)? {
            carriers[index] = carriers[index].max(Some(mark));
            marks.push(mark);
        }
        if carriers.iter().all(Option::is_some) {
            break;
        }
    }
    let mark = marks.iter().copied().max().unwrap_or_default();
    let before = marks.iter().filter(|it| it.epoch + 1 == mark.epoch).map(|it| it.below).max();
    let Mark { epoch, below } = mark;
    Ok(TruncationMark { epoch, below, before: before.unwrap_or(u64::MAX), carriers })
}

/// The marks of this shard in file names: name, carrier and mark.
fn marks_in_names(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<Vec<(String, usize, Mark)>, OpenError> {
    let names = fs.list(dir).map_err(OpenError::io("listing", dir))?;
    let parsed = |text: String| {
        let (carrier, mark) = name::parse(&text, identity)?;
        Some((text, carrier, mark))
    };
    Ok(names.into_iter().filter_map(parsed).collect())
}

/// Syncs a mark that [`load`] found. A process that was killed may have left it in
/// the cache only, and segments are deleted because of it. Then creates missing
/// carriers, if there is room for them.
pub(crate) fn make_durable(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: TruncationMark,
) -> Result<TruncationMark, OpenError> {
    if mark.below != 0 {
        fs.sync_dir(dir).map_err(OpenError::io("syncing", dir))?;
        let path = mark_path(dir);
        let mut file = fs.open(&path, OpenMode::Write).map_err(OpenError::io("opening", &path))?;
        file.sync_data().map_err(OpenError::io("syncing", &path))?;
    }
    let mut completed = mark;
    for (index, carrier) in completed.carriers.iter_mut().enumerate() {
        // Logs of earlier versions have no carriers. Without one, the slots serve.
        *carrier = carrier.or_else(|| create_carrier(fs, dir, identity, index).ok());
    }
    // A power loss during a rename, or a copy over an older copy, leaves two names.
    for (text, index, parsed) in marks_in_names(fs, dir, identity)? {
        if completed.carriers[index].is_some_and(|carrier| parsed < carrier) {
            let path = dir.join(text);
            unlink_if_exists(fs, &path).map_err(OpenError::io("removing", &path))?;
        }
    }
    Ok(completed)
}

/// Stores the next mark durably. Needs no room, unless the shard has no carrier.
pub(crate) fn store(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
    last: TruncationMark,
    below: u64,
) -> Result<TruncationMark, StoreError> {
    let mark = Mark { epoch: last.epoch + 1, below };
    let index = name::carrier(mark.epoch);
    let mut next = TruncationMark { epoch: mark.epoch, below, before: last.below, ..last };
    let renamed = match last.carriers[index] {
        None => Err(io::ErrorKind::NotFound.into()),
        Some(parsed) => {
            let path = |mark| dir.join(name::name(index, mark, identity));
            fs.rename(&path(parsed), &path(mark))
        }
    };
    match renamed {
        Ok(()) => {
            fs.sync_dir(dir).map_err(StoreError::Unknown)?;
            next.carriers[index] = Some(mark);
        }
        Err(error) if means_full(&error) || error.kind() == io::ErrorKind::NotFound => {
            store_in_place(fs, dir, identity, mark)?;
        }
        Err(error) => return Err(StoreError::Unchanged(error)),
    }
    Ok(next)
}

/// Writes a mark into the slot that does not hold the previous mark. A partly
/// written slot is invalid, so the previous mark counts until the sync.
fn store_in_place(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
    mark: Mark,
) -> Result<(), StoreError> {
    let mut file = fs.open(&mark_path(dir), OpenMode::Write).map_err(StoreError::Unchanged)?;
    if file.is_hard_linked().map_err(StoreError::Unchanged)? {
        let shared = "the purge file has another hard link, and there is no carrier to rename";
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

/// The mark in a slot. A blank slot holds the mark 0.
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
    mark.is_plausible().then_some(mark)
}

fn crc(bytes: &[u8], identity: &SegmentIdentity) -> u32 {
    let mut hasher = Hasher::new_with_initial(identity.with_number(0).seed());
    hasher.update(bytes);
    hasher.finalize()
}
