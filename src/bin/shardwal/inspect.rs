//! `shardwal inspect`: the report of a recovery that recovers nothing.

use std::io::{self, Write as _};
use std::path::Path;

use shardwal::LogReader;

use crate::{Ended, Outcome};

pub(crate) fn run(dir: &Path, json: bool) -> Ended {
    let reader = LogReader::open(dir)?;
    let report = reader.report();
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
        writeln!(out, "{} records, {} bytes torn", report.records(), report.torn_bytes())?;
    }
    out.flush()?;
    let is_damaged = report.damage().next().is_some();
    Ok(if is_damaged { Outcome::Damaged } else { Outcome::Done })
}
