//! The raw figures: rows of the CSV, and queries on them.

use std::collections::BTreeMap;
use std::path::Path;

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// The round, from 0. For fio, 0 is before and 1 after the rounds.
    pub round: usize,
    /// The id of the workload.
    pub workload: String,
    /// The name of the peer.
    pub peer: String,
    /// Number of shards.
    pub shards: usize,
    /// The metric: `workload::RATE` and the like, or `FAILED`.
    pub metric: String,
    /// The value.
    pub value: f64,
}

/// The metric of a failed run, which has no other metric.
pub const FAILED: &str = "failed";

/// The first line of the CSV.
const HEADER: &str = "round,workload,peer,shards,metric,value";

/// Lowest, median and highest value.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The lowest.
    pub lowest: f64,
    /// The median.
    pub median: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// Computes the spread. `None` without values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        Some(Self { lowest, median: values[values.len() / 2], highest })
    }
}

/// A peer with a number of shards, and its result.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The name of the peer.
    pub peer: String,
    /// Number of shards.
    pub shards: usize,
    /// The spread over the rounds.
    pub spread: Spread,
}

/// All standings in one workload and metric, sorted by median, highest first.
pub fn standings(rows: &[Row], workload: &str, metric: &str) -> Vec<Standing> {
    let mut values: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.workload == workload && row.metric == metric) {
        values.entry((row.peer.clone(), row.shards)).or_default().push(row.value);
    }
    let standing = |((peer, shards), values)| {
        Spread::of(values).map(|spread| Standing { peer, shards, spread })
    };
    let mut standings: Vec<_> = values.into_iter().filter_map(standing).collect();
    standings.sort_by(|a, b| b.spread.median.total_cmp(&a.spread.median));
    standings
}

/// Rows of the runs for which `test` holds for every figure of `metric`. Runs without that metric
/// are included, so that they are compared with all.
pub fn of_runs(rows: &[Row], metric: &str, test: impl Fn(f64) -> bool) -> Vec<Row> {
    let run = |row: &Row| (row.round, row.workload.clone(), row.peer.clone(), row.shards);
    let mut fits = BTreeMap::new();
    for row in rows.iter().filter(|row| row.metric == metric) {
        *fits.entry(run(row)).or_insert(true) &= test(row.value);
    }
    rows.iter().filter(|row| fits.get(&run(row)).copied().unwrap_or(true)).cloned().collect()
}

/// Writes the CSV, if there is a path for it.
pub fn write(csv: Option<&Path>, head: &[String], rows: &[Row]) {
    if let Some(csv) = csv {
        std::fs::write(csv, to_csv(head, rows)).expect("the CSV can be written");
    }
}

/// Formats the CSV. Lines of the head begin with `#`.
fn to_csv(head: &[String], rows: &[Row]) -> String {
    let mut csv: String = head.iter().map(|line| format!("# {line}\n")).collect();
    csv.push_str(HEADER);
    for row in rows {
        let Row { round, workload, peer, shards, metric, value } = row;
        csv.push_str(&format!("\n{round},{workload},\"{peer}\",{shards},{metric},{value:.3}"));
    }
    csv.push('\n');
    csv
}

/// The peer's name is quoted, because it may contain a comma.
fn parse_line(line: &str) -> Option<Row> {
    let (before, rest) = line.split_once(",\"")?;
    let (peer, after) = rest.split_once("\",")?;
    let (round, workload) = before.split_once(',')?;
    let mut after = after.split(',');
    Some(Row {
        round: round.parse().ok()?,
        workload: workload.into(),
        peer: peer.into(),
        shards: after.next()?.parse().ok()?,
        metric: after.next()?.into(),
        value: after.next()?.parse().ok()?,
    })
}

/// Parses a CSV to its head and its rows.
pub fn from_csv(csv: &str) -> (Vec<String>, Vec<Row>) {
    let head = csv.lines().filter_map(|line| line.strip_prefix("# ")).map(String::from).collect();
    (head, csv.lines().filter_map(parse_line).collect())
}

/// Merges several CSV files: the head of the first, the commands of all.
pub fn merged(paths: &[std::path::PathBuf]) -> (Vec<String>, Vec<Row>) {
    let (mut head, mut rows) = (Vec::new(), Vec::new());
    for path in paths {
        let csv = std::fs::read_to_string(path).expect("the CSV can be read");
        let (lines, more) = from_csv(&csv);
        let new = |line: &String| head.is_empty() || line.starts_with("command: ");
        let lines: Vec<_> = lines.into_iter().filter(new).collect();
        head.extend(lines.into_iter().filter(|line| !head.contains(line)).collect::<Vec<_>>());
        // Rounds of different files are different rounds.
        let first = rows.iter().map(|row: &Row| row.round + 1).max().unwrap_or(0);
        rows.extend(more.into_iter().map(|row| Row { round: row.round + first, ..row }));
    }
    (head, rows)
}
