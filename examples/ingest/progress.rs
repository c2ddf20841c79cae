//! How far it is: a bar on a terminal, else a line now and then.
//!
//! It writes to the standard error only, and knows numbers and a unit, not
//! what they count.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

const BAR: &str = "{msg:8} {bar:40} {human_pos}/{human_len} {prefix}, {rate}  {elapsed}";

/// How many lines are written at most where there is no terminal.
const LINES_MAX: u64 = 5;

/// The progress of one act. Threads may share it.
#[derive(Debug)]
pub(crate) struct Progress {
    act: &'static str,
    unit: &'static str,
    /// The bar, where the standard error is a terminal.
    bar: Option<ProgressBar>,
    /// How many lines are due up to now, and written. Relaxed: nothing else
    /// hangs on it, and of two threads only one can raise it to a value.
    lines: AtomicU64,
}

impl Progress {
    /// Begins to show an act that goes on in some unit.
    pub(crate) fn start(act: &'static str, unit: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).expect("the template is a constant");
            let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
                // The trait allows no answer, and a String does not fail.
                write!(text, "{:.0}/s", state.per_sec()).ok();
            });
            let bar = ProgressBar::new(0).with_style(style);
            bar.with_message(act).with_prefix(unit)
        });
        let lines = AtomicU64::new(0);
        Self { act, unit, bar, lines }
    }

    /// Shows how many units are done, of how many.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let total = total.max(1);
        let due = done * LINES_MAX / total;
        // Relaxed, as the field says.
        if due > self.lines.fetch_max(due, Ordering::Relaxed) {
            let percent = done * 100 / total;
            eprintln!("{}: {done}/{total} {} ({percent}%)", self.act, self.unit);
        }
    }
}

/// The bar stays where it came to; what is printed next begins a line.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
