//! A truncation mark in a file's name.
//!
//! Two empty files, the carriers, have one mark each and are renamed in turn. A
//! rename needs no room, unlike an overwrite on btrfs or on XFS with shared blocks.
//! And a backup by hard links keeps its own names.

use crc32fast::Hasher;

use crate::layout::truncation_mark::Mark;
use crate::segment::header::SegmentIdentity;

/// The carrier, 0 or 1, of the mark with this epoch.
pub(super) fn carrier(epoch: u64) -> usize {
    usize::from(epoch % 2 == 1)
}

/// The name of a carrier with this mark.
pub(super) fn name(carrier: usize, mark: Mark, identity: &SegmentIdentity) -> String {
    let text_of_mark = format!("purge-{carrier}-{:016x}-{:016x}", mark.epoch, mark.below);
    let crc = crc(&text_of_mark, identity);
    format!("{text_of_mark}-{crc:08x}")
}

/// The carrier with this name, and its mark. `None` for any other name, and for a
/// carrier of another shard.
pub(super) fn parse(text: &str, identity: &SegmentIdentity) -> Option<(usize, Mark)> {
    let mut words = text.strip_prefix("purge-")?.split('-');
    let mut number = |digits| {
        let word = words.next()?;
        let is_number = word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(word, 16).ok().filter(|_| is_number)
    };
    let carrier = usize::try_from(number(1)?).ok().filter(|carrier| *carrier < 2)?;
    let mark = Mark { epoch: number(16)?, below: number(16)? };
    (mark.is_plausible() && text == name(carrier, mark, identity)).then_some((carrier, mark))
}

fn crc(text_of_mark: &str, identity: &SegmentIdentity) -> u32 {
    let mut hasher = Hasher::new_with_initial(identity.with_number(0).seed());
    hasher.update(text_of_mark.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::truncation_mark::ALL_TRUNCATED;

    #[test]
    fn only_the_name_of_a_mark_parses_as_that_mark() {
        let identity = SegmentIdentity { log: [7; 16], generation: 1, shard: 3, number: 0 };
        let other = SegmentIdentity { shard: 2, ..identity };
        for below in [0, 1, 0x1234_5678_9abc, ALL_TRUNCATED] {
            let mark = Mark { epoch: 6, below };
            let text_of_mark = name(0, mark, &identity);
            assert_eq!(parse(&text_of_mark, &identity), Some((0, mark)));
            assert_eq!(parse(&text_of_mark, &other), None, "it is another shard's");
            for at in 0..text_of_mark.len() {
                for byte in [b'0', b'1', b'f', b'-', b'F'] {
                    let mut changed = text_of_mark.clone().into_bytes();
                    changed[at] = byte;
                    let changed = String::from_utf8(changed).expect("it is ASCII");
                    assert!(
                        changed == text_of_mark || parse(&changed, &identity).is_none(),
                        "{changed}"
                    );
                }
            }
        }
        for text in ["purge", "purge-", "purge-0", "purge-2-0-0-0", "purge-é"] {
            assert_eq!(parse(text, &identity), None);
        }
    }
}
