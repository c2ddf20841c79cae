//! Followers of an open log.

use super::ShardedWal;
use crate::checkpoint::Checkpoint;
use crate::error::FollowError;
use crate::follow::Follower;
use crate::follow::open_log::{EarlierShard, OpenShard};
use crate::follow::shard_source::boxed;
use crate::recovery::replay::reach;
use crate::shard::truncate::OldShard;
use crate::util::sync::Arc;

impl ShardedWal {
    /// Follows the log from a checkpoint on: the follower passes every durable record from there
    /// to the end, and then each record as it becomes durable. See [`Follower`].
    /// [`Checkpoint::start`] is the beginning of the log. [`ShardedWal::durable_checkpoint`]
    /// leaves out what is there.
    ///
    /// A truncation does not wait for a follower. Set a hold ([`ShardedWal::hold`]) and advance it,
    /// truncate only below the checkpoint of each follower, or expect [`crate::Followed::Gone`].
    ///
    /// ```
    /// # use shardwal::{Checkpoint, Config, Followed, ShardedWal};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let scratch = tempfile::tempdir()?;
    /// let log = ShardedWal::open(Config::new(scratch.path()))?;
    /// log.append_wait(7, "event")?;
    /// for answer in log.follow(&Checkpoint::start())? {
    ///     match answer? {
    ///         Followed::Advanced(batch) => {
    ///             for record in &batch {
    ///                 println!("{} {:?}", record.key(), record.payload());
    ///             }
    ///             println!("go on from {}", batch.next());
    ///         }
    ///         Followed::CaughtUp => break, // or wait for more, in the next round
    ///         Followed::Gone { first_kept } => panic!("records before {first_kept} are gone"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`FollowError::Checkpoint`] if the checkpoint does not fit the log. If records from it on
    /// were truncated, that is the follower's first answer.
    pub fn follow(&self, from: &Checkpoint) -> Result<Follower, FollowError> {
        let reach = reach(self.id(), &self.plans());
        reach.check_position(from).map_err(FollowError::Checkpoint)?;
        let first = self.generations.first().max(from.generation());
        let generation = |shard: &OldShard| shard.shard_dir.identity.generation;
        let old = self.old.chunk_by(|a, b| generation(a) == generation(b));
        let old = old.filter(|shards| generation(&shards[0]) >= first);
        let earlier = |shard: &Arc<OldShard>| boxed(EarlierShard(shard.clone()));
        let open = self.shards.iter().map(|shard| boxed(OpenShard::new(shard.clone())));
        let generations = old.map(|shards| shards.iter().map(earlier).collect());
        let generations = generations.chain([open.collect()]).collect();
        Follower::new(self.id(), generations, from)
    }
}
