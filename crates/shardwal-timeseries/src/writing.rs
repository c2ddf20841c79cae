//! [`Writing`]: a queued write, which its caller can wait for. It does not know the samples.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::admission::Part;
use super::series_log::SeriesLog;
use super::storage_error::WriteError;
use shardwal::AppendError;
use shardwal::Completion;

/// Samples on their way into the log. Wait for it, await it, or drop it: dropping does not cancel
/// the write.
#[derive(Debug)]
#[must_use = "a write that is not waited for may still fail; drop it on purpose if that is meant"]
pub struct Writing<'log> {
    /// Parts that are not answered yet. Answered parts are popped.
    parts: Vec<Completion<'log>>,
}

impl<'log> Writing<'log> {
    /// Queues each part. Blocks while a queue is full. A part that is refused returns its admitted
    /// samples.
    pub(crate) fn append<L: SeriesLog>(log: &'log L, parts: Vec<Part<'_>>) -> Self {
        let append = |Part { key, payload, admitted }| {
            let part = log.append(key, payload);
            if !part.was_refused() {
                admitted.queued();
            }
            part
        };
        Self { parts: parts.into_iter().map(append).collect() }
    }

    /// Queues the parts without blocking, up to the first that is refused.
    pub(crate) fn try_append<L: SeriesLog>(
        log: &'log L,
        parts: Vec<Part<'_>>,
    ) -> Result<Self, WriteError> {
        let append = |Part { key, payload, admitted }| {
            let part = log.try_append(key, payload);
            let part = part.map_err(|refused| WriteError::Refused(refused.cause))?;
            // The log may also report a refusal in the completion.
            if !part.was_refused() {
                admitted.queued();
            }
            Ok(part)
        };
        let parts = parts.into_iter().map(append).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// Blocks until all parts are applied.
    ///
    /// # Errors
    /// [`WriteError::Append`] for the first part that failed. Then this does not wait for the rest.
    pub fn wait(self) -> Result<(), WriteError> {
        self.parts.into_iter().try_for_each(|part| part.wait().map(drop)).map_err(answer)
    }
}

/// Queues a part and waits for it. The calling thread may commit it itself.
pub(crate) fn append_wait<L: SeriesLog>(log: &L, part: Part<'_>) -> Result<(), WriteError> {
    let Part { key, payload, admitted } = part;
    let written = log.append_wait(key, payload);
    if !written.as_ref().is_err_and(AppendError::was_refused) {
        admitted.queued();
    }
    written.map(drop).map_err(answer)
}

fn answer(error: AppendError) -> WriteError {
    match error {
        AppendError::NotWritten { position: None, cause } => WriteError::Refused(cause),
        error => WriteError::Append(error),
    }
}

impl Future for Writing<'_> {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let parts = &mut self.get_mut().parts;
        while let Some(part) = parts.last_mut() {
            match Pin::new(part).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(answer(error))),
                Poll::Ready(Ok(_)) => drop(parts.pop()),
            }
        }
        Poll::Ready(Ok(()))
    }
}
