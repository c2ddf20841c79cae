//! A place in every shard at once, and the log that it belongs to.
//!
//! `checkpoint/check.rs` compares a checkpoint with a log. Every operation that
//! takes a checkpoint calls it first.

use std::fmt::{self, Write as _};
use std::str::FromStr;

mod check;
mod error;

pub(crate) use check::{Reach, ShardReach};
pub use error::CheckpointError;

/// Tells a log from all others: 16 random bytes, drawn when the log is created.
/// Copies of a log have the same id.
///
/// As text, and with the `serde` feature, it is 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub(crate) [u8; 16]);

impl LogId {
    /// The bytes, as they stand in the log's files.
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
        // The first digit is the highest of the number, and of the first byte.
        let mut bytes = [0; 16];
        let mut rest = number.map_err(|_| unreadable())?;
        for byte in bytes.iter_mut().rev() {
            *byte = u8::try_from(rest & 0xff).unwrap_or(0);
            rest >>= 8;
        }
        Ok(Self(bytes))
    }
}

/// One sequence per shard: the caller has dealt with everything below.
///
/// It covers all generations before its own. It names the log that it was taken
/// of, so that it cannot be used on another one. Store it beside the state that
/// was built from the log. Pass it to [`crate::ShardedWal::replay_from`] and
/// [`crate::ShardedWal::truncate_before`].
///
/// As text it is `LOG/GENERATION/SEQUENCE,SEQUENCE,..`, with one sequence per
/// shard, and `-` instead of the log's id in a checkpoint that names no log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Checkpoint {
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    log: Option<LogId>,
    generation: u32,
    below: Vec<u64>,
}

impl Checkpoint {
    /// A checkpoint of a generation: `below[shard]` is the first sequence that
    /// has not been dealt with. It names no log, and every log refuses it until
    /// [`Checkpoint::of_log`] has named one.
    pub fn new(generation: u32, below: impl IntoIterator<Item = u64>) -> Self {
        Self { log: None, generation, below: below.into_iter().collect() }
    }

    /// The same place in the log with this id, see [`crate::ShardedWal::id`].
    #[must_use]
    pub fn of_log(self, log: LogId) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The log that it names.
    #[must_use]
    pub fn log(&self) -> Option<LogId> {
        self.log
    }

    /// The generation that it speaks of.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The first sequence of each shard that has not been dealt with.
    #[must_use]
    pub fn sequences(&self) -> &[u64] {
        &self.below
    }

    /// The first sequence that has not been dealt with, of a shard of any
    /// generation.
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
        let unreadable =
            || CheckpointError::unreadable(text, "a checkpoint is LOG/GENERATION/SEQUENCE,..");
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

/// Digits alone: `parse` takes a sign as well.
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
