//! What all senders have in common.

use super::samples::Samples;
use crate::Result;
use crate::end_to_end::Scene;
use crate::end_to_end::server::Server;

/// What a sender is to do.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Errand {
    /// Send a few samples.
    Few,
    /// Send for as long as it takes to kill the server twice.
    Many,
    /// Send as many, and repeat by its own means what is refused, if it has any.
    ManyByItself,
    /// Send a request with a part that the server leaves out.
    Partial,
}

/// A program that sends samples of the series `points_value{sender="NAME"}`.
pub(super) trait Sender: Send + Sync {
    fn name(&self) -> &str;

    /// Starts to send to a server. `scene` is for its files.
    fn start(&self, scene: &Scene, server: &str, errand: Errand) -> Result<Box<dyn Sending>>;
}

/// A sender that runs.
pub(super) trait Sending {
    /// The number of requests so far that it knows to be answered, or that it has collected.
    fn steps(&mut self) -> Result<u64>;

    /// Whether it will send no more.
    fn has_ended(&mut self) -> Result<bool>;

    /// Waits until it has sent everything. Returns what must be stored then.
    fn finish(&mut self, scene: &Scene, server: &Server) -> Result<Samples>;

    /// Whether it has reported an error, or given up a request, since its start.
    fn has_errors(&mut self) -> Result<bool>;

    /// Whether it has sent a request again.
    fn repeats(&mut self) -> Result<bool>;

    /// Checks that it shows a partial error as its protocol does. Returns how.
    fn shows_partial_error(&mut self) -> Result<&'static str>;
}
