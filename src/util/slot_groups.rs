//! Slots for numbers, allocated in groups as they are first used.
//!
//! A number's slot is found by masking the number. So numbers whose distance is a multiple of
//! [`SlotGroups::count`] share a slot. A group's memory stays until all of them are dropped. This
//! file does not know what the slots hold, nor who may use which.

use std::marker::PhantomData;
use std::ptr;

use crate::util::sync::{AtomicPtr, Ordering};

/// The slots of a group.
pub(crate) const GROUP_LEN: usize = if cfg!(loom) { 2 } else { 128 };
const GROUP_SLOTS: u64 = GROUP_LEN as u64;

/// Slots in groups. Each group takes 8 bytes until one of its slots is used.
#[derive(Debug)]
pub(crate) struct SlotGroups<S> {
    /// Null where there is no group.
    groups: Box<[AtomicPtr<Group<S>>]>,
    new_slot: fn() -> S,
    /// Ends the bounds that an `AtomicPtr` has of its own, whatever it points to.
    _slots: PhantomData<*const S>,
}

// SAFETY: it owns its slots, and another thread may drop them.
unsafe impl<S: Send> Send for SlotGroups<S> {}
// SAFETY: any thread may use a slot, and drop one that another thread has made.
unsafe impl<S: Send + Sync> Sync for SlotGroups<S> {}

#[derive(Debug)]
struct Group<S>([S; GROUP_LEN]);

impl<S> Group<S> {
    fn slot(&self, number: u64) -> &S {
        let index = (number % GROUP_SLOTS) as usize;
        &self.0[index]
    }
}

impl<S> SlotGroups<S> {
    /// At least `slots` slots, none of them allocated.
    pub(crate) fn new(slots: usize, new_slot: fn() -> S) -> Self {
        let groups = slots.div_ceil(GROUP_LEN).next_power_of_two();
        let groups = (0..groups).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Self { groups, new_slot, _slots: PhantomData }
    }

    /// The number of slots.
    pub(crate) fn count(&self) -> u64 {
        self.groups.len() as u64 * GROUP_SLOTS
    }

    /// The slot of a number, if its group is allocated.
    pub(crate) fn get(&self, number: u64) -> Option<&S> {
        Some(self.group(number)?.slot(number))
    }

    /// The slot of a number. Allocates its group if need be.
    pub(crate) fn get_or_new(&self, number: u64) -> &S {
        let group = self.group(number).unwrap_or_else(|| self.new_group(number));
        group.slot(number)
    }

    /// The allocated slots of the numbers `from..to`, which are no more than there are slots.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &S> {
        let group_starts = std::iter::successors(Some(from), |first| Some(next_group(*first)));
        group_starts.take_while(move |first| *first < to).flat_map(move |first| {
            let numbers = first..next_group(first).min(to);
            self.group(first)
                .into_iter()
                .flat_map(move |group| numbers.clone().map(|number| group.slot(number)))
        })
    }

    /// All allocated slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.range(0, self.count())
    }

    /// Moves the group of `number` to the next group's place from `*to` on that has none, so that
    /// its memory is used again soon. `*to` is then behind it, and was 0 at first. Only one thread
    /// at a time calls it, for ever larger numbers, and no thread uses a slot of the group by its
    /// number any more. No slot of a number that is [`SlotGroups::count`] larger may be used yet.
    pub(crate) fn move_ahead(&self, number: u64, to: &mut u64) {
        // ORDERING: Relaxed; a thread that uses this place next learns from the caller that it may.
        let group = self.cell(number).swap(ptr::null_mut(), Ordering::Relaxed);
        if group.is_null() {
            return;
        }
        *to = next_group(number).max(*to);
        // It ends at the place that was emptied above, or earlier.
        loop {
            // ORDERING: Release pairs with the Acquire in `group`: the caller used the slots.
            let placed = self.cell(*to).compare_exchange(
                ptr::null_mut(),
                group,
                Ordering::Release,
                Ordering::Relaxed,
            );
            *to += GROUP_SLOTS;
            if placed.is_ok() {
                return;
            }
        }
    }

    fn cell(&self, number: u64) -> &AtomicPtr<Group<S>> {
        let index = ((number / GROUP_SLOTS) & (self.groups.len() as u64 - 1)) as usize;
        &self.groups[index]
    }

    fn group(&self, number: u64) -> Option<&Group<S>> {
        // ORDERING: Acquire pairs with the exchanges in `new_group` and `move_ahead`.
        let group = self.cell(number).load(Ordering::Acquire);
        // SAFETY: a group stays as long as `self`, and changes through atomics.
        (!group.is_null()).then(|| unsafe { &*group })
    }

    #[cold]
    fn new_group(&self, number: u64) -> &Group<S> {
        let new = Box::into_raw(Box::new(Group(std::array::from_fn(|_| (self.new_slot)()))));
        // ORDERING: AcqRel: the group is complete for a thread that finds it, and another's
        // group for this one. Acquire also if it fails.
        let placed = self.cell(number).compare_exchange(
            ptr::null_mut(),
            new,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        let group = match placed {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
        // SAFETY: a group stays as long as `self`, and changes through atomics.
        unsafe { &*group }
    }
}

/// The first number of the group after that of `number`.
pub(crate) fn next_group(number: u64) -> u64 {
    (number / GROUP_SLOTS + 1) * GROUP_SLOTS
}

impl<S> Drop for SlotGroups<S> {
    fn drop(&mut self) {
        for cell in &self.groups {
            // ORDERING: Relaxed; exclusive access.
            let group = cell.swap(ptr::null_mut(), Ordering::Relaxed);
            if !group.is_null() {
                // SAFETY: it came from `Box::into_raw`, and no thread uses the slots.
                drop(unsafe { Box::from_raw(group) });
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const GROUP: u64 = GROUP_SLOTS;

    fn slots(groups: usize) -> SlotGroups<AtomicPtr<u8>> {
        SlotGroups::new(groups * GROUP_LEN, || AtomicPtr::new(ptr::null_mut()))
    }

    #[test]
    fn only_groups_in_use_are_allocated() {
        let slots = slots(4);
        assert_eq!((slots.count(), slots.iter().count()), (4 * GROUP, 0));
        let number = GROUP + 6;
        assert!(slots.get(number).is_none());
        let slot = ptr::from_ref(slots.get_or_new(number));
        assert_eq!(slots.get(number + slots.count()).map(ptr::from_ref), Some(slot));
        assert_eq!(slots.range(number - 1, number + 2).count(), 3);
        assert_eq!(slots.range(0, 2 * GROUP + 1).count(), GROUP_LEN);
        assert_eq!(slots.iter().count(), GROUP_LEN);
    }

    #[test]
    fn a_moved_group_takes_the_next_free_place() {
        let slots = slots(4);
        let [first, second] = [0, 1].map(|group| ptr::from_ref(slots.get_or_new(group * GROUP)));
        let mut to = 0;
        slots.move_ahead(0, &mut to);
        assert!(slots.get(0).is_none());
        assert_eq!(slots.get(2 * GROUP).map(ptr::from_ref), Some(first));
        slots.move_ahead(GROUP, &mut to);
        assert_eq!(slots.get(3 * GROUP).map(ptr::from_ref), Some(second));
        for group in [4, 5] {
            slots.get_or_new(group * GROUP);
        }
        // Its own place is the only free one.
        slots.move_ahead(2 * GROUP, &mut to);
        assert_eq!(slots.get(6 * GROUP).map(ptr::from_ref), Some(first));
        assert_eq!(slots.iter().count(), 4 * GROUP_LEN);
    }

    #[test]
    fn a_group_without_slots_in_use_is_not_moved() {
        let slots = slots(2);
        let mut to = 0;
        slots.move_ahead(0, &mut to);
        assert_eq!((to, slots.iter().count()), (0, 0));
    }
}
