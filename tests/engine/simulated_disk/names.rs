//! Names: create, rename, unlink, directories.

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
