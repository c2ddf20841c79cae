//! okaywal 0.3: a file behind a mutex, entries of chunks, syncs shared by
//! leader and followers (`LogFile::synchronize_locked`); fdatasync before the
//! answer, always. No keys, no shards, blocking: sixteen are sixteen logs.
//!
//! Settings. No checkpoint ever: the log must keep what it is verified by, and
//! a checkpoint during the run would cost it. A preallocated file, which it
//! fills with zeros at open, outside the clock. A buffer of 256 KiB, so that
//! a batch is one write.

use std::io;
use std::path::Path;

use okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, SegmentReader, WriteAheadLog};

use super::{Many, replay_parts, unkeyed};
use crate::peer::{Found, Kind, Peer, Record};

/// See the file's words.
pub const KIND: Kind = Kind {
    name: "okaywal 0.3",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: false,
    pipelines: false,
    open: |dir, logs, _| Many::open(dir, logs, false, |dir| Log(open(dir, logs, LogVoid))),
    replay: |dir, logs, found, opened| {
        // It yields what it recovers while it opens.
        opened();
        replay_parts(dir, logs, |dir| {
            open(dir, logs, Recovered(found.clone())).shutdown().expect("the log ends");
        });
    },
};

/// 0.4 s of the most that it was ever seen to write.
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

    /// An entry of as many chunks, which is whole or absent.
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

/// Takes what is recovered at open.
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
