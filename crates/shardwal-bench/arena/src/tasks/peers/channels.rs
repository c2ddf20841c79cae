//! An mpsc channel, a oneshot channel per record, and one thread; the channels are tokio's. The
//! thread takes what was sent, frames, writes and syncs it, and answers each.
//!
//! The frame has a header of 16 bytes with a CRC-32. The file is zero-filled. The channel is
//! unbounded: a bounded one was no faster. A payload is a vector, which most programs have, or a
//! slice that lives as long as the program, which costs half as much.

use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::ZeroedFile;
use crate::peer::{Found, Record};
use crate::peers::framed;
use crate::tasks::log::TaskLog;

/// Records per commit, at most.
const COMMIT_RECORDS: usize = 32 << 10;

/// A record, and where to answer. Not all records have an answer.
type Message<P> = (u64, P, Option<oneshot::Sender<()>>);

/// What a message has as its payload.
pub trait Payload: From<&'static [u8]> + AsRef<[u8]> + Send + 'static {}
impl<P: From<&'static [u8]> + AsRef<[u8]> + Send + 'static> Payload for P {}

/// The log.
pub struct Channels<P> {
    sender: UnboundedSender<Message<P>>,
    writer: JoinHandle<()>,
}

fn write<P: AsRef<[u8]>>(mut file: ZeroedFile, mut receiver: UnboundedReceiver<Message<P>>) {
    let (mut batch, mut buffer) = (Vec::new(), Vec::new());
    while receiver.blocking_recv_many(&mut batch, COMMIT_RECORDS) > 0 {
        for (key, payload, _) in &batch {
            framed::frame_parts(&mut buffer, *key, payload.as_ref());
        }
        file.append(&buffer);
        buffer.clear();
        for answer in batch.drain(..).filter_map(|(_, _, answer)| answer) {
            answer.send(()).expect("the task waits for the answer");
        }
    }
}

impl<P: Payload> Channels<P> {
    fn send(&self, record: Record, answer: Option<oneshot::Sender<()>>) {
        let sent = self.sender.send((record.key, record.payload.into(), answer));
        assert!(sent.is_ok(), "the writer did not fail");
    }
}

impl<P: Payload> TaskLog for Channels<P> {
    fn open(dir: &Path, _shards: Option<usize>, zeroed: u64) -> Self {
        let file = ZeroedFile::create(dir, zeroed);
        let (sender, receiver) = unbounded_channel();
        Self { sender, writer: std::thread::spawn(move || write(file, receiver)) }
    }

    async fn append(&self, record: Record) {
        let (answer, answered) = oneshot::channel();
        self.send(record, Some(answer));
        answered.await.expect("the writer did not fail");
    }

    async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
        let mut records = records.peekable();
        while let Some(record) = records.next() {
            if records.peek().is_some() {
                self.send(record, None);
            } else {
                self.append(record).await;
            }
        }
    }

    fn close(self) {
        drop(self.sender);
        self.writer.join().expect("the writer did not fail");
    }

    fn replay(dir: &Path, _records: u64, found: &Found) {
        framed::read(&dir.join("log"), &**found);
    }
}
