//! Reads the golden log's directory after a few changes that no writer makes. If no
//! checksum was corrected, the records of each shard are a prefix of its original ones.

#![no_main]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use support::raw::{HEADER_BYTES, Row, disk_of, reseal, segment_path};
use support::{Files, is_written, read, seal_frames, write};

/// A file, by its index in the list.
type Of = u8;

#[derive(Arbitrary, Debug)]
enum Change {
    Flip {
        file: Of,
        at: u16,
        with: u8,
    },
    Write {
        file: Of,
        at: u16,
        bytes: Vec<u8>,
    },
    Truncate {
        file: Of,
        to: u16,
    },
    Append {
        file: Of,
        bytes: Vec<u8>,
    },
    Remove {
        file: Of,
    },
    Copy {
        from: Of,
        to: Of,
    },
    Swap {
        one: Of,
        other: Of,
    },
    Sector {
        file: Of,
        from: u8,
        to: u8,
    },
    Zero {
        file: Of,
        sector: u8,
    },
    Number {
        file: Of,
        shard: u8,
        number: u8,
    },
    /// Corrects the checksums of a segment.
    Seal {
        file: Of,
    },
}

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        [$((concat!("/log/", $name), &include_bytes!(concat!("../../tests/golden/v1/log/", $name))[..])),*]
    };
}

static GOLDEN: LazyLock<Files> = LazyLock::new(|| {
    let files = golden![
        "MANIFEST",
        "generation-00001/shard-0000/0000000002.wal",
        "generation-00001/shard-0000/0000000003.wal",
        "generation-00001/shard-0000/purge",
        "generation-00001/shard-0001/0000000002.wal",
        "generation-00001/shard-0001/0000000003.wal",
        "generation-00001/shard-0001/purge",
        "generation-00002/shard-0000/0000000001.wal",
        "generation-00002/shard-0000/purge",
        "generation-00002/shard-0001/0000000001.wal",
        "generation-00002/shard-0001/purge",
        "generation-00002/shard-0002/0000000001.wal",
        "generation-00002/shard-0002/purge",
    ];
    files.map(|(path, bytes)| (PathBuf::from(path), bytes.to_vec())).into()
});

static GOLDEN_ROWS: LazyLock<Vec<Row>> =
    LazyLock::new(|| read(&disk_of(&GOLDEN)).expect("the golden log is readable"));

fn place(at: u16, bytes: &[u8]) -> usize {
    usize::from(at) % bytes.len().max(1)
}

fn apply(files: &mut Files, change: &Change) {
    if files.is_empty() {
        return;
    }
    let count = files.len();
    let index = |file: &Of| usize::from(*file) % count;
    match change {
        Change::Flip { file, at, with } => {
            let bytes = &mut files[index(file)].1;
            let at = place(*at, bytes);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
        }
        Change::Write { file, at, bytes: new } => {
            let bytes = &mut files[index(file)].1;
            let at = place(*at, bytes);
            bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
        }
        Change::Truncate { file, to } => files[index(file)].1.truncate((*to).into()),
        Change::Append { file, bytes } => files[index(file)].1.extend(bytes),
        Change::Remove { file } => drop(files.remove(index(file))),
        Change::Copy { from, to } => files[index(to)].1 = files[index(from)].1.clone(),
        Change::Swap { one, other } => {
            let bytes = std::mem::take(&mut files[index(one)].1);
            let bytes = std::mem::replace(&mut files[index(other)].1, bytes);
            files[index(one)].1 = bytes;
        }
        Change::Sector { file, from, to } => {
            let bytes = &mut files[index(file)].1;
            let sectors: Vec<Vec<u8>> = bytes.chunks(512).map(<[u8]>::to_vec).collect();
            if let Some(sector) = sectors.get(usize::from(*from)) {
                let place = bytes.iter_mut().skip(usize::from(*to) * 512);
                place.zip(sector).for_each(|(byte, new)| *byte = *new);
            }
        }
        Change::Zero { file, sector } => {
            let bytes = files[index(file)].1.iter_mut();
            bytes.skip(usize::from(*sector) * 512).take(512).for_each(|byte| *byte = 0);
        }
        Change::Number { file, shard, number } => {
            let path =
                segment_path(1 + u32::from(shard / 4 % 2), (shard % 4).into(), (*number).into());
            files[index(file)].0 = path.into();
        }
        Change::Seal { file } => {
            let bytes = &mut files[index(file)].1;
            if bytes.len() >= HEADER_BYTES {
                reseal(bytes, &[]);
                seal_frames(bytes);
            }
        }
    }
}

/// Checks that the records of each shard are a prefix of the golden ones. The prefix
/// ends at corrupted or lost bytes. Truncated records may precede it.
fn check(rows: &[Row]) {
    let by_shard = |rows: &[Row]| {
        let mut shards: BTreeMap<_, Vec<Row>> = BTreeMap::new();
        rows.iter().for_each(|row| shards.entry((row.0, row.1)).or_default().push(row.clone()));
        shards
    };
    let golden = by_shard(&GOLDEN_ROWS);
    for (shard, found) in by_shard(rows) {
        let golden = golden.get(&shard).map_or(&[][..], Vec::as_slice);
        let first = golden.first().map_or(0, |row| row.2);
        // Without its truncation mark, a shard shows truncated records that are not
        // deleted yet.
        let found: Vec<_> = found.into_iter().filter(|row| row.2 >= first).collect();
        assert!(golden.starts_with(&found), "{shard:?}: not what stood there");
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(changes) = Vec::<Change>::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut files = GOLDEN.clone();
    changes.iter().take(16).for_each(|change| apply(&mut files, change));
    let fs = disk_of(&files);
    let found = read(&fs);
    let forged = changes.iter().any(|change| matches!(change, Change::Seal { .. }));
    if let Ok(rows) = &found
        && !forged
    {
        check(rows);
    }
    if is_written(data) {
        write(&fs, &found);
    }
});
