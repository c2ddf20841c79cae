//! What a power loss may leave.

use super::*;

#[test]
fn synced_bytes_survive() {
    let fs = disk_with(b"");
    let mut file = open(&fs, "/a");
    file.write_at(&[1; 3000], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(fs.unsynced(), 0);
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), [1; 3000]);
}

#[test]
fn each_sector_survives_alone() {
    let fs = disk_with(&[1; 2048]);
    open(&fs, "/a").write_at(&[2; 1024], 500).unwrap();
    assert_eq!(fs.unsynced(), 3);
    let mut seen: Vec<_> = all_crashes(&fs)
        .iter()
        .map(|after| after.read_file("/a").unwrap())
        .inspect(|bytes| assert_eq!(bytes.len(), 2048))
        .map(|bytes| [bytes[511], bytes[512], bytes[1023], bytes[1024]])
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|bytes| bytes[1] == bytes[2]));
}

#[test]
fn a_length_without_its_sectors_reads_zeros_and_sectors_without_a_length_are_lost() {
    let fs = disk_with(b"");
    open(&fs, "/a").write_at(&[3; 700], 0).unwrap();
    assert_eq!(fs.unsynced(), 3);
    let states = all_crashes(&fs);
    for (subset, after) in states.iter().enumerate() {
        let bytes = after.read_file("/a").unwrap();
        if subset & 1 == 0 {
            assert!(bytes.is_empty());
            let mut file = open(after, "/a");
            file.set_len(700).unwrap();
            assert_eq!(after.read_file("/a").unwrap(), [0; 700]);
        } else {
            assert_eq!(bytes.len(), 700);
            assert_eq!(bytes[0] == 3, subset & 2 != 0);
            assert_eq!(bytes[699] == 3, subset & 4 != 0);
        }
    }
}

#[test]
fn a_cut_not_synced_may_bring_the_old_bytes_back() {
    let fs = disk_with(&[1; 5000]);
    let mut file = open(&fs, "/a");
    file.set_len(512).unwrap();
    assert_eq!(fs.unsynced(), 1);
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), [1; 5000]);
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), [1; 512]);
}

#[test]
fn sectors_cut_and_grown_over_are_old_or_new() {
    let fs = disk_with(&[1; 1536]);
    let mut file = open(&fs, "/a");
    file.set_len(512).unwrap();
    file.write_at(&[2], 1535).unwrap();
    assert_eq!(fs.unsynced(), 2, "the length is as before");
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), [1; 1536]);
    let kept = keep_all(&fs).read_file("/a").unwrap();
    assert_eq!(kept[512..1535], [0; 1023]);
    assert_eq!(kept[1535], 2);
}

#[test]
fn a_write_of_equal_bytes_is_no_change() {
    let fs = disk_with(&[0; 8192]);
    let mut file = open(&fs, "/a");
    file.write_at(&[0; 8192], 0).unwrap();
    assert_eq!(fs.unsynced(), 0);
    file.write_at(&vec![0; 256 << 10], 0).unwrap();
    assert_eq!(fs.unsynced(), 1, "the length");
}

#[test]
fn the_new_disk_is_durable_and_the_old_one_dead() {
    let fs = SimFileSystem::with_dir("/w");
    let mut file = create(&fs, "/w/a");
    file.write_at(b"x", 0).unwrap();
    let clone = fs.clone();
    let after = keep_all(&fs);
    assert_eq!(after.unsynced(), 0);
    assert_eq!(lose_all(&after).read_file("/w/a").unwrap(), b"x");

    assert_dead(file.read_at(&mut [0], 0));
    assert_dead(file.write_at(b"y", 0));
    assert_dead(file.sync_data());
    assert_dead(file.set_len(0));
    assert_dead(file.len());
    assert_dead(clone.open(path("/w/a"), OpenMode::Read));
    assert_dead(clone.create_dir(path("/x")));
    assert_dead(clone.list(path("/")));
    assert_dead(clone.sync_dir(path("/")));
    assert_dead(clone.rename(path("/w/a"), path("/w/b")));
    assert_dead(clone.unlink(path("/w/a")));
    assert_dead(clone.remove_dir(path("/w")));
    assert_dead(clone.lock(path("/lock")));
    file.drop_cache();
}

#[test]
fn a_dead_disk_can_be_crashed_again_from_the_moment_of_its_death() {
    let fs = disk_with(b"old");
    let file = {
        let mut file = open(&fs, "/a");
        file.write_at(b"new", 0).unwrap();
        file
    };
    let first = keep_all(&fs);
    open(&first, "/a").write_at(b"xxx", 0).unwrap();
    drop(file);
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"old");
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"new");
    assert_eq!(first.read_file("/a").unwrap(), b"xxx");
}

fn offset_and_length(number: u32) -> (u64, usize) {
    let length = usize::try_from(number);
    (number.into(), length.expect("at least 32 bits"))
}

/// Random writes, cuts and syncs, compared with two plain vectors.
#[test]
fn the_extremes_are_the_last_sync_and_the_last_write() {
    const SEED: u32 = 0x5eed_2026;
    println!("seed {SEED:#x}");
    let mut number = numbers(SEED);
    for _ in 0..400 {
        let (mut live, mut durable) = (Vec::<u8>::new(), Vec::new());
        let fs = disk_with(b"");
        let mut file = open(&fs, "/a");
        for step in (0..4).cycle().take(offset_and_length(number(25)).1) {
            let (offset, at) = offset_and_length(number(20_000));
            let (_, len) = offset_and_length(number(6000));
            match number(5) {
                0 => {
                    live.resize(at, 0);
                    file.set_len(offset).unwrap();
                }
                1 => {
                    durable.clone_from(&live);
                    file.sync_data().unwrap();
                }
                _ => {
                    let bytes = vec![step; len];
                    if len > 0 {
                        live.resize(live.len().max(at + len), 0);
                        live[at..at + len].copy_from_slice(&bytes);
                    }
                    assert_eq!(file.write_at(&bytes, offset).unwrap(), len);
                }
            }
            assert_eq!(fs.read_file("/a").unwrap(), live);
        }
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), durable);
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), live);
        let mixed = fs.crash(&mut || number(2) == 1);
        let bytes = mixed.read_file("/a").unwrap();
        assert!(bytes.len() == live.len() || bytes.len() == durable.len());
        for (at, sector) in bytes.chunks(512).enumerate() {
            let from = |side: &[u8]| {
                (at * 512..at * 512 + sector.len())
                    .map(|at| side.get(at).copied().unwrap_or(0))
                    .collect::<Vec<_>>()
            };
            assert!(sector == from(&live) || sector == from(&durable));
        }
    }
}
