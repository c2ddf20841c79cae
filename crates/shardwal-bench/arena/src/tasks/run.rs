//! One run of a load, and the replay that must find exactly the acknowledged records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::log::{TaskLog, record};
use super::session::{Clock, Manner, Session};
use super::{memory, open_loop};
use crate::peer::Found;
use crate::workload::{OTHERS, P50, P99, RATE};

/// 99.9th percentile of what a task awaits.
pub const P999: &str = "p999_us";
/// CPU time of the process per record, in microseconds.
pub const CPU: &str = "cpu_us";

/// The load on a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// This number of tasks. Each appends a record, awaits it, and appends the next.
    Closed(usize),
    /// Tasks that append this number of records before they await the last.
    Runs { tasks: usize, records: u32 },
    /// This number of records per second, each from a task of its own.
    Offered(usize),
    /// The memory of this number of tasks that wait.
    Memory(usize),
    /// The memory of a shard without tasks.
    Idle,
    /// As `Closed`, with and without frequent rolls.
    Rolls(usize),
    /// As `Closed`, with and without a truncation.
    Truncation(usize),
}

/// The figures of a run.
pub type Figures = Vec<(&'static str, f64)>;

/// Loads the log for `lasts`, closes it, and verifies a replay.
pub fn run<L: TaskLog>(dir: &Path, shards: Option<usize>, load: Load, lasts: Duration) -> Figures {
    if load == Load::Idle {
        return memory::idle::<L>(dir);
    }
    let session = Session::<L>::open(dir, shards, lasts);
    let (counts, figures) = match load {
        Load::Closed(tasks) | Load::Rolls(tasks) | Load::Truncation(tasks) => {
            closed_loop(session, tasks, Manner::Awaiting, lasts)
        }
        Load::Runs { tasks, records } => closed_loop(session, tasks, Manner::Runs(records), lasts),
        Load::Offered(per_second) => open_loop::run(session, per_second, lasts),
        Load::Memory(tasks) => memory::run(session, tasks, lasts),
        Load::Idle => unreachable!("it needs no session"),
    };
    verify::<L>(dir, &counts);
    figures
}

fn closed_loop<L: TaskLog>(
    mut session: Session<L>,
    tasks: usize,
    manner: Manner,
    lasts: Duration,
) -> (Vec<u32>, Figures) {
    session.spawn(tasks, manner);
    let clock = Clock::start();
    session.start();
    std::thread::sleep(lasts);
    let counts = session.stop();
    let records = sum(&counts) as f64;
    let figures = figures(records, &clock, session);
    (counts, figures)
}

/// The figures at the end of a load. Closes the log.
pub fn figures<L: TaskLog>(records: f64, clock: &Clock, session: Session<L>) -> Figures {
    let used = clock.used();
    let mut figures = vec![
        (RATE, records / used.elapsed.as_secs_f64()),
        (CPU, used.cpu.as_secs_f64() * 1e6 / records),
        (OTHERS, used.others),
    ];
    let micros = session.close().micros();
    figures.extend(micros.into_iter().flat_map(|micros| [P50, P99, P999].into_iter().zip(micros)));
    figures
}

fn sum(counts: &[u32]) -> u64 {
    counts.iter().map(|count| u64::from(*count)).sum()
}

/// Checks that the log has as many records per key as were acknowledged, in their order and with
/// their own bytes, and no others.
fn verify<L: TaskLog>(dir: &Path, acknowledged: &[u32]) {
    let seen: Arc<Vec<_>> = Arc::new(acknowledged.iter().map(|_| AtomicU32::new(0)).collect());
    let wrong = Arc::new(AtomicU64::new(0));
    let found: Found = {
        let (seen, wrong) = (Arc::clone(&seen), Arc::clone(&wrong));
        Arc::new(move |key, payload| {
            let good = seen.get(key as usize).is_some_and(|seen| {
                let count = seen.fetch_add(1, Ordering::Relaxed);
                payload == record(key as usize, count).payload
            });
            wrong.fetch_add(u64::from(!good), Ordering::Relaxed);
        })
    };
    let records = sum(acknowledged);
    L::replay(dir, records, &found);
    let keys = seen.iter().zip(acknowledged);
    let missed = keys.filter(|(seen, count)| seen.load(Ordering::Relaxed) != **count).count();
    let wrong = wrong.load(Ordering::Relaxed);
    assert!(
        missed == 0 && wrong == 0,
        "of {records} acknowledged, {missed} keys have another number of records, and {wrong} \
         records are unknown, out of order or with other bytes"
    );
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::peer::Record;
    use crate::peers::framed;
    use crate::tasks::log::TaskLog;

    const SOUND: u8 = 0;
    const LOSES: u8 = 1;
    const REPEATS: u8 = 2;
    const CONFUSES: u8 = 3;

    /// A log in memory until it is closed. It answers at once, and mistreats record 100.
    struct Faulty<const FAULT: u8>(Mutex<(usize, Vec<u8>)>, std::path::PathBuf);

    impl<const FAULT: u8> TaskLog for Faulty<FAULT> {
        fn open(dir: &Path, _shards: Option<usize>, _zeroed: u64) -> Self {
            Self(Mutex::default(), dir.join("log"))
        }

        async fn append(&self, mut record: Record) {
            let mut log = self.0.lock().expect("no append failed");
            let (records, bytes) = &mut *log;
            *records += 1;
            let times = match (*records, FAULT) {
                (100, LOSES) => 0,
                (100, REPEATS) => 2,
                (100, CONFUSES) => {
                    record.key ^= 1;
                    1
                }
                _ => 1,
            };
            (0..times).for_each(|_| framed::frame(bytes, record));
        }

        async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
            for record in records {
                self.append(record).await;
            }
        }

        fn close(self) {
            std::fs::write(self.1, &self.0.lock().expect("no append failed").1)
                .expect("the scratch disk takes a write");
        }

        fn replay(dir: &Path, _records: u64, found: &Found) {
            framed::read(&dir.join("log"), &**found);
        }
    }

    fn is_verified<const FAULT: u8>() -> bool {
        let loads = [Load::Closed(2), Load::Runs { tasks: 2, records: 8 }, Load::Offered(10_000)];
        let verified = loads.map(|load| {
            let dir = tempfile::tempdir().expect("a scratch directory");
            let lasts = Duration::from_millis(50);
            let run = || run::<Faulty<FAULT>>(dir.path(), None, load, lasts);
            std::panic::catch_unwind(run).is_ok()
        });
        assert!(verified.windows(2).all(|pair| pair[0] == pair[1]), "{verified:?}");
        verified[0]
    }

    #[test]
    fn only_a_log_that_keeps_each_record_once_and_by_its_key_is_verified() {
        assert!(is_verified::<SOUND>());
        assert!(!is_verified::<LOSES>());
        assert!(!is_verified::<REPEATS>());
        assert!(!is_verified::<CONFUSES>());
    }
}
