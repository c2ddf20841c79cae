//! `shardwal repair`: repairs a corrupted log and prints the lost ranges.

use std::io::{self, Write};
use std::path::Path;

use shardwal::Repair;

use crate::{Ended, Outcome};

pub(crate) fn run(dir: &Path, quarantine: &Path, dry_run: bool, json: bool) -> Ended {
    let repair = Repair::new(dir);
    let report = if dry_run { repair.plan()? } else { repair.run(quarantine)? };
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if report.files.is_empty() {
        writeln!(out, "nothing to repair")?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}
