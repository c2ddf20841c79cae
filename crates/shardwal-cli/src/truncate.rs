//! `shardwal truncate`: deletes the records below a checkpoint from a closed log.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use shardwal::{Checkpoint, Config, ShardedWal};

use crate::{Ended, Failed, Outcome};

/// The checkpoint, as text or as a JSON file.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Before {
    /// The checkpoint, in the form LOG/GENERATION/SEQUENCE,SEQUENCE,..
    #[arg(long, value_name = "CHECKPOINT")]
    before: Option<Checkpoint>,
    /// A file with the checkpoint in JSON, as serde writes it
    #[arg(long, value_name = "FILE")]
    before_json: Option<PathBuf>,
}

impl Before {
    fn checkpoint(self) -> Result<Checkpoint, Failed> {
        match (self.before, self.before_json) {
            (Some(checkpoint), _) => Ok(checkpoint),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file);
                let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
                serde_json::from_str(&text)
                    .map_err(|error| format!("{}: {error}", file.display()).into())
            }
            (None, None) => Err("a checkpoint is missing; use --before or --before-json".into()),
        }
    }
}

pub(crate) fn run(dir: &Path, before: Before, json: bool) -> Ended {
    let checkpoint = before.checkpoint()?;
    // The command should free space, so it keeps no recycled segments.
    let log = ShardedWal::open(Config::new(dir).keep_shards().recycled_segments_max(0))?;
    let truncated = log.truncate_before(&checkpoint);
    let closed = log.close();
    let report = truncated?;
    closed?;
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let (segments, bytes) = (report.segments, report.bytes);
        writeln!(out, "truncated below {checkpoint}: {segments} segments, {bytes} bytes deleted")?;
        for name in &report.dropped {
            writeln!(out, "dropped the hold {name}, which was beyond its limits")?;
        }
        for held in &report.held {
            let (name, segments, bytes) = (&held.name, held.segments, held.bytes);
            writeln!(out, "the hold {name} keeps {segments} segments, {bytes} bytes of them")?;
        }
    }
    out.flush()?;
    Ok(Outcome::Done)
}
