//! The recovery decision: what the end of a shard's frames means.
//!
//! One function, and FORMAT.md has the same table. It sees facts, not bytes.

use crate::frame_reader::Stop;

/// The facts on which the decision rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Why reading stopped.
    pub(crate) stop: Stop,
    /// Whether a later segment vouches for the sequence that this one ends with.
    pub(crate) has_successor: bool,
    /// Whether every record up to that sequence was read. Means nothing without
    /// a successor.
    pub(crate) agrees: bool,
    /// Whether a frame that its checksum vouches for, anywhere in the shard,
    /// says that a sequence at or past this place is durable.
    pub(crate) durable_beyond: bool,
}

/// What they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next segment carries on.
    GoOn,
    /// The log ends here.
    End,
    /// A write that was never acknowledged as durable: cut it, and count it.
    TornTail,
    /// Records that were durable cannot be read: refuse.
    Damage,
    /// A later version wrote this: refuse.
    Newer,
}

/// Decides. The rows, in the order in which they are tried:
///
/// | row | stop | successor | durable beyond | verdict | cause |
/// |---|---|---|---|---|---|
/// | A | unknown kind | any | any | newer | a frame from a later version |
/// | B | any | agrees | any | go on | no record is missing: the segment was full, or only a seal is |
/// | C | any | any | yes | damage | bytes that were on the disk have changed or gone |
/// | D | end or blank | none | no | end | the last write came whole, or never came |
/// | E | bad | none | no | torn tail | the last write came in part |
/// | F | any | disagrees | no | torn tail | an unsynced segment came in part, its successor too early |
pub(crate) fn judge(facts: Facts) -> Verdict {
    match facts.stop {
        Stop::UnknownKind(_) => Verdict::Newer,
        _ if facts.has_successor && facts.agrees => Verdict::GoOn,
        _ if facts.durable_beyond => Verdict::Damage,
        Stop::End | Stop::Blank if !facts.has_successor => Verdict::End,
        _ => Verdict::TornTail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input, against the rows of the table written out once more.
    #[test]
    fn every_combination_has_the_verdict_of_its_row() {
        let stops = [Stop::End, Stop::Blank, Stop::Bad("torn"), Stop::UnknownKind(9)];
        let both = [false, true];
        let mut seen = [0; 6];
        for stop in stops {
            for has_successor in both {
                for agrees in both {
                    for durable_beyond in both {
                        let facts = Facts { stop, has_successor, agrees, durable_beyond };
                        let (row, expected) = row(facts);
                        assert_eq!(judge(facts), expected, "{facts:?}, row {row}");
                        seen[row] += 1;
                    }
                }
            }
        }
        assert_eq!(seen.iter().sum::<u32>(), 32);
        assert!(seen.iter().all(|count| *count > 0), "a row that nothing reaches: {seen:?}");
    }

    fn row(facts: Facts) -> (usize, Verdict) {
        let bad = matches!(facts.stop, Stop::Bad(_));
        let vouched = facts.has_successor && facts.agrees;
        if matches!(facts.stop, Stop::UnknownKind(_)) {
            (0, Verdict::Newer)
        } else if vouched {
            (1, Verdict::GoOn)
        } else if facts.durable_beyond {
            (2, Verdict::Damage)
        } else if !facts.has_successor && !bad {
            (3, Verdict::End)
        } else if !facts.has_successor {
            (4, Verdict::TornTail)
        } else {
            (5, Verdict::TornTail)
        }
    }
}
