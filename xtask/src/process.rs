//! Runs other programs.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Result;

/// A command of cargo that runs in the root of the workspace.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(crate::tree::root());
    command
}

/// Runs a program to its end. An error if it fails.
pub(crate) fn run(command: &mut Command) -> Result {
    println!("$ {}", line_of(command));
    let status = command.status().map_err(|error| format!("{}: {error}", line_of(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", line_of(command)).into())
    }
}

/// Runs a program to its end, prints its lines as they come, and returns them. An error if it
/// fails.
pub(crate) fn tee(command: &mut Command) -> Result<String> {
    println!("$ {}", line_of(command));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", line_of(command)))?;
    let text = Mutex::new(String::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(|| print_lines(stdout, &text));
        scope.spawn(|| print_lines(stderr, &text));
    });
    let status = child.wait()?;
    let text = text.into_inner().unwrap_or_else(PoisonError::into_inner);
    if status.success() {
        Ok(text)
    } else {
        Err(format!("{} failed: {status}", line_of(command)).into())
    }
}

/// Prints and collects the lines of a pipe until its end.
fn print_lines(pipe: Option<impl Read>, text: &Mutex<String>) {
    let Some(pipe) = pipe else { return };
    for line in BufReader::new(pipe).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
    }
}

/// What a program writes to its standard output. An error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{}: {error}", line_of(command)))?;
    if !done.status.success() {
        return Err(format!("{} failed: {}", line_of(command), done.status).into());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Whether a program runs and succeeds. Its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// Whether a program is in the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A command as one would type it.
fn line_of(command: &Command) -> String {
    let parts = std::iter::once(command.get_program()).chain(command.get_args());
    parts.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Notes SIGINT and SIGTERM, so that a task can delete its folders and stop its children.
#[derive(Clone)]
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

    /// Sleeps, and returns an error once a signal has come.
    pub(crate) fn sleep(&self, time: Duration) -> Result {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            self.check()?;
            thread::sleep(left.min(STEP));
            left = left.saturating_sub(STEP);
        }
        self.check()
    }
}

/// A child that is killed with its own children when the value is dropped.
pub(crate) struct Group(Child);

impl Group {
    /// Starts the program in a process group of its own.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self(child.map_err(|error| format!("{}: {error}", line_of(command)))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether the child has ended, and if so, whether it succeeded. Does not block.
    pub(crate) fn ended(&mut self) -> Result<Option<bool>> {
        Ok(self.0.try_wait()?.map(|status| status.success()))
    }

    /// Asks the child to end, and waits until it has. Returns whether it succeeded.
    pub(crate) fn terminate(&mut self) -> Result<bool> {
        self.signal("TERM")?;
        Ok(self.0.wait()?.success())
    }

    /// Sends a signal to the child.
    pub(crate) fn signal(&self, name: &str) -> Result {
        let id = self.0.id().to_string();
        if succeeds(Command::new("kill").args(["-s", name, &id])) {
            Ok(())
        } else {
            Err(format!("no signal {name} could be sent to process {id}").into())
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let group = format!("-{}", self.0.id());
            succeeds(Command::new("kill").args(["-s", "KILL", "--", &group]));
            // It was killed. Nothing is left to do if it cannot be reaped.
            _ = self.0.wait();
        }
    }
}

/// How a program with a time limit ended.
pub(crate) enum Ended {
    /// By itself, with this output.
    Output { success: bool, text: String },
    /// It was killed at the limit.
    Late,
}

/// Runs a program for at most `seconds`, and returns what it wrote.
///
/// The limit counts seconds in which this program runs. No time passes while both are stopped.
pub(crate) fn output_within(
    command: &mut Command,
    seconds: u32,
    interrupt: &Interrupt,
) -> Result<Ended> {
    let mut group = Group::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (stdout, stderr) = (collect(group.0.stdout.take()), collect(group.0.stderr.take()));
    for _ in 0..seconds * 20 {
        if let Some(success) = group.ended()? {
            let text = |bytes: thread::JoinHandle<Vec<u8>>| bytes.join().unwrap_or_default();
            let bytes = [text(stdout), text(stderr)].concat();
            return Ok(Ended::Output {
                success,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
        interrupt.sleep(Duration::from_millis(50))?;
    }
    Ok(Ended::Late)
}

/// Reads a pipe to its end on another thread.
fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Bytes that were read before an error are still worth showing.
            _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}
