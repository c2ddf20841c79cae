//! The bytes of a record, as the caller passes them in: borrowed or owned.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// The bytes of one record, borrowed or owned.
///
/// A small payload is copied once, into the queue. So a caller that keeps its bytes need
/// not copy them first. A large payload that is owned ([`Bytes`], `Vec`, `String`) is not
/// copied until it is written.
#[derive(Clone)]
pub struct Payload<'a>(Held<'a>);

#[derive(Clone)]
enum Held<'a> {
    Borrowed(&'a [u8]),
    Given(Bytes),
}

impl Payload<'_> {
    /// Returns owned bytes. A borrowed payload is copied.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Held::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Held::Given(bytes) => bytes,
        }
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Self(Held::Borrowed(&[]))
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Borrowed(bytes) => bytes,
            Held::Given(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&&**self).finish()
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Held::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Held::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(Held::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self(Held::Borrowed(text.as_bytes()))
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Given(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Held::Given(bytes.into()))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self(Held::Given(text.into()))
    }
}
