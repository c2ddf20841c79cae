//! The bytes of one simulated file: the live bytes, the durable bytes, and the sectors
//! that differ.
//!
//! This file does not know names, handles or faults. Pages are shared until a write. So
//! a copy of a file costs one reference count per page, and zeros cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// The unit of allocation.
pub(super) const PAGE_BYTES: usize = 4096;
/// The unit that a power loss keeps or loses as a whole.
pub(super) const SECTOR_BYTES: usize = 512;
const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;
const ALL_SECTORS: u8 = u8::MAX;
/// [`PAGE_BYTES`], for offsets.
const PAGE_SPAN: u64 = PAGE_BYTES as u64;
const _: () = assert!(PAGE_SECTORS == ALL_SECTORS.count_ones() as usize);

type PageBytes = Arc<[u8; PAGE_BYTES]>;

static ZEROS: LazyLock<PageBytes> = LazyLock::new(|| Arc::new([0; PAGE_BYTES]));

/// One file's bytes. The live bytes beyond `len` are zeros.
#[derive(Clone, Default)]
pub(super) struct Content {
    pages: BTreeMap<u64, Page>,
    len: u64,
    durable_len: u64,
    /// The pages with a dirty sector.
    dirty: BTreeSet<u64>,
    /// The pages with a lost sector.
    lost: BTreeSet<u64>,
    /// Number of pages that are not a live hole.
    allocated: u64,
    /// The ranges that no read returns.
    unreadable: Vec<Range<u64>>,
}

/// A page. In a sector that is neither dirty nor lost, live and durable bytes are
/// equal.
#[derive(Clone, Default)]
struct Page {
    /// The bytes that a read returns; `None` is a hole.
    live: Option<PageBytes>,
    /// The bytes on the disk; `None` is a hole.
    durable: Option<PageBytes>,
    /// One bit per sector: changed since the last sync.
    dirty: u8,
    /// One bit per sector: clean in the cache, but a failed sync never wrote it.
    lost: u8,
}

impl Content {
    /// A file whose bytes are all durable.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0, u64::MAX, false);
        content.sync();
        content
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Number of pages that the file occupies.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(super) fn make_unreadable(&mut self, range: Range<u64>) {
        self.unreadable.push(range);
    }

    /// Number of bytes that a read at `offset` may return before it meets an unreadable
    /// range. `None` if the range begins there.
    pub(super) fn readable(&self, offset: u64, requested: usize) -> Option<usize> {
        let end = offset.saturating_add(requested as u64).min(self.len);
        let met = self.unreadable.iter().filter(|range| range.start < end && range.end > offset);
        match met.map(|range| range.start).min() {
            Some(start) if start <= offset => None,
            Some(start) => usize::try_from(start - offset).ok(),
            None => Some(requested),
        }
    }

    pub(super) fn read(&self, bytes: &mut [u8], offset: u64) -> usize {
        let left = self.len.saturating_sub(offset);
        let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        for piece in pieces(offset, count) {
            let live = self.pages.get(&piece.page).map(|page| &page.live);
            let source = live.map_or(&**ZEROS, bytes_of);
            bytes[piece.in_buffer].copy_from_slice(&source[piece.in_page]);
        }
        count
    }

    /// Writes while at most `room` new pages are needed. Returns the number of bytes
    /// written. With `copies`, the write of an existing page needs one free page too.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        offset: u64,
        mut room: u64,
        copies: bool,
    ) -> usize {
        let mut taken = 0;
        for piece in pieces(offset, bytes.len()) {
            let known = self.pages.get(&piece.page);
            let is_new = known.is_none_or(|page| page.live.is_none());
            if (is_new || copies) && room == 0 {
                break;
            }
            if is_new {
                room -= 1;
                self.allocated += 1;
            }
            taken = piece.in_buffer.end;
            self.dirty.insert(piece.page);
            let page = self.pages.entry(piece.page).or_default();
            page.write(&bytes[piece.in_buffer], piece.in_page);
        }
        if taken > 0 {
            self.len = self.len.max(offset + taken as u64);
        }
        taken
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.cut(len);
        }
        self.len = len;
    }

    /// Replaces the bytes beyond `len` by holes and zeros. They are unsynced like a
    /// write: if the file grows again, a crash may show the bytes from before the cut.
    fn cut(&mut self, len: u64) {
        let first = page_of(len);
        for (&number, page) in self.pages.range_mut(first..) {
            let start = if number == first { within_page(len) } else { 0 };
            if start == 0 {
                self.allocated -= u64::from(page.live.take().is_some());
            } else if let Some(live) = &mut page.live {
                Arc::make_mut(live)[start..].fill(0);
            }
            page.touch(ALL_SECTORS << (start / SECTOR_BYTES));
            self.dirty.insert(number);
        }
    }

    /// Makes the dirty sectors and the length durable, but not the lost sectors.
    pub(super) fn sync(&mut self) {
        for number in mem::take(&mut self.dirty) {
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            if page.lost == 0 {
                page.durable.clone_from(&page.live);
            } else {
                for sector in sectors(page.dirty) {
                    copy_sector(&page.live, &mut page.durable, sector);
                }
            }
            page.dirty = 0;
            if page.is_hole() {
                self.pages.remove(&number);
            }
        }
        self.durable_len = self.len;
    }

    /// Fails a sync: the dirty sectors count as clean from now on. The length and the
    /// holes of a cut are not cached pages, and stay unsynced.
    pub(super) fn fail_sync(&mut self) {
        let (pages, lost) = (&mut self.pages, &mut self.lost);
        self.dirty.retain(|number| match pages.get_mut(number) {
            Some(page) if page.live.is_some() => {
                page.lost |= mem::take(&mut page.dirty);
                lost.insert(*number);
                false
            }
            _ => true,
        });
    }

    /// Drops the clean sectors, so that the lost ones read as on the disk.
    pub(super) fn drop_cache(&mut self) {
        for number in mem::take(&mut self.lost) {
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            for sector in sectors(mem::take(&mut page.lost)) {
                copy_sector(&page.durable, &mut page.live, sector);
            }
            if number == page_of(self.len) {
                zero_tail(&mut page.live, within_page(self.len));
            }
        }
    }

    /// Whether a power loss changes nothing, whichever sectors survive.
    pub(super) fn is_durable(&self) -> bool {
        self.dirty.is_empty() && self.lost.is_empty() && self.len == self.durable_len
    }

    /// Number of sectors and lengths that a power loss may keep or lose.
    pub(super) fn unsynced(&self) -> usize {
        usize::from(self.len != self.durable_len) + self.unsynced_sectors().len()
    }

    /// The dirty sectors inside the file, as page and sector. Skips sectors whose live
    /// and durable bytes are equal: a power loss cannot change them, and a window of
    /// zeros would add hundreds of choices.
    fn unsynced_sectors(&self) -> Vec<(u64, usize)> {
        let mut unsynced = Vec::new();
        for &number in &self.dirty {
            let page = &self.pages[&number];
            for sector in sectors(page.dirty) {
                let start = number * PAGE_SPAN + (sector * SECTOR_BYTES) as u64;
                if start < self.len && page.differs(sector) {
                    unsynced.push((number, sector));
                }
            }
        }
        unsynced
    }

    /// Loses the power. The length, then each sector, survives if `choice` says so,
    /// which is called [`Content::unsynced`] times.
    pub(super) fn lose_power(&mut self, choice: &mut dyn FnMut() -> bool) {
        let sectors = self.unsynced_sectors();
        if self.len != self.durable_len && choice() {
            self.durable_len = self.len;
        }
        for (number, sector) in sectors {
            if let Some(page) = self.pages.get_mut(&number).filter(|_| choice()) {
                copy_sector(&page.live, &mut page.durable, sector);
            }
        }
        self.revert_to_durable();
    }

    /// Makes the durable bytes the live ones.
    fn revert_to_durable(&mut self) {
        let mut changed = mem::take(&mut self.dirty);
        changed.append(&mut self.lost);
        for number in changed {
            if let Some(page) = self.pages.get_mut(&number) {
                page.show_durable();
            }
        }
        self.len = self.durable_len;
        let (last, tail) = (page_of(self.len), within_page(self.len));
        drop(self.pages.split_off(&(last + u64::from(tail > 0))));
        if let Some(page) = self.pages.get_mut(&last) {
            zero_tail(&mut page.durable, tail);
            page.show_durable();
        }
        self.pages.retain(|_, page| !page.is_hole());
        self.allocated = self.pages.len() as u64;
    }
}

impl Page {
    fn write(&mut self, bytes: &[u8], range: Range<usize>) {
        self.touch(
            (ALL_SECTORS << (range.start / SECTOR_BYTES))
                & (ALL_SECTORS >> (PAGE_SECTORS - 1 - (range.end - 1) / SECTOR_BYTES)),
        );
        if bytes == &ZEROS[..] {
            self.live = Some(ZEROS.clone());
        } else {
            let live = self.live.get_or_insert_with(|| ZEROS.clone());
            Arc::make_mut(live)[range].copy_from_slice(bytes);
        }
    }

    fn touch(&mut self, sectors: u8) {
        self.dirty |= sectors;
        self.lost &= !sectors;
    }

    fn differs(&self, sector: usize) -> bool {
        let range = sector_position(sector);
        bytes_of(&self.live)[range.clone()] != bytes_of(&self.durable)[range]
    }

    fn show_durable(&mut self) {
        self.live.clone_from(&self.durable);
        self.dirty = 0;
        self.lost = 0;
    }

    fn is_hole(&self) -> bool {
        self.live.is_none() && self.durable.is_none()
    }
}

/// The part of a buffer that is in one page.
struct Piece {
    page: u64,
    in_page: Range<usize>,
    in_buffer: Range<usize>,
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    iter::from_fn(move || {
        let at = offset + done as u64;
        let start = within_page(at);
        let count = (PAGE_BYTES - start).min(len - done);
        done += count;
        (count > 0).then(|| Piece {
            page: page_of(at),
            in_page: start..start + count,
            in_buffer: done - count..done,
        })
    })
}

fn page_of(offset: u64) -> u64 {
    offset / PAGE_SPAN
}

fn within_page(offset: u64) -> usize {
    (offset % PAGE_SPAN) as usize
}

fn sectors(bits: u8) -> impl Iterator<Item = usize> {
    (0..PAGE_SECTORS).filter(move |sector| bits & (1 << sector) != 0)
}

fn sector_position(sector: usize) -> Range<usize> {
    sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES
}

fn bytes_of(side: &Option<PageBytes>) -> &[u8; PAGE_BYTES] {
    side.as_ref().unwrap_or(&ZEROS)
}

fn copy_sector(from: &Option<PageBytes>, to: &mut Option<PageBytes>, sector: usize) {
    let to = to.get_or_insert_with(|| ZEROS.clone());
    Arc::make_mut(to)[sector_position(sector)]
        .copy_from_slice(&bytes_of(from)[sector_position(sector)]);
}

fn zero_tail(side: &mut Option<PageBytes>, start: usize) {
    if let Some(bytes) = side.as_mut().filter(|b| b[start..] != ZEROS[start..]) {
        Arc::make_mut(bytes)[start..].fill(0);
    }
}
