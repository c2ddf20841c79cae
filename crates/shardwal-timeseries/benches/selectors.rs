//! Many series: selectors by the index against a comparison with the labels of all series, the
//! memory of a series, and the longest write beside a snapshot.
//!
//!     cargo bench --bench selectors -- [--series N] [--rounds R]
//!
//! Prints milliseconds per query (median, lowest and highest of the rounds, both in turn).

#![expect(clippy::print_stdout, reason = "it prints figures")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use shardwal::{Config, Durability};
use shardwal_timeseries::{
    Labels, Matcher, PatternError, Sample, Storage, StorageOptions, TimeSeries,
};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 3_000_000)]
    series: u64,
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Ten labels: hosts with 500 series each, as an exporter has them, and an id per series.
fn labels(n: u64) -> Labels {
    let (host, metric) = (n / 500, n % 500);
    let pairs = [
        ("__name__", format!("node_metric_{}_total", metric % 250)),
        ("cluster", format!("cluster-{}", host % 7)),
        ("cpu", format!("{}", metric % 64)),
        ("device", format!("nvme{}n1", metric % 12)),
        ("host", format!("host-{host:05}.example.net")),
        ("id", format!("{n:016x}")),
        ("instance", format!("10.0.{}.{}:9100", host / 256, host % 256)),
        ("job", "node".to_owned()),
        ("mode", format!("mode-{}", metric / 250 * 2 + metric % 2)),
        ("zone", format!("zone-{}", host % 3)),
    ];
    Labels::new(pairs).expect("they are valid")
}

/// A name for a query, and its matchers.
type Query = (&'static str, Vec<Matcher>);

fn queries() -> Result<Vec<Query>, PatternError> {
    let host = || Matcher::equal("host", "host-00042.example.net");
    let metric = || Matcher::equal("__name__", "node_metric_7_total");
    Ok(vec![
        ("one series, by its id", vec![Matcher::equal("id", "0000000000000123")]),
        ("a metric of a host", vec![host(), metric()]),
        ("all of a host", vec![host()]),
        ("a metric and another mode", vec![metric(), Matcher::not_equal("mode", "mode-1"), host()]),
        (
            "a metric of hosts by pattern",
            vec![metric(), Matcher::matches("host", "host-0004[0-9].*")?],
        ),
        ("a metric of all hosts", vec![metric()]),
        (
            "metrics by pattern, of a host",
            vec![Matcher::not_matches("__name__", "node_metric_1.*")?, host()],
        ),
    ])
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, most) = (ms(times[0]), ms(times[times.len() - 1]));
    format!("{:9.3} ({least:.3} .. {most:.3})", ms(times[times.len() / 2]))
}

fn main() -> Result<(), PatternError> {
    let Arguments { series, rounds, bench: _ } = Arguments::parse();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let config = Config::new(dir.path().join("db")).durability(Durability::Buffered).shards(4);
    let storage = Storage::open(StorageOptions::new(config)).expect("the storage opens");
    let before = resident_bytes();
    for from in (0..series).step_by(1_000) {
        let one = |n| TimeSeries::new(labels(n), vec![Sample::new(1, 1.0)]);
        let batch: Vec<_> = (from..series.min(from + 1_000)).map(one).collect();
        storage.write_batch(&batch).expect("there is room");
    }
    let each = (resident_bytes() - before) / series;
    println!("{series} series of ten labels and one sample: {each} resident bytes each");
    let all: Vec<Labels> = storage.series(&[]);
    for (name, matchers) in queries()? {
        let (mut by_index, mut by_scan, mut found) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let began = Instant::now();
            found = storage.series(&matchers).len();
            by_index.push(began.elapsed());
            let began = Instant::now();
            let accepted = all.iter().filter(|labels| matchers.iter().all(|m| m.accepts(labels)));
            assert_eq!(accepted.count(), found);
            by_scan.push(began.elapsed());
        }
        let (by_index, by_scan) = (median(by_index), median(by_scan));
        println!("{name}: {found} series; index {by_index} ms, all series {by_scan} ms");
    }
    drop(all);
    snapshots(&storage);
    Ok(())
}

/// Measures writes of 1,000 samples of series all over the storage, alone and beside snapshots.
fn snapshots(storage: &Storage) {
    let (mut scan, mut handles) = (storage.scan(vec![Vec::new()]), Vec::new());
    while !scan.is_at_end() {
        handles.extend(storage.scan_series(&mut scan).into_iter().map(|(_, handle)| handle));
    }
    drop(scan);
    let stop = AtomicBool::new(false);
    let write_until_stopped = || {
        let (mut times, mut at) = (Vec::new(), 0_usize);
        while !stop.load(Ordering::Relaxed) {
            let next = |n: usize| (handles[(at + n * 7_919) % handles.len()], Sample::new(2, 2.0));
            let samples: Vec<_> = (0..1_000).map(next).collect();
            at += 31;
            let began = Instant::now();
            storage.write_samples(&samples).expect("there is room").wait().expect("it is written");
            times.push(began.elapsed());
        }
        times
    };
    for with_snapshots in [false, true] {
        stop.store(false, Ordering::Relaxed);
        let times = std::thread::scope(|scope| {
            let writer = scope.spawn(write_until_stopped);
            if with_snapshots {
                for _ in 0..3 {
                    storage.snapshot().expect("the scratch disk holds it");
                }
            } else {
                std::thread::sleep(Duration::from_secs(5));
            }
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("it does not panic")
        });
        let (count, longest) = (times.len(), times.iter().max().copied().unwrap_or_default());
        let (longest, times) = (longest.as_secs_f64() * 1e3, median(times));
        println!("snapshots {with_snapshots}: {count} writes, {times} ms, longest {longest:.1} ms");
    }
}

/// Resident memory of this process, from Linux.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}
