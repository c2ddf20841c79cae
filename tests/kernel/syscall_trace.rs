//! Checks a trace of the kernel's calls against the rules of the log. Only a trace
//! shows a missing sync, because a real file system keeps the data as long as the
//! machine runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::inject::on_benches;
use crate::strace::is_there;
use crate::transcript::Transcript;
use crate::workload::SCRIPT;

/// A call that has returned, as `strace -f -y -Y` prints it.
#[derive(Debug)]
struct Call<'a> {
    thread: &'a str,
    name: &'a str,
    arguments: String,
    result: String,
}

impl Call<'_> {
    fn succeeded(&self) -> bool {
        !self.result.starts_with('-')
    }

    /// The path of its first descriptor, or the first quoted path, which may be
    /// relative to it.
    fn path(&self) -> String {
        self.nth_path(0)
    }

    fn nth_path(&self, nth: usize) -> String {
        let between = |open: char, close: char, nth: usize| {
            let rest = self.arguments.split(open).nth(nth)?;
            rest.split(close).next()
        };
        let descriptor = between('<', '>', nth + 1).unwrap_or_default().to_owned();
        let named =
            ["open", "mkdir", "rename", "unlink"].iter().any(|it| self.name.starts_with(it));
        match between('"', '"', 2 * nth + 1).filter(|_| named) {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(name) => format!("{descriptor}/{name}"),
            None => descriptor,
        }
    }
}

/// The calls in the order of their returns.
fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut begun: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(begins) = call.strip_suffix(" <unfinished ...>") {
            begun.extend(begins.split_once('(').map(|begins| (thread, begins)));
            continue;
        }
        let whole = match call.strip_prefix("<... ") {
            Some(rest) => begun
                .remove(thread)
                .zip(rest.split_once(" resumed>"))
                .map(|((name, arguments), (_, rest))| (name, format!("{arguments}{rest}"))),
            None => call.split_once('(').map(|(name, rest)| (name, rest.to_owned())),
        };
        let Some((name, rest)) = whole else { continue };
        if let Some((arguments, result)) = rest.rsplit_once(" = ") {
            let (arguments, result) = (arguments.to_owned(), result.to_owned());
            calls.push(Call { thread, name, arguments, result });
        }
    }
    calls
}

/// W2 STICKY: a writer never syncs a segment again after a failed sync. An open first
/// opens it for reading, and may sync and read it. After an interruption the standard
/// library retries.
pub(crate) fn failed_syncs_are_final(trace: &str) {
    let mut failed = BTreeSet::new();
    for call in calls(trace) {
        let path = call.path();
        match call.name {
            "openat" if call.arguments.contains("O_RDONLY") => drop(failed.remove(&path)),
            "fdatasync" if path.ends_with(".wal") => {
                assert!(!failed.contains(&path), "{path} is synced again:\n{trace}");
                if !call.succeeded() && !call.result.contains("EINTR") {
                    failed.insert(path);
                }
            }
            _ => {}
        }
    }
}

/// The data that is not durable yet, per thread.
#[derive(Debug, Default)]
struct Volatile {
    /// Files with unsynced bytes, by the thread that wrote them.
    files: BTreeMap<String, BTreeSet<String>>,
    /// Names whose directory was not synced.
    names: BTreeSet<String>,
    /// Segments that this open has created, or dropped from the cache.
    fresh: BTreeSet<String>,
    /// Whether a single record is under way. All other writes of its writer are synced.
    alone: bool,
    /// Counts of the checks.
    acknowledgements: usize,
    reads: usize,
    opens: usize,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Volatile {
    fn see(&mut self, call: &Call<'_>) {
        let path = call.path();
        match call.name {
            "write" => self.reported(call),
            _ if !call.succeeded() => {}
            "pwrite64" => {
                let writer = call.thread.to_owned();
                self.files.entry(path).or_default().insert(writer);
            }
            "fdatasync" => drop(self.files.remove(&path)),
            "fsync" => self.names.retain(|name| parent(name) != path),
            "mkdir" | "mkdirat" => drop(self.names.insert(path)),
            "openat" => self.opened(call, path),
            "renameat" | "renameat2" => self.renamed(call, &path),
            "unlinkat" => {
                self.files.remove(&path);
                self.names.remove(&path);
            }
            "fadvise64" if call.arguments.contains("POSIX_FADV_DONTNEED") => {
                self.fresh.insert(path);
            }
            "pread64" => self.read(&path),
            _ => {}
        }
    }

    fn opened(&mut self, call: &Call<'_>, path: String) {
        if call.arguments.contains("O_CREAT") && !path.ends_with("LOCK") {
            self.fresh.insert(path.clone());
            self.names.insert(path);
        }
    }

    fn renamed(&mut self, call: &Call<'_>, from: &str) {
        let to = call.nth_path(1);
        let unsynced = self.files.remove(from);
        assert!(unsynced.is_none(), "{from} is renamed before it is synced");
        self.names.remove(from);
        self.fresh.insert(to.clone());
        self.names.insert(to);
    }

    /// R3 FRESH: an open drops a file from the cache before it reads it. After that it
    /// may read it again.
    fn read(&mut self, path: &str) {
        if path.ends_with(".wal") {
            assert!(self.fresh.contains(path), "{path} is read from the cache by an open");
            self.reads += 1;
        }
    }

    /// Checks what must be durable before this output of the child.
    fn reported(&mut self, call: &Call<'_>) {
        let Some((_, reported)) = call.arguments.split_once("\"> ") else { return };
        let reported = reported.split("\\n").next().unwrap_or_default();
        if reported.starts_with("opening") {
            self.fresh.clear();
        } else if let Some(records) = reported.strip_prefix("append ") {
            self.alone = !records.contains(' ');
        } else if reported.starts_with("opened") || reported.starts_with("truncated ok") {
            assert!(self.names.is_empty(), "names are not durable: {self:?}");
            self.opens += 1;
        } else if let Some(rest) = reported.strip_prefix("answer kept ") {
            let shard = rest.split(' ').next().unwrap_or_default();
            if self.alone {
                self.acknowledged(&format!("<shardwal-{shard}>"));
            }
        }
    }

    /// C2 DURABLE: all writes of the shard's writer are synced, and the names of its
    /// files.
    fn acknowledged(&mut self, writer: &str) {
        let by_writer =
            |(_, by): &(&String, &BTreeSet<String>)| by.iter().any(|w| w.ends_with(writer));
        let unsynced: Vec<_> = self.files.iter().filter(by_writer).collect();
        assert!(unsynced.is_empty(), "acknowledged and not synced: {unsynced:?}");
        self.acknowledgements += 1;
    }
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn the_kernel_sees_every_sync_before_its_acknowledgement() {
    if !is_there("strace") {
        return println!("SKIPPED: a trace of every sync: there is no strace");
    }
    const RUNS: usize = 12;
    let checked = std::sync::Mutex::new((0, 0));
    on_benches(&[(); RUNS], |bench, ()| {
        let calls_seen = "trace=openat,mkdir,mkdirat,renameat,renameat2,unlinkat,pwrite64,\
                          pread64,fdatasync,fsync,fadvise64,write";
        let options = ["-y", "-Y", "-s", "64", "-e", calls_seen].map(str::to_owned);
        let traced = bench.run(SCRIPT, &options);
        let mut volatile = Volatile::default();
        // Includes the directory that holds the log's own name.
        let dir = parent(&bench.dir().to_string_lossy()).to_owned();
        for call in calls(&traced.trace) {
            if call.name == "write" || call.arguments.contains(&dir) {
                volatile.see(&call);
            }
        }
        assert!(volatile.reads > 0 && volatile.opens == 3, "{volatile:?}\n{}", traced.trace);
        let mut transcript = Transcript::default();
        transcript.hear_all(&traced.reported());
        let mut checked = checked.lock().unwrap();
        *checked = (checked.0 + volatile.acknowledgements, checked.1 + volatile.reads);
    });
    let (acknowledgements, reads) = *checked.lock().unwrap();
    println!(
        "FIGURE acknowledgements that a trace shows after their sync: {acknowledgements} acknowledgements"
    );
    println!("FIGURE reads by an open that a trace shows past the cache: {reads} reads");
    assert!(acknowledgements >= 10 * RUNS, "{acknowledgements}");
}
