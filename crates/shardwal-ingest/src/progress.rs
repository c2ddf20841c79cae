//! Progress on the standard error: a bar on a terminal, otherwise a few lines. This file knows
//! numbers and a unit, not what they count.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::diagnostics::say_error;

const BAR: &str = "{msg:8} {bar:40} {human_pos}/{human_len} {prefix}, {rate}  {elapsed}";

/// Maximum number of lines if there is no terminal.
const LINES_MAX: u64 = 5;

/// The progress of one activity. Threads may share it.
#[derive(Debug)]
pub(crate) struct Progress {
    act: &'static str,
    unit: &'static str,
    /// The bar, if the standard error is a terminal.
    bar: Option<ProgressBar>,
    /// Lines written so far. Relaxed: no other data depends on it, and only one thread can raise it
    /// to a given value.
    lines: AtomicU64,
}

impl Progress {
    /// Starts to show an activity, measured in `unit`.
    pub(crate) fn start(act: &'static str, unit: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
            let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
                // The callback cannot return an error, and writing to a String does not fail.
                write!(text, "{:.0}/s", state.per_sec()).ok();
            });
            let bar = ProgressBar::new(0).with_style(style);
            bar.with_message(act).with_prefix(unit)
        });
        let lines = AtomicU64::new(0);
        Self { act, unit, bar, lines }
    }

    /// Shows that `done` of `total` units are done.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let total = total.max(1);
        let due = done * LINES_MAX / total;
        // Relaxed: see the field.
        if due > self.lines.fetch_max(due, Ordering::Relaxed) {
            let percent = done * 100 / total;
            say_error!("{}: {done}/{total} {} ({percent}%)", self.act, self.unit);
        }
    }
}

/// Leaves the bar at its last state. Later output begins on a new line.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
