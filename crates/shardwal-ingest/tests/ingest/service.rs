//! The example `service`: what it answers 204 is in the log.

use std::error::Error;
use std::io;
use std::thread;

use shardwal::{Config, LogReader, ReplayOptions};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server_support::client::Connection;

#[expect(dead_code, reason = "the test calls what `main` calls")]
#[path = "../../examples/service.rs"]
mod example;

/// A service on a port of its own.
struct Served {
    runtime: Runtime,
    address: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Box<dyn Error + Send + Sync>>>,
}

impl Served {
    fn start(config: Config) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let serving = runtime.spawn(example::serve(listener, config, stopped));
        Self { runtime, address, stop, serving }
    }

    fn stop(self) {
        self.stop.send(()).expect("it serves");
        self.runtime.block_on(self.serving).expect("no panic").expect("it closes");
    }
}

#[test]
fn the_example_acknowledges_after_durability() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let served = Served::start(Config::new(&log));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let address = served.address.clone();
            thread::spawn(move || {
                let mut connection = Connection::open(&address).unwrap();
                for at in 0..50 {
                    let body = format!("{at}");
                    let answer = connection
                        .send("POST", &format!("/append/{client}"), "", body.as_bytes())
                        .unwrap();
                    assert_eq!(answer.status, 204);
                }
                let large = vec![0; (1 << 20) + 1];
                let answer = connection.send("POST", "/append/1", "", &large).unwrap();
                assert_eq!(answer.status, 413);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());

    // Before the log is closed: a reader sees what is on the disk.
    let found = LogReader::open(&log).unwrap();
    let report = found.replay(ReplayOptions::default(), |_| Ok::<_, io::Error>(())).unwrap();
    assert_eq!(report.records, 400);
    served.stop();
}

/// A full disk needs an operator, and an overload passes: their status differs.
#[test]
fn the_example_distinguishes_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new(directory.path().join("log"));
    let served = Served::start(config.free_space_low_bytes(1 << 60).free_space_min_bytes(1 << 60));
    let mut connection = Connection::open(&served.address).unwrap();
    let answer = connection.send("POST", "/append/1", "", b"cpu 0.93").unwrap();
    assert_eq!(answer.status, 507);
    assert!(String::from_utf8_lossy(&answer.body).contains("free_space_min_bytes"));
    served.stop();
}
