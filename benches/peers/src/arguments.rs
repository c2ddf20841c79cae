//! How a program that measures rounds of runs, or draws earlier ones, is asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::figures::{self, Row};

/// See each program's words for what it makes of them.
pub struct Arguments {
    /// What is wanted holds this text.
    pub only: String,
    /// Of all runs, in turn.
    pub rounds: usize,
    /// How long a run takes.
    pub run: Duration,
    /// Where the logs are, a folder.
    pub dir: PathBuf,
    csv: Option<PathBuf>,
    svg: Option<String>,
    from: Vec<PathBuf>,
}

impl Arguments {
    /// The process's.
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

    /// Measures, or takes the earlier runs' figures; writes and draws them.
    pub fn answer(
        &self,
        measure: impl FnOnce(&Self) -> (Vec<String>, Vec<Row>),
        draw: impl FnOnce(&str, &[String], &[Row]),
    ) {
        let (head, rows) = match &self.from[..] {
            [] => measure(self),
            earlier => figures::merged(earlier),
        };
        if let Some(csv) = &self.csv {
            std::fs::write(csv, figures::to_csv(&head, &rows)).expect("the CSV can be written");
        }
        if let Some(svg) = &self.svg {
            draw(svg, &head, &rows);
        }
    }
}
