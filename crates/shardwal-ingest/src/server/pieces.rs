//! A response that is produced piece by piece, at the pace of its client.
//!
//! Between two pieces it holds neither a thread nor a lock. It ends when its client is gone: hyper
//! then drops the body. This file does not know what the pieces hold.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use hyper::body::Frame;

use super::app::{App, OpenRead};

/// Maximum time for which a piece keeps a thread.
pub(crate) const PIECE_TIME_MAX: Duration = Duration::from_millis(50);

/// Bytes from which on a piece is complete.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// Produces the pieces of a response.
pub(crate) trait Pieces: Send + 'static {
    /// Produces the next piece. Returns after about [`PIECE_TIME_MAX`] or [`PIECE_BYTES`].
    fn next(&mut self, app: &App) -> Piece;
}

/// A piece of a response.
#[derive(Debug)]
pub(crate) enum Piece {
    /// These bytes come next.
    Bytes(Vec<u8>),
    /// There is more to search before more bytes come.
    Nothing,
    /// There are no more.
    End,
}

/// Produces one piece on a thread for blocking work, once one of the few turns is free. `None` if
/// that panicked.
pub(crate) async fn produce<P: Pieces>(app: Arc<App>, mut pieces: P) -> Option<(P, Piece)> {
    // The semaphore is never closed.
    let turn = Arc::clone(&app.reads).acquire_owned().await.ok()?;
    let produced = tokio::task::spawn_blocking(move || {
        // The thread goes on if the client leaves meanwhile, so the turn is the thread's.
        let _turn = turn;
        let piece = pieces.next(&app);
        (pieces, piece)
    });
    produced.await.ok()
}

type Producing<P> = Pin<Box<dyn Future<Output = Option<(P, Piece)>> + Send>>;

/// The body of such a response. It breaks off, with an error, after the maximum time of a read.
pub(crate) struct PieceBody<P> {
    app: Arc<App>,
    until: Instant,
    state: State<P>,
    /// Counted while the body exists.
    _open: OpenRead,
}

enum State<P> {
    Waiting(P),
    Producing(Producing<P>),
    Ended,
}

impl<P: Pieces> PieceBody<P> {
    /// A body that ends by `until`.
    pub(crate) fn new(app: Arc<App>, until: Instant, _open: OpenRead, pieces: P) -> Self {
        Self { app, until, state: State::Waiting(pieces), _open }
    }
}

impl<P: Pieces + Unpin> hyper::body::Body for PieceBody<P> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            let mut producing = match std::mem::replace(&mut this.state, State::Ended) {
                State::Waiting(_) if Instant::now() >= this.until => {
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
                State::Waiting(pieces) => Box::pin(produce(Arc::clone(&this.app), pieces)),
                State::Producing(producing) => producing,
                State::Ended => return Poll::Ready(None),
            };
            match producing.as_mut().poll(context) {
                Poll::Pending => {
                    this.state = State::Producing(producing);
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    let panicked = io::Error::other("a read panicked");
                    return Poll::Ready(Some(Err(panicked)));
                }
                Poll::Ready(Some((_, Piece::End))) => return Poll::Ready(None),
                Poll::Ready(Some((pieces, piece))) => {
                    this.state = State::Waiting(pieces);
                    if let Piece::Bytes(bytes) = piece {
                        return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use shardwal_timeseries::LabelLimits;

    use super::*;
    use crate::server::app::Limits;

    /// Blocks until the other end of the channel is dropped.
    struct Blocked(mpsc::Receiver<()>);

    impl Pieces for Blocked {
        fn next(&mut self, _: &App) -> Piece {
            self.0.recv().ok();
            Piece::End
        }
    }

    /// Regression: a client that left gave its turn away while its thread went on.
    #[tokio::test]
    async fn a_turn_is_taken_until_its_thread_is_done() {
        let limits = Limits {
            request_bytes_max: 0,
            in_flight_bytes_max: 0,
            samples_max: 0,
            read_time_max: Duration::ZERO,
            series_max: 0,
            labels: LabelLimits::default(),
        };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let app = Arc::new(App::new(limits, None, metrics));
        let turns = app.reads.available_permits();
        let (release, blocked) = mpsc::channel();
        let produced = produce(Arc::clone(&app), Blocked(blocked));
        tokio::time::timeout(Duration::from_millis(10), produced).await.err().unwrap();
        assert_eq!(app.reads.available_permits(), turns - 1, "the thread goes on");
        drop(release);
        while app.reads.available_permits() < turns {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
