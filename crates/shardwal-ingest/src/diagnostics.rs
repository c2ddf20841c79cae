//! Diagnostics: the log of a server, and lines on the standard output and the standard error. They
//! never end the work.
//!
//! A line is queued, and a thread per stream writes it. So a stream that is closed, full or never
//! read fails no caller and delays none. Lines that find the queue full are dropped, and counted in
//! `ingest_log_lines_dropped_total`. This file does not know what the lines say.
//!
//! `tracing-appender` has such a thread too. But if its queue is full at the end of the program, it
//! prints that to the standard output, and waits for its reader for ever.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;

/// Maximum number of lines that wait for a stream.
const LINES_MAX: usize = 1024;

/// Maximum time that the end of the program waits for its last lines.
const FINISH_TIME_MAX: Duration = Duration::from_secs(1);

static OUTPUT: Stream = Stream::new(|line| write_line(&mut io::stdout(), line));
static ERROR: Stream = Stream::new(|line| write_line(&mut io::stderr(), line));

/// Prints a line to the standard output. Never blocks, fails or panics.
macro_rules! say {
    ($($argument:tt)*) => { $crate::diagnostics::print(format_args!($($argument)*)) };
}

/// Prints a line to the standard error. Never blocks, fails or panics.
macro_rules! say_error {
    ($($argument:tt)*) => { $crate::diagnostics::print_error(format_args!($($argument)*)) };
}

pub(crate) use {say, say_error};

/// See [`say`].
pub(crate) fn print(line: fmt::Arguments<'_>) {
    OUTPUT.push(line.to_string());
}

/// See [`say_error`].
pub(crate) fn print_error(line: fmt::Arguments<'_>) {
    ERROR.push(line.to_string());
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Time, level, message, and fields as `name=value`.
    Text,
    /// An object of JSON.
    Json,
}

/// Writes what `tracing` reports from now on to the standard output.
pub(crate) fn start_log(format: LogFormat, max: LevelFilter) {
    let log = tracing_subscriber::fmt().with_max_level(max).with_ansi(false).with_target(false);
    let log = log.with_writer(|| Lines);
    // Only tests begin a log twice. The first one goes on.
    match format {
        LogFormat::Text => log.try_init().ok(),
        LogFormat::Json => log.json().flatten_event(true).try_init().ok(),
    };
}

/// A writer to the standard output that never blocks or fails. Each write is a line.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        OUTPUT.push(String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until all lines are written, at most one second. Call it before the program ends.
pub(crate) fn finish() {
    let until = Instant::now() + FINISH_TIME_MAX;
    OUTPUT.wait_until_written(until);
    ERROR.wait_until_written(until);
}

/// Writes a line. An error is ignored: there is no other place to report it.
fn write_line(stream: &mut dyn Write, line: &str) {
    stream.write_all(line.as_bytes()).and_then(|()| stream.flush()).ok();
}

/// One stream, and the lines on their way to it.
struct Stream {
    write: fn(&str),
    queue: Mutex<Queue>,
    /// Notified after every change of the queue.
    changed: Condvar,
}

struct Queue {
    lines: VecDeque<String>,
    /// Whether the thread has taken a line and not written it yet.
    is_writing: bool,
    has_thread: bool,
}

impl Stream {
    const fn new(write: fn(&str)) -> Self {
        let lines = VecDeque::new();
        let queue = Queue { lines, is_writing: false, has_thread: false };
        Self { write, queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Ignoring poison is safe: no statement under the lock leaves the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&'static self, line: String) {
        let mut queue = self.queue();
        if !queue.has_thread {
            let thread = thread::Builder::new().name("diagnostics".to_owned());
            // Without a thread, lines are dropped once the queue is full.
            queue.has_thread = thread.spawn(|| self.write_all_lines()).is_ok();
        }
        if queue.lines.len() >= LINES_MAX {
            metrics::counter!("ingest_log_lines_dropped_total").increment(1);
            return;
        }
        queue.lines.push_back(line + "\n");
        self.changed.notify_all();
    }

    fn write_all_lines(&self) {
        let mut queue = self.queue();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.is_writing = true;
            drop(queue);
            (self.write)(&line);
            queue = self.queue();
            queue.is_writing = false;
            self.changed.notify_all();
        }
    }

    fn wait_until_written(&self, until: Instant) {
        let mut queue = self.queue();
        while queue.has_thread && (queue.is_writing || !queue.lines.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
