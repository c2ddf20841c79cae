//! Which shard a series key lives in. Does no I/O, takes no lock, keeps no
//! state; what it computes is on disk and must never change under its name.

/// The router's name in the manifest. Another function gets another name.
pub(crate) const ROUTER: &str = "fxhash64-high";

/// The shard of `key` among `shards`: the *high* bits of the fxhash product by
/// multiply-shift. Its low bits depend on the key's low bits only, so that ids
/// that step by 16 would all meet in one shard of 16.
pub(crate) fn shard_of(key: u64, shards: usize) -> usize {
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

    /// The same values stand in FORMAT.md; they were computed without fxhash,
    /// by `(key * 0x517cc1b727220a95 % 2**64) * shards >> 64`.
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
