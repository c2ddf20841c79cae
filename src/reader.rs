//! A log for those who only read: inspection and dumps. Changes nothing, and
//! takes no lock, so it works beside a live writer and on a read-only mount.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, RealDisk};
use crate::error::{Damage, OpenError, ReplayError};
use crate::manifest::Manifest;
use crate::open::{Found, read_shards};
use crate::recovery::RecoveryReport;
use crate::replay::{Record, ReplayOptions, ReplayReport, ShardPlan, replay};
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
        let (found, report) = read_beside_a_writer(disk.as_ref(), &dir, &manifest)?;
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

/// Beside a live writer, bytes change between two looks at them, which can seem
/// damage. What is damaged is so at every look.
fn read_beside_a_writer(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
) -> Result<(Vec<Found>, RecoveryReport), OpenError> {
    let mut last: Vec<Damage> = Vec::new();
    loop {
        let (found, report) = read_shards(disk, dir, manifest)?;
        let damage: Vec<_> = report.damage().cloned().collect();
        let is_place = |a: &Damage, b: &Damage| (&a.file, a.offset) == (&b.file, b.offset);
        if damage.iter().all(|now| last.iter().any(|before| is_place(now, before))) {
            return Ok((found, report));
        }
        last = damage;
    }
}
