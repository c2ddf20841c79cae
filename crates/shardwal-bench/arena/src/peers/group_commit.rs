//! Leader/follower group commit under one mutex. Appends go to a shared buffer. The first waiter
//! becomes the leader: it writes and syncs the whole buffer with the lock released, then wakes the
//! followers through a condvar. Two buffers alternate.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::{Many, framed, replay_parts};
use crate::peer::{Arrivals, Due, Kind, Offered, Peer, Record, nanos_since};

/// On a growing file, the usual first implementation.
pub const GROWING: Kind = Kind {
    name: "mutex group commit",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: false,
    pipelines: true,
    open: |dir, files, _| Many::open(dir, files, false, |dir| GroupCommit::open(dir, 0)),
    replay: |dir, files, found, opened| {
        opened();
        replay_parts(dir, files, |dir| framed::read(&dir.join("log"), &*found))
    },
};
/// On a file filled with zeros before the clock starts. A sync then need not commit the file
/// system's journal. Writes beyond the zeros grow the file again.
pub const ZERO_FILLED: Kind = Kind {
    name: "mutex group commit, zero-filled",
    open: |dir, files, _| {
        Many::open(dir, files, false, |dir| GroupCommit::open(dir, ZEROED_BYTES / files as u64))
    },
    ..GROWING
};

/// 0.4 s at the highest rate seen of this design.
const ZEROED_BYTES: u64 = 128 << 20;

struct GroupCommit {
    group: Mutex<Group>,
    led: Condvar,
}

struct Group {
    /// What the next leader writes.
    buffer: Vec<u8>,
    /// `None` while a leader is active.
    idle: Option<Idle>,
    /// The next ticket.
    next: u64,
    /// Tickets below this are on the disk.
    durable: u64,
}

/// What a leader takes: the file, its end, and the last leader's buffer.
struct Idle {
    file: File,
    end: u64,
    buffer: Vec<u8>,
}

impl GroupCommit {
    fn open(dir: &Path, zeroed: u64) -> Self {
        let file = File::create_new(dir.join("log")).expect("a new file in the scratch directory");
        let zeros = vec![0; 1 << 20];
        for at in (0..zeroed).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).expect("the scratch disk takes a write");
        }
        file.sync_all().expect("the scratch disk syncs");
        let idle = Some(Idle { file, end: 0, buffer: Vec::new() });
        let group = Group { buffer: Vec::new(), idle, next: 0, durable: 0 };
        Self { group: Mutex::new(group), led: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().expect("no other append failed")
    }

    /// Queues records that were framed outside the lock. Returns a ticket.
    fn queue(&self, frames: &[u8]) -> u64 {
        let mut group = self.lock();
        group.buffer.extend_from_slice(frames);
        group.next += 1;
        group.next - 1
    }

    fn wait(&self, ticket: u64) {
        let mut group = self.lock();
        while group.durable <= ticket {
            group = match group.idle.take() {
                Some(idle) => self.lead(group, idle),
                None => self.led.wait(group).expect("no other append failed"),
            };
        }
    }

    /// Waits for each ticket. Returns the latencies.
    fn collect(&self, under_way: &Receiver<Vec<(Instant, u64)>>) -> Vec<u32> {
        let mut nanos = Vec::new();
        for (at, ticket) in under_way.iter().flatten() {
            self.wait(ticket);
            nanos.push(nanos_since(at));
        }
        nanos
    }

    /// Writes and syncs the buffer.
    fn lead<'a>(
        &'a self,
        mut group: MutexGuard<'a, Group>,
        mut idle: Idle,
    ) -> MutexGuard<'a, Group> {
        std::mem::swap(&mut group.buffer, &mut idle.buffer);
        let end = group.next;
        drop(group);
        idle.file.write_all_at(&idle.buffer, idle.end).expect("the scratch disk takes a write");
        idle.file.sync_data().expect("the scratch disk syncs");
        idle.end += idle.buffer.len() as u64;
        idle.buffer.clear();
        let mut group = self.lock();
        group.idle = Some(idle);
        group.durable = end;
        self.led.notify_all();
        group
    }
}

impl Peer for GroupCommit {
    fn append(&self, thread: usize, record: Record) {
        self.append_batch(thread, &[record]);
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let mut frames = Vec::with_capacity(records.len() * 272);
        records.iter().for_each(|record| framed::frame(&mut frames, *record));
        self.wait(self.queue(&frames));
    }

    fn pipeline(&self, _thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        let (mut under_way, mut frame) = (VecDeque::with_capacity(depth), Vec::new());
        while let Some(record) = next() {
            if under_way.len() == depth {
                under_way.pop_front().into_iter().for_each(|ticket| self.wait(ticket));
            }
            frame.clear();
            framed::frame(&mut frame, record);
            under_way.push_back(self.queue(&frame));
        }
        under_way.into_iter().for_each(|ticket| self.wait(ticket));
    }

    /// The queue is unbounded. The thread that waits for the answers leads.
    fn offer(&self, _thread: usize, arrivals: &mut dyn Arrivals) -> Offered {
        let (mut due, mut frame) = (Vec::new(), Vec::new());
        let nanos = std::thread::scope(|scope| {
            let (sender, under_way) = channel();
            let collector = scope.spawn(move || self.collect(&under_way));
            while arrivals.take(&mut due) {
                let queue = |due: Due| {
                    frame.clear();
                    framed::frame(&mut frame, due.record);
                    (due.at, self.queue(&frame))
                };
                let queued: Vec<_> = due.drain(..).map(queue).collect();
                sender.send(queued).expect("the collector listens to the end");
            }
            drop(sender);
            collector.join().expect("every append is answered")
        });
        Offered { nanos, ..Offered::default() }
    }

    fn close(self: Box<Self>) {}
}
