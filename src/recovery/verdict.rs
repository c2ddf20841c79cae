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
    /// Whether a sequence at or past this place is known to be durable.
    pub(crate) durable_beyond: Beyond,
}

/// Whether a frame that its checksum vouches for, anywhere in the shard, says
/// that a sequence at or past a place is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// One does.
    Yes,
    /// All frames were read, and none does.
    No,
    /// None of those that can be read does, but a block at the place or behind it
    /// cannot be read.
    Unreadable,
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
/// | D | end or blank | none | no, unreadable | end | the last write came whole, or never came |
/// | E | any | any | unreadable | damage | a block that cannot be read may hold durable records |
/// | F | bad | none | no | torn tail | the last write came in part |
/// | G | any | disagrees | no | torn tail | an unsynced segment came in part, its successor too early |
pub(crate) fn judge(facts: Facts) -> Verdict {
    match (facts.stop, facts.durable_beyond) {
        (Stop::UnknownKind(_), _) => Verdict::Newer,
        _ if facts.has_successor && facts.agrees => Verdict::GoOn,
        (_, Beyond::Yes) => Verdict::Damage,
        // The log's own zeros say that it ends here.
        (Stop::End | Stop::Blank, _) if !facts.has_successor => Verdict::End,
        (Stop::Unreadable { .. }, _) | (_, Beyond::Unreadable) => Verdict::Damage,
        (_, Beyond::No) => Verdict::TornTail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = include_str!("../../FORMAT.md");

    /// The rows of FORMAT.md's table: what reading stopped at, the successor, a
    /// mark beyond, the verdict.
    fn rows() -> Vec<[&'static str; 4]> {
        let (_, table) = FORMAT.split_once("| row | reading stopped at |").expect("it has a table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = |row: &'static str| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            [cells[2], cells[3], cells[4], cells[5]]
        };
        rows.map(cells).collect()
    }

    fn holds([stop, successor, beyond, _]: [&str; 4], facts: Facts) -> bool {
        let stops = match stop {
            "a kind that is not known" => matches!(facts.stop, Stop::UnknownKind(_)),
            "the end, or zeros" => matches!(facts.stop, Stop::End | Stop::Blank),
            "anything" | "anything else" => true,
            _ => panic!("FORMAT.md says {stop:?}"),
        };
        let succeeded = match successor {
            "none" => !facts.has_successor,
            "agrees" => facts.has_successor && facts.agrees,
            "disagrees" => facts.has_successor && !facts.agrees,
            "any" => true,
            _ => panic!("FORMAT.md says {successor:?}"),
        };
        let marked = match beyond {
            "yes" => facts.durable_beyond == Beyond::Yes,
            "no" => facts.durable_beyond == Beyond::No,
            "cannot be read" => facts.durable_beyond == Beyond::Unreadable,
            "any" => true,
            _ => panic!("FORMAT.md says {beyond:?}"),
        };
        stops && succeeded && marked
    }

    fn verdict([.., verdict]: [&str; 4]) -> Verdict {
        match verdict {
            "newer: refuse" => Verdict::Newer,
            "go on" => Verdict::GoOn,
            "damage: refuse" => Verdict::Damage,
            "the log ends" => Verdict::End,
            "torn tail: cut, and count" => Verdict::TornTail,
            _ => panic!("FORMAT.md says {verdict:?}"),
        }
    }

    #[test]
    fn every_combination_has_the_verdict_of_its_row_in_the_format() {
        let unreadable = Stop::Unreadable { from: 0, to: 4096 };
        let stops = [Stop::End, Stop::Blank, Stop::Bad("torn"), unreadable, Stop::UnknownKind(9)];
        let both = [false, true];
        let rows = rows();
        let mut seen = vec![0; rows.len()];
        for stop in stops {
            for has_successor in both {
                for agrees in both {
                    for durable_beyond in [Beyond::Yes, Beyond::No, Beyond::Unreadable] {
                        // Where reading stopped, the search behind begins.
                        if stop == unreadable && durable_beyond == Beyond::No {
                            continue;
                        }
                        let facts = Facts { stop, has_successor, agrees, durable_beyond };
                        let row = rows.iter().position(|row| holds(*row, facts));
                        let row = row.unwrap_or_else(|| panic!("no row for {facts:?}"));
                        assert_eq!(judge(facts), verdict(rows[row]), "{facts:?}, row {row}");
                        seen[row] += 1;
                    }
                }
            }
        }
        assert_eq!(seen.iter().sum::<u32>(), 5 * 4 * 3 - 4);
        assert!(seen.iter().all(|count| *count > 0), "a row that nothing reaches: {seen:?}");
    }
}
