//! The `shardwal` command: verifies, dumps, follows, repairs, backs up and truncates
//! logs, lists holds, and measures disks.
//!
//! Exit code 0 is success, and 1 is a corrupted log. 2 is a wrong command line, or
//! an error of reading or writing. A closed output pipe is no error. The command
//! uses the library's public interface only.

mod backup;
mod bench;
mod dump;
mod follow;
mod holds;
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
#[cfg(unix)]
use std::sync::Arc;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Append to a new log at full speed, and print throughput and latency.
    /// Deletes the log afterwards
    Bench(bench::Settings),
    /// Measure a disk and logs on it for two minutes, and recommend a Config.
    /// Gives a reason for each setting: shards, queue and commit limits. Deletes
    /// its logs afterwards
    Tune(tune::Settings),
    /// Check a whole log, and print what it holds. Exits with 0 if the log is
    /// intact; a torn write at its end is reported, but is no corruption. Exits
    /// with 1 if durable data is corrupted, and with 2 if there is no log or this
    /// version cannot read it. Works beside a writer and on a read-only mount
    #[command(visible_alias = "inspect")]
    Verify {
        /// The log's directory
        dir: PathBuf,
        /// Print one JSON object, with the field `verdict`
        #[arg(long)]
        json: bool,
    },
    /// Rewrite the corrupted segments of a log without the unreadable records, so
    /// that it opens again. First try to restore the log from a copy: that loses
    /// nothing. Exits with 0 if the log is repaired or was intact, with 2 otherwise
    Repair {
        /// The log's directory. The log must be closed
        dir: PathBuf,
        /// The directory for copies of the replaced segments and for the report
        #[arg(long, value_name = "OUT")]
        quarantine: PathBuf,
        /// Print what a repair would do, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Copy a log to a new directory, while a writer may append to it. Verifies the
    /// copy before it gets its name. Prints the checkpoint up to which it goes
    Backup {
        /// The log's directory
        dir: PathBuf,
        /// The new directory for the copy. It must not exist
        to: PathBuf,
        /// Copy every byte, instead of sharing blocks or files with the log
        #[arg(long)]
        copy: bool,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Delete the records below a checkpoint from a closed log. Works on a full
    /// disk, and keeps the number of shards
    Truncate {
        /// The log's directory
        dir: PathBuf,
        #[command(flatten)]
        before: truncate::Before,
        /// Print the report as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the holds of a log: which positions its truncations respect, and how much
    /// each keeps. Reads only, and works beside a writer
    Holds {
        /// The log's directory
        dir: PathBuf,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Release a hold of a closed log. Deletes no segment: the next truncation does
    Release {
        /// The log's directory
        dir: PathBuf,
        /// The hold's name
        name: String,
    },
    /// Print one line per record: generation, shard, sequence, key, payload length,
    /// payload in hexadecimal
    Dump {
        /// The log's directory
        dir: PathBuf,
        /// Print only records with this series key
        #[arg(long)]
        key: Option<u64>,
        /// Print at most this number of records
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Print durable records as they come, one line each as `dump` does. Works beside a
    /// writer and on a read-only mount. The last commit of a writer is printed after its next
    /// one, or about a second later
    Follow {
        /// The log's directory
        dir: PathBuf,
        #[command(flatten)]
        settings: follow::Settings,
    },
}

/// How a command ended.
enum Outcome {
    Done,
    Corrupted,
}

type Failed = Box<dyn Error + Send + Sync>;
type Ended = Result<Outcome, Failed>;

/// Lets a write beyond a file size limit fail, where the signal's default would end the
/// process. If the handler cannot be set, the default stays.
#[cfg(unix)]
fn ignore_file_size_signal() {
    use signal_hook::{consts::SIGXFSZ, flag};

    drop(flag::register(SIGXFSZ, Arc::default()));
}

#[cfg(not(unix))]
fn ignore_file_size_signal() {}

fn main() -> ExitCode {
    ignore_file_size_signal();
    let ended = match Arguments::parse().command {
        Command::Bench(settings) => bench::run(&settings),
        Command::Tune(settings) => tune::run(&settings),
        Command::Verify { dir, json } => verify::run(&dir, json),
        Command::Repair { dir, quarantine, dry_run, json } => {
            repair::run(&dir, &quarantine, dry_run, json)
        }
        Command::Backup { dir, to, copy, json } => backup::run(&dir, &to, !copy, json),
        Command::Truncate { dir, before, json } => truncate::run(&dir, before, json),
        Command::Holds { dir, json } => holds::list(&dir, json),
        Command::Release { dir, name } => holds::release(&dir, &name),
        Command::Dump { dir, key, limit } => dump::run(&dir, key, limit),
        Command::Follow { dir, settings } => follow::run(&dir, &settings),
    };
    match ended {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Corrupted) => ExitCode::from(1),
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

/// Parses the number of seconds to measure.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let is_sensible = (0.01..=86_400.0).contains(&seconds);
    if is_sensible { Ok(seconds) } else { Err("must be 0.01 to 86400".into()) }
}

/// Prints an error to stderr. Ignores a failure to print.
fn complain(what: &str) {
    drop(writeln!(io::stderr(), "shardwal: {what}"));
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
