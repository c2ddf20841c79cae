//! How long an append waits for room while newcomers try for it without a pause, beside the time
//! that a full queue takes to drain.
//!
//! `cargo bench --bench admission -- DIR [APPENDS] [NEWCOMERS]`. Each append waits for at most one
//! second. A row is a quarter of the appends.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shardwal::{Config, ShardedWal};

const PAYLOAD: [u8; 256] = [7; 256];
const TIMEOUT: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let number = |index: usize, otherwise: usize| {
        arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let Some(dir) = arguments.first() else {
        println!("admission DIR [APPENDS] [NEWCOMERS]");
        return;
    };
    let (appends, newcomers) = (number(1, 1000), number(2, 2));
    let log = ShardedWal::open(Config::new(dir).shards(1)).expect("the log opens");
    let (is_over, accepted, refused) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..newcomers {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let count = match log.try_append(1, &PAYLOAD[..]) {
                        Ok(_) => &accepted,
                        Err(_) => &refused,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while refused.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        for _ in 0..4 {
            row(&log, appends.div_ceil(4));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let of = |count: AtomicU64| count.into_inner();
    println!("newcomers: {} accepted, {} refused", of(accepted), of(refused));
    log.close().expect("it closes");
}

/// Appends with a timeout, and flushes of what is queued at that moment.
fn row(log: &ShardedWal, appends: usize) {
    let (mut waits, mut drains, mut refused) = (Vec::new(), Vec::new(), 0);
    for _ in 0..appends {
        let began = Instant::now();
        log.flush().wait().expect("the disk works");
        drains.push(began.elapsed());
        let began = Instant::now();
        match log.append_timeout(2, &PAYLOAD[..], TIMEOUT) {
            Ok(_) => waits.push(began.elapsed()),
            Err(_) => refused += 1,
        }
    }
    let admitted = waits.len();
    let [drain, wait] = [&mut drains, &mut waits].map(|times| {
        times.sort_unstable();
        let at = |permille: usize| {
            let index = times.len().saturating_sub(1) * permille / 1000;
            times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        [at(500), at(990), at(1000)]
    });
    println!(
        "{admitted} of {appends} admitted, {refused} refused  \
         wait P50 {:.2} P99 {:.2} max {:.2} ms  drain P50 {:.2} P99 {:.2} max {:.2} ms",
        wait[0], wait[1], wait[2], drain[0], drain[1], drain[2]
    );
}
