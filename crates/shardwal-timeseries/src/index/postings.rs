//! A posting list: the numbers of the series that have one label. It does not know labels.

use roaring::RoaringBitmap;

/// A longer list becomes a bitmap, which has about 200 bytes of its own.
const LIST_MAX: usize = 64;

/// Numbers of series, sorted, at least one. Most values of a label with many values have one series
/// each, so the first is inline.
#[derive(Debug)]
pub(super) enum Postings {
    One(u32),
    List(Vec<u32>),
    Bitmap(Box<RoaringBitmap>),
}

impl Postings {
    pub(super) fn insert(&mut self, number: u32) {
        match self {
            Self::One(other) if *other == number => {}
            Self::One(other) => {
                let mut list = vec![*other, number];
                list.sort_unstable();
                *self = Self::List(list);
            }
            Self::List(list) => {
                let Err(at) = list.binary_search(&number) else { return };
                list.insert(at, number);
                if list.len() > LIST_MAX {
                    *self = Self::Bitmap(Box::new(list.iter().copied().collect()));
                }
            }
            Self::Bitmap(bitmap) => {
                bitmap.insert(number);
            }
        }
    }

    /// Removes a number, unless it is the only one. Returns whether it is.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        match self {
            Self::One(other) => return *other == number,
            Self::List(list) => {
                if let Ok(at) = list.binary_search(&number) {
                    list.remove(at);
                }
                if let [last] = list[..] {
                    *self = Self::One(last);
                }
            }
            Self::Bitmap(bitmap) => {
                bitmap.remove(number);
                if bitmap.len() <= LIST_MAX as u64 / 2 {
                    *self = Self::List(bitmap.iter().collect());
                }
            }
        }
        false
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bitmap(bitmap) => bitmap.len(),
            _ => self.list().len() as u64,
        }
    }

    /// The numbers of `found` that are here. The cost depends on the smaller of both.
    pub(super) fn intersect(&self, found: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Self::Bitmap(bitmap) => &**bitmap & found,
            _ => self.list().iter().copied().filter(|number| found.contains(*number)).collect(),
        }
    }

    /// Adds the numbers to `found`.
    pub(super) fn add_to(&self, found: &mut RoaringBitmap) {
        match self {
            Self::Bitmap(bitmap) => *found |= &**bitmap,
            _ => found.extend(self.list()),
        }
    }

    /// Removes the numbers from `found`.
    pub(super) fn remove_from(&self, found: &mut RoaringBitmap) {
        match self {
            Self::Bitmap(bitmap) => *found -= &**bitmap,
            _ => self.list().iter().for_each(|number| {
                found.remove(*number);
            }),
        }
    }

    /// The numbers, unless they are a bitmap.
    fn list(&self) -> &[u32] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::List(list) => list,
            Self::Bitmap(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Postings, RoaringBitmap};

    /// Whatever its form, a posting list is a set.
    #[test]
    fn a_posting_list_is_a_set() {
        let (mut postings, mut set) = (Postings::One(7), BTreeSet::from([7]));
        let check = |postings: &Postings, set: &BTreeSet<u32>| {
            let mut found = RoaringBitmap::new();
            postings.add_to(&mut found);
            assert!(found.iter().eq(set.iter().copied()), "{postings:?}");
            assert_eq!(postings.len(), set.len() as u64);
            let even: RoaringBitmap = (0..1_000).map(|n| n * 2).collect();
            let evens = set.iter().copied().filter(|n| n % 2 == 0 && *n < 2_000);
            assert!(postings.intersect(&even).iter().eq(evens.clone()));
            let mut without = even.clone();
            postings.remove_from(&mut without);
            assert_eq!(without.len(), even.len() - evens.count() as u64);
        };
        let numbers = || (0..200_u32).map(|n| n * 7919 % 1_009);
        for number in numbers().chain(numbers()) {
            postings.insert(number);
            set.insert(number);
            check(&postings, &set);
        }
        for number in numbers() {
            assert_eq!(postings.remove(number), set.len() == 1, "{number}");
            if set.len() > 1 {
                set.remove(&number);
            }
            check(&postings, &set);
        }
        assert!(matches!(postings, Postings::One(_)), "{postings:?}");
    }
}
