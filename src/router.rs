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

    #[test]
    fn the_table_on_disk_never_changes() {
        let expected = [(0, [0, 0, 0, 0]), (1, [0, 1, 5, 31])];
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
