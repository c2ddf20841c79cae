//! Models of the sealer as shipped. Its thread syncs full segments and answers, while the
//! writer commits, syncs and waits.

use loom::thread::{self, JoinHandle};

use super::check;
use super::rig::{
    CRAMPED, FIRST, Rig, Shape, UNSYNCED, after_power_loss, answer, append, assert_acknowledged,
    assert_survived, finish,
};
use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::error::Cause;
use crate::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use crate::util::sync::Arc;

/// Each commit holds one record and fills its segment.
const FILLING: Shape = Shape { segment_bytes: CRAMPED, max_commit_records: 1, ..UNSYNCED };
const EIO: i32 = 5;

/// A started shard: its disk, its committer, and the threads of its writer and its sealer.
type Sealing = (SimFileSystem, Arc<Committer>, JoinHandle<Result<(), Cause>>, JoinHandle<()>);

/// Starts a shard with two queued records. The segment of the first is full when the second
/// is committed.
fn start(fault: Option<Fault>) -> Sealing {
    let (rig, sealer) = Rig::sealing(FILLING);
    let rig = rig.with_first(1);
    append(&rig.committer, 2).expect("there is room for two");
    fault.into_iter().for_each(|fault| rig.fs.fail(fault));
    let committers = [rig.committer.clone()];
    let sealer = thread::spawn(move || sealer.serve(&committers));
    let (fs, committer, writer) = rig.start();
    (fs, committer, writer, sealer)
}

/// C2 DURABLE, Q4 WAKE: a sync is requested while the sealer has a full segment, and may
/// answer at any moment. The sync is answered once both segments are on the disk.
#[test]
fn a_sync_races_the_sealer() {
    check("a_sync_races_the_sealer", 2, || {
        let (fs, committer, writer, sealer) = start(None);
        let below = committer.queue.request_sync();
        committer.progress.wait_synced(below).expect("no fault is planned");
        let records = after_power_loss(&fs);
        assert_survived(&records, 1, FIRST);
        assert_survived(&records, 2, FIRST + 1);
        finish(&committer, writer);
        sealer.join().expect("it ends once the writer has gone");
    });
}

/// C2 DURABLE, C3 ANSWER, W2 STICKY: the sync of a segment fails, either the sealer's of the
/// full one or the writer's of the next one. A sync over both fails, every record is
/// answered, and nothing is acknowledged later.
#[test]
fn a_failed_sync_beside_the_sealer_answers_every_caller() {
    check("a_failed_sync_beside_the_sealer_answers_every_caller", 2, || {
        let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
        let (_disk, committer, writer, sealer) = start(Some(fault));
        let below = committer.queue.request_sync();
        committer.progress.wait_synced(below).expect_err("C2 DURABLE: one sync of two failed");
        assert_acknowledged(&committer, FIRST);
        drop(answer(&committer, FIRST + 1));
        if let Ok(ticket) = append(&committer, 3) {
            let answer = answer(&committer, ticket);
            assert!(!matches!(answer, Answer::Acknowledged), "W2 STICKY: {answer:?}");
        }
        writer.join().expect("no panic").expect_err("W2 STICKY: the shard has failed");
        sealer.join().expect("it ends once the writer has gone");
    });
}
