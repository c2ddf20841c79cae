//! `shardwal verify`: checks whether a log is intact, and reports corruption.
//!
//! It reads the log as an open does. So an open accepts a log that is reported
//! intact, and refuses one that is reported corrupted. It takes no lock and writes
//! nothing.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use shardwal::{LogReader, OpenError, RecoveryReport};

use crate::{Ended, Outcome, complain};

pub(crate) fn run(dir: &Path, json: bool) -> Ended {
    let opened = LogReader::open(dir);
    let verdict = match &opened {
        Ok(reader) if reader.report().corruption().next().is_none() => "intact",
        // The manifest and the truncation marks are durable data too.
        Ok(_) | Err(OpenError::Manifest { .. }) => "corrupted",
        Err(_) => "unreadable",
    };
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &as_json(verdict, &opened)?)
            .map_err(io::Error::from)?;
        writeln!(out)?;
    } else if let Ok(reader) = &opened {
        let report = reader.report();
        write!(out, "{report}")?;
        writeln!(out, "{verdict}: {} records{}", report.records(), torn(report))?;
    }
    out.flush()?;
    match opened {
        Err(error) if verdict == "unreadable" => Err(error.into()),
        Err(error) => {
            complain(&error.to_string());
            Ok(Outcome::Corrupted)
        }
        Ok(_) if verdict == "corrupted" => Ok(Outcome::Corrupted),
        Ok(_) => Ok(Outcome::Done),
    }
}

/// The report with its verdict, or the error if there is no report.
fn as_json(verdict: &str, opened: &Result<LogReader, OpenError>) -> serde_json::Result<Value> {
    let mut object = match opened {
        Ok(reader) => serde_json::to_value(reader.report())?,
        Err(error) => json!({ "shards": [], "problem": error.to_string() }),
    };
    object["verdict"] = verdict.into();
    Ok(object)
}

fn torn(report: &RecoveryReport) -> String {
    match report.torn_bytes() {
        0 => String::new(),
        bytes => format!("; the next open cuts {bytes} bytes that never came whole to the disk"),
    }
}
