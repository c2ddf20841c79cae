//! A write that is queued: what its caller waits for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::admission::Part;
use super::series_log::SeriesLog;
use super::storage_error::WriteError;
use crate::completion::Completion;
use crate::error::AppendError;

/// Samples on their way into the log: wait, await, or drop it and let them go.
#[derive(Debug)]
#[must_use = "a write that is not waited for may still fail; drop it on purpose if that is meant"]
pub struct Writing<'log> {
    /// Without an answer yet; answered ones are popped.
    parts: Vec<Completion<'log>>,
}

impl<'log> Writing<'log> {
    /// Queues each part, blocking while a queue is full. What is not queued
    /// returns what it was admitted with.
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

    /// Queues each part without blocking, up to the first that is refused.
    pub(crate) fn try_append<L: SeriesLog>(
        log: &'log L,
        parts: Vec<Part<'_>>,
    ) -> Result<Self, WriteError> {
        let append = |Part { key, payload, admitted }| {
            let part = log.try_append(key, payload);
            let part = part.map_err(|refused| WriteError::Refused(refused.cause))?;
            // A log may also answer at once.
            if !part.was_refused() {
                admitted.queued();
            }
            Ok(part)
        };
        let parts = parts.into_iter().map(append).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// Blocks until all of it is applied.
    ///
    /// # Errors
    /// [`WriteError::Append`], for the first part that failed. The other parts
    /// are not waited for then.
    pub fn wait(self) -> Result<(), WriteError> {
        self.parts.into_iter().try_for_each(|part| part.wait().map(drop)).map_err(answer)
    }
}

/// Queues a part and waits for it, if need be by committing it.
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
