//! Activity: which connections are idle, and since when. This file does not know HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    activity: Mutex<Activity>,
    /// Notified once, to close the connection.
    close: Notify,
    /// Notified once, when the first request begins.
    first: Notify,
}

#[derive(Debug)]
struct Activity {
    /// Requests that are not answered completely.
    in_progress: u32,
    /// Requests that have begun.
    begun: u64,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// Whether the connection was asked to close.
    closes: bool,
}

/// A request in progress. Dropping it ends the request.
#[derive(Debug)]
pub(crate) struct InProgress(Arc<Connection>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Ignoring poison is safe: the state is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Adds a connection. `number` must be new.
    pub(crate) fn add(&self, number: u64) -> Arc<Connection> {
        let idle_since = Instant::now();
        let activity = Activity { in_progress: 0, begun: 0, idle_since, closes: false };
        let activity = Mutex::new(activity);
        let connection = Connection { activity, close: Notify::new(), first: Notify::new() };
        let connection = Arc::new(connection);
        locked(&self.open).insert(number, Arc::clone(&connection));
        connection
    }

    /// Removes a connection that has ended.
    pub(crate) fn remove(&self, number: u64) {
        locked(&self.open).remove(&number);
    }

    /// Asks the connection that has been idle for the longest time to close, if any is idle, and
    /// none is about to close.
    pub(crate) fn close_longest_idle(&self) {
        let open = locked(&self.open);
        if open.values().any(|each| each.is_closing()) {
            return;
        }
        let longest = open
            .values()
            .filter_map(|each| Some((each.idle_since()?, each)))
            .min_by_key(|(since, _)| *since);
        if let Some((_, connection)) = longest {
            locked(&connection.activity).closes = true;
            connection.close.notify_one();
        }
    }
}

impl Connection {
    /// Records that a request has begun.
    pub(crate) fn begin(self: &Arc<Self>) -> InProgress {
        let mut activity = locked(&self.activity);
        activity.in_progress += 1;
        activity.begun += 1;
        self.first.notify_one();
        InProgress(Arc::clone(self))
    }

    /// Whether no request has ever begun.
    pub(crate) fn is_silent(&self) -> bool {
        locked(&self.activity).begun == 0
    }

    /// Waits until a request has begun.
    pub(crate) async fn begins(&self) {
        self.first.notified().await;
    }

    /// Waits until the connection is asked to close.
    pub(crate) async fn closes(&self) {
        self.close.notified().await;
    }

    /// Whether it was asked to close, and no request delays that.
    fn is_closing(&self) -> bool {
        let activity = locked(&self.activity);
        activity.closes && activity.in_progress == 0
    }

    /// Since when it is idle, unless it is busy or was asked to close.
    fn idle_since(&self) -> Option<Instant> {
        let activity = locked(&self.activity);
        (activity.in_progress == 0 && !activity.closes).then_some(activity.idle_since)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut activity = locked(&self.0.activity);
        activity.in_progress -= 1;
        activity.idle_since = Instant::now();
    }
}
