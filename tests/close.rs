//! The end of a log: nobody is left waiting, everybody is told the same.

mod support;

use std::thread;

use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{AppendError, Cause, Config, OpenError, ShardedWal};
use support::gate::Gate;
use support::ledger::Ledger;
use support::{EIO, config, must_end, open, payload, replayed};

#[test]
fn two_who_close_at_once_get_the_same_answer() {
    must_end("closing twice", || {
        let (disk, gate) = (SimDisk::new(), Gate::default());
        let log = open(config(&disk).disk(gate.before(&disk)));
        gate.shut();
        drop(log.append(1, "in flight"));
        gate.wait_for_writer();
        thread::scope(|scope| {
            let both = [scope.spawn(|| log.close()), scope.spawn(|| log.close())];
            // Both are on their way once no more appends are taken; whichever
            // comes second must not answer before the writer has.
            while !matches!(log.try_append(1, "x"), Err(refused) if matches!(refused.cause, Cause::Closed))
            {
                thread::yield_now();
            }
            (0..1000).for_each(|_| thread::yield_now());
            gate.open_with_error(EIO);
            for closed in both {
                let error = closed.join().unwrap().unwrap_err();
                assert!(matches!(error.cause, Cause::Poisoned(_)), "{error}");
            }
        });
    });
}
