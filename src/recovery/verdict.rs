//! The verdict of recovery: what the end of a shard's frames means.
//!
//! One function decides, and FORMAT.md has its table (R2 EXHAUSTIVE). It sees
//! facts; it does not know bytes or files.

use crate::segment::frame_reader::Stop;

/// The facts on which the decision rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Why reading stopped.
    pub(crate) stop: Stop,
    /// Whether a later segment names the sequence at which this one ends.
    pub(crate) has_successor: bool,
    /// Whether reading reached exactly that sequence. Means nothing without a
    /// successor.
    pub(crate) agrees: bool,
    /// Whether a record at or after this place was durable.
    pub(crate) durable_beyond: Beyond,
}

/// Whether a frame with a valid checksum, anywhere in the shard, proves that a
/// record at or after a place was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// A frame proves it.
    Yes,
    /// All frames were read, and none proves it.
    No,
    /// No readable frame proves it, but the disk cannot read a block at or after
    /// the place.
    Unreadable,
}

/// What the facts mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log continues in the next segment.
    GoOn,
    /// The log ends here.
    End,
    /// A write that never completed, and that was never acknowledged as durable.
    /// Cut it off and count it.
    TornTail,
    /// Durable records cannot be read. Refuse to open.
    Corruption,
    /// A later version wrote this. Refuse to open.
    Newer,
}

/// Decides. The first row that matches counts:
///
/// | row | stop | successor | durable beyond | verdict | cause |
/// |---|---|---|---|---|---|
/// | A | unknown kind | any | any | newer | a frame from a later version |
/// | B | any | agrees | any | go on | no record is missing, at most a seal |
/// | C | any | any | yes | corruption | bytes that were on the disk have changed or are missing |
/// | D | end or blank | none | no, unreadable | end | the last write completed, or never began |
/// | E | any | any | unreadable | corruption | an unreadable block may hold durable records |
/// | F | bad | none | no | torn tail | part of the last write is missing |
/// | G | any | disagrees | no | torn tail | an unsynced segment is incomplete |
pub(crate) fn judge(facts: Facts) -> Verdict {
    match (facts.stop, facts.durable_beyond) {
        (Stop::UnknownKind(_), _) => Verdict::Newer,
        _ if facts.has_successor && facts.agrees => Verdict::GoOn,
        (_, Beyond::Yes) => Verdict::Corruption,
        // The writer fills a segment with zeros ahead, so zeros are the log's end.
        (Stop::End | Stop::Blank, _) if !facts.has_successor => Verdict::End,
        (Stop::Unreadable { .. }, _) | (_, Beyond::Unreadable) => Verdict::Corruption,
        (_, Beyond::No) => Verdict::TornTail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = include_str!("../../FORMAT.md");

    /// The rows of FORMAT.md's table: where reading stopped, the successor, a mark
    /// beyond, the verdict.
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
            "corruption: refuse" => Verdict::Corruption,
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
                        // The search begins at the unreadable block itself.
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
