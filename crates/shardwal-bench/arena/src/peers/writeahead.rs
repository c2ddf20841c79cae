//! writeahead 0.4: one writer thread behind a queue, group commit of what arrived during the last
//! fdatasync, zero-filled windows. It is always durable before the answer. It is asynchronous, so a
//! waiting caller blocks on the future.
//!
//! Settings: a queue of 1,024 commands instead of 64, so that no caller waits for admission. Its
//! windows of 256 KiB remain, because 1 MiB was no faster here. It takes vectors, so a payload is
//! copied once.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::StreamExt;
use futures::executor::block_on;
use writeahead::{SimpleFile, WriteAhead, WriteAheadOptions, WriteHandle};

use super::{Many, keyed, replay_parts, unkeyed};
use crate::peer::{Found, Kind, Opened, Peer, Record};

/// writeahead as a peer.
pub const KIND: Kind = Kind {
    name: "writeahead 0.4",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: false,
    pipelines: true,
    open: |dir, logs, _| {
        Many::open(dir, logs, false, |dir| {
            let log = start(dir);
            Log { handle: log.writer().expect("a started log has a writer"), _log: log }
        })
    },
    replay: |dir, logs, found, opened| replay_parts(dir, logs, |dir| replay(dir, &found, opened)),
};

/// Starts a log in a directory, empty or not.
pub fn start(dir: &Path) -> WriteAhead<SimpleFile> {
    let mut log = WriteAhead::with_options(WriteAheadOptions {
        log_dir: dir.into(),
        queue_capacity: 1024,
        ..WriteAheadOptions::default()
    });
    log.start().expect("the log starts");
    log
}

/// Reads a log, on the calling thread.
pub fn replay(dir: &Path, found: &Found, opened: Opened<'_>) {
    let log = start(dir);
    opened();
    let mut records = log.create_stream().expect("the log can be read");
    block_on(async {
        while let Some(record) = records.next().await {
            let (_, value) = record.expect("the record can be read");
            let (key, payload) = unkeyed(&value);
            found(key, payload);
        }
    });
}

struct Log {
    handle: WriteHandle,
    _log: WriteAhead<SimpleFile>,
}

impl Peer for Log {
    fn append(&self, _thread: usize, record: Record) {
        block_on(self.handle.write(keyed(record))).expect("the record is written");
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let values = records.iter().copied().map(keyed).collect();
        block_on(self.handle.write_batch(values)).expect("the batch is written");
    }

    fn pipeline(&self, _thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        type Write<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
        let mut under_way: VecDeque<Write<'_>> = VecDeque::with_capacity(depth);
        while let Some(record) = next() {
            if under_way.len() == depth {
                under_way.pop_front().into_iter().for_each(block_on);
            }
            let write = self.handle.write(keyed(record));
            let mut write: Write<'_> = Box::pin(async {
                let _id = write.await.expect("the record is written");
            });
            // The first poll queues the write. A later one waits for it.
            if write.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
                under_way.push_back(write);
            }
        }
        under_way.into_iter().for_each(block_on);
    }

    fn close(self: Box<Self>) {}
}
