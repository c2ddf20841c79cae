//! The designs that shardwal replaces, implemented with care: checksum and framing outside the
//! lock, one `write` per frame, no allocation.
//!
//! They only write records: no recovery, no segments, no poisoning after a failed sync. A failure
//! panics.

#![allow(dead_code, reason = "each benchmark is a crate of its own and uses a part")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::support::{RECORD_BYTES, Subject};

pub(crate) mod channel;

/// Length, checksum, key.
const HEADER_BYTES: usize = 4 + 4 + 8;

/// A record in the format of these logs.
struct Framed {
    bytes: [u8; HEADER_BYTES + RECORD_BYTES],
}

impl Framed {
    fn new(key: u64, payload: &[u8]) -> Self {
        let mut bytes = [0; HEADER_BYTES + RECORD_BYTES];
        let length = u32::try_from(payload.len()).expect("a benchmark's record is small");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[8..16].copy_from_slice(&key.to_le_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(payload);
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        Self { bytes }
    }
}

fn create(path: &Path) -> File {
    File::create_new(path).expect("a new file in the scratch directory")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One mutex around one file. Each record takes a write and, in sync mode, an fdatasync, both under
/// the lock.
pub(crate) struct OneMutex {
    file: Mutex<File>,
    sync: bool,
}

impl OneMutex {
    pub(crate) fn new(path: &Path, sync: bool) -> Self {
        Self { file: Mutex::new(create(path)), sync }
    }
}

impl Subject for OneMutex {
    type Ticket<'a> = ();

    fn append(&self, key: u64, payload: Bytes) {
        let framed = Framed::new(key, &payload);
        let mut file = lock(&self.file);
        file.write_all(&framed.bytes).expect("the scratch disk takes a write");
        if self.sync {
            file.sync_data().expect("the scratch disk syncs");
        }
    }

    fn wait(&self, _ticket: ()) {}

    fn wait_idle(&self) {}
}

/// Several [`OneMutex`], selected by key.
pub(crate) struct ManyMutexes {
    files: Vec<OneMutex>,
}

impl ManyMutexes {
    pub(crate) fn new(dir: &Path, files: usize, sync: bool) -> Self {
        let open = |number| OneMutex::new(&dir.join(format!("{number}.log")), sync);
        Self { files: (0..files).map(open).collect() }
    }
}

impl Subject for ManyMutexes {
    type Ticket<'a> = ();

    fn append(&self, key: u64, payload: Bytes) {
        // The benchmarks' keys are random in every bit.
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of files")]
        let file = (key % self.files.len() as u64) as usize;
        self.files[file].append(key, payload);
    }

    fn wait(&self, _ticket: ()) {}

    fn wait_idle(&self) {}
}

/// Leader/follower group commit: appends go to a shared buffer. The first waiter becomes the
/// leader. It writes and syncs the whole buffer, then wakes the followers through a condvar.
pub(crate) struct GroupCommit {
    group: Mutex<Group>,
    led: Condvar,
}

struct Group {
    /// What the next leader writes.
    buffer: Vec<u8>,
    /// The file, and the last leader's buffer for reuse. `None` while a leader is active.
    idle: Option<(File, Vec<u8>)>,
    /// The next ticket.
    next: u64,
    /// Tickets below this are on the disk.
    durable: u64,
}

impl GroupCommit {
    pub(crate) fn new(path: &Path) -> Self {
        let idle = Some((create(path), Vec::new()));
        let group = Group { buffer: Vec::new(), idle, next: 0, durable: 0 };
        Self { group: Mutex::new(group), led: Condvar::new() }
    }

    /// Writes and syncs the buffer, with the lock released.
    fn lead<'a>(
        &'a self,
        mut group: MutexGuard<'a, Group>,
        (mut file, mut buffer): (File, Vec<u8>),
    ) -> MutexGuard<'a, Group> {
        std::mem::swap(&mut group.buffer, &mut buffer);
        let end = group.next;
        drop(group);
        file.write_all(&buffer).expect("the scratch disk takes a write");
        file.sync_data().expect("the scratch disk syncs");
        buffer.clear();
        let mut group = lock(&self.group);
        group.idle = Some((file, buffer));
        group.durable = end;
        self.led.notify_all();
        group
    }
}

impl Subject for GroupCommit {
    type Ticket<'a> = u64;

    fn append(&self, key: u64, payload: Bytes) -> u64 {
        let framed = Framed::new(key, &payload);
        let mut group = lock(&self.group);
        group.buffer.extend_from_slice(&framed.bytes);
        group.next += 1;
        group.next - 1
    }

    fn wait(&self, ticket: u64) {
        let mut group = lock(&self.group);
        while group.durable <= ticket {
            group = match group.idle.take() {
                Some(idle) => self.lead(group, idle),
                None => self.led.wait(group).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn wait_idle(&self) {}
}
