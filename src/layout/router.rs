//! The router: maps a series key to a shard.
//!
//! A pure function, without I/O, locks or state. Logs on disk depend on its
//! results, so it must never change under its name.

/// The router's name in the manifest. Another function needs another name.
pub(crate) const ROUTER: &str = "fxhash64-high";

/// The shard of `key`, below `shards`: the *high* bits of the fxhash product, by
/// multiply-shift. The low bits of the product depend on the key's low bits only:
/// with 16 shards, ids in steps of 16 would all share one shard.
pub fn shard_of(key: u64, shards: usize) -> usize {
    let hash = fxhash::hash64(&key);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product's high half is below `shards`"
    )]
    let shard = ((u128::from(hash) * shards as u128) >> 64) as usize;
    shard
}

#[cfg(test)]
mod tests {
    use super::shard_of;

    /// FORMAT.md lists these values too. They were computed without fxhash, by
    /// `(key * 0x517cc1b727220a95 % 2**64) * shards >> 64`.
    #[test]
    fn the_table_on_disk_never_changes() {
        let expected = [
            (0, [0, 0, 0, 0]),
            (1, [0, 1, 5, 31]),
            (2, [1, 2, 10, 63]),
            (3, [2, 3, 15, 95]),
            (4, [0, 1, 4, 27]),
            (7, [0, 0, 3, 22]),
            (16, [0, 0, 1, 9]),
            (42, [1, 1, 5, 36]),
            (255, [0, 0, 2, 16]),
            (1 << 16, [2, 3, 12, 75]),
            (1 << 32, [0, 0, 2, 15]),
            (1 << 63, [1, 2, 8, 50]),
            (0x0123_4567_89ab_cdef, [1, 1, 5, 33]),
            (u64::MAX, [2, 2, 10, 68]),
        ];
        for (key, shards) in expected {
            let found = [3, 4, 16, 100].map(|count| shard_of(key, count));
            assert_eq!(found, shards, "key {key}");
        }
    }

    #[test]
    fn keys_spread_evenly_over_shards() {
        let random = |i: u64| fxhash::hash64(&(i ^ 0x5bd1_e995)).rotate_left(23);
        let kinds: [(&str, &dyn Fn(u64) -> u64); 4] = [
            ("random", &random),
            ("sequential", &|i| i),
            ("step 16", &|i| i * 16),
            ("step 4096", &|i| i * 4096),
        ];
        for (kind, key) in kinds {
            for shards in [2_usize, 3, 4, 8, 16, 64] {
                let mut counts = vec![0_u64; shards];
                let keys = 1000 * shards as u64;
                (0..keys).for_each(|i| counts[shard_of(key(i), shards)] += 1);
                for count in counts {
                    assert!((850..=1150).contains(&count), "{kind} over {shards}: {count}");
                }
            }
        }
    }
}
