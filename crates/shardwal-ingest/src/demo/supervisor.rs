//! The parent's view of the child: start, listen, kill, reap. This file knows pipes, signals and
//! acknowledgements. It does not open the log.

use std::env;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use super::Arguments;
use super::acknowledgement::receive;
use super::check::Tally;
use crate::Failure;
use crate::progress::Progress;

/// A running child. Dropping this kills the process.
#[derive(Debug)]
pub(crate) struct IngestProcess {
    process: Child,
    acknowledgements: BufReader<ChildStdout>,
    /// Reads the child's standard error, so that the child never blocks on a full pipe, and does
    /// not write into the progress bar.
    report: Option<JoinHandle<io::Result<String>>>,
}

impl IngestProcess {
    /// Starts this program as a child that ingests into `directory`.
    ///
    /// # Errors
    /// The process cannot be started.
    pub(crate) fn start(arguments: &Arguments, directory: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        arguments.pass_to_child(&mut command, directory);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().expect("the command pipes it");
        let mut stderr = process.stderr.take().expect("the command pipes it");
        let report = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        });
        Ok(Self { process, acknowledgements: BufReader::new(stdout), report: Some(report) })
    }

    /// Counts acknowledgements until `samples` are reached. Then kills the child with SIGKILL, and
    /// counts the acknowledgements left in the pipe. Blocks.
    ///
    /// # Errors
    /// The child ended by itself.
    pub(crate) fn kill_at(
        mut self,
        samples: u64,
        tally: &mut Tally<'_>,
        progress: &Progress,
    ) -> Result<ExitStatus, Failure> {
        self.listen(tally, progress, |tally| tally.sample_count() >= samples)?;
        self.process.kill()?;
        self.listen(tally, progress, |_| false)?;
        let (status, report) = self.reap()?;
        if !was_killed(status) {
            return Err(format!("the child ended before it was killed: {status}; {report}").into());
        }
        Ok(status)
    }

    /// Counts acknowledgements until the child ends. Returns its report. Blocks.
    ///
    /// # Errors
    /// The child failed.
    pub(crate) fn finish(
        mut self,
        tally: &mut Tally<'_>,
        progress: &Progress,
    ) -> Result<String, Failure> {
        self.listen(tally, progress, |_| false)?;
        let (status, report) = self.reap()?;
        if !status.success() {
            return Err(format!("the child failed: {status}; {report}").into());
        }
        Ok(report)
    }

    /// Counts acknowledgements until `enough` returns true, or the pipe ends.
    fn listen(
        &mut self,
        tally: &mut Tally<'_>,
        progress: &Progress,
        enough: impl Fn(&Tally<'_>) -> bool,
    ) -> Result<(), Failure> {
        while !enough(tally) {
            let Some(acknowledgement) = receive(&mut self.acknowledgements)? else {
                break;
            };
            tally.count(acknowledgement)?;
            progress.show(tally.sample_count(), tally.total_sample_count());
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(ExitStatus, String), Failure> {
        let status = self.process.wait()?;
        let report = match self.report.take() {
            Some(report) => report.join().map_err(|_| "the report's reader panicked")??,
            None => String::new(),
        };
        Ok((status, report.trim_end().to_owned()))
    }
}

impl Drop for IngestProcess {
    fn drop(&mut self) {
        // Both calls fail only if the process was already reaped. Then nothing is left to do.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[cfg(unix)]
fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    status.signal() == Some(SIGKILL)
}

/// Elsewhere, a killed process looks like one that failed.
#[cfg(not(unix))]
fn was_killed(status: ExitStatus) -> bool {
    !status.success()
}
