//! The `shardwal` command: measures a disk with logs of its own and says how to
//! configure one there, looks at a log without changing it, copies it, truncates
//! and repairs it.
//!
//! Ends with 0, with 1 where a log is damaged, with 2 where the command line
//! is wrong or something cannot be read or written. Whoever closes the pipe
//! early has seen enough: that is no error.

mod backup;
mod bench;
mod dump;
mod load;
mod repair;
mod scratch;
mod truncate;
mod tune;
mod verify;

use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Append to a new log as fast as it goes, and tell how fast that was
    Bench(bench::Settings),
    /// Measure a disk and logs on it for two minutes, and recommend a Config:
    /// shards, queue and commit limits, each with its reason. `--dir` must be
    /// empty or not there yet, and is left so
    Tune(tune::Settings),
    /// Tell what stands in a log, and whether it is whole: 0 if it is (a write
    /// that never came whole to the disk is told), 1 if durable data is
    /// damaged, 2 if there is no log or this version cannot read it. Works
    /// beside a writer and on a read-only mount
    #[command(visible_alias = "inspect")]
    Verify {
        /// The log
        dir: PathBuf,
        /// Print one JSON object, `verdict` among its fields
        #[arg(long)]
        json: bool,
    },
    /// Write the damaged segments of a log anew, without what cannot be read,
    /// so that it opens: 0 if that is done or there was nothing to do, 2 if it
    /// cannot be. Restoring them from a copy loses nothing; try that first
    Repair {
        /// The log, which nobody has open
        dir: PathBuf,
        /// Where what is replaced is copied to, with a report of what is lost
        #[arg(long, value_name = "OUT")]
        quarantine: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copy a log, which may be written to meanwhile, to a new folder. The copy is
    /// read back before it gets its name. Prints the checkpoint that it reaches
    Backup {
        /// The log
        dir: PathBuf,
        /// The copy, which must not be there yet
        to: PathBuf,
        /// Copy every byte, even where the file system could share blocks or files
        #[arg(long)]
        copy: bool,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Delete what a checkpoint covers from a log that nobody has open. Works on a
    /// full disk, and keeps the number of shards
    Truncate {
        /// The log
        dir: PathBuf,
        #[command(flatten)]
        before: truncate::Before,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a record a line: generation, shard, sequence, key, length, payload in hex
    Dump {
        /// The log
        dir: PathBuf,
        /// Only the records of this series key
        #[arg(long)]
        key: Option<u64>,
        /// At most so many records
        #[arg(long)]
        limit: Option<u64>,
    },
}

/// How a command ended.
enum Outcome {
    Done,
    Damaged,
}

type Failed = Box<dyn Error + Send + Sync>;
type Ended = Result<Outcome, Failed>;

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Bench(settings) => bench::run(&settings),
        Command::Tune(settings) => tune::run(&settings),
        Command::Verify { dir, json } => verify::run(&dir, json),
        Command::Repair { dir, quarantine, dry_run, json } => {
            repair::run(&dir, &quarantine, dry_run, json)
        }
        Command::Backup { dir, to, copy, json } => backup::run(&dir, &to, !copy, json),
        Command::Truncate { dir, before, json } => truncate::run(&dir, before, json),
        Command::Dump { dir, key, limit } => dump::run(&dir, key, limit),
    };
    match ended {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(1),
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

/// How long to measure, on the command line.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let is_sensible = (0.01..=86_400.0).contains(&seconds);
    if is_sensible { Ok(seconds) } else { Err("may be 0.01 to 86400".into()) }
}

/// Tells people what is wrong; where even that fails there is nobody to tell.
fn complain(what: &str) {
    drop(writeln!(io::stderr(), "shardwal: {what}"));
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
