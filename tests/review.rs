//! Review.
#![allow(missing_docs, warnings)]
use bytes::Bytes;
use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn cfg(d: &SimDisk) -> Config {
    Config::new("/wal").disk(Arc::new(d.clone())).shards(1)
}
fn all(w: &ShardedWal) -> Result<Vec<(Position, Vec<u8>)>, ReplayError<()>> {
    let out = Mutex::new(Vec::new());
    w.replay(ReplayOptions::default().threads(1), |r| {
        out.lock().unwrap().push((r.position(), r.payload().to_vec()));
        Ok::<(), ()>(())
    })?;
    Ok(out.into_inner().unwrap())
}
fn texts(w: &ShardedWal) -> Vec<String> {
    all(w).unwrap().into_iter().map(|(_, p)| String::from_utf8_lossy(&p).into_owned()).collect()
}
fn lose_all(d: &SimDisk) -> SimDisk {
    d.crash(&mut || false)
}
fn on(call: Call, path: &str, nth: u64, kind: FaultKind) -> Fault {
    Fault { call, path_contains: Some(path.into()), nth, sticky: false, kind }
}

/// T1: unsynced trailing seal becomes part of the predecessor's end.
#[test]
fn t1_seal_in_page_cache_then_power_loss_loses_acked() {
    let d = SimDisk::new();
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    std::thread::sleep(Duration::from_millis(2500)); // idle: housekeeping seals, no sync
    let d = d.kill(); // kill -9
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    assert_eq!(texts(&w), ["a"]);
    w.append(1, "b").wait().unwrap(); // acknowledged under Sync
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    assert_eq!(texts(&w), ["a", "b"], "{}", w.recovery());
}
/// T1b: the same, two commits: refusal.
#[test]
fn t1b_same_with_two_commits_refuses() {
    let d = SimDisk::new();
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    // close: sync, seal, (killed at the second sync)
    d.fail(on(Call::Sync, "shard-0000/", 1, FaultKind::PowerCut));
    let _ = w.close();
    assert_eq!(d.fired(), 1);
    let d = d.kill();
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "b").wait().unwrap();
    w.append(1, "c").wait().unwrap();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    assert_eq!(texts(&w), ["a", "b", "c"]);
}

/// T2: manifest renamed, killed before sync_dir; next open trusts it.
#[test]
fn t2_manifest_name_never_synced_generation_deleted() {
    let d = SimDisk::with_dir("/wal");
    // sync_dir(/wal) calls: 1 manifest without generations, 2 create_generation, 3 manifest with generation
    let mut n = 0;
    let killed = loop {
        n += 1;
        let probe = SimDisk::with_dir("/wal");
        probe.fail(Fault::new(Call::Rename, n, FaultKind::PowerCut));
        assert!(ShardedWal::open(cfg(&probe)).is_err() || panic!("no rename {n}"));
        // the 3rd rename is the manifest's second (manifest, segment, manifest)
        if n == 3 {
            break probe;
        }
    };
    drop(killed);
    // count sync_dir calls up to the end of open
    let probe = SimDisk::with_dir("/wal");
    drop(ShardedWal::open(cfg(&probe)).unwrap());
    let d2 = SimDisk::with_dir("/wal");
    let w = ShardedWal::open(cfg(&d2)).unwrap();
    let syncs = d2.calls(Call::SyncDir);
    drop(w);
    d.fail(Fault::new(Call::SyncDir, syncs, FaultKind::PowerCut)); // the last one of open
    assert!(ShardedWal::open(cfg(&d)).is_err());
    let d = d.kill();
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "acked").wait().unwrap();
    w.flush().wait().unwrap();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    assert_eq!(texts(&w), ["acked"], "{}", w.recovery());
}
/// T2b: the same by an error of sync_dir rather than a kill: second open in the same process.
#[test]
fn t2b_sync_dir_error_then_reopen() {
    let d2 = SimDisk::with_dir("/wal");
    let w = ShardedWal::open(cfg(&d2)).unwrap();
    let syncs = d2.calls(Call::SyncDir);
    drop(w);
    let d = SimDisk::with_dir("/wal");
    d.fail(Fault::new(Call::SyncDir, syncs, FaultKind::Error(5)));
    assert!(ShardedWal::open(cfg(&d)).is_err());
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "acked").wait().unwrap();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    assert_eq!(texts(&w), ["acked"], "{}", w.recovery());
}
/// T3: the log's own directory.
#[test]
fn t3_log_directory_name_never_synced() {
    let d = SimDisk::new();
    d.fail(Fault::new(Call::SyncDir, 1, FaultKind::PowerCut));
    assert!(ShardedWal::open(cfg(&d)).is_err());
    let d = d.kill();
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "acked").wait().unwrap();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    assert_eq!(texts(&w), ["acked"]);
}
/// T4: false "manifest missing".
#[test]
fn t4_manifest_missing_after_kill_and_power_loss() {
    let d = SimDisk::with_dir("/wal");
    d.fail(Fault::new(Call::SyncDir, 1, FaultKind::PowerCut)); // after the first manifest's rename
    assert!(ShardedWal::open(cfg(&d)).is_err());
    let d = d.kill();
    d.fail(Fault::new(Call::CreateDir, 2, FaultKind::PowerCut)); // generation made, shard not
    assert!(ShardedWal::open(cfg(&d)).is_err());
    // names in order: MANIFEST (1 change), MANIFEST.tmp (2 changes?), generation: try all subsets
    let n = d.unsynced();
    for subset in 0..1u64 << n {
        let mut i = 0;
        let after = d.crash(&mut || {
            i += 1;
            subset >> (i - 1) & 1 == 1
        });
        if let Err(e) = ShardedWal::open(cfg(&after)) {
            panic!("subset {subset:b} of {n}: {e}");
        }
    }
}
/// T5: Os, truncation, power loss.
#[test]
fn t5_os_truncate_then_power_loss_refuses() {
    let d = SimDisk::new();
    let c = |d: &SimDisk| cfg(d).segment_bytes(4096).durability(Durability::Os);
    let w = ShardedWal::open(c(&d)).unwrap();
    for i in 0..40 {
        w.append(1, vec![i; 1000]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let r = w.truncate_before(&w.checkpoint()).unwrap();
    eprintln!("{r:?}");
    let d = lose_all(&d);
    drop(w);
    ShardedWal::open(c(&d)).map_err(|e| e.to_string()).unwrap();
}
/// T5b: Sync, EIO at the first sync of a new segment, truncation, reopen.
#[test]
fn t5b_sync_eio_truncate_reopen_refuses() {
    let d = SimDisk::new();
    let c = |d: &SimDisk| cfg(d).segment_bytes(4096);
    let w = ShardedWal::open(c(&d)).unwrap();
    // sync 1 of segment 2: its zeros; sync 2: its first commit
    d.fail(on(Call::Sync, "0000000002.wal", 2, FaultKind::Error(5)));
    let mut ok = 0;
    for i in 0..40 {
        if w.append(1, vec![i; 1000]).wait().is_err() {
            break;
        }
        ok += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(d.fired(), 1, "{ok}");
    let r = w.truncate_before(&w.checkpoint()).unwrap();
    eprintln!("{ok} acked, {r:?}");
    drop(w);
    ShardedWal::open(c(&d)).map_err(|e| e.to_string()).unwrap();
}
fn fill(d: &SimDisk, w: &ShardedWal) -> u64 {
    // No room: refuse a few.
    d.set_capacity(Some(1));
    let mut refused = 0;
    for _ in 0..5 {
        let e = w.append(1, vec![7; 9000]).wait().unwrap_err();
        assert!(e.is_not_written(), "{e}");
        refused += 1;
    }
    d.set_capacity(None);
    refused
}
/// T6: refused, flushed, then a torn commit: false damage.
#[test]
fn t6_refusal_flush_torn_commit_is_called_damage() {
    let c = |d: &SimDisk| {
        d.set_copy_on_write(true);
        cfg(d)
    };
    let d = SimDisk::new();
    let w = ShardedWal::open(c(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    fill(&d, &w);
    w.flush().wait().unwrap();
    // one commit of several sectors, torn: killed at its sync
    d.fail(on(Call::Sync, "shard-0000/", 1, FaultKind::PowerCut));
    let _ = w.append(1, vec![9; 5000]).wait();
    let n = d.unsynced();
    eprintln!("{n} changes");
    drop(w);
    for subset in 0..1u64 << n.min(14) {
        let mut i = 0;
        let after = d.crash(&mut || {
            i += 1;
            subset >> (i - 1) & 1 == 1
        });
        if let Err(e) = ShardedWal::open(c(&after)) {
            panic!("subset {subset:b} of {n}: {e}");
        }
    }
}
/// T7: refused, then live replay.
#[test]
fn t7_refusal_then_live_replay_is_called_damage() {
    let d = SimDisk::new();
    d.set_copy_on_write(true);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    fill(&d, &w);
    match all(&w) {
        Ok(r) => assert_eq!(r.len(), 1),
        Err(e) => panic!(
            "{}",
            match e {
                ReplayError::Log(e) => e.to_string(),
                _ => unreachable!(),
            }
        ),
    }
}
/// T8: checkpoint over refused numbers, which are then given again.
#[test]
fn t8_checkpoint_over_refused_numbers_hides_later_records() {
    let d = SimDisk::new();
    d.set_copy_on_write(true);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    fill(&d, &w);
    let kept = w.checkpoint(); // the embedder keeps it with its state
    let d = d.kill();
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    let p = w.append(1, "b").wait().unwrap(); // acknowledged, after the checkpoint
    eprintln!("kept {kept:?}, then acknowledged at {p}");
    w.close().unwrap();
    drop(w);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    let out = Mutex::new(Vec::new());
    w.replay_from(&kept, ReplayOptions::default(), |r| {
        out.lock().unwrap().push(r.payload().to_vec());
        Ok::<(), ()>(())
    })
    .unwrap();
    assert_eq!(out.into_inner().unwrap(), [b"b".to_vec()]);
}
/// T8b: Os mode: the checkpoint outlives the log's tail.
#[test]
fn t8b_os_checkpoint_outlives_the_tail() {
    let d = SimDisk::new();
    let c = |d: &SimDisk| cfg(d).durability(Durability::Os);
    let w = ShardedWal::open(c(&d)).unwrap();
    for _ in 0..5 {
        w.append(1, "old").wait().unwrap();
    }
    let kept = w.checkpoint();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(c(&d)).unwrap();
    w.append(1, "new").wait().unwrap();
    w.close().unwrap();
    drop(w);
    let w = ShardedWal::open(c(&d)).unwrap();
    let out = Mutex::new(Vec::new());
    w.replay_from(&kept, ReplayOptions::default(), |r| {
        out.lock().unwrap().push(r.payload().to_vec());
        Ok::<(), ()>(())
    })
    .unwrap();
    assert_eq!(out.into_inner().unwrap(), [b"new".to_vec()]);
}
/// T9: purge mark in the cache, killed, open acts on it, power loss.
#[test]
fn t9_unsynced_purge_mark_acted_on() {
    let d = SimDisk::new();
    let c = |d: &SimDisk| cfg(d).segment_bytes(4096);
    let w = ShardedWal::open(c(&d)).unwrap();
    for i in 0..40 {
        w.append(1, vec![i; 1000]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    d.fail(on(Call::Sync, "purge", 1, FaultKind::PowerCut));
    assert!(w.truncate_before(&w.checkpoint()).is_err());
    let d = d.kill();
    drop(w);
    let w = ShardedWal::open(c(&d)).unwrap();
    eprintln!("{}", w.recovery());
    w.append(1, "acked").wait().unwrap();
    // power loss: unlinks reach the disk, the purge mark does not. Names are
    // asked first; names true, then sectors: false.
    for names in 0..200usize {
        let mut i = 0;
        let after = d.crash(&mut || {
            i += 1;
            i <= names
        });
        if let Err(e) = ShardedWal::open(c(&after)) {
            panic!("first {names} of {i} survive: {e}");
        }
    }
}
/// T10: old generation given up, unlinks in any order.
#[test]
fn t10_old_generation_partly_unlinked_panics() {
    let d = SimDisk::new();
    let w = ShardedWal::open(cfg(&d).segment_bytes(4096)).unwrap();
    for i in 0..30 {
        w.append(1, vec![i; 1000]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    w.close().unwrap();
    drop(w);
    let c = |d: &SimDisk| cfg(d).segment_bytes(4096).shards(2);
    let w = ShardedWal::open(c(&d)).unwrap();
    d.fail(on(Call::SyncDir, "generation-00001", 1, FaultKind::PowerCut));
    assert!(w.truncate_before(&w.checkpoint()).is_err());
    assert_eq!(d.fired(), 1);
    drop(w);
    let n = d.unsynced();
    eprintln!("{n}");
    for only in 0..n {
        let mut i = 0;
        // every unlink survives but one
        let after = d.crash(&mut || {
            i += 1;
            i - 1 != only
        });
        ShardedWal::open(c(&after)).map_err(|e| e.to_string()).unwrap();
    }
}
/// T11: a waker that panics.
#[test]
fn t11_panicking_waker_makes_others_hang() {
    use std::future::Future;
    use std::task::{Context, Wake, Waker};
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("bomb")
        }
    }
    let d = SimDisk::new();
    let w = Arc::new(ShardedWal::open(cfg(&d)).unwrap());
    d.set_sync_latency(Duration::from_millis(500));
    w.append(1, "first").wait().unwrap();
    let mut c = Box::pin(w.append(1, "a"));
    let waker = Waker::from(Arc::new(Bomb));
    assert!(c.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (tx, rx) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let (w, tx) = (w.clone(), tx.clone());
        std::thread::spawn(move || {
            let r = w.append(1, "b").wait();
            tx.send(r.is_ok()).unwrap();
        });
    }
    for n in 0..3 {
        let r = rx.recv_timeout(Duration::from_secs(5));
        assert!(r.is_ok(), "waiter {n} of 3 hangs");
    }
    std::mem::forget(c);
}
/// T11b: the bomb waits on a barrier.
#[test]
fn t11b_panicking_waker_of_a_barrier() {
    use std::future::Future;
    use std::task::{Context, Wake, Waker};
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("bomb")
        }
    }
    let d = SimDisk::new();
    let w = Arc::new(ShardedWal::open(cfg(&d)).unwrap());
    d.set_sync_latency(Duration::from_millis(500));
    let (tx, rx) = std::sync::mpsc::channel();
    {
        let w = w.clone();
        std::thread::spawn(move || {
            let r = w.append(1, "b").wait();
            tx.send(format!("{r:?}")).unwrap();
        });
    }
    std::thread::sleep(Duration::from_millis(100));
    let mut f = Box::pin(w.flush());
    let waker = Waker::from(Arc::new(Bomb));
    assert!(f.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let r = rx.recv_timeout(Duration::from_secs(5));
    assert!(r.is_ok(), "the append hangs");
    std::mem::forget(f);
}

const SEG: &str = "/wal/generation-00001/shard-0000/0000000001.wal";
fn seed(b: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&b[24..40]);
    h.update(&b[12..16]);
    h.update(&b[16..20]);
    h.update(&b[40..48]);
    h.finalize()
}
fn seed0(b: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&b[24..40]);
    h.update(&b[12..16]);
    h.update(&b[16..20]);
    h.update(&[0; 8]);
    h.finalize()
}
fn frame(
    seed: u32,
    offset: u64,
    kind: u8,
    records: u16,
    first: u32,
    lag: u32,
    body: &[u8],
) -> Vec<u8> {
    let mut h = vec![0; 20];
    h[0..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    h[4] = kind;
    h[6..8].copy_from_slice(&records.to_le_bytes());
    h[8..12].copy_from_slice(&first.to_le_bytes());
    h[12..16].copy_from_slice(&lag.to_le_bytes());
    let mut c = crc32fast::Hasher::new_with_initial(seed);
    c.update(body);
    h[16..20].copy_from_slice(&c.finalize().to_le_bytes());
    let mut c = crc32fast::Hasher::new_with_initial(seed);
    c.update(&offset.to_le_bytes());
    c.update(&h);
    let crc = c.finalize();
    h.extend_from_slice(&crc.to_le_bytes());
    h.extend_from_slice(body);
    h
}
fn one_record(close: bool) -> SimDisk {
    let d = SimDisk::new();
    d.set_copy_on_write(true);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    if close {
        w.close().unwrap();
    }
    let d2 = d.kill();
    drop(w);
    d2
}
#[test]
fn t12a_stray_file_name_overflows() {
    let d = one_record(true);
    d.write_file("/wal/generation-00001/shard-0000/18446744073709551615.wal", b"");
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string());
    eprintln!("{:?}", w.map(|w| texts(&w)));
}
#[test]
fn t12b_header_first_sequence_overflows() {
    let d = one_record(true);
    let mut b = d.read_file(SEG).unwrap();
    b[48..56].copy_from_slice(&u64::MAX.to_le_bytes());
    let crc = crc32fast::hash(&b[..84]);
    b[84..88].copy_from_slice(&crc.to_le_bytes());
    d.write_file(SEG, &b);
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string());
    eprintln!("{:?}", w.map(|w| texts(&w)));
}
#[test]
fn t12c_near_max_first_sequence_panics_the_appender() {
    let d = one_record(true);
    let mut b = d.read_file(SEG).unwrap();
    b[48..56].copy_from_slice(&(u64::MAX - 2).to_le_bytes());
    let crc = crc32fast::hash(&b[..84]);
    b[84..88].copy_from_slice(&crc.to_le_bytes());
    d.write_file(SEG, &b);
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    for _ in 0..4 {
        let r = w.append(1, "b").wait();
        eprintln!("{r:?}");
    }
}
#[test]
fn t13_skippable_frame_with_a_body() {
    let d = one_record(true);
    let mut b = d.read_file(SEG).unwrap();
    assert_eq!(b.len(), 170);
    let s = seed(&b);
    b.extend(frame(s, 170, 0x80, 0, 1, 0, b"hello"));
    let mut body = 1u64.to_le_bytes().to_vec();
    body.push(1);
    body.push(b'x');
    let at = b.len() as u64;
    b.extend(frame(s, at, 1, 1, 1, 0, &body));
    d.write_file(SEG, &b);
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    assert_eq!(texts(&w), ["a", "x"], "{}", w.recovery());
}
#[test]
fn t14_crowded_segment_waits_for_a_segment_nobody_asked_for() {
    let d = one_record(false);
    let b = d.read_file(SEG).unwrap();
    let mut m = b"purgemrk".to_vec();
    m.extend(1u64.to_le_bytes());
    m.extend(3_000_000_000u64.to_le_bytes());
    let mut c = crc32fast::Hasher::new_with_initial(seed0(&b));
    c.update(&m);
    m.extend(c.finalize().to_le_bytes());
    let mut p = d.read_file("/wal/generation-00001/shard-0000/purge").unwrap();
    p[4096..4096 + m.len()].copy_from_slice(&m);
    d.write_file("/wal/generation-00001/shard-0000/purge", &p);
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    let mut c = w.append(1, "b");
    let r = c.wait_timeout(Duration::from_secs(5));
    drop(c);
    std::mem::forget(w);
    assert!(r.is_some(), "hangs");
}
#[test]
fn t15_old_generation_settled_but_its_name_never_synced() {
    let d = SimDisk::new();
    d.set_copy_on_write(true);
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "a").wait().unwrap();
    d.fail(on(Call::Sync, "shard-0000/", 1, FaultKind::PowerCut));
    assert!(w.append(1, "b").wait().is_err());
    let d = d.kill();
    drop(w);
    let c = |d: &SimDisk| cfg(d).shards(2);
    d.fail(on(Call::SyncDir, "generation-00001/shard", 1, FaultKind::PowerCut));
    assert!(ShardedWal::open(c(&d)).is_err());
    assert_eq!(d.fired(), 1);
    let d = d.kill();
    let w = ShardedWal::open(c(&d)).unwrap();
    assert_eq!(texts(&w), ["a", "b"]); // replayed
    w.append(1, "c").wait().unwrap();
    let d = lose_all(&d);
    drop(w);
    let w = ShardedWal::open(c(&d)).map_err(|e| e.to_string()).unwrap();
    assert_eq!(texts(&w), ["a", "b", "c"]);
}
#[test]
fn t16_second_closer_gets_ok() {
    let d = SimDisk::new();
    let w =
        Arc::new(ShardedWal::open(cfg(&d).segment_bytes(4096).durability(Durability::Os)).unwrap());
    for i in 0..7 {
        w.append(1, vec![i; 1000]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("{:?}", d.files());
    d.set_sync_latency(Duration::from_millis(400));
    d.fail(on(Call::Sync, "0000000002.wal", 1, FaultKind::Error(5)));
    let a = {
        let w = w.clone();
        std::thread::spawn(move || w.close())
    };
    std::thread::sleep(Duration::from_millis(100));
    let b = w.close();
    let a = a.join().unwrap();
    assert!(a.is_err());
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}
/// T17: a flipped bit in a mere seal before a roll cuts an acknowledged record silently.
#[test]
fn t17_rot_in_a_seal_cuts_the_next_segment() {
    let d = one_record(true); // segment 1: record, seal
    let w = ShardedWal::open(cfg(&d)).unwrap();
    w.append(1, "b").wait().unwrap();
    let d2 = d.kill();
    drop(w);
    let mut b = d2.read_file(SEG).unwrap();
    b[150] ^= 1; // in the seal at 146
    d2.write_file(SEG, &b);
    match ShardedWal::open(cfg(&d2)) {
        Ok(w) => assert_eq!(texts(&w), ["a", "b"], "{}", w.recovery()),
        Err(e) => eprintln!("refused: {e}"),
    }
}

const KILLS: bool = true;
const TRUNC: bool = false;
fn rng(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut s = seed.wrapping_mul(0x9E3779B97F4A7C15) | 1;
    move |n| {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 11) % n
    }
}
/// Random: only power losses (no kills), Sync, no truncation, no full disk.
fn fuzz(seed: u64, durability: Durability) -> Result<(), String> {
    let mut r = rng(seed + 1);
    let mut d = SimDisk::new();
    d.set_copy_on_write(r(2) == 0);
    let shards = 1;
    let mut acked: Vec<(Position, Vec<u8>)> = Vec::new();
    let mut maybe: std::collections::BTreeMap<Position, Vec<Vec<u8>>> = Default::default();
    let mut payload = 0u64;
    for _life in 0..6 {
        let shards = if TRUNC { 1 + r(2) as usize } else { 1 };
        let c = cfg(&d)
            .segment_bytes(4096)
            .shards(shards)
            .durability(durability)
            .commit_records(1 + r(4) as usize);
        if KILLS && r(2) == 0 {
            d.fail(Fault::new(
                [Call::Sync, Call::Write, Call::SyncDir, Call::Any][r(4) as usize],
                1 + r(12),
                FaultKind::Error(5),
            ));
        }
        if KILLS && r(3) == 0 {
            d.fail(Fault {
                call: Call::Write,
                path_contains: Some(".wal".into()),
                nth: 1 + r(12),
                sticky: false,
                kind: FaultKind::Short,
            });
        }
        d.fail(Fault::new(
            Call::Any,
            1 + r(120),
            if r(2) == 0 { FaultKind::PowerCut } else { FaultKind::TornPowerCut },
        ));
        if r(3) == 0 {
            d.fail(Fault::new(Call::Any, 1 + r(120), FaultKind::WriteBack));
        }
        let mut fresh: Vec<(Position, Vec<u8>)> = Vec::new();
        match ShardedWal::open(c) {
            Err(e @ (OpenError::Io { .. })) if d.fired() > 0 => {}
            Err(e) => return Err(format!("open: {e}")),
            Ok(w) => {
                let got = match all(&w) {
                    Ok(g) => g,
                    Err(ReplayError::Log(OpenError::Io { .. })) if d.fired() > 0 => {
                        drop(w);
                        d = d.crash(&mut || r(2) == 0);
                        continue;
                    }
                    Err(e) => return Err(format!("replay {e:?}")),
                };
                check(&got, &acked, &maybe)?;
                for g in &got {
                    if !acked.iter().any(|a| a.0 == g.0) && durability == Durability::Sync {
                        acked.push(g.clone());
                    }
                }
                if durability != Durability::Sync {}
                acked.sort();
                for _ in 0..r(12) {
                    let n = 1 + r(3);
                    let mut cs = Vec::new();
                    for _ in 0..n {
                        payload += 1;
                        let mut p = payload.to_le_bytes().to_vec();
                        p.resize(8 + r(900) as usize, 0x55);
                        let c = w.append(r(1 << 60) << 3, p.clone());
                        if let Some(pos) = c.position() {
                            maybe.entry(pos).or_default().push(p.clone());
                        }
                        cs.push((c, p));
                    }
                    for (c, p) in cs {
                        match c.wait() {
                            Ok(pos) => {
                                if durability == Durability::Sync {
                                    acked.push((pos, p))
                                } else {
                                    fresh.push((pos, p))
                                }
                            }
                            Err(AppendError::NotWritten { position: Some(pos), .. }) => {
                                maybe.get_mut(&pos).unwrap().retain(|x| *x != p);
                            }
                            Err(_) => {}
                        }
                    }
                    if durability != Durability::Sync && r(3) == 0 && w.flush().wait().is_ok() {
                        acked.append(&mut fresh);
                    }
                    if TRUNC && durability == Durability::Sync && r(5) == 0 {
                        let cp = w.checkpoint();
                        let _ = w.truncate_before(&cp);
                        acked.retain(|a| {
                            a.0.generation == cp.generation()
                                && a.0.sequence >= cp.sequences()[a.0.shard as usize]
                        });
                    }
                    if r(4) == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                if r(2) == 0 {
                    if w.close().is_ok() {
                        acked.append(&mut fresh);
                    }
                } else {
                    d.fail(Fault {
                        call: Call::Any,
                        path_contains: None,
                        nth: 1,
                        sticky: true,
                        kind: FaultKind::PowerCut,
                    });
                }
            }
        }
        if KILLS && r(2) == 0 {
            d = d.kill();
            for a in fresh.drain(..) {
                let _ = a;
            }
            continue;
        }
        let bias = 1 + r(4);
        d = d.crash(&mut || r(4) < bias);
    }
    d.clear_faults();
    let w = ShardedWal::open(cfg(&d).segment_bytes(4096).shards(shards))
        .map_err(|e| format!("last open: {e}"))?;
    let got = all(&w).map_err(|e| format!("{e:?}"))?;
    check(&got, &acked, &maybe)
}
fn check(
    got: &[(Position, Vec<u8>)],
    acked: &[(Position, Vec<u8>)],
    maybe: &std::collections::BTreeMap<Position, Vec<Vec<u8>>>,
) -> Result<(), String> {
    for (p, b) in acked {
        if !got.iter().any(|g| g.0 == *p && g.1 == *b) {
            return Err(format!("acknowledged {p} lost"));
        }
    }
    for w in got.windows(2) {
        if (w[0].0.generation, w[0].0.shard) != (w[1].0.generation, w[1].0.shard) {
            continue;
        }
        if w[0].0 >= w[1].0 {
            return Err(format!("order {} {}", w[0].0, w[1].0));
        }
        if w[0].0.sequence + 1 != w[1].0.sequence {
            return Err("gap".into());
        }
    }
    for (p, b) in got {
        if !maybe.get(p).is_some_and(|m| m.contains(b)) {
            return Err(format!("invented {p}"));
        }
    }
    Ok(())
}
#[test]
fn fuzz_sync() {
    run_fuzz(Durability::Sync)
}
#[test]
fn fuzz_os() {
    run_fuzz(Durability::Os)
}
fn run_fuzz(durability: Durability) {
    let end = std::time::Instant::now() + Duration::from_secs(25);
    let (mut seed, mut bad) = (0, std::collections::BTreeMap::new());
    while std::time::Instant::now() < end {
        seed += 1;
        match std::panic::catch_unwind(|| fuzz(seed, durability)) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                bad.entry(e.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
                    .or_insert((seed, e));
            }
            Err(_) => {
                bad.entry("panic".into()).or_insert((seed, String::new()));
            }
        }
    }
    eprintln!("{seed} runs");
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn t18_reader_beside_a_live_writer() {
    let d = SimDisk::new();
    let w = Arc::new(ShardedWal::open(cfg(&d)).unwrap());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let t = {
        let (w, stop) = (w.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                w.append(1, "x").wait().unwrap();
            }
        })
    };
    let mut found = None;
    for n in 0..300 {
        let r = LogReader::open_on(Arc::new(d.clone()), "/wal");
        match r {
            Ok(r) => {
                if let Some(x) = r.report().damage().next() {
                    found = Some(format!("{n}: {x}"));
                    break;
                }
            }
            Err(e) => {
                found = Some(format!("{n}: {e}"));
                break;
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    t.join().unwrap();
    assert!(found.is_none(), "{found:?}");
}
/// T19: no crash at all: a prepared, blank segment of an old generation.
#[test]
fn t19_change_shards_truncate_reopen_refuses_without_any_crash() {
    let d = SimDisk::new();
    let w = ShardedWal::open(cfg(&d).segment_bytes(4096)).unwrap();
    for i in 0..3 {
        w.append(1, vec![i; 1000]).wait().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    w.close().unwrap();
    drop(w);
    let c = |d: &SimDisk| cfg(d).segment_bytes(4096).shards(2);
    let w = ShardedWal::open(c(&d)).unwrap();
    w.append(1, "new").wait().unwrap();
    w.truncate_before(&w.checkpoint()).unwrap();
    w.close().unwrap();
    drop(w);
    eprintln!("{:?}", d.files());
    ShardedWal::open(c(&d)).map_err(|e| e.to_string()).unwrap();
}
/// T12d: the same without overflow checks, as a release build has none.
#[test]
fn t12d_stray_file_name_in_release_loses_acked() {
    let d = one_record(true);
    d.write_file("/wal/generation-00001/shard-0000/18446744073709551615.wal", b"");
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    w.append(1, "b").wait().unwrap();
    w.close().unwrap();
    drop(w);
    eprintln!("{:?}", d.files());
    let w = ShardedWal::open(cfg(&d)).map_err(|e| e.to_string()).unwrap();
    assert_eq!(texts(&w), ["a", "b"]);
}
