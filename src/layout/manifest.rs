//! The manifest: the log's id and its generations.
//!
//! A small text file that is replaced by a rename. This file does not know what
//! shards hold.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::LogId;
use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, unlink_if_exists, write_full};
use crate::layout::router::ROUTER;
use crate::layout::text_file::read_text;
use crate::segment::header::FORMAT_VERSION;

const FILE: &str = "MANIFEST";
const UNFINISHED: &str = "MANIFEST.tmp";
/// Far more than any log has.
const GENERATIONS_MAX: u32 = 1 << 30;
/// Room for a million generations. No writer makes a larger manifest, so that
/// every open can read it.
const BYTES_MAX: u64 = 64 << 20;

/// A period in which the log has one number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) shards: u32,
}

impl Generation {
    /// The directory of one of its shards.
    pub(crate) fn shard_dir(&self, log: &Path, shard: u32) -> PathBuf {
        self.dir(log).join(shard_name(shard))
    }

    /// The directory of the generation.
    pub(crate) fn dir(&self, log: &Path) -> PathBuf {
        generation_dir(log, self.number)
    }
}

/// The directory of the generation with this number.
pub(crate) fn generation_dir(log: &Path, number: u32) -> PathBuf {
    log.join(generation_name(number))
}

/// The number of the generation whose directory has this name, spelled as the log spells it.
pub(crate) fn generation_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("generation-")?.parse().ok()?;
    (name == generation_name(number)).then_some(number)
}

/// The number of the shard whose directory has this name, spelled as the log spells it.
pub(crate) fn shard_number(name: &str) -> Option<u32> {
    let shard = name.strip_prefix("shard-")?.parse().ok()?;
    (name == shard_name(shard)).then_some(shard)
}

fn generation_name(number: u32) -> String {
    format!("generation-{number:05}")
}

fn shard_name(shard: u32) -> String {
    format!("shard-{shard:04}")
}

/// A manifest in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) log: [u8; 16],
    /// Oldest first. The last one takes the appends.
    pub(crate) generations: Vec<Generation>,
}

enum Problem {
    Newer(String),
    Older(String),
    Bad(String),
}

impl Manifest {
    /// A manifest with a new random log id and no generation.
    pub(crate) fn new() -> Self {
        let half = || RandomState::new().hash_one(std::process::id()).to_le_bytes();
        let mut log = [0; 16];
        log[..8].copy_from_slice(&half());
        log[8..].copy_from_slice(&half());
        Self { log, generations: Vec::new() }
    }

    /// Reads the log's manifest from the disk, not from the cache. `None` if there
    /// is none.
    pub(crate) fn load(fs: &dyn FileSystem, log: &Path) -> Result<Option<Self>, OpenError> {
        let path = log.join(FILE);
        let bad = |what: String| OpenError::Manifest { file: path.clone(), what };
        let Some(text) = read_text(fs, &path, BYTES_MAX, "manifest", bad)? else { return Ok(None) };
        match Self::parse(&text) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Problem::Bad(what)) => Err(bad(what)),
            Err(Problem::Newer(what)) => Err(OpenError::NewerFormat { file: path.clone(), what }),
            Err(Problem::Older(what)) => Err(OpenError::OlderFormat { file: path.clone(), what }),
        }
    }

    /// Replaces the log's manifest durably, by a temporary file and a rename.
    pub(crate) fn store(&self, fs: &dyn FileSystem, log: &Path) -> Result<(), OpenError> {
        let unfinished = log.join(UNFINISHED);
        let doing = |what: &'static str| OpenError::io(what, &unfinished);
        let text = self.encode();
        if text.len() as u64 > BYTES_MAX {
            let many = io::Error::other("it names too many generations; truncate the log");
            return Err(doing("writing")(many));
        }
        unlink_if_exists(fs, &unfinished).map_err(doing("removing"))?;
        let mut file = fs.open(&unfinished, OpenMode::CreateNew).map_err(doing("creating"))?;
        let written = write_full(file.as_mut(), text.as_bytes(), 0);
        if written.is_err() {
            // Free the room that the partial file takes.
            drop(fs.unlink(&unfinished));
        }
        written.map_err(doing("writing"))?;
        file.sync_data().map_err(doing("syncing"))?;
        drop(file);
        fs.rename(&unfinished, &log.join(FILE)).map_err(doing("renaming"))?;
        fs.sync_dir(log).map_err(OpenError::io("syncing", log))
    }

    fn encode(&self) -> String {
        let mut text = format!("shardwal {FORMAT_VERSION}\nlog {}\n", LogId::from(self.log));
        for generation in &self.generations {
            let Generation { number, shards } = generation;
            // Writing to a String cannot fail.
            let _ok = writeln!(text, "generation {number} shards {shards} router {ROUTER}");
        }
        let crc = crc32fast::hash(text.as_bytes());
        let _ok = writeln!(text, "crc {crc:08x}");
        text
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let bad = |what: &str| Problem::Bad(what.into());
        let first = text.lines().next().unwrap_or("");
        let version = first
            .strip_prefix("shardwal ")
            .ok_or_else(|| bad("it does not begin with `shardwal`"))?;
        if version != FORMAT_VERSION.to_string() {
            let what = format!("its format is version {version}, this is version {FORMAT_VERSION}");
            let as_ours = text.replacen(first, &format!("shardwal {FORMAT_VERSION}"), 1);
            if Self::parse(&as_ours).is_ok() {
                return Err(bad("its format version does not match its checksum"));
            }
            return Err(match version.parse::<u32>() {
                Ok(version) if version > FORMAT_VERSION => Problem::Newer(what),
                Ok(version) if version < FORMAT_VERSION => Problem::Older(what),
                _ => bad("its format version is not a number"),
            });
        }
        let (body, crc) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once("\ncrc "))
            .ok_or_else(|| bad("its last line is not its checksum"))?;
        let covered = &text[..=body.len()];
        if crc != format!("{:08x}", crc32fast::hash(covered.as_bytes())) {
            return Err(bad("its checksum does not match"));
        }
        let mut lines = covered.lines().skip(1);
        let log = lines
            .next()
            .and_then(|line| line.strip_prefix("log ")?.parse::<LogId>().ok())
            .ok_or_else(|| bad("its second line is not the log's id"))?;
        let generations = lines.map(parse_generation).collect::<Result<Vec<_>, _>>()?;
        if !generations.windows(2).all(|pair| pair[0].number < pair[1].number) {
            return Err(bad("its generations are not in order"));
        }
        Ok(Self { log: log.to_bytes(), generations })
    }

    /// The number of its oldest generation.
    pub(crate) fn first(&self) -> u32 {
        self.generations.first().map_or(1, |generation| generation.number)
    }

    /// The generation that takes the appends.
    pub(crate) fn current(&self) -> Option<Generation> {
        self.generations.last().copied()
    }
}

fn parse_generation(line: &str) -> Result<Generation, Problem> {
    let words: Vec<_> = line.split(' ').collect();
    let ["generation", number, "shards", shards, "router", router] = words[..] else {
        return Err(Problem::Newer(format!(
            "it has a line that this version does not know: {line:?}"
        )));
    };
    if router != ROUTER {
        return Err(Problem::Newer(format!(
            "it names a router that this version does not know: {router:?}"
        )));
    }
    let generation = number.parse().ok().zip(shards.parse().ok());
    match generation {
        Some((number, shards))
            if (1..=GENERATIONS_MAX).contains(&number)
                && (1..=crate::config::SHARDS_MAX).contains(&(shards as usize)) =>
        {
            Ok(Generation { number, shards })
        }
        _ => Err(Problem::Bad(format!("it has an invalid generation: {line:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_numbered_only_if_the_log_spells_its_name_so() {
        for number in [0, 1, 99_999, 100_000, u32::MAX] {
            assert_eq!(generation_number(&generation_name(number)), Some(number));
            assert_eq!(shard_number(&shard_name(number)), Some(number));
        }
        for name in ["generation-1", "generation-+0001", "generation-000001", "generation-"] {
            assert_eq!(generation_number(name), None, "{name}");
        }
        for name in ["shard-1", "shard-+1", "shard-+001", "shard-00001", "shard-", "shard-000x"] {
            assert_eq!(shard_number(name), None, "{name}");
        }
    }
}
