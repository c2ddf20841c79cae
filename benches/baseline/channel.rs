//! The queue design that shardwal rejected: a crossbeam channel, and a reference-counted slot for
//! each waited-for record. One writer thread frames and checksums the records in memory. Nothing is
//! written to a disk.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::lock;
use crate::support::Subject;

/// The default capacity of a shard's queue.
const QUEUE_RECORDS: usize = 8192;

/// What one appender waits for.
pub(crate) struct Slot {
    done: AtomicBool,
    waiter: Thread,
}

type Queued = (u64, Bytes, Arc<Slot>);

/// A log whose queue is a channel.
pub(crate) struct ChannelLog {
    writer: Mutex<Option<JoinHandle<()>>>,
    sender: Sender<Queued>,
}

impl ChannelLog {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(QUEUE_RECORDS);
        let writer = std::thread::spawn(move || write_all(&receiver));
        Self { writer: Mutex::new(Some(writer)), sender }
    }
}

/// Writes commits. All records that have arrived form the next commit. A record without a waiter
/// ends the loop.
fn write_all(receiver: &Receiver<Queued>) {
    let (mut buffer, mut commit) = (Vec::new(), Vec::new());
    while let Ok(first) = receiver.recv() {
        let mut ended = false;
        buffer.clear();
        for (key, payload, slot) in std::iter::once(first).chain(receiver.try_iter()) {
            if payload.is_empty() {
                ended = true;
                break;
            }
            buffer.extend_from_slice(&key.to_le_bytes());
            buffer.extend_from_slice(&payload);
            commit.push(slot);
            if commit.len() == QUEUE_RECORDS {
                break;
            }
        }
        std::hint::black_box(crc32fast::hash(&buffer));
        for slot in commit.drain(..) {
            slot.done.store(true, Ordering::Release);
            slot.waiter.unpark();
        }
        if ended {
            return;
        }
    }
}

impl Subject for ChannelLog {
    type Ticket<'a> = Arc<Slot>;

    fn append(&self, key: u64, payload: Bytes) -> Arc<Slot> {
        let done = AtomicBool::new(false);
        let slot = Arc::new(Slot { done, waiter: std::thread::current() });
        self.sender.send((key, payload, slot.clone())).expect("the writer receives to the end");
        slot
    }

    fn wait(&self, slot: Arc<Slot>) {
        while !slot.done.load(Ordering::Acquire) {
            std::thread::park();
        }
    }

    /// Sends an empty record, which ends the writer.
    fn wait_idle(&self) {
        let Some(writer) = lock(&self.writer).take() else { return };
        drop(self.append(0, Bytes::new()));
        writer.join().expect("the writer does not panic");
    }
}
