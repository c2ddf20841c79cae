//! A mutex around a file: one write per call and, in sync mode, an fdatasync, both under the lock.
//! Also several of them by key, and one around a buffer in user space, which promises nothing.
//!
//! Framing and checksum are outside the lock. `benches/baseline` has similar designs, without
//! batches and replay.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use super::{Many, framed, part, replay_parts};
use crate::peer::{Durability, Found, Kind, Peer, Record};

/// Every append writes, and in sync mode syncs, under the lock.
pub const ONE: Kind = Kind {
    name: "one mutex",
    promises_less: "",
    shards: &[1],
    sync: true,
    os: true,
    pipelines: false,
    open: |dir, files, durability| {
        Many::open(dir, files, false, |dir| OneMutex::open(dir, durability))
    },
    replay: |dir, files, found, opened| {
        opened();
        replay_parts(dir, files, |dir| framed::read(&dir.join("log"), &*found))
    },
};
/// Four of them, selected by key.
pub const FOUR: Kind = Kind { name: "4 mutexes by key", shards: &[4], ..ONE };
/// Sixteen of them, selected by key.
pub const SIXTEEN: Kind = Kind { name: "16 mutexes by key", shards: &[16], ..ONE };
/// A buffer in user space under one mutex.
pub const BUFFERED: Kind = Kind {
    name: "one mutex, user-space buffer",
    promises_less: "answers before the write: process death loses up to 64 KiB",
    sync: false,
    open: |dir, _, _| Box::new(Buffered::open(dir)),
    replay: |dir, _, found, opened| {
        opened();
        read_buffered(dir, &found)
    },
    ..ONE
};

struct OneMutex {
    file: Mutex<File>,
    sync: bool,
}

fn create(dir: &Path) -> File {
    File::create_new(dir.join("log")).expect("a new file in the scratch directory")
}

impl OneMutex {
    fn open(dir: &Path, durability: Durability) -> Self {
        Self { file: Mutex::new(create(dir)), sync: durability == Durability::Sync }
    }
}

impl Peer for OneMutex {
    fn append(&self, thread: usize, record: Record) {
        self.append_batch(thread, &[record]);
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let mut frames = Vec::with_capacity(records.len() * 272);
        records.iter().for_each(|record| framed::frame(&mut frames, *record));
        let mut file = self.file.lock().expect("no other append failed");
        file.write_all(&frames).expect("the scratch disk takes a write");
        if self.sync {
            file.sync_data().expect("the scratch disk syncs");
        }
    }

    fn close(self: Box<Self>) {}
}

/// Size of the buffer, like `BufWriter`'s.
const BUFFER_BYTES: usize = 64 << 10;

struct Buffered {
    inner: Mutex<(Vec<u8>, File)>,
}

impl Buffered {
    fn open(dir: &Path) -> Self {
        let dir = part(dir, 0);
        std::fs::create_dir_all(&dir).expect("the scratch directory takes a directory");
        Self { inner: Mutex::new((Vec::with_capacity(BUFFER_BYTES + 272), create(&dir))) }
    }

    fn write_all((buffer, file): &mut (Vec<u8>, File)) {
        file.write_all(buffer).expect("the scratch disk takes a write");
        buffer.clear();
    }
}

fn read_buffered(dir: &Path, found: &Found) {
    framed::read(&part(dir, 0).join("log"), &**found);
}

impl Peer for Buffered {
    fn append(&self, thread: usize, record: Record) {
        self.append_batch(thread, &[record]);
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let mut frames = Vec::with_capacity(records.len() * 272);
        records.iter().for_each(|record| framed::frame(&mut frames, *record));
        let mut inner = self.inner.lock().expect("no other append failed");
        inner.0.extend_from_slice(&frames);
        if inner.0.len() >= BUFFER_BYTES {
            Self::write_all(&mut inner);
        }
    }

    fn close(self: Box<Self>) {
        Self::write_all(&mut self.inner.lock().expect("no append failed"));
    }
}
