//! Appends of many records, with one part per shard.

use super::ShardedWal;
use crate::commit::committer::SpinPolicy;
use crate::config::BATCH_RECORDS_MAX;
use crate::error::{BatchError, Cause};
use crate::queue::entry::BatchBody;
use crate::shard::append::Wake;
use crate::shard::completion::{BatchCompletion, Completion, ShardCompletion};
use crate::shard::shard::WalShard;

impl ShardedWal {
    /// Appends many records. Each shard's part is one batch: after a crash, either all or none
    /// of its records are in the log. Blocks while a queue is full. Records of one key keep
    /// their order. Payloads are copied once, before anything is queued.
    ///
    /// The whole batch is refused before anything is queued if one part exceeds a limit:
    /// [`crate::BATCH_RECORDS_MAX`], [`crate::BATCH_BYTES_MAX`], or the capacity of the queue.
    /// It is also refused below [`crate::Config::free_space_min_bytes`] of free space.
    pub fn append_batch(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> BatchCompletion<'_> {
        BatchCompletion::new(self.append_by_shard(records, None, |_| Wake::Writer))
    }

    /// Appends many records and waits until they are acknowledged. It does what
    /// `append_batch(..).wait()` does, and commits inline as [`ShardedWal::append_wait`] does.
    /// If commits are synced and there are several parts, the calling thread itself commits
    /// at most the last one.
    ///
    /// # Errors
    /// [`BatchError`] names the parts that failed. The other parts were acknowledged.
    pub fn append_batch_wait(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Result<(), BatchError> {
        let parts = self.append_by_shard(records, self.would_deadlock(), |is_last| {
            // Syncs run side by side, on a thread each. Writes without a sync are short.
            if is_last || !self.mode.syncs_each_commit() { Wake::Nobody } else { Wake::Writer }
        });
        let commit_inline = |spin| parts.iter().for_each(|part| part.last.commit_inline(spin));
        if !self.mode.syncs_each_commit() && parts.len() > 1 {
            // First only shards whose commit lock is free: two callers then use two shards.
            commit_inline(SpinPolicy::TryOnce);
        }
        commit_inline(SpinPolicy::Spin);
        BatchCompletion::new(parts).wait()
    }

    /// Queues each shard's part, or refuses all of them. `wake` decides whether to wake a
    /// part's writer. Its argument says whether the part is the last one.
    fn append_by_shard(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
        refusal: Option<Cause>,
        wake: impl Fn(bool) -> Wake,
    ) -> Vec<ShardCompletion<'_>> {
        let batch = self.split_by_shard(records);
        let refused = self.check_batch(&batch, refusal);
        let parts = batch.len();
        let append = |(index, part): (usize, ShardBatch)| {
            let shard = &self.shards[part.shard];
            let last = match &refused {
                Some(refused) => {
                    let cause = refused.cause_in(shard);
                    shard.recorder().refused_append(&cause, part.records.len() as u64);
                    Completion::refused(cause)
                }
                None => shard.append_part(part.body, wake(index + 1 == parts)),
            };
            ShardCompletion { shard: part.shard, last, records: part.records }
        };
        batch.into_iter().enumerate().map(append).collect()
    }

    /// Encodes a batch as one part per shard, leaving out shards without records.
    fn split_by_shard(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Vec<ShardBatch> {
        let part = |shard| ShardBatch { shard, records: Vec::new(), body: BatchBody::default() };
        let mut parts: Vec<ShardBatch> = (0..self.shards.len()).map(part).collect();
        let records = records.into_iter();
        let even = records.size_hint().0.min(BATCH_RECORDS_MAX).div_ceil(parts.len());
        let expected = if parts.len() > 1 { even + even / 4 } else { even };
        for (index, (key, payload)) in records.enumerate() {
            let part = &mut parts[self.shard_of(key)];
            if part.records.is_empty() {
                part.records.reserve(expected);
            }
            part.records.push(index);
            part.body.add(key, payload.as_ref(), expected);
        }
        parts.retain(|part| !part.records.is_empty());
        parts
    }

    /// Checks all parts at once, so that none is refused while another is queued.
    fn check_batch(&self, batch: &[ShardBatch], refusal: Option<Cause>) -> Option<RefusedBatch> {
        let too_large = |part: &ShardBatch| self.shards[part.shard].check_part(&part.body);
        let too_large = batch.iter().find_map(too_large).map(RefusedBatch::TooLarge);
        let refusal = || refusal.or_else(|| self.space.refusal()).map(RefusedBatch::NotNow);
        too_large.or_else(refusal)
    }
}

/// A batch's records in one shard, before they are queued.
struct ShardBatch {
    shard: usize,
    /// The records' indices in the batch.
    records: Vec<usize>,
    body: BatchBody,
}

/// The cause to refuse a whole batch.
enum RefusedBatch {
    /// A part exceeds a limit.
    TooLarge(Cause),
    /// The batch could be appended at another time, or by another thread.
    NotNow(Cause),
}

impl RefusedBatch {
    /// The cause for the part in `shard`. A shard that has ended refuses it at any time.
    fn cause_in(&self, shard: &WalShard) -> Cause {
        match self {
            Self::TooLarge(cause) => cause.clone(),
            Self::NotNow(cause) => shard.end().unwrap_or_else(|| cause.clone()),
        }
    }
}
