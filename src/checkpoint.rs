//! A place in every shard at once.

/// One position a shard: everything below has been dealt with.
///
/// It covers all of the generations before its own. Keep it where the state
/// that was built from the log is kept, and give it to
/// [`crate::ShardedWal::replay_from`] and
/// [`crate::ShardedWal::truncate_before`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Checkpoint {
    generation: u32,
    below: Vec<u64>,
}

impl Checkpoint {
    /// A checkpoint of a generation: `below[shard]` is the first sequence that
    /// has not been dealt with.
    pub fn new(generation: u32, below: impl IntoIterator<Item = u64>) -> Self {
        Self { generation, below: below.into_iter().collect() }
    }

    /// The generation that it speaks of.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The first sequence of each shard that has not been dealt with.
    #[must_use]
    pub fn sequences(&self) -> &[u64] {
        &self.below
    }

    /// The same for a shard of any generation.
    pub(crate) fn below(&self, generation: u32, shard: u32) -> u64 {
        match generation.cmp(&self.generation) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => self.below.get(shard as usize).copied().unwrap_or(0),
            std::cmp::Ordering::Greater => 0,
        }
    }
}
