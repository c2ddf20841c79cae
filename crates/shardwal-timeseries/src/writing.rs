//! [`Writing`]: a queued write, which its caller can wait for. It does not know the samples.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::admission::ShardBatch;
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
    batches: Vec<Completion<'log>>,
}

impl<'log> Writing<'log> {
    /// Queues each part. Blocks while a queue is full. A part that is refused returns its admitted
    /// samples.
    pub(crate) fn append<L: SeriesLog>(log: &'log L, batches: Vec<ShardBatch<'_>>) -> Self {
        let append = |ShardBatch { key, payload, admitted }| {
            let batch = log.append(key, payload);
            if !batch.was_refused() {
                admitted.queued();
            }
            batch
        };
        Self { batches: batches.into_iter().map(append).collect() }
    }

    /// Queues the parts without blocking, up to the first that is refused.
    pub(crate) fn try_append<L: SeriesLog>(
        log: &'log L,
        batches: Vec<ShardBatch<'_>>,
    ) -> Result<Self, WriteError> {
        let append = |ShardBatch { key, payload, admitted }| {
            let batch = log.try_append(key, payload);
            let batch = batch.map_err(|refused| WriteError::Refused(refused.cause))?;
            // The log may also report a refusal in the completion.
            if !batch.was_refused() {
                admitted.queued();
            }
            Ok(batch)
        };
        let batches = batches.into_iter().map(append).collect::<Result<_, _>>()?;
        Ok(Self { batches })
    }

    /// Blocks until all parts are applied.
    ///
    /// # Errors
    /// [`WriteError::Append`] for the first part that failed. Then this does not wait for the rest.
    pub fn wait(self) -> Result<(), WriteError> {
        self.batches.into_iter().try_for_each(|batch| batch.wait().map(drop)).map_err(answer)
    }
}

/// Queues a part and waits for it. The calling thread may commit it itself.
pub(crate) fn append_wait<L: SeriesLog>(log: &L, batch: ShardBatch<'_>) -> Result<(), WriteError> {
    let ShardBatch { key, payload, admitted } = batch;
    let written = log.append_wait(key, payload);
    if !written.as_ref().is_err_and(AppendError::was_refused) {
        admitted.queued();
    }
    written.map(drop).map_err(answer)
}

pub(crate) fn answer(error: AppendError) -> WriteError {
    match error {
        AppendError::NotWritten { position: None, cause } => WriteError::Refused(cause),
        error => WriteError::Append(error),
    }
}

impl Future for Writing<'_> {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let batches = &mut self.get_mut().batches;
        while let Some(batch) = batches.last_mut() {
            match Pin::new(batch).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(answer(error))),
                Poll::Ready(Ok(_)) => drop(batches.pop()),
            }
        }
        Poll::Ready(Ok(()))
    }
}
