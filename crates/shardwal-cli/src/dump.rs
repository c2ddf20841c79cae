//! `shardwal dump`: prints the records, in the order of a replay with one thread.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use shardwal::{LogReader, Record, ReplayError, ReplayOptions};

use crate::{Ended, Failed, Outcome, complain};

/// Why a dump ends before the log does.
#[derive(Debug)]
enum Stop {
    /// The limit is reached.
    Enough,
    Io(io::Error),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough => f.write_str("the limit is reached"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for Stop {}

pub(crate) fn run(dir: &Path, key: Option<u64>, limit: Option<u64>) -> Ended {
    let reader = LogReader::open(dir)?;
    let lines = Mutex::new(Lines { out: BufWriter::new(io::stdout()), left: limit });
    let replayed = reader.replay(ReplayOptions::default().threads(1), |record| {
        if key.is_some_and(|key| key != record.key()) {
            return Ok(());
        }
        // The mutex is never contended: the replay has one thread.
        lines.lock().unwrap_or_else(PoisonError::into_inner).print(record)
    });
    if let Err(error) = replayed {
        check(error)?;
    }
    lines.into_inner().unwrap_or_else(PoisonError::into_inner).out.flush()?;
    let mut outcome = Outcome::Done;
    for corruption in reader.report().corruption() {
        complain(&corruption.to_string());
        outcome = Outcome::Corrupted;
    }
    Ok(outcome)
}

/// Returns the error that the command reports, in the words of its type. The limit is none.
fn check(error: ReplayError<Stop>) -> Result<(), Failed> {
    match error {
        ReplayError::Callback(Stop::Enough) => Ok(()),
        ReplayError::Callback(Stop::Io(error)) => Err(error.into()),
        ReplayError::Log(error) => Err(error.into()),
        error => Err(error.into()),
    }
}

struct Lines {
    out: BufWriter<io::Stdout>,
    left: Option<u64>,
}

impl Lines {
    fn print(&mut self, record: &Record<'_>) -> Result<(), Stop> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(Stop::Enough)?;
        }
        write_line(&mut self.out, record).map_err(Stop::Io)
    }
}

/// Writes a record as one line of text.
pub(crate) fn write_line(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let at = record.position();
    let (key, payload) = (record.key(), record.payload());
    let length = payload.len();
    write!(out, "{} {} {} {key} {length} ", at.generation, at.shard, at.sequence)?;
    payload.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use shardwal::{Checkpoint, ReplayError};

    use super::{Stop, check};

    /// Regression: such an error was printed as Rust's `Debug` prints it.
    #[test]
    fn a_checkpoint_error_is_reported_in_words() {
        let error = "no checkpoint".parse::<Checkpoint>().expect_err("it is none");
        let words = error.to_string();
        let reported = check(ReplayError::Checkpoint(error)).expect_err("it is an error");
        assert_eq!(reported.to_string(), format!("replay: {words}"));
        assert!(check(ReplayError::Callback(Stop::Enough)).is_ok());
    }
}
