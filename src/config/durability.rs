//! The modes of a log: what an acknowledgement promises, and what an open does about
//! corruption. As values and as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::OpenError;
use crate::util::human_duration;

/// When the log acknowledges an append, and what the record then survives.
///
/// The default is [`Durability::Sync`].
///
/// As text: `sync`, `interval:10ms` or `buffered`; `os` is read too. The units of an interval
/// are `s`, `ms`, `us` and `ns`. With the `serde` feature it is the same text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Acknowledges after the write and the fdatasync of the record's commit have
    /// succeeded. The record survives a power loss.
    #[default]
    Sync,
    /// Acknowledges after the write. A sync follows within this interval: 100 us
    /// to 1 hour. The record survives a crash of the process. A power loss may
    /// lose the records of the last interval.
    Interval(Duration),
    /// Acknowledges after the write. The kernel writes the record to the disk
    /// later. The record survives a crash of the process. A power loss may lose
    /// every record since the last sync; [`crate::ShardedWal::flush`] and a close
    /// sync.
    Buffered,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Interval(interval) => write!(f, "interval:{}", human_duration::print(*interval)),
            Self::Buffered => f.write_str("buffered"),
        }
    }
}

impl FromStr for Durability {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        let interval = match text {
            "sync" => return Ok(Self::Sync),
            "buffered" | "os" => return Ok(Self::Buffered),
            _ => text.strip_prefix("interval:"),
        };
        let unknown = || {
            format!("`{text}` is unknown; use sync, buffered or an interval, such as interval:10ms")
        };
        interval
            .ok_or_else(unknown)
            .and_then(human_duration::parse)
            .map(Self::Interval)
            .map_err(|problem| OpenError::InvalidConfig { setting: "durability", problem })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Durability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Durability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        match text.parse() {
            Ok(durability) => Ok(durability),
            Err(OpenError::InvalidConfig { problem, .. }) => Err(serde::de::Error::custom(problem)),
            Err(other) => Err(serde::de::Error::custom(other)),
        }
    }
}

/// What an open does if durable records cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum OnCorruption {
    /// The open fails with [`OpenError::Corrupted`] and changes nothing. The error
    /// says which records are lost. A copy of the log may still have them.
    #[default]
    Refuse,
    /// The open repairs the corrupted shards as [`crate::Repair`] does, and goes
    /// on without the lost records. It first copies the files that it replaces to
    /// `quarantine` in the log's directory. [`crate::RecoveryReport::repair`] says
    /// which records are lost.
    Quarantine,
}
