//! shardwal with its defaults, and the number of shards under test.
//!
//! Payloads are borrowed slices, which the log copies into its queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use shardwal::{Completion, Config, ReplayOptions, ShardedWal};

use crate::peer::{
    Arrivals, Due, Durability, Found, Kind, Offered, Opened, Peer, Record, nanos_since,
};

/// shardwal as a peer.
pub const KIND: Kind = Kind {
    name: "shardwal",
    promises_less: "",
    shards: &[1, 2, 4, 16],
    sync: true,
    os: true,
    pipelines: true,
    open: |dir, shards, durability| Box::new(open(dir, shards, durability, READY.div_ceil(shards))),
    replay,
};

/// Segments filled with zeros before the clock starts, as other peers' files are. A log that was
/// truncated before has such segments to overwrite.
const READY: usize = 12;

fn open(dir: &Path, shards: usize, durability: Durability, ready: usize) -> ShardedWal {
    let durability = match durability {
        Durability::Sync => shardwal::Durability::Sync,
        Durability::Buffered => shardwal::Durability::Buffered,
    };
    let config = Config::new(dir.join("log")).shards(shards).durability(durability);
    let config = config.recycled_segments_max(ready.max(2)).preallocated_segments(ready);
    ShardedWal::open(config).expect("the log opens")
}

fn replay(dir: &Path, shards: usize, found: Found, opened: Opened<'_>) {
    let log = open(dir, shards, Durability::Sync, 0);
    opened();
    log.replay(ReplayOptions::default().threads(2), |record| {
        found(record.key(), record.payload());
        Ok::<_, Infallible>(())
    })
    .expect("what was written can be read");
}

/// An append in flight, and when its record was due.
type UnderWay<'log> = (Instant, Completion<'log>);

/// Waits for each completion, in the order of tickets. Returns the latencies.
fn collect(under_way: &Receiver<Vec<UnderWay<'_>>>) -> Vec<u32> {
    let mut nanos = Vec::new();
    for (at, completion) in under_way.iter().flatten() {
        completion.wait().expect("the record is written");
        nanos.push(nanos_since(at));
    }
    nanos
}

/// Sends the appends of each shard to the thread that waits for them.
fn hand_on<'a, 'log: 'a>(
    lanes: impl Iterator<Item = (&'a Sender<Vec<UnderWay<'log>>>, &'a mut Vec<UnderWay<'log>>)>,
) {
    for (sender, appended) in lanes.filter(|(_, appended)| !appended.is_empty()) {
        sender.send(std::mem::take(appended)).expect("the collector listens to the end");
    }
}

/// Appends one record, and counts it if it must wait for room. Before that wait, it calls `flush`.
fn append_counted<'log>(
    log: &'log ShardedWal,
    record: Record,
    offered: &mut Offered,
    flush: impl FnOnce(),
) -> Completion<'log> {
    let tried = log.try_append(record.key, record.payload);
    tried.unwrap_or_else(|refused| {
        flush();
        let began = Instant::now();
        let completion = ShardedWal::append(log, record.key, refused.payload);
        offered.blocked += 1;
        offered.blocked_for += began.elapsed();
        completion
    })
}

impl Peer for ShardedWal {
    fn append(&self, _thread: usize, record: Record) {
        self.append_wait(record.key, record.payload).expect("the record is written");
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        self.append_batch_wait(records.iter().map(|record| (record.key, record.payload)))
            .expect("the batch is written");
    }

    fn pipeline(&self, _thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        let mut under_way = VecDeque::with_capacity(depth);
        while let Some(record) = next() {
            if under_way.len() == depth {
                under_way
                    .pop_front()
                    .map(shardwal::Completion::wait)
                    .transpose()
                    .expect("it is written");
            }
            under_way.push_back(ShardedWal::append(self, record.key, record.payload));
        }
        for completion in under_way {
            completion.wait().expect("the record is written");
        }
    }

    fn forget(&self, _thread: usize, record: Record) {
        drop(ShardedWal::append(self, record.key, record.payload));
    }

    /// One thread per shard waits for the answers. A completion must not be seen late because an
    /// earlier one of another shard is still pending.
    fn offer(&self, _thread: usize, arrivals: &mut dyn Arrivals) -> Offered {
        std::thread::scope(|scope| {
            let lane = |_| {
                let (sender, receiver) = channel();
                (sender, Vec::new(), scope.spawn(move || collect(&receiver)))
            };
            let mut lanes: Vec<_> = (0..self.shards()).map(lane).collect();
            let (mut due, mut offered) = (Vec::new(), Offered::default());
            while arrivals.take(&mut due) {
                for Due { at, record } in due.drain(..) {
                    let completion = append_counted(self, record, &mut offered, || {
                        hand_on(lanes.iter_mut().map(|(sender, appended, _)| (&*sender, appended)));
                    });
                    lanes[self.shard_of(record.key)].1.push((at, completion));
                }
                hand_on(lanes.iter_mut().map(|(sender, appended, _)| (&*sender, appended)));
            }
            for (sender, _, collector) in lanes {
                drop(sender);
                offered.nanos.extend(collector.join().expect("every append is answered"));
            }
            offered
        })
    }

    fn written(&self, records: u64) {
        while self.stats().total.records < records {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn close(self: Box<Self>) {
        ShardedWal::close(&self).expect("the log closes");
    }
}
