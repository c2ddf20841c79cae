//! File systems on the real kernel that keep less than their calls promise.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::os::unix::fs::FileExt;
use std::path::Path;

use shardwal::fs::{DurabilityWarning, FileSystem, NotDurable, OpenMode, OsFileSystem};
use shardwal::{Config, LogReader, OnCorruption, OpenError, ReplayOptions, ShardedWal};

use crate::mounts::{Mount, Rights, inside, scratch};

const EXT4: [&str; 4] = ["mkfs.ext4", "-q", "-F", "-E"];

/// Options that save `mkfs` unnecessary work.
fn ext4(scratch: &Path, options: &str) -> Option<Mount> {
    Mount::of_image(scratch, &[&EXT4[..], &["lazy_itable_init=1"]].concat(), 32, options)
}

fn skip(name: &str) {
    println!("SKIPPED: {name}: no loop device, or no mkfs");
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn ext4_with_journaled_data_has_no_direct_io() {
    let name = "promises::ext4_with_journaled_data_has_no_direct_io";
    if !inside(name, Rights::Root) {
        return;
    }
    for (options, block) in [("data=ordered", Some(4096)), ("data=journal", None)] {
        let scratch = scratch();
        let Some(mount) = ext4(scratch.path(), options) else { return skip(name) };
        let mut file = OsFileSystem.open(&mount.dir().join("file"), OpenMode::CreateNew).unwrap();
        assert_eq!(file.direct_io_alignment(), block, "{options}");
    }
}

/// The warnings of an open in this directory, which must equal those of a reader.
fn warnings(dir: &Path) -> Vec<DurabilityWarning> {
    let log = ShardedWal::open(Config::new(dir.join("log")).shards(1)).unwrap();
    let warned = log.recovery().durability_warnings.clone();
    log.close().unwrap();
    let reader = LogReader::open(dir.join("log")).unwrap();
    assert_eq!(reader.report().durability_warnings, warned);
    let said = reader.report().to_string();
    assert!(warned.iter().all(|warning| said.contains(&warning.to_string())), "{said}");
    warned
}

fn no_flush(option: &str) -> NotDurable {
    NotDurable::NoFlush { option: option.into() }
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn open_warns_of_a_mount_that_makes_nothing_durable() {
    let name = "promises::open_warns_of_a_mount_that_makes_nothing_durable";
    if !inside(name, Rights::Root) {
        return;
    }
    for (options, reason) in [("barrier", None), ("nobarrier", Some(no_flush("nobarrier")))] {
        let scratch = scratch();
        let Some(mount) = ext4(scratch.path(), options) else { return skip(name) };
        let warned = warnings(mount.dir());
        let reasons: Vec<_> = warned.iter().map(|warning| warning.reason.clone()).collect();
        assert_eq!(reasons, reason.into_iter().collect::<Vec<_>>(), "{options}");
        for warning in warned {
            assert_eq!(
                (warning.mount_point.as_path(), &*warning.file_system),
                (mount.dir(), "ext4")
            );
        }
    }
    let scratch = scratch();
    let below = Mount::tmpfs(scratch.path(), 8192, 1000);
    let reasons = |dir: &Path| -> Vec<_> {
        warnings(dir).into_iter().map(|warning| warning.reason).collect()
    };
    assert_eq!(reasons(below.dir()), [NotDurable::InMemory]);
    {
        let over = Mount::overlay(&below.dir().join("over"), ",volatile");
        let found = reasons(over.dir());
        // As older and newer kernels show the option.
        let shown = ["volatile", "fsync=volatile"];
        assert!(shown.iter().any(|it| found == [no_flush(it), NotDurable::InMemory]), "{found:?}");
    }
    let over = Mount::overlay(&below.dir().join("sound"), "");
    assert_eq!(
        reasons(over.dir()),
        [NotDurable::InMemory],
        "the reason comes from the lower file system"
    );
}

fn sequences(reader: &LogReader) -> Vec<u64> {
    let found = std::sync::Mutex::new(Vec::new());
    let replayed = reader.replay(ReplayOptions::default(), |record| {
        found.lock().unwrap().push(record.position().sequence);
        Ok::<_, std::convert::Infallible>(())
    });
    replayed.unwrap();
    found.into_inner().unwrap()
}

/// btrfs returns EIO for a read of a block that does not match its checksum.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_flipped_bit_under_btrfs_is_corruption_with_a_position_and_is_repaired() {
    let name = "promises::a_flipped_bit_under_btrfs_is_corruption_with_a_position_and_is_repaired";
    if !inside(name, Rights::Root) {
        return;
    }
    let scratch = scratch();
    let make = ["mkfs.btrfs", "-q", "-f"];
    let Some(mount) = Mount::of_image(scratch.path(), &make, 256, "noatime") else {
        return skip(name);
    };
    let config = || Config::new(mount.dir().join("log")).shards(1);
    let log = ShardedWal::open(config()).unwrap();
    let payload = |index: u8| {
        let mut payload = vec![b'.'; 3000];
        payload[..12].copy_from_slice(format!("payload {index:>4}").as_bytes());
        payload
    };
    for index in 0..40 {
        log.append(1, payload(index)).wait().unwrap();
    }
    log.close().unwrap();
    // Below the file system, which does not notice it.
    let image = scratch.path().join("image");
    let bytes = std::fs::read(&image).unwrap();
    let victim = format!("payload {:>4}", 20);
    let at = bytes.windows(victim.len()).position(|bytes| bytes == victim.as_bytes()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.write_at(&[bytes[at + 100] ^ 1], u64::try_from(at + 100).unwrap()).unwrap();
    file.sync_all().unwrap();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();

    let reader = LogReader::open(mount.dir().join("log")).unwrap();
    let corruption = reader.report().corruption().next().expect("a block cannot be read").clone();
    assert!(corruption.what.contains("the disk cannot read"), "{corruption}");
    assert!((18..=20).contains(&corruption.first_sequence), "{corruption}");
    assert_eq!(sequences(&reader), (0..corruption.first_sequence).collect::<Vec<_>>());
    let refused = ShardedWal::open(config()).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupted(_)), "{refused}");
    let log = ShardedWal::open(config().on_corruption(OnCorruption::Quarantine)).unwrap();
    let repair = log.recovery().repair.clone().expect("it was repaired");
    assert!((1..=3).contains(&repair.lost_sequences()), "{repair}");
    log.close().unwrap();
    let reader = LogReader::open(mount.dir().join("log")).unwrap();
    assert_eq!(reader.report().corruption().count(), 0);
    let lost = |sequence: &u64| {
        let mut lost = repair.lost.iter();
        lost.any(|lost| (lost.first_sequence..lost.next_sequence).contains(sequence))
    };
    assert_eq!(sequences(&reader), (0..40).filter(|it| !lost(it)).collect::<Vec<_>>());
}
