//! Runs other programs.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Result;

/// How a program with a time limit ended.
pub(crate) enum Ended {
    /// By itself, with this output.
    Output { success: bool, text: String },
    /// It was killed at the limit.
    Late,
}

/// Notes SIGINT and SIGTERM, so that a task can delete its folders and stop its children.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    /// An error once a signal has come.
    pub(crate) fn check(&self) -> Result {
        // ORDERING: Relaxed. Nothing but the flag itself is read.
        if self.0.load(Ordering::Relaxed) { Err("stopped by a signal".into()) } else { Ok(()) }
    }
}

/// A child with a process group of its own, which is killed when the value is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // Also kills the children of the child: a test, not only the cargo that waits for it.
            let group = format!("-{}", self.0.id());
            _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            _ = self.0.wait();
        }
    }
}

/// Runs a program for at most `seconds`, and returns what it wrote.
///
/// The limit counts seconds in which this program runs. No time passes while both are stopped.
pub(crate) fn output_within(
    command: &mut Command,
    seconds: u32,
    interrupt: &Interrupt,
) -> Result<Ended> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    let mut group = Group(child);
    let readers = (collect(group.0.stdout.take()), collect(group.0.stderr.take()));
    for _ in 0..seconds * 20 {
        interrupt.check()?;
        if let Some(status) = group.0.try_wait()? {
            let text = |bytes: thread::JoinHandle<Vec<u8>>| bytes.join().unwrap_or_default();
            let mut bytes = text(readers.0);
            bytes.extend(text(readers.1));
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Ended::Output { success: status.success(), text });
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Ended::Late)
}

/// Reads a pipe to its end on another thread.
fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
