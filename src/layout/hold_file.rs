//! A hold's file: a named position that truncations respect.
//!
//! It is a small text file, replaced by a rename. This file does not know which segments a
//! hold needs, nor when a hold is beyond its limits.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checkpoint::{Checkpoint, LogId};
use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, unlink_if_exists, write_full};
use crate::layout::text_file::read_text;
use crate::layout::truncation_mark::StoreError;

/// The maximum number of holds of a log.
pub const HOLDS_MAX: usize = 64;
/// The maximum number of bytes in a hold's name.
pub const HOLD_NAME_BYTES_MAX: usize = 64;

const VERSION: u32 = 1;
const PREFIX: &str = "hold-";
/// No hold has this name: its letters are capitals.
const UNFINISHED: &str = "HOLD.tmp";
/// More than a hold of 1,024 shards has.
const BYTES_MAX: u64 = 32 << 10;

/// What happens to a hold that is beyond a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum HoldPolicy {
    /// The next truncation that it is in the way of drops it, durably, before it deletes
    /// anything. [`crate::ShardedWal::holders`] shows it as dropped until it is released.
    #[default]
    Drop,
    /// Appends are refused with [`crate::Cause::HoldLimit`], until the hold advances or is
    /// released. No truncation drops it.
    RefuseAppends,
}

/// How much of the log a hold may keep. The default has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HoldLimits {
    /// Bytes of full segments that hold records at or above the position.
    pub max_bytes: Option<u64>,
    /// Time since the oldest of these segments was last written, in whole milliseconds.
    pub max_age: Option<Duration>,
    /// What happens beyond a limit.
    pub beyond: HoldPolicy,
}

/// A limit that a hold exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum HoldLimit {
    /// [`HoldLimits::max_bytes`].
    Bytes,
    /// [`HoldLimits::max_age`].
    Age,
}

/// A hold as its file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HoldFile {
    pub(crate) name: String,
    /// Records at or above it are kept.
    pub(crate) checkpoint: Checkpoint,
    pub(crate) limits: HoldLimits,
    /// The limit because of which it was dropped. Then it keeps nothing.
    pub(crate) dropped: Option<HoldLimit>,
}

/// Whether a hold may have this name: 1 to 64 of `a-z`, `0-9`, `_`, `.` and `-`.
pub(crate) fn is_hold_name(name: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    (1..=HOLD_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn hold_path(log: &Path, name: &str) -> PathBuf {
    log.join(format!("{PREFIX}{name}"))
}

/// Reads the holds of a log from the disk, not from the cache, sorted by name. A hold that is
/// released meanwhile is left out.
///
/// # Errors
/// A file with a hold's name that is not a whole hold of this log.
pub(crate) fn load_all(
    fs: &dyn FileSystem,
    log: &Path,
    id: LogId,
) -> Result<Vec<HoldFile>, OpenError> {
    let names = fs.list(log).map_err(OpenError::io("listing", log))?;
    let names = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
    let mut names: Vec<_> = names.filter(|name| is_hold_name(name)).collect();
    names.sort_unstable();
    if names.len() > HOLDS_MAX {
        let what = format!("the log has {} holds, at most {HOLDS_MAX} are allowed", names.len());
        return Err(OpenError::Hold { file: hold_path(log, names[HOLDS_MAX]), what });
    }
    let loaded = names.into_iter().map(|name| load(fs, log, id, name));
    loaded.filter_map(Result::transpose).collect()
}

/// Reads one hold. `None` if there is none.
fn load(
    fs: &dyn FileSystem,
    log: &Path,
    id: LogId,
    name: &str,
) -> Result<Option<HoldFile>, OpenError> {
    let path = hold_path(log, name);
    let bad = |what: String| OpenError::Hold { file: path.clone(), what };
    let Some(text) = read_text(fs, &path, BYTES_MAX, "hold", bad)? else { return Ok(None) };
    match parse(&text, id) {
        Ok(hold) if hold.name == name => Ok(Some(hold)),
        Ok(hold) => Err(bad(format!("it is the hold `{}`, under another name", hold.name))),
        Err(Problem::Newer(what)) => Err(OpenError::NewerFormat { file: path.clone(), what }),
        Err(Problem::Bad(what)) => Err(bad(what)),
    }
}

/// Stores a hold durably, in place of an earlier one of its name. Needs room for one file.
pub(crate) fn store(
    fs: &dyn FileSystem,
    log: &Path,
    id: LogId,
    hold: &HoldFile,
) -> Result<(), StoreError> {
    let unfinished = log.join(UNFINISHED);
    unlink_if_exists(fs, &unfinished).map_err(StoreError::Unchanged)?;
    let mut file = fs.open(&unfinished, OpenMode::CreateNew).map_err(StoreError::Unchanged)?;
    let written = write_full(file.as_mut(), encode(hold, id).as_bytes(), 0);
    let synced = written.and_then(|()| file.sync_data());
    drop(file);
    let renamed = synced.and_then(|()| fs.rename(&unfinished, &hold_path(log, &hold.name)));
    if renamed.is_err() {
        // Free the room that the file takes.
        drop(fs.unlink(&unfinished));
    }
    renamed.map_err(StoreError::Unchanged)?;
    fs.sync_dir(log).map_err(StoreError::Unknown)
}

/// Removes a hold's file durably. Needs no room. It may be missing.
pub(crate) fn remove(fs: &dyn FileSystem, log: &Path, name: &str) -> Result<(), StoreError> {
    unlink_if_exists(fs, &hold_path(log, name)).map_err(StoreError::Unchanged)?;
    fs.sync_dir(log).map_err(StoreError::Unknown)
}

fn encode(hold: &HoldFile, id: LogId) -> String {
    let HoldFile { name, checkpoint, limits, dropped } = hold;
    let number = |number: Option<u64>| number.map_or("none".into(), |number| number.to_string());
    let state = match dropped {
        None => "held",
        Some(HoldLimit::Bytes) => "dropped-bytes",
        Some(HoldLimit::Age) => "dropped-age",
    };
    let beyond = match limits.beyond {
        HoldPolicy::Drop => "drop",
        HoldPolicy::RefuseAppends => "refuse-appends",
    };
    let max_age_ms = limits.max_age.map(whole_millis);
    let mut text = format!("shardwal hold {VERSION}\nlog {id}\nname {name}\nstate {state}\n");
    // Writing to a String cannot fail.
    let _ok = writeln!(text, "max-bytes {}", number(limits.max_bytes));
    let _ok = writeln!(text, "max-age-ms {}", number(max_age_ms));
    let _ok = writeln!(text, "beyond {beyond}\ncheckpoint {checkpoint}");
    let crc = crc32fast::hash(text.as_bytes());
    let _ok = writeln!(text, "crc {crc:08x}");
    text
}

/// Milliseconds, rounded up.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

enum Problem {
    Newer(String),
    Bad(String),
}

fn parse(text: &str, id: LogId) -> Result<HoldFile, Problem> {
    let bad = |what: &str| Problem::Bad(what.into());
    let (body, crc) = text
        .strip_suffix('\n')
        .and_then(|text| text.rsplit_once("\ncrc "))
        .ok_or_else(|| bad("its last line is not its checksum"))?;
    let covered = &text[..=body.len()];
    if crc != format!("{:08x}", crc32fast::hash(covered.as_bytes())) {
        return Err(bad("its checksum does not match"));
    }
    let mut lines = covered.lines();
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let version = value("shardwal hold").and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(VERSION) => {}
        Some(version) if version > VERSION => {
            let what = format!("its format is version {version}, this is version {VERSION}");
            return Err(Problem::Newer(what));
        }
        _ => return Err(bad("it is not a hold")),
    }
    let named = value("log").and_then(|log| log.parse::<LogId>().ok());
    let named = named.ok_or_else(|| bad("its second line is not the log's id"))?;
    if named != id {
        return Err(Problem::Bad(format!("it belongs to log {named}, and this is log {id}")));
    }
    let hold = parse_fields(&mut value).filter(|_| lines.next().is_none());
    let hold = hold.ok_or_else(|| bad("one of its lines is invalid"))?;
    if hold.checkpoint.log().is_some_and(|log| log != id) {
        return Err(bad("its checkpoint is of another log"));
    }
    Ok(hold)
}

/// The lines after the log's id.
fn parse_fields<'text>(value: &mut impl FnMut(&str) -> Option<&'text str>) -> Option<HoldFile> {
    let number = |text: &str| match text {
        "none" => Some(None),
        number => number.parse::<u64>().ok().filter(|it| it.to_string() == number).map(Some),
    };
    let name = value("name").filter(|name| is_hold_name(name))?.to_owned();
    let dropped = match value("state")? {
        "held" => None,
        "dropped-bytes" => Some(HoldLimit::Bytes),
        "dropped-age" => Some(HoldLimit::Age),
        _ => return None,
    };
    let max_bytes = number(value("max-bytes")?)?;
    let max_age = number(value("max-age-ms")?)?.map(Duration::from_millis);
    let beyond = match value("beyond")? {
        "drop" => HoldPolicy::Drop,
        "refuse-appends" => HoldPolicy::RefuseAppends,
        _ => return None,
    };
    let checkpoint = value("checkpoint")?.parse().ok()?;
    Some(HoldFile { name, checkpoint, limits: HoldLimits { max_bytes, max_age, beyond }, dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> HoldFile {
        let limits = HoldLimits {
            max_bytes: Some(1 << 30),
            max_age: Some(Duration::from_millis(86_400_000)),
            beyond: HoldPolicy::RefuseAppends,
        };
        let checkpoint = Checkpoint::new(2, [5, 60]).of_log(LogId::from([7; 16]));
        HoldFile { name: "follower-a_1.x".into(), checkpoint, limits, dropped: None }
    }

    fn is_bad(text: &str) -> bool {
        matches!(parse(text, LogId::from([7; 16])), Err(Problem::Bad(_)))
    }

    #[test]
    fn every_hold_is_read_as_it_was_written() {
        let id = LogId::from([7; 16]);
        let none = HoldLimits::default();
        for dropped in [None, Some(HoldLimit::Bytes), Some(HoldLimit::Age)] {
            for limits in [none, hold().limits] {
                for checkpoint in [Checkpoint::start(), hold().checkpoint] {
                    let hold = HoldFile { checkpoint, limits, dropped, ..hold() };
                    let parsed = parse(&encode(&hold, id), id).ok();
                    assert_eq!(parsed, Some(hold));
                }
            }
        }
        let fraction = Some(Duration::from_nanos(1));
        let limits = HoldLimits { max_age: fraction, ..none };
        let parsed = parse(&encode(&HoldFile { limits, ..hold() }, id), id).ok();
        let rounded = parsed.and_then(|hold| hold.limits.max_age);
        assert_eq!(rounded, Some(Duration::from_millis(1)), "no limit is rounded down to zero");
    }

    /// FORMAT.md, "Holds", has this text.
    #[test]
    fn the_example_of_the_format_is_a_hold() {
        let format = include_str!("../../FORMAT.md").split("## Holds").nth(1);
        let lines = format.into_iter().flat_map(str::lines);
        let text: String = lines
            .skip_while(|line| !line.starts_with("    shardwal hold"))
            .map_while(|line| line.strip_prefix("    "))
            .flat_map(|line| [line, "\n"])
            .collect();
        let id = "676f6c64656e206c6f67206f66207631".parse().expect("an id");
        let hold = parse(&text, id).ok().expect("FORMAT.md has a whole hold");
        assert_eq!(
            (hold.name.as_str(), hold.checkpoint.sequences()),
            ("mirror-b", &[9340, 8220][..])
        );
        assert_eq!(encode(&hold, id), text);
    }

    #[test]
    fn every_changed_byte_and_every_shorter_text_is_refused() {
        let text = encode(&hold(), LogId::from([7; 16]));
        for at in 0..text.len() {
            assert!(is_bad(&text[..at]), "cut at {at}");
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert!(is_bad(&String::from_utf8(changed).expect("it is ASCII")), "changed at {at}");
        }
    }

    #[test]
    fn a_text_with_a_valid_checksum_and_an_invalid_line_is_refused() {
        let text = encode(&hold(), LogId::from([7; 16]));
        let (body, _) = text.rsplit_once("crc ").expect("it has a checksum");
        let with_crc = |body: &str| format!("{body}crc {:08x}\n", crc32fast::hash(body.as_bytes()));
        assert!(parse(&with_crc(body), LogId::from([7; 16])).is_ok());
        for (from, to) in [
            ("shardwal hold 1", "shardwal hold 0"),
            ("shardwal hold 1", "shardwal 1"),
            ("log 0707", "log 0807"),
            ("checkpoint 0707", "checkpoint 0807"),
            ("name follower", "name Follower"),
            ("state held", "state kept"),
            ("max-bytes 1073741824", "max-bytes +1073741824"),
            ("max-age-ms 86400000", "max-age-ms -1"),
            ("beyond refuse-appends", "beyond doubt"),
            ("/2/5,60", "/2/5,x"),
            ("beyond", "more lines\nbeyond"),
            ("60\n", "60\nmore lines\n"),
        ] {
            let changed = body.replacen(from, to, 1);
            assert_ne!(changed, body, "{from}");
            assert!(is_bad(&with_crc(&changed)), "{to}");
        }
        let newer = with_crc(&body.replacen("hold 1", "hold 2", 1));
        assert!(matches!(parse(&newer, LogId::from([7; 16])), Err(Problem::Newer(_))));
    }

    #[test]
    fn a_name_has_few_letters_and_none_that_a_path_gives_a_meaning() {
        for name in ["a", ".", "..", "hold", "x.tmp", "a-b_c.9", &"n".repeat(64)] {
            assert!(is_hold_name(name), "{name}");
        }
        for name in ["", "A", "a b", "a/b", "ä", "a\0", "HOLD.tmp", &"n".repeat(65)] {
            assert!(!is_hold_name(name), "{name}");
        }
    }
}
