//! `shardwal follow`: prints durable records as they come, beside the writer of the log.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use shardwal::{Checkpoint, Followed, FollowedBatch, Holder, LogReader, Record};

use crate::dump::write_line;
use crate::{Ended, Failed, Outcome};

/// Where to begin, and how to print.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// The checkpoint to begin at, or the name of a hold. Without it, the oldest record of the log
    #[arg(long, value_name = "FROM")]
    from: Option<String>,
    /// Exit once every durable record is printed, in place of waiting for more
    #[arg(long)]
    until_caught_up: bool,
    /// Print a JSON object per record, and one with the checkpoint to go on from when all are
    /// printed
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(dir: &Path, settings: &Settings) -> Ended {
    let reader = LogReader::open(dir)?;
    let from = settings.from.as_deref().map_or(Ok(Checkpoint::start()), |it| position(dir, it))?;
    let mut follower = reader.follow(&from)?;
    let mut out = BufWriter::new(io::stdout());
    while let Some(answer) = follower.next() {
        match answer? {
            Followed::Advanced(batch) => print(&mut out, &batch, settings.json)?,
            Followed::CaughtUp => {
                if settings.json {
                    writeln!(out, r#"{{"caught_up":"{}"}}"#, follower.checkpoint())?;
                }
                out.flush()?;
                if settings.until_caught_up {
                    break;
                }
            }
            Followed::Gone { first_kept } if settings.from.is_none() => {
                follower = reader.follow(&first_kept)?;
            }
            Followed::Gone { first_kept } => {
                out.flush()?;
                let what = "records from this checkpoint on were truncated; begin at";
                return Err(format!("{what} --from {first_kept}").into());
            }
            _ => {}
        }
    }
    Ok(Outcome::Done)
}

/// The checkpoint with this text, or that of the hold with this name. No name of a hold has `/`.
fn position(dir: &Path, from: &str) -> Result<Checkpoint, Failed> {
    if from.contains('/') {
        return Ok(from.parse()?);
    }
    match Holder::list(dir)?.into_iter().find(|hold| hold.name == from) {
        Some(hold) => Ok(hold.checkpoint),
        None => Err(format!("the log has no hold `{from}`; `shardwal holds` lists them").into()),
    }
}

fn print(out: &mut impl Write, batch: &FollowedBatch, json: bool) -> io::Result<()> {
    if let Some(lost) = batch.lost() {
        let of = format!("generation {} shard {}", batch.generation(), batch.shard());
        crate::complain(&format!("{of}: a repair lost sequences {}..{}", lost.start, lost.end));
    }
    for record in batch {
        if json { write_json(out, &record) } else { write_line(out, &record) }?;
    }
    Ok(())
}

fn write_json(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let at = record.position();
    let (generation, shard, sequence) = (at.generation, at.shard, at.sequence);
    write!(out, r#"{{"generation":{generation},"shard":{shard},"sequence":{sequence},"#)?;
    write!(out, r#""key":{},"payload":""#, record.key())?;
    record.payload().iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
    writeln!(out, r#""}}"#)
}
