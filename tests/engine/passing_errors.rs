//! Transient errors: the system briefly lacks descriptors or memory, or a signal
//! interrupts a call. No shard is out of service afterwards.

use crate::support::ledger::Ledger;
use crate::support::{EINTR, config, fault_at, open, replayed};
use shardwal::Cause;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};

const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const PASSING: [i32; 4] = [EINTR, ENOMEM, ENFILE, EMFILE];

#[test]
fn a_roll_without_descriptors_or_memory_refuses_and_later_succeeds() {
    for errno in PASSING {
        for call in [Call::Open, Call::Write] {
            let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
            let log = open(config(&fs).recycled_segments_max(0));
            ledger.append(&log, 1, 1500).unwrap();
            fs.fail(Fault { sticky: true, ..fault_at(".wal", call, FaultKind::Error(errno)) });
            let error = loop {
                if let Err(error) = ledger.append(&log, 1, 1500) {
                    break error;
                }
            };
            assert!(error.is_not_written(), "{errno}: {error}");
            assert!(matches!(error.cause(), Cause::OutOfResources(_)), "{errno}: {error}");
            fs.clear_faults();
            for _ in 0..10 {
                ledger.append(&log, 1, 1500).expect("the system has what it lacked");
            }
            ledger.check(&replayed(&log));
            log.close().unwrap();
        }
    }
}

#[test]
fn a_truncation_that_lacks_a_resource_can_be_retried() {
    for errno in PASSING {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(config(&fs));
        (0..20).for_each(|_| ledger.append(&log, 1, 1500).unwrap());
        let checkpoint = log.durable_checkpoint();
        fs.fail(fault_at("purge", Call::Rename, FaultKind::Error(errno)));
        log.truncate_before(&checkpoint).unwrap_err();
        ledger.check(&replayed(&log));
        ledger.truncated(&replayed(&log).below(&checkpoint));
        assert!(log.truncate_before(&checkpoint).unwrap().segments > 0, "{errno}");
        ledger.check(&replayed(&log));
    }
}
