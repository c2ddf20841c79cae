//! Sizes as people write them: `64MiB`, `4096`.

use std::fmt;
use std::str::FromStr;

/// Largest first: a size is printed in the largest unit that fits.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes that can be written as text: `64MiB`, `1536KiB`, `4096B` or `4096`.
///
/// The units are powers of 1024: `B`, `KiB`, `MiB`, `GiB` and `TiB`. The number is whole, and
/// there is no space before the unit. `MB` and the like are refused, because they have two
/// meanings. Printed, a size has the largest unit that needs no fraction. For the arguments of
/// a command, and with the `serde` feature for files; a file may hold a plain number too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

/// A text that is not a size. It names the text, and shows how to write one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteSizeError {
    text: String,
}

impl fmt::Display for ByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a size; write it like `64MiB`, `512KiB` or `4096`", self.text)
    }
}

impl std::error::Error for ByteSizeError {}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let size = || {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at(digits);
            let unit = if unit.is_empty() { "B" } else { unit };
            let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
            number.parse::<u64>().ok()?.checked_mul(*bytes)
        };
        size().map(Self).ok_or_else(|| ByteSizeError { text: text.into() })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*bytes);
        let (name, bytes) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / bytes)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for ByteSize {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(serde_form::SizeVisitor)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// For `#[serde(with = ..)]`, on fields of any integer type.
#[cfg(feature = "serde")]
pub(crate) mod serde_form {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::ByteSize;

    pub(crate) fn serialize<S: Serializer, N: Copy + TryInto<u64>>(
        bytes: &N,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = (*bytes).try_into().unwrap_or(u64::MAX);
        ByteSize(bytes).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
        deserializer: D,
    ) -> Result<N, D::Error> {
        let ByteSize(bytes) = ByteSize::deserialize(deserializer)?;
        N::try_from(bytes).map_err(|_| D::Error::custom(format!("{bytes} bytes are too many")))
    }

    /// A number, or a text with a unit.
    pub(super) struct SizeVisitor;

    impl Visitor<'_> for SizeVisitor {
        type Value = ByteSize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes, or a size such as `64MiB`")
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
            Ok(ByteSize(bytes))
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
            u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
            text.parse().map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed_and_the_unit_suits() {
        let cases = [
            (0, "0B"),
            (1, "1B"),
            (1000, "1000B"),
            (1536, "1536B"),
            (4 << 10, "4KiB"),
            (64 << 20, "64MiB"),
            (1536 << 20, "1536MiB"),
            (2 << 30, "2GiB"),
            (1 << 60, "1048576TiB"),
            (u64::MAX, "18446744073709551615B"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "64 MiB",
            "64MB",
            "64mib",
            "64M",
            "1.5GiB",
            "1e3",
            "16777216TiB",
        ] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
