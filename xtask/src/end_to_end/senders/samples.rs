//! The samples of one sender: those that were acknowledged, and those in the log.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::end_to_end::{Scene, http};
use crate::process::output;

/// Milliseconds since 1970, and the bits of the value. Each value of a sender is sent once.
type Sample = (i64, u64);

/// Samples in order, each as often as it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    fn sorted(samples: impl Iterator<Item = Sample>) -> Self {
        let mut samples: Vec<Sample> = samples.collect();
        samples.sort_unstable();
        Self(samples)
    }

    /// Those in lines that begin with `stored VALUE MILLISECONDS`. An incomplete last line is left
    /// out.
    pub(super) fn stored(text: &str) -> Self {
        let complete = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let lines = complete.filter_map(|line| line.strip_prefix("stored "));
        Self::sorted(lines.filter_map(sample))
    }

    /// Those of a sender in a dump of the log. Stale markers are left out.
    fn dumped(text: &str, sender: &str) -> Self {
        let label = format!("sender=\"{sender}\"");
        let lines = text.lines().filter_map(|line| line.rsplit_once("} "));
        let lines = lines
            .filter(|(labels, _)| labels.contains("\"points_value\"") && labels.contains(&label));
        Self::sorted(
            lines.filter(|(_, rest)| !rest.starts_with("NaN")).filter_map(|(_, rest)| sample(rest)),
        )
    }

    /// Those in an export. Stale markers are left out.
    fn exported(text: &str) -> Self {
        let samples = text.lines().flat_map(|line| {
            let values = list(line, "\"values\":[");
            let pairs = values.zip(list(line, "\"timestamps\":["));
            pairs.filter_map(|(value, ms)| Some((ms.parse().ok()?, bits(value)?)))
        });
        Self::sorted(samples)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// An error if `found` is not exactly this.
    pub(super) fn require(&self, found: &Self, place: &str) -> Result {
        if self.0.is_empty() {
            return Err("nothing was sent".into());
        }
        if self == found {
            return Ok(());
        }
        let without = |all: &Self, others: &Self| -> Vec<Sample> {
            let others: std::collections::BTreeSet<&Sample> = others.0.iter().collect();
            all.0.iter().filter(|sample| !others.contains(sample)).copied().collect()
        };
        let (missing, other) = (without(self, found), without(found, self));
        let first = missing.first().or(other.first());
        let first = first.map(|(ms, value)| format!("{} {ms}", f64::from_bits(*value)));
        Err(format!(
            "{} sent, {} in {place}: {} missing, {} others; the first: {}",
            self.len(),
            found.len(),
            missing.len(),
            other.len(),
            first.as_deref().unwrap_or("one that is there twice"),
        )
        .into())
    }
}

/// A dump of a server's log.
pub(super) struct Dump(String);

impl Dump {
    /// Reads the log of the scene's server.
    pub(super) fn read(scene: &Scene, ingest: &Path) -> Result<Self> {
        output(Command::new(ingest).arg("dump").arg(scene.path("log"))).map(Self)
    }

    pub(super) fn of(&self, sender: &str) -> Samples {
        Samples::dumped(&self.0, sender)
    }

    /// The number of samples of all series.
    pub(super) fn samples(&self) -> usize {
        self.0.lines().filter(|line| line.starts_with('{')).count()
    }

    /// Whether both have the same lines, in any order.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        sorted(&self.0) == sorted(&other.0)
    }
}

/// What a server answers to a read of a sender's samples.
pub(super) fn export(server: &str, sender: &str) -> Result<Samples> {
    // {__name__="points_value",sender="NAME"}
    let selector = format!("%7B__name__%3D%22points_value%22%2Csender%3D%22{sender}%22%7D");
    let text = http::get(server, &format!("/api/v1/export?match%5B%5D={selector}"))?;
    Ok(Samples::exported(&text))
}

/// A value and a timestamp.
fn sample(text: &str) -> Option<Sample> {
    let (value, ms) = text.split_once(' ')?;
    Some((ms.parse().ok()?, bits(value)?))
}

fn bits(value: &str) -> Option<u64> {
    value.parse::<f64>().ok().map(f64::to_bits)
}

/// The elements of a list of numbers in a line of JSON.
fn list<'line>(line: &'line str, begin: &str) -> impl Iterator<Item = &'line str> {
    let list = line.split_once(begin).and_then(|(_, rest)| rest.split_once(']'));
    list.map_or("", |(list, _)| list).split(',')
}

#[cfg(test)]
mod tests {
    use super::Samples;

    const STORED: &str = "noise\nstored 0.5 1000\nerror no\nstored 1.5 1001\nstored 2.5 10";

    #[test]
    fn all_three_forms_of_samples_are_read() {
        let stored = Samples::stored(STORED);
        assert_eq!(stored.len(), 2);
        let dump = "{__name__=\"points_value\",sender=\"a\"} 1.5 1001\n\
                    {__name__=\"points_value\",sender=\"a\"} 5e-01 1000\n\
                    {__name__=\"points_value\",sender=\"a\"} NaN 1002\n\
                    {__name__=\"points_value\",sender=\"ab\"} 7 1003\n\
                    {__name__=\"up\",sender=\"a\"} 1 1000\n";
        stored.require(&Samples::dumped(dump, "a"), "the dump").unwrap();
        let export = "{\"metric\":{},\"values\":[1.5,null],\"timestamps\":[1001,1002]}\n\
                      {\"metric\":{},\"values\":[0.5],\"timestamps\":[1000]}\n";
        stored.require(&Samples::exported(export), "the export").unwrap();
    }

    #[test]
    fn a_sample_that_is_lost_changed_or_there_twice_is_an_error() {
        let stored = Samples::stored(STORED);
        for wrong in [
            "stored 0.5 1000\n",
            "stored 0.5 1000\nstored 1.5 1002\n",
            "stored 0.5 1000\nstored 1.25 1001\n",
            "stored 0.5 1000\nstored 1.5 1001\nstored 1.5 1001\n",
            "stored 0.5 1000\nstored 1.5 1001\nstored 2.5 1002\n",
        ] {
            assert!(stored.require(&Samples::stored(wrong), "it").is_err(), "{wrong}");
        }
        assert!(Samples::default().require(&Samples::default(), "it").is_err());
    }
}
