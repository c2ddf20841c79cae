//! `shardwal holds` lists the holds of a log. `shardwal release` removes one.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use shardwal::{Config, HoldLimit, HoldPolicy, HoldState, Holder, ShardedWal};

use crate::{Ended, Outcome};

/// Lists the holds. Takes no lock and writes nothing.
pub(crate) fn list(dir: &Path, json: bool) -> Ended {
    let holders = Holder::list(dir)?;
    let mut out = io::stdout().lock();
    if json {
        let holders: Vec<_> = holders.iter().map(as_json).collect();
        serde_json::to_writer_pretty(&mut out, &holders).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if holders.is_empty() {
        writeln!(out, "no holds")?;
    } else {
        holders.iter().try_for_each(|hold| print(&mut out, hold))?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

/// Releases a hold of a closed log.
pub(crate) fn release(dir: &Path, name: &str) -> Ended {
    let log = ShardedWal::open(Config::new(dir).keep_shards().recycled_segments_max(0))?;
    let released = log.release_hold(name);
    let closed = log.close();
    released?;
    closed?;
    writeln!(io::stdout(), "released {name}")?;
    Ok(Outcome::Done)
}

fn state(hold: &Holder) -> &'static str {
    match hold.state {
        HoldState::Held => "held",
        HoldState::Dropped(HoldLimit::Bytes) => "dropped beyond its limit in bytes",
        HoldState::Dropped(HoldLimit::Age) => "dropped beyond its limit in age",
        HoldState::Truncated => "truncated: its file is older than the log",
        _ => "in a state that this version does not know",
    }
}

fn print(out: &mut impl Write, hold: &Holder) -> io::Result<()> {
    let Holder { name, checkpoint, limits, segments, bytes, age, .. } = hold;
    writeln!(out, "{name}: {} at {checkpoint}", state(hold))?;
    write!(out, "  keeps {segments} full segments, {bytes} bytes")?;
    if let Some(age) = age {
        write!(out, ", the oldest from {} s ago", age.as_secs())?;
    }
    let bytes_max = limits.max_bytes.map(|max| format!("{max} bytes"));
    let age_max = limits.max_age.map(|max| format!("{} s", max.as_secs_f64()));
    let limit: Vec<_> = bytes_max.into_iter().chain(age_max).collect();
    let beyond = match limits.beyond {
        HoldPolicy::Drop => "it is dropped",
        HoldPolicy::RefuseAppends => "appends are refused",
    };
    if limit.is_empty() {
        writeln!(out, "\n  without a limit")
    } else {
        writeln!(out, "\n  at most {}; beyond that {beyond}", limit.join(", "))
    }
}

/// The hold, with its checkpoint as text and its times in milliseconds.
fn as_json(hold: &Holder) -> Value {
    let Holder { name, checkpoint, limits, segments, bytes, age, .. } = hold;
    json!({
        "name": name,
        "checkpoint": checkpoint.to_string(),
        "state": state(hold),
        "is_held": matches!(hold.state, HoldState::Held | HoldState::Truncated),
        "segments": segments,
        "bytes": bytes,
        "age_ms": age.map(|age| age.as_millis()),
        "max_bytes": limits.max_bytes,
        "max_age_ms": limits.max_age.map(|max| max.as_millis()),
        "beyond": limits.beyond,
    })
}
