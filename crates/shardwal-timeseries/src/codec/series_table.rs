//! Maps the caller's number of a series to its reference in this fresh period. The table is paged,
//! so that sparse numbers do not take gigabytes. It does not know labels.

const PAGE: usize = 1024;
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(super) struct SeriesTable {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    /// Series, by reference.
    series: Vec<u32>,
}

impl SeriesTable {
    /// Clears all references. Keeps the pages.
    pub(super) fn clear(&mut self) {
        for series in self.series.drain(..) {
            let (page, at) = page_and_index(series);
            if let Some(page) = &mut self.pages[page] {
                page[at] = NONE;
            }
        }
    }

    /// The reference of `series`, and whether it is new.
    #[inline]
    pub(super) fn reference(&mut self, series: u32) -> (u32, bool) {
        let (page, at) = page_and_index(series);
        if let Some(Some(page)) = self.pages.get(page)
            && page[at] != NONE
        {
            return (page[at], false);
        }
        (self.insert(series), true)
    }

    /// Forgets the reference of `series`, if it has one.
    pub(super) fn forget(&mut self, series: u32) {
        let (page, at) = page_and_index(series);
        if let Some(Some(page)) = self.pages.get_mut(page) {
            page[at] = NONE;
        }
    }

    fn insert(&mut self, series: u32) -> u32 {
        let (page, at) = page_and_index(series);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let reference = u32::try_from(self.series.len()).expect("fewer references than series");
        self.pages[page].get_or_insert_with(|| Box::new([NONE; PAGE]))[at] = reference;
        self.series.push(series);
        reference
    }
}

const fn page_and_index(series: u32) -> (usize, usize) {
    (series as usize / PAGE, series as usize % PAGE)
}
