//! Checkpoints: one position in every shard of a log.
//!
//! `checkpoint/check.rs` compares a checkpoint with a log. Every operation that
//! takes a checkpoint calls it first. This file knows no log.

use std::fmt::{self, Write as _};
use std::str::FromStr;

mod check;
mod error;

pub use check::{Reach, ShardReach};
pub use error::CheckpointError;

/// Identifies a log: 16 random bytes, chosen when the log is created. It never
/// changes. Copies of a log share the id.
///
/// As text, and with the `serde` feature, it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub(crate) [u8; 16]);

impl LogId {
    /// The 16 bytes, as stored in the log's files.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<[u8; 16]> for LogId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

impl FromStr for LogId {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let unreadable =
            || CheckpointError::unreadable(text, "a log's id is 32 hexadecimal digits");
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(text, 16)).ok_or_else(unreadable)?;
        // The number is big-endian: its first digits are the first byte.
        let mut bytes = [0; 16];
        let mut rest = number.map_err(|_| unreadable())?;
        for byte in bytes.iter_mut().rev() {
            *byte = u8::try_from(rest & 0xff).unwrap_or(0);
            rest >>= 8;
        }
        Ok(Self(bytes))
    }
}

/// One sequence per shard. The caller has processed all records below it.
///
/// A checkpoint covers all generations before its own. It names its log, so that
/// another log refuses it. Store it with the state that was built from the log.
/// Pass it to [`crate::ShardedWal::replay_from`] and
/// [`crate::ShardedWal::truncate_before`].
///
/// As text it is `LOG/GENERATION/SEQUENCE,SEQUENCE,..`, with one sequence per
/// shard. A checkpoint that names no log has `-` in place of the log's id.
/// [`Checkpoint::start`] is `-/0/`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Checkpoint {
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    log: Option<LogId>,
    generation: u32,
    below: Vec<u64>,
}

impl Checkpoint {
    /// A checkpoint of a generation. `below[shard]` is the first sequence that the
    /// caller has not processed. The checkpoint names no log: every log refuses it
    /// until [`Checkpoint::of_log`] sets one.
    pub fn new(generation: u32, below: impl IntoIterator<Item = u64>) -> Self {
        Self { log: None, generation, below: below.into_iter().collect() }
    }

    /// The checkpoint before the first record of any log, for a state that is empty. A replay
    /// from it passes every record. The replay is refused if records were truncated: then a
    /// snapshot exists somewhere, and an empty state is wrong. A truncation at it deletes
    /// nothing.
    #[must_use]
    pub fn start() -> Self {
        Self { log: None, generation: 0, below: Vec::new() }
    }

    /// Whether this is [`Checkpoint::start`]. Generations count from 1.
    fn is_start(&self) -> bool {
        self.generation == 0 && self.below.is_empty()
    }

    /// Sets the log that the checkpoint belongs to. [`crate::ShardedWal::id`]
    /// returns a log's id.
    #[must_use]
    pub fn of_log(self, log: LogId) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The log that the checkpoint belongs to, if it names one.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        self.log
    }

    /// The generation of the sequences.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// For each shard, the first sequence that the caller has not processed.
    #[must_use]
    pub fn sequences(&self) -> &[u64] {
        &self.below
    }

    /// Whether it is at or after another checkpoint of its log, in every shard.
    pub(crate) fn reaches(&self, other: &Self) -> bool {
        let pairs = || self.below.iter().zip(&other.below);
        self.generation > other.generation
            || (self.generation == other.generation && pairs().all(|(new, old)| new >= old))
    }

    /// The first sequence that the caller has not processed, for a shard of any
    /// generation: `u64::MAX` for earlier generations, 0 for later ones.
    pub(crate) fn below(&self, generation: u32, shard: u32) -> u64 {
        match generation.cmp(&self.generation) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => self.below.get(shard as usize).copied().unwrap_or(0),
            std::cmp::Ordering::Greater => 0,
        }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            Some(log) => write!(f, "{log}")?,
            None => f.write_char('-')?,
        }
        write!(f, "/{}/", self.generation)?;
        for (shard, sequence) in self.below.iter().enumerate() {
            let comma = if shard == 0 { "" } else { "," };
            write!(f, "{comma}{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let unreadable = || {
            CheckpointError::unreadable(text, "a checkpoint is LOG/GENERATION/SEQUENCE,SEQUENCE,..")
        };
        let mut parts = text.split('/');
        let (Some(log), Some(generation), Some(below), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unreadable());
        };
        let log = if log == "-" { None } else { Some(log.parse()?) };
        let generation = number(generation).ok_or_else(unreadable)?;
        let numbers = below.split(',').filter(|_| !below.is_empty());
        let below = numbers.map(number).collect::<Option<_>>().ok_or_else(unreadable)?;
        Ok(Self { log, generation, below })
    }
}

/// Parses digits only. `parse` alone would accept a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(feature = "serde")]
impl serde::Serialize for LogId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for LogId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
