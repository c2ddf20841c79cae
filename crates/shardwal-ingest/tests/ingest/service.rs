//! The example `service`: what it answers 204 is in the log.

use std::io;
use std::thread;

use shardwal::{Config, LogReader, ReplayOptions};

use crate::server_support::client::Connection;

#[expect(dead_code, reason = "the test calls what `main` calls")]
#[path = "../../examples/service.rs"]
mod example;

#[test]
fn the_example_acknowledges_after_durability() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = runtime.spawn(example::serve(listener, Config::new(&log), stopped));

    let clients: Vec<_> = (0..8)
        .map(|client| {
            let address = address.clone();
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
    stop.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}
