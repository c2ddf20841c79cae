//! The command line of a program that measures runs in rounds, or draws earlier ones.

use std::path::PathBuf;
use std::time::Duration;

use crate::figures::{self, Row};

/// Options. Each program documents what it does with them.
pub struct Arguments {
    /// Selects what contains this text.
    pub only: String,
    /// Number of rounds. A round runs everything once.
    pub rounds: usize,
    /// Duration of a run.
    pub run: Duration,
    /// Directory for the logs.
    pub dir: PathBuf,
    csv: Option<PathBuf>,
    svg: Option<String>,
    from: Vec<PathBuf>,
}

impl Arguments {
    /// Parses the arguments of this process.
    pub fn parse() -> Self {
        let mut parsed = Self {
            only: String::new(),
            rounds: 3,
            run: Duration::from_millis(250),
            dir: "target".into(),
            csv: None,
            svg: None,
            from: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(option) = arguments.next() {
            let value = arguments.next().expect("each option takes a value");
            let number = || value.parse().expect("it is a number");
            match option.as_str() {
                "--only" => parsed.only = value,
                "--rounds" => parsed.rounds = value.parse().expect("rounds are a number"),
                "--seconds" => parsed.run = Duration::from_secs_f64(number()),
                "--dir" => parsed.dir = value.into(),
                "--csv" => parsed.csv = Some(value.into()),
                "--svg" => parsed.svg = Some(value),
                "--from" => parsed.from.push(value.into()),
                other => panic!("no such option: {other}"),
            }
        }
        parsed
    }

    /// Measures, or reads the figures of earlier runs. Then writes and draws them.
    pub fn answer(
        &self,
        measure: impl FnOnce(&Self) -> (Vec<String>, Vec<Row>),
        draw: impl FnOnce(&str, &[String], &[Row]),
    ) {
        let (head, rows) = match &self.from[..] {
            [] => measure(self),
            earlier => figures::merged(earlier),
        };
        figures::write(self.csv.as_deref(), &head, &rows);
        if let Some(svg) = &self.svg {
            draw(svg, &head, &rows);
        }
    }
}
