//! [`SingleMutexLog`]: the baseline that the sharded log is measured against. It is one file behind
//! one mutex, with one write and one sync per batch. It implements [`SeriesLog`], so that one
//! benchmark drives both. It keeps the durability promise.
//!
//! Its limits: it cannot distinguish corruption from a torn tail, and ends at the first record with
//! a wrong checksum. Writers wait for each other's syncs. They also wait for a truncation, which
//! copies the rest of the file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use shardwal::Completion;
use shardwal::ReplayOptions;
use shardwal::StateMachine;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::internals::{self, LockedDir, Reach, ShardReach};
use shardwal::internals::{unlink_if_exists, write_full};
use shardwal::{
    AppendError, Cause, CloseError, OpenError, Position, TruncateError, TryAppendError,
};
use shardwal::{BATCH_BYTES_MAX, Config, Durability};
use shardwal::{Checkpoint, CheckpointError, LogId};
use shardwal_timeseries::StorageError;
use shardwal_timeseries::{Machines, Replayed, SeriesLog};
use std::sync::Arc;

use crate::record_file::{
    PIECE_BYTES, RECORD_HEADER_BYTES, Records, encode_header, encode_record_header,
};

/// The only generation. The only shard is 0.
const GENERATION: u32 = 1;

/// A log behind one mutex. Under [`Durability::Interval`] it syncs every batch, because it has no
/// thread that could sync later. It ignores the limits on free disk space.
#[derive(Debug)]
pub struct SingleMutexLog {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    sync: bool,
    state: Mutex<State>,
    /// Holds the lock on the directory. `close` releases it.
    lock: Mutex<Option<Box<dyn FileHandle>>>,
}

struct State {
    /// `None` once the log is closed.
    machine: Option<Box<dyn StateMachine>>,
    fresh: bool,
    file: Box<dyn FileHandle>,
    /// The sequence of the first record in the file, and of the next record.
    first: u64,
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Why the log refuses appends.
    failed: Option<Cause>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("next", &self.next).finish_non_exhaustive()
    }
}

impl SingleMutexLog {
    fn position(sequence: u64) -> Position {
        Position { generation: GENERATION, shard: 0, sequence }
    }

    fn reach(&self, state: &State) -> Reach {
        let (first, end) = (state.first, state.next);
        let shard = ShardReach { generation: GENERATION, shard: 0, first, end };
        Reach { log: self.id(), shards: vec![shard] }
    }
}

impl State {
    fn append(&mut self, sync: bool, key: u64, batch: &[u8]) -> Result<Position, AppendError> {
        let refused = |cause| AppendError::NotWritten { position: None, cause };
        if let Some(cause) = &self.failed {
            return Err(refused(cause.clone()));
        }
        let machine = self.machine.as_mut().ok_or_else(|| refused(Cause::Closed))?;
        // Remains set if the state machine panics. Its state may then include half a batch.
        self.failed = Some(Cause::WriterPanicked);
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER_BYTES, 0);
        machine.encode(std::mem::take(&mut self.fresh), key, batch, &mut self.buffer);
        let stored = &self.buffer[RECORD_HEADER_BYTES..];
        assert!(
            stored.len() <= BATCH_BYTES_MAX,
            "a state machine encoded more than a batch may hold"
        );
        let head = encode_record_header(self.next, stored);
        self.buffer[..RECORD_HEADER_BYTES].copy_from_slice(&head);
        let written = write_full(self.file.as_mut(), &self.buffer, self.end);
        let position = SingleMutexLog::position(self.next);
        match written.and_then(|()| if sync { self.file.sync_data() } else { Ok(()) }) {
            Ok(()) => {
                self.end += self.buffer.len() as u64;
                self.next += 1;
                machine.apply();
                self.failed = None;
                Ok(position)
            }
            Err(error) => Err(self.undo(position, error)),
        }
    }

    /// Undoes a record that failed. If the disk was full, the record is cut off and the log goes
    /// on. After any other error, what reached the disk is unknown, and the log fails.
    fn undo(&mut self, position: Position, error: io::Error) -> AppendError {
        self.fresh = true;
        self.machine.iter_mut().for_each(|machine| machine.rollback());
        if internals::means_full(&error)
            && self.file.set_len(self.end).and_then(|()| self.file.sync_data()).is_ok()
        {
            self.failed = None;
            // The position shows that the record was encoded and rolled back, unlike a record that
            // was refused before.
            let cause = Cause::DiskFull(error.into());
            return AppendError::NotWritten { position: Some(position), cause };
        }
        let cause = Cause::Poisoned(error.into());
        self.failed = Some(cause.clone());
        AppendError::Indeterminate { position, cause }
    }
}

/// The first sequence of the one shard that the checkpoint does not cover.
fn below(checkpoint: &Checkpoint) -> u64 {
    checkpoint.sequences().first().copied().unwrap_or(0)
}

/// Writes a new file with the records from `first` on, and renames it into place, durably. Returns
/// its state: its end and the next sequence.
fn rewrite(
    fs: &dyn FileSystem,
    dir: &Path,
    old: Option<&dyn FileHandle>,
    first: Option<u64>,
) -> io::Result<State> {
    let unfinished = dir.join("records.unfinished");
    unlink_if_exists(fs, &unfinished)?;
    let mut records = old.map(Records::begin).transpose()?.flatten();
    if old.is_some() && records.is_none() {
        // The file was renamed into place when whole, so this is corruption.
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not begin with a header of this version; restore it from a copy",
        ));
    }
    let begins = records.as_ref().map_or(0, |records| records.next);
    let first = first.unwrap_or(begins);
    let mut file = fs.open(&unfinished, OpenMode::CreateNew)?;
    let (mut next, mut end, mut buffer) = (first, 0, encode_header(first).to_vec());
    while let Some((sequence, bytes)) = records.as_mut().map_or(Ok(None), Records::next)? {
        if sequence < first {
            continue;
        }
        buffer.extend_from_slice(&encode_record_header(sequence, &bytes));
        buffer.extend_from_slice(&bytes);
        next = sequence + 1;
        if buffer.len() >= PIECE_BYTES {
            write_full(file.as_mut(), &buffer, end)?;
            end += buffer.len() as u64;
            buffer.clear();
        }
    }
    write_full(file.as_mut(), &buffer, end)?;
    end += buffer.len() as u64;
    file.sync_data()?;
    fs.rename(&unfinished, &dir.join("records"))?;
    fs.sync_dir(dir)?;
    Ok(State { machine: None, fresh: true, file, first, next, end, buffer, failed: None })
}

impl SeriesLog for SingleMutexLog {
    fn open(config: Config, machines: Machines<'_>) -> Result<Self, OpenError> {
        config.validate()?;
        let dir = config.dir().to_path_buf();
        let LockedDir { fs, lock } = internals::create_and_lock(config.get_file_system(), &dir)?;
        let lock = Mutex::new(Some(lock));
        let path = dir.join("records");
        let old = match fs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(internals::open_error("opening", &path))?),
        };
        // Replay what is on the disk, not what is only in the page cache.
        old.iter().for_each(|file| file.drop_cache());
        let state = rewrite(fs.as_ref(), &dir, old.as_deref(), None);
        let mut state = state.map_err(internals::open_error("rewriting", &path))?;
        state.machine = Some(machines(0));
        let sync = config.get_durability() != Durability::Buffered;
        Ok(Self { fs, dir, sync, state: Mutex::new(state), lock })
    }

    fn append(&self, key: u64, batch: Bytes) -> Completion<'_> {
        internals::answered(self.state.lock().append(self.sync, key, &batch))
    }

    fn try_append(&self, key: u64, batch: Bytes) -> Result<Completion<'_>, TryAppendError> {
        match self.state.lock().append(self.sync, key, &batch) {
            Err(AppendError::NotWritten { cause, .. }) => {
                Err(TryAppendError { payload: batch, cause })
            }
            answer => Ok(internals::answered(answer)),
        }
    }

    fn request_snapshot(&self) {
        let mut state = self.state.lock();
        state.fresh = true;
        let next = state.next;
        state.machine.iter_mut().for_each(|machine| machine.snapshot(next));
    }

    fn id(&self) -> LogId {
        LogId::from([0; 16])
    }

    fn generation(&self) -> u32 {
        GENERATION
    }

    fn flush(&self) -> Result<(), AppendError> {
        let mut state = self.state.lock();
        let position = Self::position(state.next);
        let failed = match &state.failed {
            Some(cause) => Some(cause.clone()),
            None => state.file.sync_data().err().map(|error| Cause::Poisoned(error.into())),
        };
        state.failed = failed.clone();
        failed.map_or(Ok(()), |cause| Err(AppendError::Indeterminate { position, cause }))
    }

    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let reach = self.reach(&self.state.lock());
        checkpoint.map_or_else(|| reach.check_whole(), |checkpoint| reach.check_kept(checkpoint))
    }

    fn replay_from(
        &self,
        checkpoint: Option<&Checkpoint>,
        _options: ReplayOptions,
        callback: Replayed<'_>,
    ) -> Result<(), StorageError> {
        let state = self.state.lock();
        let io =
            |source| StorageError::Io { doing: "reading", path: self.dir.join("records"), source };
        if let Some(checkpoint) = checkpoint {
            self.reach(&state).check_kept(checkpoint).map_err(StorageError::Checkpoint)?;
        }
        let below = checkpoint.map_or(0, below);
        let mut records = Records::begin(state.file.as_ref()).map_err(io)?;
        while let Some((sequence, bytes)) =
            records.as_mut().map_or(Ok(None), Records::next).map_err(io)?
        {
            if sequence >= below {
                callback(Self::position(sequence), &bytes)?;
            }
        }
        Ok(())
    }

    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError> {
        let mut state = self.state.lock();
        self.reach(&state).check_position(checkpoint).map_err(TruncateError::Checkpoint)?;
        let below = below(checkpoint);
        if state.failed.is_some() || state.machine.is_none() {
            return Err(TruncateError::Closed);
        }
        let new = rewrite(self.fs.as_ref(), &self.dir, Some(state.file.as_ref()), Some(below));
        match new {
            Ok(new) => {
                let machine = state.machine.take();
                *state = State { machine, fresh: state.fresh, ..new };
                Ok(())
            }
            Err(error) => {
                // Either file may have the name now, so neither may be written.
                state.failed = Some(Cause::Poisoned(Arc::new(io::Error::from(error.kind()))));
                Err(internals::truncate_error("rewriting", &self.dir.join("records"), error))
            }
        }
    }

    fn close(&self) -> Result<(), CloseError> {
        let mut state = self.state.lock();
        let closing = state.machine.take().is_some();
        if closing && state.failed.is_none() {
            let synced = state.file.sync_data();
            state.failed = synced.err().map(|error| Cause::Poisoned(error.into()));
        }
        drop(self.lock.lock().take());
        state.failed.clone().map_or(Ok(()), |cause| Err(CloseError { shard: 0, cause }))
    }
}
