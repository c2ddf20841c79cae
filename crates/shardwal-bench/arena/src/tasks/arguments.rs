//! The command line of `arena tasks`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::figures::{self, Row};

/// Options. The head of `tasks` lists them.
pub struct Arguments {
    /// Numbers of tasks.
    pub tasks: Vec<usize>,
    /// Number of rounds. A round runs everything once.
    pub rounds: usize,
    /// Duration of a run, in seconds.
    pub seconds: f64,
    /// Number of times that a disturbed run is tried.
    pub tries: usize,
    /// shardwal's numbers of shards. `None` is its default.
    pub shards: Vec<Option<usize>>,
    /// Records per second of the open loop.
    pub offered: Vec<usize>,
    /// Selects kinds of load: see `selects_load`.
    workload: String,
    /// Directory for the logs.
    pub dir: PathBuf,
    /// Where the figures go, after each round.
    csv: Option<PathBuf>,
    /// Where the picture goes.
    pub svg: Option<String>,
    /// Figures of earlier runs, to print and draw.
    pub from: Vec<PathBuf>,
    peer: String,
}

/// Numbers that commas separate.
fn list<T: FromStr>(text: &str) -> Vec<T> {
    let number = |word: &str| {
        word.trim().parse().unwrap_or_else(|_| panic!("{word} in {text} is not a number"))
    };
    text.split(',').map(number).collect()
}

impl Arguments {
    /// Parses the arguments after the name of the command.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self {
            tasks: vec![64, 1024, 16_384, 100_000],
            rounds: 5,
            seconds: 1.0,
            tries: 1,
            shards: vec![Some(1), None],
            offered: vec![100_000, 500_000, 1_000_000],
            workload: "closed|runs|open|memory".into(),
            dir: "target".into(),
            csv: None,
            svg: None,
            from: Vec::new(),
            peer: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().expect("each option takes a value");
            match argument.as_str() {
                "--tasks" => parsed.tasks = list(&value),
                "--rounds" => parsed.rounds = value.parse().expect("rounds are a number"),
                "--seconds" => parsed.seconds = value.parse().expect("seconds are a number"),
                "--tries" => parsed.tries = value.parse().expect("tries are a number"),
                "--shards" => {
                    let one = |word: &str| (word != "default").then(|| list(word)[0]);
                    parsed.shards = value.split(',').map(one).collect();
                }
                "--offered" => parsed.offered = list(&value),
                "--peer" => parsed.peer = value,
                "--workload" => parsed.workload = value,
                "--dir" => parsed.dir = value.into(),
                "--csv" => parsed.csv = Some(value.into()),
                "--svg" => parsed.svg = Some(value),
                "--from" => parsed.from.push(value.into()),
                other => panic!("no such option: {other}"),
            }
        }
        parsed
    }

    /// Writes the figures, if `--csv` is given.
    pub fn write(&self, head: &[String], rows: &[Row]) {
        figures::write(self.csv.as_deref(), head, rows);
    }

    /// Whether the name contains the text of `--peer`, or one of several separated by bars.
    pub fn selects(&self, name: &str) -> bool {
        self.peer.split('|').any(|text| name.contains(text))
    }

    /// Whether `--workload` names the kind of load, alone or between bars.
    pub fn selects_load(&self, kind: &str) -> bool {
        self.workload.split('|').any(|text| text == kind)
    }
}
