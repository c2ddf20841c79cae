//! A follower as a `Stream`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::FollowError;
use crate::follow::follower::{Followed, Follower};

/// A [`Follower`] as a `Stream`, for combinators of `futures` and `tokio-stream`. It is a type of
/// its own, because a follower is an `Iterator` too, and both have a `next`.
///
/// Cancel-safe: dropping the future of an item loses nothing. Each item may block for a read of the
/// log's files. See [`Follower::poll_next`].
#[derive(Debug)]
pub struct FollowerStream(Follower);

impl FollowerStream {
    /// The follower, to look at its checkpoint.
    #[must_use]
    pub fn follower(&self) -> &Follower {
        &self.0
    }

    /// The follower.
    #[must_use]
    pub fn into_inner(self) -> Follower {
        self.0
    }
}

impl Follower {
    /// The follower as a `Stream`. With the feature `stream`.
    #[must_use]
    pub fn into_stream(self) -> FollowerStream {
        FollowerStream(self)
    }
}

impl Stream for FollowerStream {
    type Item = Result<Followed, FollowError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}
