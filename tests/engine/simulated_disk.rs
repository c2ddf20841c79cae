//! Tests of the simulated file system itself, one per rule of `fs::sim`. Every other
//! test of crashes and faults relies on these rules.

use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{EIO, ENOSPC, assert_is};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileHandle, FileSystem, OpenMode};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn create(fs: &SimFileSystem, at: &str) -> Box<dyn FileHandle> {
    let file = fs.open(path(at), OpenMode::CreateNew);
    file.expect("a new file")
}

fn open(fs: &SimFileSystem, at: &str) -> Box<dyn FileHandle> {
    let file = fs.open(path(at), OpenMode::Write);
    file.expect("an existing file")
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

fn assert_dead<T>(result: io::Result<T>) {
    let message = result.err().expect("the machine is dead").to_string();
    assert!(message.contains("lost its power"), "{message}");
}

fn lose_all(fs: &SimFileSystem) -> SimFileSystem {
    fs.crash(&mut || false)
}

fn keep_all(fs: &SimFileSystem) -> SimFileSystem {
    fs.crash(&mut || true)
}

/// A disk with one durable file `/a` of these bytes.
fn disk_with(bytes: &[u8]) -> SimFileSystem {
    let fs = SimFileSystem::new();
    fs.write_file("/a", bytes);
    fs
}

/// Every state that a crash of this disk may leave.
fn all_crashes(fs: &SimFileSystem) -> Vec<SimFileSystem> {
    let count = fs.unsynced();
    assert!(count <= 12, "{count} changes are too many to try all");
    (0..1u32 << count)
        .map(|subset| {
            let mut asked = 0;
            let after = fs.crash(&mut || {
                asked += 1;
                subset >> (asked - 1) & 1 == 1
            });
            assert_eq!(asked, count, "choice is called once for each change");
            after
        })
        .collect()
}

fn numbers(seed: u32) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    }
}

mod files {
    use super::*;

    #[test]
    fn a_write_is_read_back_and_lengthens_the_file() {
        let fs = SimFileSystem::new();
        let mut file = create(&fs, "/a");
        assert!(file.is_empty().unwrap());
        assert_eq!(file.write_at(b"hello", 5000).unwrap(), 5);
        assert_eq!(file.len().unwrap(), 5005);
        let mut bytes = [9; 16];
        assert_eq!(file.read_at(&mut bytes, 4995).unwrap(), 10);
        assert_eq!(&bytes[..10], b"\0\0\0\0\0hello");
        assert_eq!(file.read_at(&mut bytes, 5005).unwrap(), 0);
        assert_eq!(file.read_at(&mut bytes, u64::MAX).unwrap(), 0);
        assert_eq!(file.write_at(b"", 9000).unwrap(), 0);
        assert_eq!(file.len().unwrap(), 5005);
        assert_eq!(kind(file.write_at(b"ab", u64::MAX)), ErrorKind::FileTooLarge);
    }

    #[test]
    fn each_open_mode_finds_or_creates_its_file() {
        let fs = SimFileSystem::with_dir("/wal");
        let at = path("/wal/a");
        assert_eq!(kind(fs.open(at, OpenMode::Read)), ErrorKind::NotFound);
        assert_eq!(kind(fs.open(at, OpenMode::Write)), ErrorKind::NotFound);
        create(&fs, "/wal/a").write_at(b"x", 0).unwrap();
        let again = fs.open(at, OpenMode::CreateNew);
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
        let lost = fs.open(path("/no/a"), OpenMode::CreateNew);
        assert_eq!(kind(lost), ErrorKind::NotFound);
        let through = fs.open(path("/wal/a/b"), OpenMode::CreateNew);
        assert_eq!(kind(through), ErrorKind::NotADirectory);
        let directory = fs.open(path("/wal"), OpenMode::Read);
        assert_eq!(kind(directory), ErrorKind::IsADirectory);
        let directory = fs.open(path("/wal"), OpenMode::CreateNew);
        assert_eq!(kind(directory), ErrorKind::AlreadyExists);
        let above = fs.open(path("/wal/../a"), OpenMode::Read);
        assert_eq!(kind(above), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_opened_for_reading_cannot_be_changed() {
        let fs = disk_with(b"x");
        let mut file = fs.open(path("/a"), OpenMode::Read).unwrap();
        assert_eq!(kind(file.write_at(b"y", 0)), ErrorKind::PermissionDenied);
        assert_eq!(kind(file.set_len(0)), ErrorKind::PermissionDenied);
        file.sync_data().unwrap();
        assert_eq!(fs.read_file("/a").unwrap(), b"x");
    }

    #[test]
    fn a_file_cut_and_lengthened_reads_zeros() {
        let fs = disk_with(&[7; 9000]);
        let mut file = open(&fs, "/a");
        file.set_len(700).unwrap();
        file.set_len(9000).unwrap();
        let mut expected = vec![7; 700];
        expected.resize(9000, 0);
        assert_eq!(fs.read_file("/a").unwrap(), expected);
        file.sync_data().unwrap();
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), expected);
    }

    #[test]
    fn an_unlinked_file_is_usable_until_its_handles_are_gone() {
        let fs = disk_with(b"old");
        let mut file = open(&fs, "/a");
        fs.unlink(path("/a")).unwrap();
        fs.sync_dir(path("/")).unwrap();
        file.write_at(b"new", 0).unwrap();
        let mut bytes = [0; 3];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"new");
        assert_eq!(fs.unsynced(), 0, "nothing can name the file");
        create(&fs, "/a").write_at(b"other", 0).unwrap();
        assert_eq!(file.len().unwrap(), 3);
    }

    #[test]
    fn two_handles_see_one_file_even_after_a_rename() {
        let fs = disk_with(b"old");
        let reader = open(&fs, "/a");
        fs.rename(path("/a"), path("/b")).unwrap();
        open(&fs, "/b").write_at(b"new", 0).unwrap();
        let mut bytes = [0; 3];
        reader.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"new");
    }
}

mod names {
    use super::*;

    #[test]
    fn directories_are_made_listed_and_removed() {
        let fs = SimFileSystem::new();
        assert_eq!(kind(fs.create_dir(path("/w/s"))), ErrorKind::NotFound);
        fs.create_dir(path("/w")).unwrap();
        fs.create_dir(path("/w/s")).unwrap();
        assert_eq!(kind(fs.create_dir(path("/w"))), ErrorKind::AlreadyExists);
        create(&fs, "/w/a");
        let mut listed = fs.list(path("/w")).unwrap();
        listed.sort();
        assert_eq!(listed, ["a", "s"]);
        assert_eq!(fs.files(), [PathBuf::from("/w/a")]);
        assert_eq!(kind(fs.list(path("/x"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.sync_dir(path("/x"))), ErrorKind::NotFound);
        let full = fs.remove_dir(path("/w"));
        assert_eq!(kind(full), ErrorKind::DirectoryNotEmpty);
        assert_eq!(kind(fs.unlink(path("/w/s"))), ErrorKind::IsADirectory);
        fs.unlink(path("/w/a")).unwrap();
        assert_eq!(kind(fs.unlink(path("/w/a"))), ErrorKind::NotFound);
        fs.remove_dir(path("/w/s")).unwrap();
        fs.remove_dir(path("/w")).unwrap();
        assert!(fs.list(path("/")).unwrap().is_empty());
    }

    #[test]
    fn a_rename_replaces_a_file_and_refuses_a_directory() {
        let fs = SimFileSystem::with_dir("/w");
        fs.write_file("/a", b"a");
        fs.write_file("/b", b"b");
        fs.rename(path("/a"), path("/b")).unwrap();
        assert_eq!(fs.read_file("/a"), None);
        assert_eq!(fs.read_file("/b").unwrap(), b"a");
        let gone = fs.rename(path("/a"), path("/b"));
        assert_eq!(kind(gone), ErrorKind::NotFound);
        let onto = fs.rename(path("/b"), path("/w"));
        assert_eq!(kind(onto), ErrorKind::IsADirectory);
        let nowhere = fs.rename(path("/b"), path("/x/b"));
        assert_eq!(kind(nowhere), ErrorKind::NotFound);
        fs.rename(path("/b"), path("/b")).unwrap();
        fs.rename(path("/b"), path("/w/b")).unwrap();
        fs.rename(path("/w"), path("/v")).unwrap();
        assert_eq!(fs.read_file("/v/b").unwrap(), b"a");
        let inside = fs.rename(path("/v"), path("/v/v"));
        assert_eq!(kind(inside), ErrorKind::InvalidInput);
    }

    #[test]
    fn syncing_a_file_does_not_make_its_name_durable() {
        let fs = SimFileSystem::new();
        let mut file = create(&fs, "/a");
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(fs.unsynced(), 1);
        assert!(lose_all(&fs).files().is_empty());
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"x");
    }

    #[test]
    fn a_durable_name_outlives_unsynced_bytes() {
        let fs = SimFileSystem::new();
        create(&fs, "/a").write_at(b"x", 0).unwrap();
        fs.sync_dir(path("/")).unwrap();
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"");
    }

    #[test]
    fn a_directory_is_lost_with_all_in_it_until_its_parent_is_synced() {
        let fs = SimFileSystem::new();
        fs.create_dir(path("/w")).unwrap();
        create(&fs, "/w/a").sync_data().unwrap();
        fs.sync_dir(path("/w")).unwrap();
        assert!(lose_all(&fs).list(path("/")).unwrap().is_empty());

        let fs = keep_all(&fs);
        assert_eq!(fs.files(), [PathBuf::from("/w/a")]);
        assert_eq!(lose_all(&fs).files(), [PathBuf::from("/w/a")]);
    }

    #[test]
    fn a_removal_not_synced_may_be_undone() {
        let fs = disk_with(b"x");
        fs.create_dir(path("/w")).unwrap();
        fs.sync_dir(path("/")).unwrap();
        fs.unlink(path("/a")).unwrap();
        fs.remove_dir(path("/w")).unwrap();
        let after = lose_all(&fs);
        assert_eq!(after.read_file("/a").unwrap(), b"x");
        assert!(after.list(path("/w")).unwrap().is_empty());
        assert!(keep_all(&fs).list(path("/")).unwrap().is_empty());
    }

    #[test]
    fn a_rename_not_synced_shows_each_name_old_or_new() {
        let fs = disk_with(b"new");
        fs.write_file("/b", b"old");
        fs.rename(path("/a"), path("/b")).unwrap();
        let mut seen: Vec<_> = all_crashes(&fs)
            .iter()
            .map(|after| (after.read_file("/a"), after.read_file("/b")))
            .collect();
        seen.sort();
        let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        let expected =
            [(None, new.clone()), (None, old.clone()), (new.clone(), new.clone()), (new, old)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn two_names_of_one_file_are_freed_one_by_one() {
        let fs = disk_with(b"x");
        fs.rename(path("/a"), path("/b")).unwrap();
        let mut asked = 0;
        let fs = fs.crash(&mut || {
            asked += 1;
            asked == 2
        });
        assert_eq!(fs.files(), ["/a", "/b"].map(PathBuf::from));
        fs.rename(path("/a"), path("/b")).unwrap();
        assert_eq!(fs.files().len(), 2, "POSIX leaves both names");
        fs.unlink(path("/a")).unwrap();
        fs.sync_dir(path("/")).unwrap();
        assert_eq!(lose_all(&fs).read_file("/b").unwrap(), b"x");
    }

    #[test]
    fn of_several_changes_to_a_name_any_may_be_the_last() {
        let fs = disk_with(b"0");
        for bytes in [b"1", b"2"] {
            fs.write_file("/tmp", bytes);
            fs.rename(path("/tmp"), path("/a")).unwrap();
        }
        let mut seen: Vec<_> =
            all_crashes(&fs).iter().filter_map(|after| after.read_file("/a")).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [b"0", b"1", b"2"]);
    }
}

mod power_loss {
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
}

mod process_death {
    use super::*;

    #[test]
    fn a_killed_process_leaves_its_writes_in_the_cache() {
        let fs = SimFileSystem::new();
        let mut file = create(&fs, "/a");
        file.write_at(b"x", 0).unwrap();
        let unsynced = fs.unsynced();
        let after = fs.kill();
        assert_dead(file.write_at(b"y", 0));
        assert_dead(fs.list(path("/")));
        assert_eq!(after.read_file("/a").unwrap(), b"x");
        assert_eq!(after.unsynced(), unsynced);
        open(&after, "/a").sync_data().unwrap();
        after.sync_dir(path("/")).unwrap();
        assert_eq!(lose_all(&after).read_file("/a").unwrap(), b"x");
    }

    #[test]
    fn a_killed_process_leaves_a_removal_unsynced() {
        let fs = disk_with(b"x");
        let _file = open(&fs, "/a");
        fs.unlink(path("/a")).unwrap();
        let after = fs.kill();
        assert!(after.files().is_empty());
        assert_eq!(lose_all(&after).read_file("/a").unwrap(), b"x");
    }

    #[test]
    fn a_lock_is_exclusive_and_ends_with_its_file_the_process_or_the_power() {
        let fs = SimFileSystem::with_dir("/w");
        let at = path("/w/lock");
        assert_eq!(kind(fs.lock(path("/x/lock"))), ErrorKind::NotFound);
        assert_eq!(kind(fs.lock(path("/w"))), ErrorKind::IsADirectory);
        let mut lock = fs.lock(at).unwrap();
        lock.write_at(b"pid", 0).unwrap();
        assert_eq!(kind(fs.clone().lock(at)), ErrorKind::WouldBlock);
        drop(open(&fs, "/w/lock"));
        assert_eq!(kind(fs.lock(at)), ErrorKind::WouldBlock);
        drop(lock);
        let lock = fs.lock(at).unwrap();
        assert_eq!(lock.len().unwrap(), 3, "a lock keeps the file's bytes");

        let after = fs.kill();
        let _lock = after.lock(at).unwrap();
        assert_eq!(kind(after.lock(at)), ErrorKind::WouldBlock);
        drop(lock);
        assert_eq!(kind(after.lock(at)), ErrorKind::WouldBlock);
        let after = keep_all(&after);
        let _lock = after.lock(at).unwrap();
        assert!(lose_all(&fs).files().is_empty());
    }
}

mod failed_sync {
    use super::*;

    /// `/a` holds a kilobyte of 1. Its first sector was overwritten with 2, and the
    /// sync of that failed.
    fn disk_with_a_failed_sync() -> (SimFileSystem, Box<dyn FileHandle>) {
        let fs = disk_with(&[1; 1024]);
        let mut file = open(&fs, "/a");
        file.write_at(&[2; 512], 0).expect("a write");
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        let error = file.sync_data().expect_err("the planned error");
        assert_is(&error, EIO);
        (fs, file)
    }

    fn first_byte(fs: &SimFileSystem) -> u8 {
        fs.read_file("/a").expect("the file")[0]
    }

    #[test]
    fn the_next_sync_lies_and_the_cache_shows_what_is_lost() {
        let (fs, mut file) = disk_with_a_failed_sync();
        assert_eq!(fs.unsynced(), 0);
        file.sync_data().unwrap();
        assert_eq!(first_byte(&fs), 2);
        assert_eq!(first_byte(&keep_all(&fs)), 1);
    }

    #[test]
    fn the_next_process_is_fooled_as_well_until_it_drops_the_cache() {
        let (fs, _file) = disk_with_a_failed_sync();
        let after = fs.kill();
        assert_eq!(first_byte(&after), 2);
        let mut file = open(&after, "/a");
        file.sync_data().unwrap();
        let reader = after.open(path("/a"), OpenMode::Read).unwrap();
        reader.drop_cache();
        assert_eq!(after.read_file("/a").unwrap(), [1; 1024]);
    }

    #[test]
    fn dropping_the_cache_leaves_dirty_sectors_alone() {
        let (fs, mut file) = disk_with_a_failed_sync();
        file.write_at(&[3; 512], 512).unwrap();
        file.drop_cache();
        let bytes = fs.read_file("/a").unwrap();
        assert_eq!((bytes[0], bytes[512]), (1, 3));
    }

    #[test]
    fn a_sector_written_again_is_saved_by_the_next_sync() {
        let (fs, mut file) = disk_with_a_failed_sync();
        file.write_at(&[2; 512], 0).unwrap();
        assert_eq!(fs.unsynced(), 1);
        file.sync_data().unwrap();
        file.drop_cache();
        assert_eq!(first_byte(&fs), 2);
        assert_eq!(first_byte(&lose_all(&fs)), 2);
    }

    #[test]
    fn another_sector_of_the_page_does_not_save_the_lost_one() {
        let (fs, mut file) = disk_with_a_failed_sync();
        file.write_at(&[3; 512], 512).unwrap();
        file.sync_data().unwrap();
        let bytes = lose_all(&fs).read_file("/a").unwrap();
        assert_eq!((bytes[0], bytes[512]), (1, 3));
    }

    #[test]
    fn a_new_length_stays_unsynced_and_then_covers_zeros() {
        let fs = disk_with(b"");
        let mut file = open(&fs, "/a");
        file.write_at(&[2; 600], 0).unwrap();
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        file.sync_data().unwrap_err();
        assert_eq!(fs.unsynced(), 1);
        file.sync_data().unwrap();
        assert_eq!(fs.read_file("/a").unwrap(), [2; 600]);
        file.drop_cache();
        assert_eq!(fs.read_file("/a").unwrap(), [0; 600]);
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), [0; 600]);
    }

    #[test]
    fn a_cut_of_lost_sectors_is_a_cut() {
        let (fs, mut file) = disk_with_a_failed_sync();
        file.set_len(100).unwrap();
        file.drop_cache();
        file.set_len(1024).unwrap();
        let bytes = fs.read_file("/a").unwrap();
        assert_eq!(bytes[100..], [0; 924]);
        file.sync_data().unwrap();
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), bytes);
    }

    #[test]
    fn a_failed_sync_of_a_directory_keeps_its_names_unsynced() {
        let fs = SimFileSystem::new();
        create(&fs, "/a");
        fs.fail(Fault::new(Call::SyncDir, 1, FaultKind::Error(EIO)));
        fs.sync_dir(path("/")).unwrap_err();
        assert_eq!(fs.unsynced(), 1);
    }
}

mod faults {
    use super::*;

    #[test]
    fn every_call_can_fail_and_then_does_nothing() {
        let fs = SimFileSystem::with_dir("/w");
        let mut file = create(&fs, "/w/a");
        file.write_at(b"x", 0).unwrap();
        let mut armed = 0;
        let mut arm = |call| {
            armed += 1;
            fs.fail(Fault::new(call, 1, FaultKind::Error(EIO)));
        };
        macro_rules! fails {
            ($call:ident, $act:expr) => {
                arm(Call::$call);
                assert_is(&$act.err().unwrap(), EIO);
            };
        }
        fails!(Open, fs.open(path("/w/b"), OpenMode::CreateNew));
        fails!(CreateDir, fs.create_dir(path("/x")));
        fails!(List, fs.list(path("/w")));
        fails!(SyncDir, fs.sync_dir(path("/w")));
        fails!(Rename, fs.rename(path("/w/a"), path("/w/b")));
        fails!(Unlink, fs.unlink(path("/w/a")));
        fails!(RemoveDir, fs.remove_dir(path("/w")));
        fails!(Lock, fs.lock(path("/w/lock")));
        fails!(Read, file.read_at(&mut [0], 0));
        fails!(Write, file.write_at(b"y", 0));
        fails!(Sync, file.sync_data());
        fails!(SetLen, file.set_len(0));
        fails!(Len, file.len());
        fails!(Any, file.len());
        assert_eq!(fs.fired(), armed);
        assert_eq!(fs.list(path("/")).unwrap(), ["w"]);
        assert_eq!(fs.files(), [PathBuf::from("/w/a")]);
        assert_eq!(fs.read_file("/w/a").unwrap(), b"x");
    }

    #[test]
    fn a_fault_waits_for_its_call_its_path_and_its_turn() {
        let fs = disk_with(b"x");
        fs.write_file("/b", b"y");
        fs.fail(Fault {
            path_contains: Some("b".into()),
            ..Fault::new(Call::Len, 2, FaultKind::Error(EIO))
        });
        let (a, b) = (open(&fs, "/a"), open(&fs, "/b"));
        b.len().unwrap();
        a.len().unwrap();
        a.len().unwrap();
        b.read_at(&mut [0], 0).unwrap();
        assert_eq!(fs.fired(), 0);
        b.len().unwrap_err();
        b.len().unwrap();
        assert_eq!(fs.fired(), 1);

        fs.fail(Fault {
            path_contains: Some("/c".into()),
            ..Fault::new(Call::Rename, 1, FaultKind::Error(EIO))
        });
        fs.rename(path("/a"), path("/c")).unwrap_err();
    }

    #[test]
    fn a_sticky_fault_fires_until_it_is_cleared() {
        let fs = disk_with(b"x");
        let file = open(&fs, "/a");
        fs.fail(Fault { sticky: true, ..Fault::new(Call::Len, 2, FaultKind::Error(EIO)) });
        file.len().unwrap();
        file.len().unwrap_err();
        file.len().unwrap_err();
        fs.clear_faults();
        file.len().unwrap();
        assert_eq!(fs.fired(), 2);
        assert_eq!(fs.calls(Call::Len), 4);
        assert_eq!(fs.calls(Call::Open), 1);
        assert_eq!(fs.calls(Call::Any), 5);
    }

    #[test]
    fn two_faults_due_at_one_call_fire_one_after_the_other() {
        let fs = disk_with(b"x");
        let file = open(&fs, "/a");
        for errno in [EIO, 28] {
            fs.fail(Fault::new(Call::Len, 1, FaultKind::Error(errno)));
        }
        assert_is(&file.len().unwrap_err(), EIO);
        assert_is(&file.len().unwrap_err(), ENOSPC);
        file.len().unwrap();
    }

    #[test]
    fn a_short_transfer_moves_about_half_and_never_nothing() {
        let fs = disk_with(b"");
        let mut file = open(&fs, "/a");
        fs.fail(Fault { sticky: true, ..Fault::new(Call::Any, 1, FaultKind::Short) });
        assert_eq!(file.len().unwrap(), 0, "only reads and writes match");
        assert_eq!(fs.fired(), 0);
        assert_eq!(file.write_at(&[1; 100], 0).unwrap(), 50);
        assert_eq!(file.write_at(&[1; 2], 0).unwrap(), 1);
        assert_eq!(file.write_at(&[1; 1], 0).unwrap(), 1);
        assert_eq!(file.read_at(&mut [0; 20], 0).unwrap(), 10);
        assert_eq!(fs.fired(), 4);
        assert_eq!(fs.read_file("/a").unwrap(), [1; 50]);
    }

    #[test]
    fn a_power_cut_comes_before_the_call_takes_effect() {
        let fs = disk_with(b"old");
        let mut file = open(&fs, "/a");
        fs.fail(Fault::new(Call::Write, 1, FaultKind::PowerCut));
        assert_dead(file.write_at(b"new", 0));
        assert_dead(file.len());
        assert_dead(fs.list(path("/")));
        assert_eq!(fs.calls(Call::Any), 2, "a dead machine counts no calls");
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"old");

        let fs = disk_with(b"old");
        let mut file = open(&fs, "/a");
        file.write_at(b"new", 0).unwrap();
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
        assert_dead(file.sync_data());
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"old");
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"new");
        assert_eq!(fs.kill().read_file("/a").unwrap(), b"new");
    }

    #[test]
    fn a_torn_power_cut_leaves_half_of_the_write_in_the_cache() {
        let fs = disk_with(b"");
        let mut file = open(&fs, "/a");
        fs.fail(Fault::new(Call::Any, 1, FaultKind::TornPowerCut));
        assert_dead(file.write_at(&[1; 2048], 0));
        assert_dead(file.len());
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), [1; 1024]);
        assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"");

        let fs = disk_with(b"x");
        fs.fail(Fault::new(Call::Any, 1, FaultKind::TornPowerCut));
        assert_dead(fs.unlink(path("/a")));
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"x");
    }

    #[test]
    fn a_planned_panic_leaves_the_disk_usable() {
        let fs = disk_with(b"x");
        let mut file = open(&fs, "/a");
        fs.fail(Fault::new(Call::Write, 1, FaultKind::Panic));
        let write = AssertUnwindSafe(|| file.write_at(b"y", 0));
        assert!(panic::catch_unwind(write).is_err());
        assert_eq!(fs.read_file("/a").unwrap(), b"x");
        assert_eq!(fs.fired(), 1);
        file.write_at(b"y", 0).unwrap();
    }

    #[test]
    fn a_write_back_makes_all_durable_before_the_call() {
        let fs = disk_with(b"");
        let mut file = open(&fs, "/a");
        file.write_at(b"rolled back", 0).unwrap();
        create(&fs, "/b");
        fs.fail(Fault::new(Call::SetLen, 1, FaultKind::WriteBack));
        file.set_len(0).unwrap();
        let after = lose_all(&fs);
        assert_eq!(after.read_file("/a").unwrap(), b"rolled back");
        assert_eq!(after.read_file("/b").unwrap(), b"");
        assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"");
    }

    #[test]
    fn the_next_machine_starts_without_faults_and_counts() {
        let fs = disk_with(b"x");
        fs.set_capacity(Some(4096));
        fs.fail(Fault::new(Call::Open, 1, FaultKind::Error(EIO)));
        fs.open(path("/a"), OpenMode::Read).unwrap_err();
        fs.fail(Fault::new(Call::Open, 1, FaultKind::Error(EIO)));
        for after in [fs.kill(), keep_all(&fs)] {
            assert_eq!((after.fired(), after.calls(Call::Any)), (0, 0));
            let mut file = open(&after, "/a");
            let full = file.write_at(&[1; 10], 4096);
            assert_eq!(kind(full), ErrorKind::StorageFull);
        }
    }
}

mod space_and_time {
    use super::*;

    #[test]
    fn a_full_disk_takes_what_fits_and_then_nothing() {
        let fs = SimFileSystem::new();
        fs.set_capacity(Some(3 * 4096));
        let mut a = create(&fs, "/a");
        let mut b = create(&fs, "/b");
        assert_eq!(a.write_at(&[1; 10], 0).unwrap(), 10);
        assert_eq!(b.write_at(&[1; 10_000], 100).unwrap(), 8092);
        let full = b.write_at(&[1; 10], 8192);
        assert_eq!(kind(full), ErrorKind::StorageFull);
        assert_eq!(a.write_at(&[2; 4096], 0).unwrap(), 4096);
        assert_eq!(b.write_at(&[2; 8192], 0).unwrap(), 8192);
        assert_eq!(a.len().unwrap(), 4096);
        assert_eq!(b.len().unwrap(), 8192);
    }

    #[test]
    fn holes_take_no_space_and_cuts_and_removals_give_it_back() {
        let fs = SimFileSystem::new();
        fs.set_capacity(Some(2 * 4096));
        let mut a = create(&fs, "/a");
        a.set_len(1 << 40).unwrap();
        assert_eq!(a.write_at(&[1; 8192], 1 << 30).unwrap(), 8192);
        assert_eq!(kind(a.write_at(&[1], 0)), ErrorKind::StorageFull);
        a.set_len((1 << 30) + 4096).unwrap();
        assert_eq!(a.write_at(&[1], 0).unwrap(), 1);

        let mut b = create(&fs, "/b");
        assert_eq!(kind(b.write_at(&[1], 0)), ErrorKind::StorageFull);
        fs.unlink(path("/a")).unwrap();
        let held = b.write_at(&[1], 0);
        assert_eq!(kind(held), ErrorKind::StorageFull, "a handle holds it");
        drop(a);
        assert_eq!(b.write_at(&[1; 8192], 0).unwrap(), 8192);
        assert_eq!(kind(b.write_at(&[1], 8192)), ErrorKind::StorageFull);
        fs.write_file("/b", b"small");
        assert_eq!(b.write_at(&[1], 4096).unwrap(), 1);
        fs.set_capacity(None);
        assert_eq!(b.write_at(&[1; 99_999], 0).unwrap(), 99_999);
    }

    #[test]
    fn a_crash_counts_the_space_anew() {
        let fs = disk_with(&[1; 4096]);
        fs.set_capacity(Some(2 * 4096));
        let mut file = open(&fs, "/a");
        file.write_at(&[1; 4096], 4096).unwrap();
        let after = lose_all(&fs);
        let mut file = open(&after, "/a");
        assert_eq!(file.write_at(&[2; 9000], 4096).unwrap(), 4096);
    }

    #[test]
    fn syncs_of_two_files_take_their_time_side_by_side() {
        const LATENCY: Duration = Duration::from_millis(200);
        let fs = SimFileSystem::new();
        fs.set_sync_latency(LATENCY);
        let begun = Instant::now();
        thread::scope(|scope| {
            for at in ["/a", "/b", "/c", "/d"] {
                let mut file = create(&fs, at);
                scope.spawn(move || file.sync_data().unwrap());
            }
        });
        assert!(begun.elapsed() >= LATENCY);
        assert!(begun.elapsed() < 4 * LATENCY, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_sync_that_the_power_overtakes_fails() {
        let fs = disk_with(b"old");
        fs.set_sync_latency(Duration::from_millis(200));
        let mut file = open(&fs, "/a");
        file.write_at(b"new", 0).unwrap();
        let after = thread::scope(|scope| {
            let sync = scope.spawn(move || file.sync_data());
            while fs.calls(Call::Sync) == 0 {
                thread::yield_now();
            }
            let after = lose_all(&fs);
            assert_dead(sync.join().unwrap());
            after
        });
        assert_eq!(after.read_file("/a").unwrap(), b"old");
    }
}

mod corruption {
    use super::*;

    #[test]
    fn a_file_put_there_or_taken_away_by_hand_is_durable() {
        let fs = SimFileSystem::new();
        fs.write_file("/w/s/a", &[7; 5000]);
        assert_eq!(fs.unsynced(), 0);
        assert_eq!(fs.read_file("/w/s/a").unwrap(), [7; 5000]);
        let file = open(&fs, "/w/s/a");
        fs.write_file("/w/s/a", b"short");
        assert_eq!(file.len().unwrap(), 5);
        let after = lose_all(&fs);
        assert_eq!(after.read_file("/w/s/a").unwrap(), b"short");
        after.remove_file("/w/s/a");
        assert_eq!(after.unsynced(), 0);
        assert_eq!(after.read_file("/w/s/a"), None);
        assert!(lose_all(&after).files().is_empty());
        assert_eq!(after.calls(Call::Any), 0);
    }

    #[test]
    fn the_disk_reports_whether_it_copies_on_write() {
        let fs = SimFileSystem::default();
        assert!(!fs.copy_on_write(path("/")));
        fs.set_copy_on_write(true);
        assert!(fs.copy_on_write(path("/")));
        assert!(format!("{fs:?} {:?}", create(&fs, "/a")).contains("/a"));
    }
}

#[test]
fn a_copy_crashes_alone() {
    let fs = disk_with(&[1; 600]);
    let mut file = open(&fs, "/a");
    file.write_at(&[2; 600], 0).expect("room");
    let copy = fs.copy();
    assert_eq!(copy.unsynced(), fs.unsynced());
    assert_eq!(lose_all(&copy).read_file("/a"), Some(vec![1; 600]));
    assert_eq!(copy.read_file("/a"), Some(vec![2; 600]));
    assert_dead(copy.list(path("/")));
    // The original disk lives on; its copy stays behind.
    file.write_at(&[3; 600], 0).expect("room");
    file.sync_data().expect("no fault");
    assert_eq!(lose_all(&fs).read_file("/a"), Some(vec![3; 600]));
    assert_eq!(lose_all(&copy).read_file("/a"), Some(vec![1; 600]));
}
