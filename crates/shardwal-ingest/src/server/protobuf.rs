//! A zero-copy reader of protobuf messages, field by field. Every length is checked against the
//! remaining bytes. This file knows the wire format, and no messages.

use std::fmt;

/// The bytes are not a message of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The problem.
    pub(crate) what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the body is not a valid message: {}", self.what)
    }
}

pub(crate) const fn malformed(what: &'static str) -> Malformed {
    Malformed { what }
}

/// Maximum number of groups within each other, as in other parsers.
const GROUPS_MAX: u32 = 100;

/// The content of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// A field of four bytes, or a group: no field of Prometheus is one.
    Skipped,
}

/// The rest of a message.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the next field, if there is one.
    ///
    /// # Errors
    /// The bytes are not a field.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = self.value(tag, 0)?;
        match tag >> 3 {
            0 => Err(malformed("a field has the number 0")),
            number => Ok(Some((number, value))),
        }
    }

    /// Reads what follows a tag, within a number of groups.
    #[inline]
    fn value(&mut self, tag: u64, groups: u32) -> Result<Value<'a>, Malformed> {
        Ok(match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok();
                let split = length.and_then(|length| self.rest.split_at_checked(length));
                let (bytes, rest) =
                    split.ok_or(malformed("a length exceeds the remaining bytes"))?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            3 if groups < GROUPS_MAX => self.skip_group(tag >> 3, groups + 1)?,
            5 => {
                self.chunk::<4>()?;
                Value::Skipped
            }
            _ => return Err(malformed("a field has an unknown wire type")),
        })
    }

    /// Skips to the end of a group. Only unknown fields are groups.
    #[cold]
    fn skip_group(&mut self, number: u64, groups: u32) -> Result<Value<'a>, Malformed> {
        loop {
            let tag = self.varint()?;
            match (tag & 7, tag >> 3) {
                (4, end) if end == number => return Ok(Value::Skipped),
                (4, _) => return Err(malformed("a group ends that did not begin")),
                _ => drop(self.value(tag, groups)?),
            }
        }
    }

    /// Reads up to the next message in a field of this number, and returns its bytes.
    ///
    /// # Errors
    /// The bytes are not fields.
    #[inline]
    pub(crate) fn next_message(&mut self, wanted: u64) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((number, value)) = self.field()? {
            if let Value::Bytes(bytes) = value
                && number == wanted
            {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Reads a number.
    ///
    /// # Errors
    /// The bytes are not a number.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(malformed("a number does not end"))
    }

    fn chunk<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let split = self.rest.split_first_chunk().ok_or(malformed("a field is cut off"))?;
        self.rest = split.1;
        Ok(*split.0)
    }
}
