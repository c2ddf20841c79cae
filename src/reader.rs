//! A log for those who only read: inspection and dumps. Changes nothing, and
//! takes no lock, so it works beside a live writer and on a read-only mount.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode, RealDisk};
use crate::error::{Damage, OpenError, ReplayError};
use crate::frame_reader::FrameReader;
use crate::manifest::Manifest;
use crate::open::{Found, read_shards};
use crate::recovery::{Folder, RecoveryReport, survey};
use crate::replay::{Record, ReplayOptions, ReplayReport, ShardPlan, replay};
use crate::segment::segment_number;
use crate::sync::Arc;

/// A log opened for reading only.
///
/// Beside a live writer it sees what had been written when it was opened, and
/// the last commit perhaps in part, as a torn tail.
#[derive(Debug)]
pub struct LogReader {
    disk: Arc<dyn Disk>,
    plans: Vec<Vec<ShardPlan>>,
    report: RecoveryReport,
}

impl LogReader {
    /// Reads and checks the whole log in `dir`. Damage is told by the report,
    /// and replay stops before it.
    ///
    /// # Errors
    /// `NotALog` where there is no manifest, else as for
    /// [`crate::ShardedWal::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), dir)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir: PathBuf = dir.as_ref().to_path_buf();
        let manifest = Manifest::load(disk.as_ref(), &dir)?
            .ok_or_else(|| OpenError::NotALog { dir: dir.clone() })?;
        let (mut found, _) = read_shards(disk.as_ref(), &dir, &manifest)?;
        found.iter_mut().try_for_each(|found| look_again(disk.as_ref(), found))?;
        let report = RecoveryReport { shards: found.iter().map(Found::report).collect() };
        let mut plans: Vec<Vec<ShardPlan>> = Vec::new();
        plans.resize_with(manifest.generations.len(), Vec::new);
        for found in found {
            let number = found.folder.identity.generation;
            let at = manifest.generations.partition_point(|known| known.number < number);
            plans[at].push(ShardPlan {
                from: found.folder.purged_below,
                folder: found.folder,
                segments: found.survey.segments,
                to: found.survey.next_sequence,
            });
        }
        Ok(Self { disk, plans, report })
    }

    /// What stands in the log.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// As [`crate::ShardedWal::replay`], of what stood in the log at open.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.disk.as_ref(), self.plans.clone(), &options, &callback)
    }
}

/// So many looks at a shard decide whether it is damaged.
const LOOKS: usize = 4;

/// Beside a live writer a survey can seem to find damage: it stops where the
/// log ended a moment ago, and then finds frames that were written since. Where
/// reading goes on at a second look, there is none. A segment that was rolled or
/// removed meanwhile takes another survey.
fn look_again(disk: &dyn Disk, found: &mut Found) -> Result<(), OpenError> {
    for _ in 1..LOOKS {
        let Some(damage) = &found.survey.damage else { return Ok(()) };
        if reads_on(disk, &found.folder, damage)? {
            found.survey.damage = None;
            return Ok(());
        }
        found.survey = survey(disk, &found.folder)?;
    }
    Ok(())
}

/// Whether a frame stands where reading stopped.
fn reads_on(disk: &dyn Disk, folder: &Folder, damage: &Damage) -> Result<bool, OpenError> {
    let name = damage.file.file_name().and_then(|name| name.to_str());
    let Some(number) = name.and_then(segment_number) else { return Ok(false) };
    let file = match disk.open(&damage.file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(OpenError::io("opening", &damage.file))?,
    };
    let end = file.len().map_err(OpenError::io("reading the size of", &damage.file))?;
    let mut frames = FrameReader::new(file, folder.seed(number), damage.offset, end, 1 << 16);
    let frame = frames.next().map_err(OpenError::io("reading", &damage.file))?;
    Ok(damage.offset > 0 && frame.is_ok())
}
