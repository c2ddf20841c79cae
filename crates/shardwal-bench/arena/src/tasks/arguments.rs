//! The command line of `arena tasks`.

use std::path::PathBuf;
use std::str::FromStr;

/// Options. The head of `tasks` lists them.
pub struct Arguments {
    /// Numbers of tasks.
    pub tasks: Vec<usize>,
    /// Number of rounds. A round runs everything once.
    pub rounds: usize,
    /// Duration of a run, in seconds.
    pub seconds: f64,
    /// shardwal's numbers of shards. `None` is its default.
    pub shards: Vec<Option<usize>>,
    /// Selects the kinds of load whose name contains this text.
    pub workload: String,
    /// Directory for the logs.
    pub dir: PathBuf,
    /// Where the figures go.
    pub csv: Option<PathBuf>,
    /// Figures of an earlier run, to print.
    pub from: Option<PathBuf>,
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
            shards: vec![Some(1), None],
            workload: String::new(),
            dir: "target".into(),
            csv: None,
            from: None,
            peer: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().expect("each option takes a value");
            match argument.as_str() {
                "--tasks" => parsed.tasks = list(&value),
                "--rounds" => parsed.rounds = value.parse().expect("rounds are a number"),
                "--seconds" => parsed.seconds = value.parse().expect("seconds are a number"),
                "--shards" => {
                    let one = |word: &str| (word != "default").then(|| list(word)[0]);
                    parsed.shards = value.split(',').map(one).collect();
                }
                "--peer" => parsed.peer = value,
                "--workload" => parsed.workload = value,
                "--dir" => parsed.dir = value.into(),
                "--csv" => parsed.csv = Some(value.into()),
                "--from" => parsed.from = Some(value.into()),
                other => panic!("no such option: {other}"),
            }
        }
        parsed
    }

    /// Whether the name contains the text of `--peer`, or one of several separated by bars.
    pub fn selects(&self, name: &str) -> bool {
        self.peer.split('|').any(|text| name.contains(text))
    }
}
