//! okaywal 0.3: a file behind a mutex, entries of chunks, syncs shared by leader and followers
//! (`LogFile::synchronize_locked`). It always makes an fdatasync before the answer. It is blocking,
//! without keys or shards; sixteen shards are sixteen logs.
//!
//! Settings: no checkpoint, because the log must keep the records for verification, and a
//! checkpoint during the run would cost time. A preallocated file, which it fills with zeros at
//! open, before the clock starts. A buffer of 256 KiB, so that a batch is one write.

use std::io;
use std::path::Path;

use okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, SegmentReader, WriteAheadLog};

use super::{Many, replay_parts, unkeyed};
use crate::peer::{Found, Kind, Peer, Record};

/// okaywal as a peer.
pub const KIND: Kind = Kind {
    name: "okaywal 0.3",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: false,
    pipelines: false,
    open: |dir, logs, _| Many::open(dir, logs, false, |dir| Log(open(dir, logs, LogVoid))),
    replay: |dir, logs, found, opened| {
        // It yields the records while it opens.
        opened();
        replay_parts(dir, logs, |dir| {
            open(dir, logs, Recovered(found.clone())).shutdown().expect("the log ends");
        });
    },
};

/// 0.4 s at the highest rate seen of this peer.
const PREALLOCATED_BYTES: u32 = 128 << 20;

fn open(dir: &Path, logs: usize, manager: impl LogManager) -> WriteAheadLog {
    let logs = u32::try_from(logs).expect("few");
    Configuration::default_for(dir)
        .preallocate_bytes(PREALLOCATED_BYTES / logs)
        .checkpoint_after_bytes(u64::MAX)
        .buffer_bytes(256 << 10)
        .open(manager)
        .expect("the log opens")
}

struct Log(WriteAheadLog);

impl Peer for Log {
    fn append(&self, thread: usize, record: Record) {
        self.append_batch(thread, &[record]);
    }

    /// Appends one entry with a chunk per record. It is whole or absent.
    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let mut entry = self.0.begin_entry().expect("an entry begins");
        for record in records {
            entry.write_chunk(&super::keyed(*record)).expect("the chunk is written");
        }
        entry.commit().expect("the entry is written");
    }

    fn close(self: Box<Self>) {
        self.0.shutdown().expect("the log ends");
    }
}

/// Receives what is recovered at open.
struct Recovered(Found);

impl std::fmt::Debug for Recovered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Recovered")
    }
}

impl LogManager for Recovered {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        for chunk in entry.read_all_chunks()?.into_iter().flatten() {
            let (key, payload) = unkeyed(&chunk);
            (self.0)(key, payload);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}
