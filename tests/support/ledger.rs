//! What a client knows of its appends, and what a replay may therefore show:
//! for each key all that was acknowledged, in order, then perhaps the first
//! few of those whose fate was open, nothing that was refused, nothing twice;
//! of each batch's part in a shard all or nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shardwal::{AppendError, BatchError, Completion, ShardedWal};

use super::{Found, payload};

/// A batch's parts, by shard: the key and index of each record.
pub(crate) type Parts = BTreeMap<usize, Vec<(u64, u64)>>;

/// What is certain of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    /// It must be replayed.
    Kept,
    /// It must be replayed after the death of the process, but a power loss may
    /// have taken it: acknowledged in a mode that does not sync.
    Written,
    /// It must not.
    Gone,
    /// Either, and the next open decides.
    Open,
    /// It lies below a truncation that was not reported done: it may be there.
    Spared,
}

/// See the module's words.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ledger {
    keys: BTreeMap<u64, Vec<Fate>>,
    /// Parts of batches since the last open, as key and index.
    parts: Vec<Vec<(u64, u64)>>,
    /// Whether an acknowledgement comes before the sync.
    unsynced: bool,
}

impl Ledger {
    /// Of a log that acknowledges what it has written, and does not sync.
    pub(crate) fn unsynced() -> Self {
        Self { unsynced: true, ..Self::default() }
    }

    /// From now on the log is one of those.
    pub(crate) fn acknowledges_unsynced(&mut self) {
        self.unsynced = true;
    }

    fn acknowledged(&self) -> Fate {
        if self.unsynced { Fate::Written } else { Fate::Kept }
    }

    /// The next payload of a key. Its fate is open.
    pub(crate) fn next(&mut self, key: u64, length: usize) -> Bytes {
        let fates = self.keys.entry(key).or_default();
        fates.push(Fate::Open);
        payload(key, fates.len() as u64 - 1, length)
    }

    /// Appends the next record of a key and waits for the answer.
    pub(crate) fn append(
        &mut self,
        log: &ShardedWal,
        key: u64,
        length: usize,
    ) -> Result<(), AppendError> {
        let payload = self.next(key, length);
        let index = self.keys[&key].len() as u64 - 1;
        self.wait(key, index, log.append(key, payload))
    }

    /// Waits for the answer to the record `index` of a key and enters it.
    pub(crate) fn wait(
        &mut self,
        key: u64,
        index: u64,
        completion: Completion<'_>,
    ) -> Result<(), AppendError> {
        let answer = completion.wait().map(|_position| ());
        self.answered(key, index, &answer);
        answer
    }

    /// Enters the answer to the record `index` of a key.
    pub(crate) fn answered(&mut self, key: u64, index: u64, answer: &Result<(), AppendError>) {
        match answer {
            Ok(()) => self.enter(key, index, self.acknowledged()),
            Err(AppendError::NotWritten { .. }) => self.enter(key, index, Fate::Gone),
            Err(_) => {}
        }
    }

    /// The number of records of a key so far.
    pub(crate) fn len(&self, key: u64) -> u64 {
        self.keys.get(&key).map_or(0, |fates| fates.len() as u64)
    }

    /// Appends the next record of each key as one batch, waits and enters the
    /// answers. Returns whether all was acknowledged.
    pub(crate) fn append_batch(&mut self, log: &ShardedWal, keys: &[u64], length: usize) -> bool {
        let (records, parts) = self.begin_batch(log, keys, length);
        let answer = log.append_batch(records).wait();
        self.batch_answered(&parts, answer.as_ref().err());
        answer.is_ok()
    }

    /// The next record of each key, and which of them are one part of a batch.
    pub(crate) fn begin_batch(
        &mut self,
        log: &ShardedWal,
        keys: &[u64],
        length: usize,
    ) -> (Vec<(u64, Bytes)>, Parts) {
        let mut records = Vec::new();
        let mut parts = Parts::new();
        for key in keys {
            records.push((*key, self.next(*key, length)));
            parts.entry(log.shard_of(*key)).or_default().push((*key, self.len(*key) - 1));
        }
        self.enter_parts(&parts);
        (records, parts)
    }

    /// A batch of these parts is on its way; its records are known already.
    pub(crate) fn enter_parts(&mut self, parts: &Parts) {
        self.parts.extend(parts.values().cloned());
    }

    /// Enters the answer to a batch of these parts.
    pub(crate) fn batch_answered(&mut self, parts: &Parts, error: Option<&BatchError>) {
        let failed = error.map_or(&[][..], |error| &error.failed);
        for (shard, part) in parts {
            let failure = failed.iter().find(|failed| failed.shard == *shard);
            let fate = match failure.map(|failed| failed.error.is_not_written()) {
                None => self.acknowledged(),
                Some(true) => Fate::Gone,
                Some(false) => Fate::Open,
            };
            part.iter().for_each(|(key, index)| self.enter(*key, *index, fate));
        }
    }

    fn enter(&mut self, key: u64, index: u64, fate: Fate) {
        *self.fate(key, index) = fate;
    }

    fn fate(&mut self, key: u64, index: u64) -> &mut Fate {
        let index = usize::try_from(index).expect("a small index");
        let fates = self.keys.get_mut(&key).expect("a known key");
        fates.get_mut(index).expect("a known index")
    }

    /// The power was lost, or a sync: only what was synced is certain.
    pub(crate) fn lose_power(&mut self) {
        self.turn(Fate::Written, Fate::Open);
    }

    /// A flush has passed, or a close.
    pub(crate) fn flushed(&mut self) {
        self.turn(Fate::Written, Fate::Kept);
    }

    fn turn(&mut self, from: Fate, to: Fate) {
        let fates = self.keys.values_mut().flatten();
        fates.filter(|fate| **fate == from).for_each(|fate| *fate = to);
    }

    /// These were given up by a truncation that was reported done.
    pub(crate) fn give_up(&mut self, below: &Found) {
        for (key, indices) in below.by_key() {
            indices.into_iter().for_each(|index| self.enter(key, index, Fate::Gone));
        }
    }

    /// These were given up by a truncation that failed or was cut short.
    pub(crate) fn perhaps_give_up(&mut self, below: &Found) {
        for (key, indices) in below.by_key() {
            indices.into_iter().for_each(|index| self.enter(key, index, Fate::Spared));
        }
    }

    /// Compares a replay after an open with what is known. From then on what
    /// was found is certain, and so is what was not.
    pub(crate) fn check(&mut self, found: &Found) {
        let found = found.by_key();
        for key in found.keys() {
            assert!(self.keys.contains_key(key), "key {key} was never appended");
        }
        self.check_parts(&found);
        for (key, fates) in &mut self.keys {
            let found = found.get(key).map_or(&[][..], Vec::as_slice);
            check_key(*key, fates, found);
        }
        self.parts.clear();
    }

    fn check_parts(&self, found: &BTreeMap<u64, Vec<u64>>) {
        let found: BTreeSet<(u64, u64)> = found
            .iter()
            .flat_map(|(key, indices)| indices.iter().map(|index| (*key, *index)))
            .collect();
        for part in &self.parts {
            let there = |(key, index): &(u64, u64)| found.contains(&(*key, *index));
            // A truncation may have gone through the middle.
            let spared = |(key, index): &(u64, u64)| {
                let index = usize::try_from(*index).expect("a small index");
                matches!(self.keys[key][index], Fate::Spared | Fate::Gone)
            };
            let mut rest = part.iter().filter(|record| !spared(record)).map(there);
            let first = rest.next();
            assert!(rest.all(|there| Some(there) == first), "a part of the part {part:?}");
        }
    }
}

fn check_key(key: u64, fates: &mut [Fate], found: &[u64]) {
    assert!(found.is_sorted_by(|a, b| a < b), "key {key}: out of order or doubled: {found:?}");
    let mut missing = None;
    for (index, fate) in fates.iter_mut().enumerate() {
        let there = found.binary_search(&(index as u64)).is_ok();
        match (*fate, there) {
            (Fate::Kept | Fate::Written, false) => {
                panic!("{key}:{index} was acknowledged and is lost: {found:?}")
            }
            (Fate::Gone, true) => panic!("{key}:{index} must not be there: {found:?}"),
            (Fate::Open, false) => missing = missing.or(Some(index)),
            (Fate::Open, true) => {
                assert!(missing.is_none(), "key {key} has a hole at {missing:?}: {found:?}");
            }
            _ => {}
        }
        *fate = if there { Fate::Kept } else { Fate::Gone };
    }
    let known = fates.len() as u64;
    assert!(found.iter().all(|index| *index < known), "key {key}: invented: {found:?}");
}
