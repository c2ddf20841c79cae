//! The figures that shardwal is judged by, measured in one run: `cargo bench --bench compare --
//! [--seconds S] [--rounds R] [--only LETTERS] [--contender TEXT] [--json]`. `--only` selects
//! figures, `--contender` selects contenders whose name contains the text.
//!
//! A round runs every contender of every figure once. Odd rounds run backwards, so that other
//! activity of the machine affects all contenders alike. The output is medians with ranges, and
//! ratios of medians.

#![allow(clippy::print_stdout, reason = "it prints figures")]

mod baseline;
mod compare_figures;
mod support;

use std::time::Duration;

/// A contender and its samples.
struct Contender {
    name: String,
    /// Whether it is shardwal. Of these, the best median counts.
    ours: bool,
    /// Makes one measurement. `None` if it is impossible here.
    measure: Box<dyn Fn() -> Option<f64>>,
    samples: Vec<f64>,
}

/// What the best shardwal contender is compared with.
enum Target {
    /// At least this multiple of the named contender.
    Times(&'static str, f64),
    /// At least this value.
    AtLeast(f64),
    /// At most this value.
    AtMost(f64),
}

/// One figure: its contenders and targets.
struct Figure {
    letter: char,
    title: &'static str,
    unit: &'static str,
    contenders: Vec<Contender>,
    targets: Vec<Target>,
}

/// The command line.
struct Arguments {
    seconds: f64,
    rounds: usize,
    only: String,
    contender: String,
    json: bool,
}

impl Arguments {
    fn parse() -> Self {
        let mut parsed = Self {
            seconds: 1.0,
            rounds: 5,
            only: "abcdefgw".into(),
            contender: String::new(),
            json: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().expect("the option takes a value");
            match argument.as_str() {
                "--seconds" => parsed.seconds = value().parse().expect("seconds are a number"),
                "--rounds" => parsed.rounds = value().parse().expect("rounds are a number"),
                "--only" => parsed.only = value(),
                "--contender" => parsed.contender = value(),
                "--json" => parsed.json = true,
                // `cargo bench -- --quick` reaches every benchmark.
                "--quick" => (parsed.seconds, parsed.rounds) = (0.2, 1),
                // Options of cargo, and filters and options of other benchmarks.
                _ => {}
            }
        }
        parsed
    }
}

fn main() {
    let arguments = Arguments::parse();
    let mut figures = compare_figures::figures(Duration::from_secs_f64(arguments.seconds));
    figures.retain(|figure| arguments.only.contains(figure.letter));
    for figure in &mut figures {
        figure.contenders.retain(|contender| contender.name.contains(&arguments.contender));
    }
    for round in 0..arguments.rounds {
        let contenders = figures.iter_mut().flat_map(|figure| &mut figure.contenders);
        let mut contenders: Vec<_> = contenders.collect();
        if round % 2 == 1 {
            contenders.reverse();
        }
        for contender in contenders {
            contender.samples.extend((contender.measure)());
        }
    }
    if arguments.json {
        let figures: Vec<_> = figures.iter().map(Figure::to_json).collect();
        println!("[{}]", figures.join(",\n "));
    } else {
        figures.iter().for_each(Figure::print);
    }
}

impl Contender {
    /// Lowest, median and highest sample. `None` without samples.
    fn spread(&self) -> Option<[f64; 3]> {
        let mut samples = self.samples.clone();
        samples.sort_by(f64::total_cmp);
        let (lowest, highest) = (*samples.first()?, *samples.last()?);
        Some([lowest, samples[samples.len() / 2], highest])
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|[_, median, _]| median)
    }
}

impl Figure {
    /// The shardwal contender with the best median: the largest, or the smallest if less is better.
    fn best(&self) -> Option<&Contender> {
        let less = self.targets.iter().any(|target| matches!(target, Target::AtMost(_)));
        let ours = self.contenders.iter().filter(|contender| contender.ours);
        let by_median = |a: &&Contender, b: &&Contender| {
            let order = a.median().unwrap_or(0.0).total_cmp(&b.median().unwrap_or(0.0));
            if less { order.reverse() } else { order }
        };
        ours.max_by(by_median)
    }

    /// Per target: its text, the value reached, and whether the target is met.
    fn verdicts(&self) -> Vec<(String, Option<f64>, bool)> {
        let best = self.best();
        let median = best.and_then(Contender::median);
        let name = best.map_or("none", |best| &best.name);
        let verdict = |target: &Target| match target {
            Target::Times(other, times) => {
                let other = self.contenders.iter().find(|contender| contender.name == *other);
                let theirs = other.and_then(Contender::median);
                let ratio = median.zip(theirs).map(|(ours, theirs)| ours / theirs);
                let other = other.map_or("none", |other| &other.name);
                let asked = format!("{name} / {other} >= {times}");
                (asked, ratio, ratio.is_some_and(|ratio| ratio >= *times))
            }
            Target::AtLeast(least) => {
                (format!("{name} >= {least}"), median, median.is_some_and(|found| found >= *least))
            }
            Target::AtMost(most) => {
                (format!("{name} <= {most}"), median, median.is_some_and(|found| found <= *most))
            }
        };
        self.targets.iter().map(verdict).collect()
    }

    fn print(&self) {
        println!("\n({}) {} [{}]", self.letter, self.title, self.unit);
        for contender in &self.contenders {
            match contender.spread() {
                Some([lowest, median, highest]) => println!(
                    "    {:<44} {median:>14.3}   {lowest:.3} .. {highest:.3}",
                    contender.name
                ),
                None => println!("    {:<44} {:>14}", contender.name, "SKIPPED"),
            }
        }
        for (asked, reached, met) in self.verdicts() {
            match reached {
                None => println!("  = {asked}: SKIPPED"),
                Some(reached) => {
                    let verdict = if met { "met" } else { "MISSED" };
                    println!("  = {asked}: {reached:.3} {verdict}");
                }
            }
        }
    }

    /// Names and titles contain no character that JSON would escape.
    fn to_json(&self) -> String {
        let contender = |contender: &Contender| {
            let samples: Vec<_> = contender.samples.iter().map(f64::to_string).collect();
            format!(
                r#"{{"name":"{}","ours":{},"median":{},"samples":[{}]}}"#,
                contender.name,
                contender.ours,
                contender.median().map_or("null".into(), |median| median.to_string()),
                samples.join(",")
            )
        };
        let contenders: Vec<_> = self.contenders.iter().map(contender).collect();
        let verdict = |(asked, reached, met): (String, Option<f64>, bool)| {
            let reached = reached.map_or("null".into(), |reached| reached.to_string());
            format!(r#"{{"asked":"{asked}","reached":{reached},"met":{met}}}"#)
        };
        let verdicts: Vec<_> = self.verdicts().into_iter().map(verdict).collect();
        format!(
            r#"{{"figure":"{}","title":"{}","unit":"{}","contenders":[{}],"targets":[{}]}}"#,
            self.letter,
            self.title,
            self.unit,
            contenders.join(","),
            verdicts.join(",")
        )
    }
}
