//! `shardwal dump`: prints the records, in the order of a replay with one thread.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use shardwal::{LogReader, Record, ReplayError, ReplayOptions};

use crate::{Ended, Outcome, complain};

/// Why a dump ends before the log does.
#[derive(Debug)]
enum Stop {
    /// The limit is reached.
    Enough,
    Io(io::Error),
}

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
    match replayed {
        Ok(_) | Err(ReplayError::Callback(Stop::Enough)) => {}
        Err(ReplayError::Callback(Stop::Io(error))) => return Err(error.into()),
        Err(ReplayError::Log(error)) => return Err(error.into()),
        Err(error) => return Err(format!("{error:?}").into()),
    }
    lines.into_inner().unwrap_or_else(PoisonError::into_inner).out.flush()?;
    let mut outcome = Outcome::Done;
    for corruption in reader.report().corruption() {
        complain(&corruption.to_string());
        outcome = Outcome::Corrupted;
    }
    Ok(outcome)
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
        self.line(record).map_err(Stop::Io)
    }

    fn line(&mut self, record: &Record<'_>) -> io::Result<()> {
        let at = record.position();
        let (key, payload) = (record.key(), record.payload());
        let length = payload.len();
        write!(self.out, "{} {} {} {key} {length} ", at.generation, at.shard, at.sequence)?;
        payload.iter().try_for_each(|byte| write!(self.out, "{byte:02x}"))?;
        writeln!(self.out)
    }
}
