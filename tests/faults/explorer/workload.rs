//! The short workloads: every sequence of up to three operations.

use std::sync::Arc;

use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, Durability, OpenError, ShardedWal};

use super::recorder::Recorder;
use crate::support::{self, ledger::Ledger, try_replayed};

/// One operation of a client that waits for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Append,
    /// A batch of several keys.
    Batch,
    /// An append that fills the segment, and one that goes into the next.
    Roll,
    Flush,
    /// At the log's own checkpoint: all acknowledged records.
    Truncate,
    /// Drops the log without a close.
    Reopen,
    /// Reopens with another number of shards.
    Reshard,
    Close,
}

pub(crate) const ALL: [Operation; 8] = [
    Operation::Append,
    Operation::Batch,
    Operation::Roll,
    Operation::Flush,
    Operation::Truncate,
    Operation::Reopen,
    Operation::Reshard,
    Operation::Close,
];

/// Four or five sectors, including the frame.
const APPEND_BYTES: usize = 2000;
const BATCH_BYTES: usize = 350;

/// The setup of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) durability: Durability,
    pub(crate) copy_on_write: bool,
    /// Whether commits use direct I/O, if the file is ready for it.
    pub(crate) direct: bool,
}

/// Operations on a new log.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) setting: Setting,
    pub(crate) operations: Vec<Operation>,
}

/// All workloads with this number of operations.
pub(crate) fn workloads(setting: Setting, length: usize) -> Vec<Workload> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        let longer = |shorter: Vec<Operation>| {
            ALL.map(|last| shorter.iter().copied().chain([last]).collect::<Vec<_>>())
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all.into_iter().map(|operations| Workload { setting, operations }).collect()
}

/// Workloads in recycled segments: the first write to such a file, and later writes.
pub(crate) fn recycling_workloads(setting: Setting) -> Vec<Workload> {
    use Operation::{Append, Reopen, Roll, Truncate};
    let beginnings: [&[Operation]; 3] = [
        &[Roll, Truncate, Roll],
        &[Roll, Truncate, Reopen, Append],
        &[Roll, Truncate, Roll, Append],
    ];
    let longer = |beginning: &[Operation], last| {
        let operations = beginning.iter().copied().chain([last]).collect();
        Workload { setting, operations }
    };
    beginnings.iter().flat_map(|beginning| ALL.map(|last| longer(beginning, last))).collect()
}

/// A client with its log. It has no log after a close or a failed open.
pub(crate) struct Client {
    pub(crate) recorder: Recorder,
    setting: Setting,
    pub(crate) shards: usize,
    pub(crate) log: Option<ShardedWal>,
}

impl Client {
    pub(crate) fn new(fs: &SimFileSystem, setting: Setting, ledger: Ledger, shards: usize) -> Self {
        fs.set_copy_on_write(setting.copy_on_write);
        fs.set_direct_io_alignment(setting.direct.then_some(512));
        Self { recorder: Recorder::new(fs, ledger), setting, shards, log: None }
    }

    pub(crate) fn open(&mut self) -> Result<(), OpenError> {
        let config = Config::new(support::DIR)
            .file_system(Arc::new(self.recorder.clone()))
            .shards(self.shards)
            .segment_bytes(4096)
            .durability(self.setting.durability);
        self.log = Some(ShardedWal::open(config)?);
        Ok(())
    }

    /// Runs the operation. Returns whether every answer was `Ok`; only a failing disk
    /// may cause an error.
    pub(crate) fn run(&mut self, operation: Operation) -> bool {
        match operation {
            Operation::Append => self.append(1, APPEND_BYTES),
            Operation::Batch => self.batch(&[1, 2, 3, 1]),
            Operation::Roll => self.append(2, 4200) & self.append(2, 4200) & self.append(2, 10),
            Operation::Flush => self.flush(),
            Operation::Truncate => self.truncate(),
            Operation::Reopen => self.reopen(),
            Operation::Reshard => {
                self.shards = 3 - self.shards;
                self.reopen()
            }
            Operation::Close => self.close(),
        }
    }

    pub(crate) fn append(&self, key: u64, length: usize) -> bool {
        let Some(log) = &self.log else { return true };
        let (payload, index) = {
            let mut ledger = self.recorder.ledger();
            (ledger.next(key, length), ledger.len(key) - 1)
        };
        // An inline commit makes the calls that the shard's thread would make.
        let answer = if index.is_multiple_of(2) {
            log.append(key, payload).wait()
        } else {
            log.append_wait(key, payload)
        };
        let answer = answer.map(drop);
        self.recorder.ledger().answered(key, index, &answer);
        answer.is_ok()
    }

    fn batch(&self, keys: &[u64]) -> bool {
        let Some(log) = &self.log else { return true };
        let (records, parts) = self.recorder.ledger().begin_batch(log, keys, BATCH_BYTES);
        let answer = log.append_batch(records).wait();
        self.recorder.ledger().batch_answered(&parts, answer.as_ref().err());
        answer.is_ok()
    }

    fn flush(&self) -> bool {
        let Some(log) = &self.log else { return true };
        let flushed = log.flush().wait().is_ok();
        if flushed && self.recorder.sim().fired() == 0 {
            self.recorder.ledger().flushed();
        }
        flushed
    }

    fn truncate(&self) -> bool {
        let Some(log) = &self.log else { return true };
        let Ok(found) = try_replayed(log) else { return false };
        let checkpoint = log.durable_checkpoint();
        let below = found.below(&checkpoint);
        self.recorder.ledger().maybe_truncated(&below);
        let truncated = log.truncate_before(&checkpoint).is_ok();
        if truncated {
            self.recorder.ledger().truncated(&below);
        }
        truncated
    }

    fn reopen(&mut self) -> bool {
        self.log = None;
        self.open().is_ok()
    }

    fn close(&mut self) -> bool {
        let Some(log) = self.log.take() else { return true };
        let closed = log.close().is_ok();
        if closed && self.recorder.sim().fired() == 0 {
            self.recorder.ledger().flushed();
        }
        closed
    }
}
