//! The ingest server on a disk that is low on space: it truncates its log and continues, in this
//! process and after a restart.

use std::time::{Duration, Instant};

use schedule::{Due, Schedule, Seen};
use shardwal::FreeSpaceState;

#[path = "../../src/server/schedule.rs"]
mod schedule;

const MIB: u64 = 1 << 20;

/// Little in memory, much in the log: a snapshot can free space.
fn low() -> Seen {
    Seen {
        since_snapshot: 10_000,
        logged_bytes: 50 * MIB,
        samples: 1000,
        series: 1,
        free_bytes: Some(65 * MIB),
        ..Seen::default()
    }
}

#[test]
fn a_snapshot_is_due_while_there_still_is_room_for_it() {
    let (start, min) = (Instant::now(), 64 * MIB);
    let mut schedule = Schedule::new(20_000, min, 0);
    let roomy = Seen { free_bytes: Some(1 << 40), ..low() };
    assert_eq!(schedule.due(&roomy, start), None);
    assert_eq!(schedule.due(&Seen { since_snapshot: 20_000, ..roomy }, start), Some(Due::Samples));
    assert_eq!(schedule.due(&low(), start), Some(Due::Room), "near the minimum of free space");
    // The more samples in memory, the earlier.
    let large = Seen { samples: 100 << 20, logged_bytes: 1 << 40, ..low() };
    let with_free = |free| Seen { free_bytes: Some(free), ..large };
    assert_eq!(schedule.due(&with_free(2 << 30), start), Some(Due::Room));
    assert_eq!(schedule.due(&with_free(4 << 30), start), None);

    schedule.failed(start);
    assert_eq!(schedule.due(&low(), start), None);
    let soon = start + Duration::from_secs(1);
    assert_eq!(schedule.due(&low(), soon), Some(Due::Room), "tried again soon");
    let later = start + Duration::from_secs(10);
    schedule.taken(Due::Room, low(), 5000, later);
    let more = Seen { logged_bytes: 60 * MIB, ..low() };
    assert_eq!(schedule.due(&more, later), None, "not all the time");
    assert_eq!(schedule.due(&more, later + Duration::from_secs(10)), Some(Due::Room));
    let refusing = Seen { fs: FreeSpaceState::Refusing, ..more };
    assert_eq!(schedule.due(&refusing, later), Some(Due::Room), "at once");
    let refused = Seen { refused_for_room: 1, free_bytes: None, ..more };
    assert_eq!(schedule.due(&refused, later), Some(Due::Room), "a quota, perhaps");
    let nothing = Seen { fs: FreeSpaceState::Refusing, ..low() };
    assert_eq!(schedule.due(&nothing, later), None, "there is nothing to truncate");
}

#[test]
fn what_a_start_finds_in_the_log_counts() {
    let now = Instant::now();
    let refusing = Seen { fs: FreeSpaceState::Refusing, ..Seen::default() };
    let mut schedule = Schedule::new(200 << 20, 0, 82 * MIB);
    assert_eq!(schedule.due(&refusing, now), Some(Due::Room));
    let none = Seen::default();
    assert_eq!(schedule.due(&none, now), None);
    let uncovered = Seen { since_snapshot: 20_000, ..none };
    let often = Schedule::new(20_000, 0, 82 * MIB);
    assert_eq!(often.due(&uncovered, now), Some(Due::Samples), "restarts do not reset it");
    schedule.taken(Due::Room, none, 5000, now);
    assert_eq!(schedule.due(&refusing, now), None);
    assert_eq!(Schedule::new(20_000, 0, 0).due(&refusing, now), None, "a new log");
}

#[test]
fn a_snapshot_that_fails_again_and_again_is_tried_ever_more_slowly() {
    let mut schedule = Schedule::new(20_000, 0, 0);
    let due = Seen { since_snapshot: 20_000, ..Seen::default() };
    let mut now = Instant::now();
    for seconds in [1, 2, 4, 8, 10, 10] {
        schedule.failed(now);
        let pause = Duration::from_secs(seconds);
        assert_eq!(schedule.due(&due, now + pause - Duration::from_millis(1)), None, "{seconds}");
        now += pause;
        assert_eq!(schedule.due(&due, now), Some(Due::Samples), "{seconds}");
    }
    schedule.taken(Due::Samples, due, 5000, now);
    schedule.failed(now);
    assert_eq!(schedule.due(&due, now + Duration::from_secs(1)), Some(Due::Samples));
}

#[cfg(target_os = "linux")]
mod on_a_small_disk {
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use crate::server_support::client::Answer;
    use crate::server_support::{SNAPPY, Server, block, request, text};

    const LIMITS: [&str; 4] =
        ["--free-space-min-bytes", "8388608", "--free-space-low-bytes", "12582912"];

    /// Returns true inside a mount namespace of the test's own. Outside, the test runs itself again
    /// in one, or is skipped if that is impossible.
    #[allow(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn inside(test: &str) -> bool {
        const INSIDE: &str = "SHARDWAL_TEST_INGEST_INSIDE";
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let unshare = |program: &Path| {
            let mut command = Command::new("unshare");
            command.arg("-Urm").arg(program);
            command
        };
        if !unshare(Path::new("true")).output().is_ok_and(|tried| tried.status.success()) {
            println!("SKIPPED: {test}: unshare is refused");
            return false;
        }
        let program = std::env::current_exe().expect("a test has a program");
        let mut again = unshare(&program);
        again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        assert!(again.status().expect("unshare runs").success(), "{test} failed there");
        false
    }

    /// Posts noise for one series, with repeated timestamps: the log grows by about 160 KB per
    /// call, memory does not.
    fn post(server: &Server, state: &mut u64) -> Answer {
        let samples: Vec<(i64, f64)> = (0..20_000)
            .map(|at| {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (at, f64::from_bits(*state >> 2))
            })
            .collect();
        let body = block(&request(&["noise"], &samples));
        server.connect().send("POST", "/api/v1/write", SNAPPY, &body).expect("it answers")
    }

    /// Posts until the server accepts, as a client does.
    fn write(server: &Server, state: &mut u64) {
        let began = Instant::now();
        loop {
            let answer = post(server, state);
            if answer.status == 204 {
                return;
            }
            assert_eq!(answer.status, 503, "{}", text(&answer));
            assert!(began.elapsed() < Duration::from_secs(60), "for ever: {}", text(&answer));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Regression: the server responded 503 forever, also after a restart, with 82 MB of log and
    /// 320 KB of samples in memory.
    #[test]
    fn a_server_at_its_hard_mark_truncates_its_log_and_goes_on() {
        let name = "a_server_at_its_hard_mark_truncates_its_log_and_goes_on";
        if !inside(&format!("server_room::on_a_small_disk::{name}")) {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m", "none"]).arg(scratch.path());
        assert!(mount.status().expect("mount runs").success());
        let directory = scratch.path().join("db");
        let mut state = 0x2545_F491_4F6C_DD1D;
        // More than twice the size of the disk.
        let server = Server::start(&directory, &LIMITS);
        (0..700).for_each(|_| write(&server, &mut state));
        let filled = (0..700).any(|_| post(&server, &mut state).status == 503);
        server.kill();
        assert!(filled, "the disk is soon full");
        let server = Server::start(&directory, &LIMITS);
        write(&server, &mut state);
        assert_eq!(server.count("noise"), 20_000);
        assert_eq!(server.stop("-TERM").code(), Some(0));
        assert_eq!(Server::start(&directory, &LIMITS).count("noise"), 20_000);
    }
}
