//! The whole engine under shuttle: producers, writers and housekeeping as
//! shipped, on the simulated disk, in orders drawn at random.
//!
//! `cargo shuttle` plays all scenarios, `cargo shuttle -- NAME --nocapture` one
//! of them. `SHARDWAL_SCHEDULES` says how many schedules in all (100,000),
//! `SHARDWAL_SEED` which. A schedule that fails is printed; given back as
//! `SHARDWAL_SCHEDULE` (or in the file that it names) it is played again. A
//! thread that nobody wakes is reported by shuttle as a deadlock.
//!
//! loom (`loom-tests/`) plays every order of a few steps, weak memory included;
//! here orders are samples, memory is sequentially consistent, and nothing is
//! left out of the engine but the clock.

#![cfg(shuttle)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

mod disk;
mod producer;
mod scenarios;
mod scene;
#[path = "../../tests/support/mod.rs"]
mod support;

/// Schedules of all scenarios together, unless the environment says otherwise.
const SCHEDULES: u64 = 100_000;

/// Steps of one schedule; one that takes more spins.
const STEPS_MAX: usize = 100_000;

/// Forced switches of the second scheduler, which finds what needs a few of
/// them at the right places.
const PCT_DEPTH: usize = 4;

/// Half of each scenario's schedules are drawn evenly, half by priorities. Behind
/// each stands what must have been seen in one of them at least.
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
        let schedule = fs::read_to_string(&schedule).unwrap_or(schedule);
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
    // The orderings are loom's to check.
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

/// A disk that panics is part of a scenario, thousands of times, and shuttle's
/// hook, which stands once it has run, would print a schedule for each.
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
