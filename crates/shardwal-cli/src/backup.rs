//! `shardwal backup`: copies a log while a writer may append to it.

use std::io::{self, Write};
use std::path::Path;

use shardwal::Backup;

use crate::{Ended, Outcome};

pub(crate) fn run(dir: &Path, to: &Path, sharing: bool, json: bool) -> Ended {
    let report = Backup::new(dir).sharing(sharing).run(to)?;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}
