//! One mutex, a list of wakers, and one thread. A task appends its frame to the shared buffer and
//! its waker to the list. The thread takes both, writes, syncs, and wakes all of the list.
//!
//! The frame has a header of 16 bytes with a CRC-32. The file is zero-filled. Nothing is bounded.

use std::cell::RefCell;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use super::ZeroedFile;
use crate::peer::{Found, Record};
use crate::peers::framed;
use crate::tasks::log::TaskLog;

/// The log.
pub struct MutexWakers {
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

struct Shared {
    group: Mutex<Group>,
    /// Notified when the group is no longer empty, and when the log closes.
    filled: Condvar,
    /// Records below this number are durable. The writer stores it before it wakes the tasks.
    durable: AtomicU64,
}

/// What the next commit writes, and the tasks that it wakes.
#[derive(Default)]
struct Group {
    buffer: Vec<u8>,
    wakers: Vec<Waker>,
    /// Number of records ever appended.
    appended: u64,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().expect("no other task failed")
    }

    /// Appends a frame to the buffer, and the waker, if any, to the list. Returns the number of
    /// records up to this one.
    fn queue(&self, record: Record, waker: Option<&Waker>) -> u64 {
        thread_local!(static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        FRAME.with_borrow_mut(|frame| {
            frame.clear();
            framed::frame(frame, record);
            let mut group = self.lock();
            let was_empty = group.buffer.is_empty();
            group.buffer.extend_from_slice(frame);
            group.wakers.extend(waker.cloned());
            group.appended += 1;
            if was_empty {
                self.filled.notify_one();
            }
            group.appended
        })
    }

    /// Ready if the records up to `end` are durable. Otherwise the waker joins the list.
    fn poll_durable(&self, end: u64, waker: &Waker) -> Poll<()> {
        if self.durable.load(Ordering::Acquire) >= end {
            return Poll::Ready(());
        }
        let mut group = self.lock();
        group.wakers.push(waker.clone());
        self.filled.notify_one();
        Poll::Pending
    }

    fn write(&self, mut file: ZeroedFile) {
        let mut taken = Group::default();
        loop {
            let mut group = self.lock();
            while group.buffer.is_empty() && group.wakers.is_empty() {
                if group.closed {
                    return;
                }
                group = self.filled.wait(group).expect("no task failed");
            }
            std::mem::swap(&mut group.buffer, &mut taken.buffer);
            std::mem::swap(&mut group.wakers, &mut taken.wakers);
            let appended = group.appended;
            drop(group);
            file.append(&taken.buffer);
            taken.buffer.clear();
            self.durable.store(appended, Ordering::Release);
            taken.wakers.drain(..).for_each(Waker::wake);
        }
    }
}

/// An append that waits.
struct Append<'log> {
    shared: &'log Shared,
    /// `None` once it is queued.
    record: Option<Record>,
    /// The number of records up to this one, once it is queued.
    end: u64,
}

impl Future for Append<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.record.take() {
            Some(record) => {
                self.end = self.shared.queue(record, Some(context.waker()));
                Poll::Pending
            }
            None => self.shared.poll_durable(self.end, context.waker()),
        }
    }
}

impl TaskLog for MutexWakers {
    fn open(dir: &Path, _shards: Option<usize>, zeroed: u64) -> Self {
        let file = ZeroedFile::create(dir, zeroed);
        let shared = Arc::new(Shared {
            group: Mutex::default(),
            filled: Condvar::new(),
            durable: AtomicU64::new(0),
        });
        let writes = Arc::clone(&shared);
        Self { shared, writer: std::thread::spawn(move || writes.write(file)) }
    }

    fn append(&self, record: Record) -> impl Future<Output = ()> + Send {
        Append { shared: &self.shared, record: Some(record), end: 0 }
    }

    async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
        let mut records = records.peekable();
        while let Some(record) = records.next() {
            if records.peek().is_some() {
                self.shared.queue(record, None);
            } else {
                self.append(record).await;
            }
        }
    }

    fn close(self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
        self.writer.join().expect("the writer did not fail");
    }

    fn replay(dir: &Path, _records: u64, found: &Found) {
        framed::read(&dir.join("log"), &**found);
    }
}
