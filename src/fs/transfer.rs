//! Reads and writes of a whole buffer. They continue after a call that was interrupted
//! or short.
//!
//! This file knows bytes and offsets of one open file.

use std::io;

use super::FileHandle;

/// The number of consecutive interruptions of one read or write that are retried. No
/// signal comes that often; a disk that only returns `Interrupted` is broken.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Fills `bytes` from `offset`, or stops at the end of the file. Returns the number of
/// bytes read. Continues after interrupted and short reads.
///
/// # Errors
/// What the file returns.
pub fn read_full(file: &dyn FileHandle, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => (done, interruptions) = (done + n, 0),
            Err(error) if may_retry(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`. Continues after interrupted and short writes.
///
/// # Errors
/// What the file returns, and `WriteZero` if it takes no bytes. After an error any part
/// of the bytes may be written.
pub fn write_full(file: &mut dyn FileHandle, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_counted(file, bytes, offset, &mut false)
}

/// Writes like [`write_full`]. Sets `touched` once any of the bytes are written.
pub(crate) fn write_counted(
    file: &mut dyn FileHandle,
    bytes: &[u8],
    offset: u64,
    touched: &mut bool,
) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                (done, interruptions) = (done + n, 0);
                *touched = true;
            }
            Err(error) if may_retry(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes like [`write_full`], with direct I/O in blocks of `block` bytes. Writes a
/// partly written block again.
pub(crate) fn write_direct_full(
    file: &mut dyn FileHandle,
    bytes: &[u8],
    offset: u64,
    block: usize,
) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.write_direct(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) if n >= block => (done, interruptions) = (done + n / block * block, 0),
            Ok(_) if is_within_limit(&mut interruptions) => {}
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if may_retry(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn may_retry(error: &io::Error, interruptions: &mut u32) -> bool {
    error.kind() == io::ErrorKind::Interrupted && is_within_limit(interruptions)
}

/// Counts an interruption.
fn is_within_limit(interruptions: &mut u32) -> bool {
    *interruptions += 1;
    *interruptions <= INTERRUPTIONS_MAX
}
