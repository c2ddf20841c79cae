//! The whole engine under shuttle: producers, writers and housekeeping as shipped, on the
//! simulated disk, in random orders.
//!
//! `cargo xtask shuttle` runs all scenarios. `cargo xtask shuttle NAME` runs one.
//! `SHARDWAL_SCHEDULES` sets the number of schedules in all (100,000), and `SHARDWAL_SEED`
//! their seed. A failed schedule is printed. To repeat it, pass it (or the name of a file
//! with it) as `SHARDWAL_SCHEDULE`. Shuttle reports a thread that is never woken as a
//! deadlock.
//!
//! loom (`loom-tests/`) runs every order of a few steps, weak memory included. Here the
//! orders are samples and memory is sequentially consistent. The engine is complete, except
//! for the clock.

#![cfg(shuttle)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

mod fs;
mod producer;
mod scenarios;
mod scene;
#[path = "../../tests/support/mod.rs"]
mod support;

/// Schedules of all scenarios together, unless the environment sets another number.
const SCHEDULES: u64 = 100_000;

/// Steps of one schedule. A schedule that takes more spins.
const STEPS_MAX: usize = 100_000;

/// Forced switches of the second scheduler, which finds races that need a few switches at
/// particular places.
const PCT_DEPTH: usize = 4;

/// Half of each scenario's schedules are drawn evenly, half by priorities. The strings name
/// events that at least one of its schedules must contain.
macro_rules! scenarios {
    ($($name:ident: [$($event:literal),*],)*) => {
        const SCENARIOS: u64 = [$(stringify!($name)),*].len() as u64;
        $(
            #[test]
            fn $name() {
                check(stringify!($name), scenarios::$name, &[$($event),*]);
            }
        )*
    };
}

scenarios! {
    every_way_to_append_is_answered: ["a full queue", "a deadline passed"],
    a_roll_beside_appends_loses_nothing: ["a segment was rolled", "zeros ahead"],
    a_barrier_covers_what_was_appended_before_it: ["a segment was rolled", "a sync by the clock"],
    truncation_beside_appends_takes_what_it_says: ["a segment was deleted"],
    close_beside_appends_answers_everybody: ["an append was refused: closed"],
    the_last_owner_to_drop_the_log_finishes_what_is_queued: ["nobody waited"],
    a_disk_that_fails_poisons_its_shard_and_everybody_is_answered:
        ["a shard failed", "a full disk", "a writer panicked", "a fault beside a bystander"],
    power_loss_beside_appends_keeps_what_was_acknowledged:
        ["a shard failed", "power loss after an acknowledgement"],
}

fn check(name: &str, scenario: fn(), events: &[&str]) {
    if let Ok(schedule) = std::env::var("SHARDWAL_SCHEDULE") {
        let schedule = std::fs::read_to_string(&schedule).unwrap_or(schedule);
        run(ReplayScheduler::new_from_encoded(schedule.trim()), scenario);
        return;
    }
    static DONE: AtomicU64 = AtomicU64::new(0);
    static PLAYED: AtomicU64 = AtomicU64::new(0);
    let asked = std::env::var("SHARDWAL_SCHEDULES").ok().and_then(|asked| asked.parse().ok());
    let asked: u64 = asked.unwrap_or(SCHEDULES);
    let each = usize::try_from(asked.div_ceil(2 * SCENARIOS)).expect("a number of schedules");
    let seed = support::seed();
    let began = Instant::now();
    let played = run(RandomScheduler::new_from_seed(seed, each), scenario)
        + run(PctScheduler::new_from_seed(seed, PCT_DEPTH, each), scenario);
    let seen = scene::seen();
    println!("{name}: {seen:?}");
    println!("{name}: {played} schedules in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(played, 2 * each, "each schedule is played");
    for event in events {
        assert!(
            seen.contains_key(event) || asked < SCHEDULES / 10,
            "{name} has never seen {event}"
        );
    }
    let all = PLAYED.fetch_add(played as u64, Ordering::Relaxed) + played as u64;
    if DONE.fetch_add(1, Ordering::Relaxed) + 1 == SCENARIOS {
        assert!(all >= asked, "{all} schedules were played, not {asked}");
        println!("FIGURE shuttle: {all} schedules");
    }
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    // Loom checks the orderings.
    config.silence_warnings = true;
    silence_planned_panics(&config);
    let begun = Arc::new(AtomicU64::new(0));
    let counted = begun.clone();
    let scenario = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    };
    let played = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config).run(scenario)));
    played.unwrap_or_else(|panic| {
        println!("schedule {} failed", begun.load(Ordering::Relaxed));
        resume_unwind(panic)
    })
}

/// Prints no planned panic, because a scenario has thousands of them. Shuttle installs its
/// own hook, which would print a schedule for each, on its first run.
fn silence_planned_panics(config: &Config) {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        Runner::new(RandomScheduler::new_from_seed(0, 1), config.clone()).run(|| {});
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(|text| text.starts_with(scene::PLANNED_PANIC)) {
                usual(info);
            }
        }));
    });
}
