//! A target that a Prometheus or a vmagent scrapes. It remembers every sample that it served.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use super::samples::Samples;
use crate::Result;

/// Series of a sender. Each scrape has one sample of each.
const SERIES: u64 = 50;

/// It serves until the program ends.
pub(super) struct Exporter {
    pub(super) address: String,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The sender, as a label.
    sender: String,
    /// Whether a scrape has a series that the server leaves out.
    has_bad_part: bool,
    is_stopped: bool,
    scrapes: u64,
    /// The samples, as lines of [`Samples::stored`].
    served: String,
}

impl Exporter {
    /// Starts to serve samples with the label `sender`.
    pub(super) fn start(sender: &str, has_bad_part: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let sender = sender.to_owned();
        let served = String::new();
        let state = State { sender, has_bad_part, is_stopped: false, scrapes: 0, served };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A scraper that leaves has nothing.
                _ = serve(stream, &mut lock(&shared));
            }
        });
        Ok(Self { address, state })
    }

    /// The number of scrapes so far.
    pub(super) fn scrapes(&self) -> u64 {
        lock(&self.state).scrapes
    }

    /// Refuses all further scrapes. Returns what was served.
    pub(super) fn stop(&self) -> Samples {
        let mut state = lock(&self.state);
        state.is_stopped = true;
        Samples::stored(&state.served)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, state: &mut State) -> Result {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = BufReader::new(stream.try_clone()?).lines();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    if state.is_stopped {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(());
    }
    let ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let (mut body, mut served) = (String::new(), String::new());
    for series in 0..SERIES {
        let (sender, number) = (&state.sender, state.scrapes * SERIES + series);
        let labels = format!("sender=\"{sender}\",point=\"{series}\"");
        writeln!(body, "points_value{{{labels}}} {number}.5 {ms}")?;
        writeln!(served, "stored {number}.5 {ms}")?;
    }
    if state.has_bad_part {
        let labels: Vec<String> = (0..70).map(|number| format!("l{number}=\"a\"")).collect();
        writeln!(body, "points_value{{{}}} 1 {ms}", labels.join(","))?;
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    state.scrapes += 1;
    state.served += &served;
    Ok(())
}
