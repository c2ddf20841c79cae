//! `shardwal-ingest demo`: ingests a recorded Prometheus remote-write stream, is killed part-way,
//! and proves that nothing acknowledged was lost.
//!
//! ```text
//! cargo run --release -p shardwal-ingest
//! cargo run --release -p shardwal-ingest -- --durability interval:10ms --repeat 20
//! ```
//!
//! A child process logs the samples from several threads, and reports to its parent which records
//! the log has acknowledged. Part-way the parent kills it with SIGKILL and replays the log. It
//! checks that every acknowledged record is present and equal. A second child continues where the
//! log ends. Then the parent checks all samples. The program exits with 0 only if every sample is
//! present and equal.
//!
//! The path of the data: `stream` (requests) -> `workload` (records in order) -> `record`
//! (payloads) -> `child` (appends) -> `acknowledgement` (what is certain) -> `check` (the oracle).

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use shardwal::{ReplayOptions, ReplayProgress, ShardedWal};
use tempfile::TempDir;

use crate::diagnostics::{say, say_error};
use crate::log_arguments::LogArguments;
use crate::progress::Progress;
use crate::{Failure, RECORDING, stream, with_causes};
use check::{Census, Tally};
use supervisor::IngestProcess;
use workload::Workload;

mod acknowledgement;
mod check;
mod child;
mod record;
mod supervisor;
mod workload;

/// Number of samples in the recording of the repository.
const KNOWN_SAMPLES: u64 = 334_000;

/// Share of the workload that is acknowledged when the first child is killed.
const KILL_AT_PERCENT: u64 = 45;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: LogArguments,

    /// Number of client threads that append, and of threads that replay
    #[arg(long, default_value = "4")]
    threads: NonZero<usize>,

    /// Directory for the log, which must be new or empty, and is kept [default: a temporary
    /// directory beside this program, removed on success]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Number of times to log the stream, each time with later timestamps
    #[arg(long, default_value = "1")]
    repeat: NonZero<u32>,

    /// The recording: requests, each a little-endian u32 length and a body
    #[arg(long, default_value = RECORDING)]
    stream: PathBuf,

    /// Run as the process that ingests and is killed; the parent passes this
    #[arg(long, hide = true, requires = "dir")]
    pub(crate) child: bool,
}

impl Arguments {
    /// Adds the arguments of a child that ingests into `directory` to `command`.
    fn pass_to_child(&self, command: &mut Command, directory: &Path) {
        command.args(["demo", "--child"]);
        self.log.pass_on(command);
        command
            .args(["--threads", &self.threads.to_string()])
            .args(["--repeat", &self.repeat.to_string()])
            .arg("--dir")
            .arg(directory)
            .arg("--stream")
            .arg(&self.stream);
    }
}

/// Runs the demonstration, or the child that it starts.
///
/// # Errors
/// An acknowledged sample is missing, or a process, a file or the log fails.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.child { run_child(arguments) } else { run_parent(arguments) }
}

fn run_child(arguments: &Arguments) -> Result<(), Failure> {
    let report = child::ingest(arguments, &read_workload(arguments)?)?;
    say_error!("{report}");
    Ok(())
}

fn run_parent(arguments: &Arguments) -> Result<(), Failure> {
    let workload = read_workload(arguments)?;
    say!(
        "{} samples of {} series in {} records; {} threads, {} shards, durability {}",
        workload.sample_count(),
        workload.series_count(),
        workload.record_count(),
        arguments.threads,
        arguments.log.shards,
        arguments.log.durability,
    );
    let directory = LogDirectory::prepare(arguments)?;
    match kill_and_recover(arguments, &workload, directory.path()) {
        Ok(()) => directory.remove_if_temporary(),
        Err(failure) => {
            let kept = directory.keep();
            let failure = with_causes(&*failure);
            Err(format!("{failure} (the log is kept in {})", kept.display()).into())
        }
    }
}

/// Ingests, kills the child, checks, resumes, and checks all samples.
fn kill_and_recover(
    arguments: &Arguments,
    workload: &Workload,
    directory: &Path,
) -> Result<(), Failure> {
    let mut tally = Tally::new(workload);
    let kill_at = (workload.sample_count() * KILL_AT_PERCENT / 100).max(1);
    let first = IngestProcess::start(arguments, directory)?;
    let progress = Progress::start("ingest", "samples");
    let status = first.kill_at(kill_at, &mut tally, &progress)?;
    drop(progress);
    let acknowledged = tally.sample_count();
    say!("killed the child ({status}) after {acknowledged} acknowledged samples");

    let survivors = replay(arguments, workload, directory)?;
    survivors.check_acknowledged(&tally)?;
    let survived = survivors.sample_count();
    say!(
        "all {acknowledged} acknowledged samples are present and equal, and {} samples in flight",
        survived - acknowledged
    );

    let mut tally = survivors.into_tally();
    let second = IngestProcess::start(arguments, directory)?;
    let progress = Progress::start("resume", "samples");
    let report = second.finish(&mut tally, &progress)?;
    drop(progress);
    say!("resumed where the log ended: {report}");

    let all = replay(arguments, workload, directory)?;
    all.check_complete()?;
    say!(
        "OK: all {} samples are present and equal ({} series, {} records; {acknowledged} samples \
         acknowledged before SIGKILL)",
        all.sample_count(),
        workload.series_count(),
        all.record_count(),
    );
    Ok(())
}

/// Opens the log as its next owner would, and replays all of it.
fn replay<'workload>(
    arguments: &Arguments,
    workload: &'workload Workload,
    directory: &Path,
) -> Result<Census<'workload>, Failure> {
    let start = Instant::now();
    let log = ShardedWal::open(arguments.log.config(directory))?;
    let census = Census::new(workload);
    let progress = Arc::new(Progress::start("replay", "bytes"));
    let bar = Arc::clone(&progress);
    let options = ReplayOptions::default().threads(arguments.threads.get()).progress(Arc::new(
        move |replay: ReplayProgress| {
            bar.show(replay.bytes_done, replay.bytes_total);
        },
    ));
    log.replay(options, |record| census.take(record.key(), record.payload()))?;
    drop(progress);
    let torn_bytes: u64 = log.recovery().shards.iter().map(|shard| shard.torn_bytes).sum();
    log.close()?;
    say!(
        "opened and replayed {} records in {:.2} s (cut {torn_bytes} torn bytes)",
        census.record_count(),
        start.elapsed().as_secs_f64()
    );
    Ok(census)
}

fn read_workload(arguments: &Arguments) -> Result<Workload, Failure> {
    let workload = Workload::new(stream::read(&arguments.stream)?, arguments.repeat.get())?;
    let expected = KNOWN_SAMPLES * u64::from(arguments.repeat.get());
    if arguments.stream == Path::new(RECORDING) && workload.sample_count() != expected {
        let found = workload.sample_count();
        return Err(format!("the recording holds {found} samples, not {expected}").into());
    }
    Ok(workload)
}

/// The directory of the log.
enum LogDirectory {
    /// Given by the user. It is kept.
    Given(PathBuf),
    /// Made by this program. It is removed on success.
    Temporary(TempDir),
}

impl LogDirectory {
    /// Uses the given directory, or makes a temporary one beside the program. The system's
    /// temporary directory may be in memory, where a sync costs nothing.
    fn prepare(arguments: &Arguments) -> Result<Self, Failure> {
        let Some(given) = &arguments.dir else {
            let program = std::env::current_exe()?;
            let beside = program.parent().unwrap_or(Path::new("."));
            let directory = tempfile::Builder::new().prefix("ingest-log-").tempdir_in(beside)?;
            return Ok(Self::Temporary(directory));
        };
        match fs::read_dir(given).map(|mut names| names.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                let given = given.display();
                return Err(format!("{given} is not empty; give a new or empty directory").into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(given)?,
            Err(error) => return Err(format!("{}: {error}", given.display()).into()),
        }
        Ok(Self::Given(given.clone()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    /// Keeps the log, so that the user can inspect the failure.
    fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.keep(),
        }
    }

    fn remove_if_temporary(self) -> Result<(), Failure> {
        match self {
            Self::Given(_) => Ok(()),
            Self::Temporary(directory) => Ok(directory.close()?),
        }
    }
}
