//! The holds of an open log: what each of them keeps, and whether it is beyond its limits.
//!
//! It knows whole segments and positions. It does not know frames, nor how a segment is
//! deleted.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::{Checkpoint, CheckpointError, LogId, Reach};
use crate::error::{Cause, HoldError, TruncateError, means_full};
use crate::fs::FileSystem;
use crate::layout::dir_lock::Lock;
use crate::layout::hold_file::{
    self, HOLDS_MAX, HoldFile, HoldLimit, HoldLimits, HoldPolicy, is_hold_name,
};
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::StoreError;
use crate::segment::catalogue::{Catalogue, SegmentMeta};
use crate::space::free_space::FreeSpaceMonitor;
use crate::trace;
use crate::util::sync::{Arc, Mutex, MutexGuard};

/// A named position of a log that truncations respect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// The hold's name.
    pub name: String,
    /// Records at or above it are kept, unless the hold was dropped.
    pub checkpoint: Checkpoint,
    /// Its limits.
    pub limits: HoldLimits,
    /// Whether it keeps anything.
    pub state: HoldState,
    /// The number of full segments that hold records at or above the position.
    pub segments: u64,
    /// The bytes of these segments. The segments that appends go to do not count.
    pub bytes: u64,
    /// Time since the oldest of these segments was last written. `None` if there is none, or if
    /// the file system does not report it.
    pub age: Option<Duration>,
}

/// Whether a hold keeps anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HoldState {
    /// Records at or above the position are kept.
    Held,
    /// It was dropped because it exceeded this limit. It keeps nothing.
    Dropped(HoldLimit),
    /// The records at the position are gone, although the hold was not dropped: its file is
    /// older than the log. What is left above the position is kept.
    Truncated,
}

/// What a hold kept from a truncation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HeldBack {
    /// The hold's name.
    pub name: String,
    /// The number of full segments below the truncation's end that it keeps. Another hold may
    /// keep them too.
    pub segments: u64,
    /// The bytes of these segments.
    pub bytes: u64,
}

/// The segments of one shard, of any generation.
#[derive(Clone, Debug)]
pub(crate) struct HeldShard {
    pub(crate) shard_dir: ShardDir,
    pub(crate) segments: Catalogue,
}

/// The full segments that a position needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    segments: u64,
    bytes: u64,
}

impl HeldShard {
    fn below(&self, checkpoint: &Checkpoint) -> u64 {
        checkpoint.below(self.shard_dir.identity.generation, self.shard_dir.identity.shard)
    }

    /// Adds the full segments with records at or above `from` that lie below `to`. Returns the
    /// oldest.
    fn add_need(&self, need: &mut Need, from: &Checkpoint, to: u64) -> Option<SegmentMeta> {
        let from = self.below(from);
        let is_needed =
            |meta: &&SegmentMeta| meta.next_sequence.is_some_and(|next| next > from && next <= to);
        let segments = self.segments.lock();
        let mut needed = segments.iter().filter(is_needed).copied();
        let oldest = needed.next();
        for meta in oldest.into_iter().chain(needed) {
            need.segments += 1;
            need.bytes += meta.end;
        }
        oldest
    }

    /// Time since a segment was last written, if the file system reports it.
    fn age(&self, segment: &SegmentMeta) -> Option<Duration> {
        let ShardDir { fs, .. } = &self.shard_dir;
        let modified = fs.modified(&self.shard_dir.path(segment.number)).ok().flatten()?;
        Some(fs.time().duration_since(modified).unwrap_or_default())
    }
}

/// What a position keeps in these shards, and the age of the oldest of it.
pub(crate) fn need_of(
    shards: &[HeldShard],
    checkpoint: &Checkpoint,
    with_age: bool,
) -> (Need, Option<Duration>) {
    let (mut need, mut age) = (Need::default(), None);
    for shard in shards {
        let oldest = shard.add_need(&mut need, checkpoint, u64::MAX);
        age = age.max(oldest.filter(|_| with_age).and_then(|oldest| shard.age(&oldest)));
    }
    (need, age)
}

/// Describes a hold of the log that has these shards.
pub(crate) fn describe(hold: &HoldFile, shards: &[HeldShard], reach: &Reach) -> Holder {
    let HoldFile { name, checkpoint, limits, dropped } = hold.clone();
    let (Need { segments, bytes }, age) = match dropped {
        Some(_) => Default::default(),
        None => need_of(shards, &checkpoint, true),
    };
    let is_gone = matches!(reach.check_kept(&checkpoint), Err(CheckpointError::Truncated { .. }));
    let state = match dropped {
        Some(limit) => HoldState::Dropped(limit),
        None if is_gone => HoldState::Truncated,
        None => HoldState::Held,
    };
    Holder { name, checkpoint, limits, state, segments, bytes, age }
}

/// The holds of an open log.
#[derive(Debug)]
pub(crate) struct Holds {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    log: LogId,
    shards: Vec<HeldShard>,
    space: Arc<FreeSpaceMonitor>,
    /// R6 HOLD: held while a hold changes, and while a truncation stores its marks. So no
    /// truncation passes a hold that was acknowledged. Never held while a thread waits for a
    /// commit.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    holds: BTreeMap<String, HoldFile>,
    /// `None` once the log is closed.
    lock: Option<Lock>,
    /// Whether a sync of a hold or of a truncation mark has failed: the disk may have the old one
    /// or the new one, and a second sync proves nothing.
    is_uncertain: bool,
}

impl State {
    /// The holds that were not dropped.
    fn held(&self) -> impl Iterator<Item = &HoldFile> {
        self.holds.values().filter(|hold| hold.dropped.is_none())
    }

    fn check_writable(&self, dir: &std::path::Path) -> Result<(), HoldError> {
        if self.lock.is_none() {
            return Err(HoldError::Closed);
        }
        if self.is_uncertain {
            let failed = "an earlier hold or truncation could not be synced; reopen the log";
            return Err(HoldError::io("changing a hold of", dir)(io::Error::other(failed)));
        }
        Ok(())
    }
}

/// What an open has found, for [`Holds::new`].
pub(crate) struct HoldParts {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) holds: Vec<HoldFile>,
    pub(crate) shards: Vec<HeldShard>,
    pub(crate) space: Arc<FreeSpaceMonitor>,
    pub(crate) lock: Lock,
}

impl Holds {
    pub(crate) fn new(parts: HoldParts) -> Self {
        let HoldParts { fs, dir, log, holds, shards, space, lock } = parts;
        let holds = holds.into_iter().map(|hold| (hold.name.clone(), hold)).collect();
        let state = Mutex::new(State { holds, lock: Some(lock), is_uncertain: false });
        let holds = Self { fs, dir, log, shards, space, state };
        holds.check();
        holds
    }

    /// Sets a hold, or moves it. `check` says whether the log has every record from a checkpoint
    /// on. It runs while no truncation stores a mark.
    ///
    /// # Errors
    /// See [`HoldError`].
    pub(crate) fn set(
        &self,
        hold: HoldFile,
        check: impl FnOnce(&Checkpoint) -> Result<(), CheckpointError>,
    ) -> Result<(), HoldError> {
        if !is_hold_name(&hold.name) {
            return Err(HoldError::InvalidName { name: hold.name });
        }
        self.change(|_| Ok(hold), check)
    }

    /// Moves a hold forward, with the limits that it has. Otherwise like [`Holds::set`].
    ///
    /// # Errors
    /// See [`HoldError`].
    pub(crate) fn advance(
        &self,
        name: &str,
        checkpoint: &Checkpoint,
        check: impl FnOnce(&Checkpoint) -> Result<(), CheckpointError>,
    ) -> Result<(), HoldError> {
        let moved = |state: &State| match state.holds.get(name) {
            None => Err(HoldError::NoSuchHold { name: name.to_owned() }),
            Some(HoldFile { dropped: Some(_), .. }) => {
                Err(HoldError::Dropped { name: name.to_owned() })
            }
            Some(hold) => Ok(HoldFile { checkpoint: checkpoint.clone(), ..hold.clone() }),
        };
        self.change(moved, check)
    }

    fn change(
        &self,
        make: impl FnOnce(&State) -> Result<HoldFile, HoldError>,
        check: impl FnOnce(&Checkpoint) -> Result<(), CheckpointError>,
    ) -> Result<(), HoldError> {
        let mut state = self.state.lock();
        state.check_writable(&self.dir)?;
        let hold = make(&state)?;
        check(&hold.checkpoint).map_err(HoldError::Checkpoint)?;
        self.check_clock(&hold.limits)?;
        match state.holds.get(&hold.name) {
            None if state.holds.len() >= HOLDS_MAX => {
                return Err(HoldError::TooMany { holds: state.holds.len() });
            }
            Some(old) if old.dropped.is_none() && !hold.checkpoint.reaches(&old.checkpoint) => {
                let at = old.checkpoint.clone();
                return Err(HoldError::MovesBack { name: hold.name, at });
            }
            _ => {}
        }
        let stored = self.store(&mut state, hold);
        self.refresh(&state);
        stored.map_err(HoldError::io("storing a hold in", &self.dir))
    }

    /// Removes a hold durably. Needs no room.
    ///
    /// # Errors
    /// See [`HoldError`].
    pub(crate) fn release(&self, name: &str) -> Result<(), HoldError> {
        let mut state = self.state.lock();
        state.check_writable(&self.dir)?;
        if !state.holds.contains_key(name) {
            return Err(HoldError::NoSuchHold { name: name.to_owned() });
        }
        let removed = self.remove(&mut state, name);
        self.refresh(&state);
        removed.map_err(HoldError::io("releasing a hold of", &self.dir))
    }

    /// Lists the holds, sorted by name.
    pub(crate) fn list(&self, reach: &Reach) -> Vec<Holder> {
        let state = self.state.lock();
        state.holds.values().map(|hold| describe(hold, &self.shards, reach)).collect()
    }

    /// The full segments of the log, and those that appends go to.
    pub(crate) fn shards(&self) -> &[HeldShard] {
        &self.shards
    }

    /// Refuses every later change. The log's directory may be unlocked after this.
    pub(crate) fn close(&self) {
        self.state.lock().lock = None;
    }

    /// Checks the limits beyond which appends are refused. Does not block: the housekeeping
    /// calls it, and a truncation may wait for the housekeeping.
    pub(crate) fn check(&self) {
        if let Some(state) = self.state.try_lock() {
            self.refresh(&state);
        }
    }

    /// Locks the holds for a truncation that stores its marks.
    pub(crate) fn lock(&self) -> LockedHolds<'_> {
        LockedHolds { holds: self, state: self.state.lock() }
    }

    /// A limit in age needs a file system that reports when a file was written.
    fn check_clock(&self, limits: &HoldLimits) -> Result<(), HoldError> {
        let path = self.dir.join("MANIFEST");
        if limits.max_age.is_none() {
            return Ok(());
        }
        let error = HoldError::io("reading the time of", &path);
        match self.fs.modified(&path) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(error(io::ErrorKind::Unsupported.into())),
            Err(failed) => Err(error(failed)),
        }
    }

    /// Stores a hold. If there is no room, deletes recycled segments and tries again.
    fn store(&self, state: &mut State, hold: HoldFile) -> io::Result<()> {
        let store = || hold_file::store(self.fs.as_ref(), &self.dir, self.log, &hold);
        let stored = match store() {
            Err(StoreError::Unchanged(error)) if means_full(&error) => {
                let shards = self.shards.iter();
                shards.for_each(|shard| shard.shard_dir.recycler.delete_if_scarce(true));
                store()
            }
            stored => stored,
        };
        let is_held = state.held().any(|old| old.name == hold.name);
        let (is_stored, result) = match stored {
            Ok(()) => (true, Ok(())),
            Err(StoreError::Unchanged(error)) => (false, Err(error)),
            // Go on with the one that keeps more. A hold moves forward only.
            Err(StoreError::Unknown(error)) => {
                state.is_uncertain = true;
                (!is_held, Err(error))
            }
        };
        if is_stored {
            state.holds.insert(hold.name.clone(), hold);
        }
        result
    }

    fn remove(&self, state: &mut State, name: &str) -> io::Result<()> {
        match hold_file::remove(self.fs.as_ref(), &self.dir, name) {
            Ok(()) => {
                state.holds.remove(name);
                Ok(())
            }
            Err(StoreError::Unchanged(error)) => Err(error),
            Err(StoreError::Unknown(error)) => {
                state.is_uncertain = true;
                Err(error)
            }
        }
    }

    /// The limit that a hold exceeds, what it keeps, and what it may keep.
    fn exceeded(&self, hold: &HoldFile) -> Option<(HoldLimit, u64, u64)> {
        let HoldLimits { max_bytes, max_age, .. } = hold.limits;
        if max_bytes.is_none() && max_age.is_none() {
            return None;
        }
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let (need, age) = need_of(&self.shards, &hold.checkpoint, max_age.is_some());
        let bytes = max_bytes.filter(|max| need.bytes > *max);
        let bytes = bytes.map(|max| (HoldLimit::Bytes, need.bytes, max));
        let age = max_age.zip(age).filter(|(max, age)| age > max);
        bytes.or(age.map(|(max, age)| (HoldLimit::Age, millis(age), millis(max))))
    }

    /// Lets appends be refused while a hold is beyond its limits.
    fn refresh(&self, state: &State) {
        let refuses = |hold: &&HoldFile| hold.limits.beyond == HoldPolicy::RefuseAppends;
        let refusing = state.held().filter(refuses).find_map(|hold| {
            let (limit, found, max) = self.exceeded(hold)?;
            let limit = match limit {
                HoldLimit::Bytes => "bytes of full segments",
                HoldLimit::Age => "milliseconds",
            };
            Some(Cause::HoldLimit { hold: hold.name.as_str().into(), limit, found, max })
        });
        self.space.set_hold_limit(refusing);
    }
}

/// The holds, while none of them can change.
pub(crate) struct LockedHolds<'a> {
    holds: &'a Holds,
    state: MutexGuard<'a, State>,
}

impl LockedHolds<'_> {
    /// R6 HOLD: refuses every later change, because it is not known what is truncated.
    pub(crate) fn refuse_changes(&mut self) {
        self.state.is_uncertain = true;
    }

    /// What a hold keeps from a truncation at `checkpoint`.
    fn kept_from(&self, hold: &HoldFile, checkpoint: &Checkpoint) -> Need {
        let mut need = Need::default();
        for shard in &self.holds.shards {
            shard.add_need(&mut need, &hold.checkpoint, shard.below(checkpoint));
        }
        need
    }

    /// Drops, durably, the holds that are in the way of a truncation at `checkpoint`, exceed a
    /// limit, and are to be dropped then. Returns their names. On a full disk it removes their
    /// files instead, which needs no room.
    ///
    /// # Errors
    /// A hold could not be dropped. It still keeps what it kept.
    pub(crate) fn drop_beyond(
        &mut self,
        checkpoint: &Checkpoint,
    ) -> Result<Vec<String>, TruncateError> {
        let mut names = Vec::new();
        // After a failed sync nothing that is stored counts, so no hold is dropped.
        let held = self.state.held().filter(|_| !self.state.is_uncertain);
        let may_go = |hold: &&HoldFile| {
            hold.limits.beyond == HoldPolicy::Drop && self.kept_from(hold, checkpoint).segments > 0
        };
        let beyond = held.filter(may_go).filter_map(|hold| {
            let (limit, ..) = self.holds.exceeded(hold)?;
            Some(HoldFile { dropped: Some(limit), ..hold.clone() })
        });
        for hold in beyond.collect::<Vec<_>>() {
            let name = hold.name.clone();
            let dropped = match self.holds.store(&mut self.state, hold) {
                Err(error) if means_full(&error) => self.holds.remove(&mut self.state, &name),
                stored => stored,
            };
            dropped.map_err(TruncateError::io("dropping a hold of", &self.holds.dir))?;
            trace::hold_dropped(&name);
            names.push(name);
        }
        Ok(names)
    }

    /// What each hold keeps from a truncation at `checkpoint`.
    pub(crate) fn kept(&self, checkpoint: &Checkpoint) -> Vec<HeldBack> {
        let kept = self.state.held().map(|hold| (hold, self.kept_from(hold, checkpoint)));
        let kept = kept.filter(|(_, need)| need.segments > 0);
        let kept = kept.map(|(hold, Need { segments, bytes })| HeldBack {
            name: hold.name.clone(),
            segments,
            bytes,
        });
        kept.collect()
    }

    /// R6 HOLD: the sequence of a shard below which no hold needs a record.
    pub(crate) fn below(&self, generation: u32, shard: u32) -> u64 {
        let below = self.state.held().map(|hold| hold.checkpoint.below(generation, shard));
        below.min().unwrap_or(u64::MAX)
    }

    /// The oldest generation of a hold, if there is a hold. Later generations stay, even if they
    /// are empty: the hold's position must stay valid.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.state.held().map(|hold| hold.checkpoint.generation()).min()
    }
}
