//! A small text file of the log's directory.

use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, Unreadable, read_around};

/// Reads a file from the disk, not from the cache. `None` if there is none. `bad` makes the error
/// of a file that is no text of at most `bytes_max` bytes. `kind` says what the file should be.
pub(super) fn read_text(
    fs: &dyn FileSystem,
    path: &Path,
    bytes_max: u64,
    kind: &str,
    bad: impl Fn(String) -> OpenError,
) -> Result<Option<String>, OpenError> {
    let file = match fs.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(OpenError::io("opening", path))?,
    };
    file.drop_cache();
    let length = file.len().map_err(OpenError::io("reading the size of", path))?;
    if length > bytes_max {
        return Err(bad(format!("it has {length} bytes, too many for a {kind}")));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut unreadable = Unreadable::default();
    let read = read_around(file.as_ref(), &mut bytes, 0, &mut unreadable)
        .map_err(OpenError::io("reading", path))?;
    if let Some(range) = unreadable.first() {
        let (from, to) = (range.start, range.end);
        return Err(bad(format!("the disk cannot read bytes {from}..{to} of it")));
    }
    bytes.truncate(read);
    String::from_utf8(bytes).map(Some).map_err(|_| bad("it is not text".into()))
}
