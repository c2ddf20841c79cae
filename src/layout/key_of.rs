//! The key of a name: a stable hash of bytes.
//!
//! A pure function. Callers find their records by its results, so it must never change.

/// The key of a name, such as a tenant or a series: the 64-bit FNV-1a hash of its bytes.
///
/// The result is part of the format: it is equal in every version, on every platform and in
/// every process. FORMAT.md has a table of values. So a name keeps its shard after a restart.
/// Do not use the hashers of `std` for this: their results may change with any release.
///
/// Two names may have one key. That costs order across both names, and nothing else, if the
/// payload holds the name. With n names the probability of any such pair is about n² / 2^65:
/// one in 37 million for a million names. The hash has no secret: a client that chooses its
/// names can send them all to one shard.
///
/// ```
/// assert_eq!(shardwal::key_of(b"tenant-a"), 0xc2ef_8128_e3eb_9efb);
/// ```
#[must_use]
pub const fn key_of(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::key_of;
    use crate::layout::router::shard_of;

    /// FORMAT.md lists these values too. They were computed in Python. The first three are in
    /// the test vectors of FNV's authors.
    #[test]
    fn the_table_of_keys_never_changes() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let expected: [(&[u8], u64); 10] = [
            (b"", 0xcbf2_9ce4_8422_2325),
            (b"a", 0xaf63_dc4c_8601_ec8c),
            (b"foobar", 0x8594_4171_f739_67e8),
            (b"tenant-a", 0xc2ef_8128_e3eb_9efb),
            (b"tenant-b", 0xc2ef_8228_e3eb_a0ae),
            (b"cpu{host=\"7\"}", 0x9c90_f22e_6b12_f009),
            (&[0], 0xaf63_bd4c_8601_b7df),
            (&[0, 0], 0x0832_8807_b4eb_6fed),
            ("\u{fc}".as_bytes(), 0x0ac2_0a07_b718_07ea),
            (&every_byte, 0x4242_dc52_49c3_3625),
        ];
        for (name, key) in expected {
            assert_eq!(key_of(name), key, "{name:?}");
        }
    }

    #[test]
    fn names_spread_evenly_over_shards() {
        let kinds: [&dyn Fn(usize) -> String; 3] =
            [&|i| format!("tenant-{i}"), &|i| format!("series/{i:05}/cpu"), &|i| i.to_string()];
        for name in kinds {
            for shards in [2, 3, 4, 8, 16, 64] {
                let mut counts = vec![0_u64; shards];
                for i in 0..1000 * shards {
                    counts[shard_of(key_of(name(i).as_bytes()), shards)] += 1;
                }
                for count in counts {
                    assert!((850..=1150).contains(&count), "{} over {shards}: {count}", name(7));
                }
            }
        }
    }
}
