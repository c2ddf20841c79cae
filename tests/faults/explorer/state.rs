//! One state that a crash may leave: the content of the disk, and the records that must
//! be found.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fxhash::FxHasher64;
use shardwal::fs::FileSystem;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{LogReader, OpenError, Position, ReplayOptions};

use crate::support::ledger::Ledger;
use crate::support::{DIR, Found, key_and_index};

/// A hash of all names and bytes, and of the records that must be found.
pub(crate) fn fingerprint(fs: &SimFileSystem, ledger: &Ledger) -> u64 {
    let mut hasher = FxHasher64::default();
    hash_directory(fs, Path::new("/"), &mut hasher);
    ledger.hash(&mut hasher);
    // The last step of this hash is a multiplication: mix its high bits down.
    let hash = hasher.finish();
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_directory(fs: &SimFileSystem, dir: &Path, hasher: &mut FxHasher64) {
    let mut names = fs.list(dir).expect("a directory that is listed");
    names.sort_unstable();
    for name in names {
        name.hash(hasher);
        let path = dir.join(&name);
        match fs.read_file(&path) {
            Some(bytes) => bytes.hash(hasher),
            None => hash_directory(fs, &path, hasher),
        }
    }
}

/// Reads the log without changing it, and compares. In the ledger of a state, the
/// records that a power loss may take are open.
pub(crate) fn check_by_reading(fs: &SimFileSystem, ledger: &mut Ledger) {
    let reader = LogReader::open_in(Arc::new(fs.clone()), DIR);
    let reader = match reader {
        Ok(reader) => reader,
        // A log that does not exist yet has lost nothing.
        Err(OpenError::NotALog { .. }) => return check_found(&Found::default(), ledger),
        Err(error) => panic!("{error}"),
    };
    if let Some(corruption) = reader.report().corruption().next() {
        panic!("a crash was reported as corruption: {corruption}");
    }
    let records = Mutex::new(Vec::new());
    let replayed = reader.replay(ReplayOptions::default().threads(1), |record| {
        let record = (record.position(), record.key(), record.to_bytes());
        records.lock().expect("no callback panics").push(record);
        Ok::<_, Infallible>(())
    });
    let replayed = replayed.unwrap_or_else(|error| panic!("{error}"));
    let records = records.into_inner().expect("no callback panics");
    assert_eq!(replayed.records, records.len() as u64);
    check_found(&Found { records }, ledger);
}

/// Checks order, gaps and payloads, and compares with the ledger.
pub(crate) fn check_found(found: &Found, ledger: &mut Ledger) {
    let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut generation = 0;
    for (position, key, payload) in &found.records {
        let Position { generation: of, shard, sequence, .. } = *position;
        assert!(of >= generation, "{position} after generation {generation}");
        generation = of;
        if let Some(before) = last.insert((of, shard), sequence) {
            assert_eq!(before + 1, sequence, "a gap before {position}");
        }
        assert_whole(*key, payload);
    }
    ledger.check(found);
}

/// Checks the filling bytes too.
fn assert_whole(key: u64, payload: &Bytes) {
    let (said, index) = key_and_index(payload);
    let text = format!("{said}:{index}:");
    assert_eq!(said, key, "{text} under the key {key}");
    let filling = &payload[text.len()..];
    assert!(filling.iter().all(|byte| *byte == b'.'), "{text} was not appended");
}
