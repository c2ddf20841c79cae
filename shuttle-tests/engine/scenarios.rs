//! The scenarios. Each ends by comparing the log with what was promised.

use std::sync::Arc;
use std::time::Duration;

use shardwal::Durability;
use shardwal::fs::sim::{Call, Fault, FaultKind};
use shuttle::thread::{self, JoinHandle};

use crate::fs::choose;
use crate::producer::{Book, Weather};
use crate::scene::{Scene, below, close, flip, lose_power, record_event, verify};
use crate::support::{EIO, ENOSPC, Found};

/// Payload bytes, of which two fill a segment.
const LARGE: usize = 1400;
const SMALL: usize = 8;

/// Three producers append, with queues of two records.
pub(crate) fn every_way_to_append_is_answered() {
    let scene = Scene::new();
    let mut books = join(producers(&scene, 3, Weather::Fair, |scene, book| act(scene, book, 2)));
    end(scene, &mut books);
}

/// Each shard rolls through several segments, which housekeeping prepares.
pub(crate) fn a_roll_beside_appends_loses_nothing() {
    let scene = Scene::new();
    let run = |scene: &Scene, book: Book| act(scene, book.of_length(LARGE), 3);
    let mut books = join(producers(&scene, 2, Weather::Fair, run));
    end(scene, &mut books);
}

/// Flushes in the modes that acknowledge before the sync. In `Interval`, the housekeeping
/// thread requests the syncs.
pub(crate) fn a_barrier_covers_what_was_appended_before_it() {
    let interval = Durability::Interval(Duration::from_millis(10));
    let mode = if flip() { interval } else { Durability::Buffered };
    let scene = Scene::with(|config| config.durability(mode));
    let first = append(&scene, Book::new(&scene.log, 2, Weather::Fair).unsynced(), 1);
    later(100);
    if scene.log.durable_checkpoint().sequences().iter().any(|durable| *durable > 0) {
        record_event("a sync by the clock");
    }
    let run = |scene: &Scene, book: Book| {
        let mut book = act(scene, book.of_length(some_length()).unsynced(), 2);
        book.flush(&scene.log);
        act(scene, book, 1)
    };
    let mut books = join(producers(&scene, 2, Weather::Fair, run));
    books.push(first);
    end(scene, &mut books);
}

/// Checkpoints are taken and truncated to while segments roll.
pub(crate) fn truncation_beside_appends_takes_what_it_says() {
    let scene = Scene::new();
    let truncator = start(&scene, |scene| {
        let mut last = scene.log.durable_checkpoint();
        for _ in 0..3 {
            later(60);
            last = scene.log.durable_checkpoint();
            let taken = scene.log.truncate_before(&last).expect("its own checkpoint is taken");
            if taken.segments > 0 {
                record_event("a segment was deleted");
            }
        }
        last
    });
    let run = |scene: &Scene, book: Book| append(scene, book.of_length(LARGE), 3);
    let mut books = join(producers(&scene, 2, Weather::Fair, run));
    let checkpoint = truncator.join().expect("it ends");
    for book in &mut books {
        let places = Found { records: std::mem::take(&mut book.places) };
        book.truncated(&places.below(&checkpoint));
    }
    end(scene, &mut books);
}

/// Two callers close while two append. Both get one result, and no caller is left waiting.
pub(crate) fn close_beside_appends_answers_everybody() {
    let scene = Scene::new();
    let closer = |scene: &Scene| {
        later(200);
        scene.log.close().is_ok()
    };
    let closers = [(); 2].map(|()| start(&scene, closer));
    let run = |scene: &Scene, book: Book| act(scene, book, 3);
    let mut books = join(producers(&scene, 2, Weather::Closing, run));
    let closed = closers.map(|closer| closer.join().expect("it ends"));
    assert_eq!(closed, [true; 2], "Q3 CLOSE: nothing has failed");
    books.iter_mut().for_each(Book::closed_in_order);
    let fs = &scene.fs;
    let after = if flip() { fs.crash(&mut || false) } else { fs.kill() };
    verify(&after, &mut books);
}

/// No thread closes. The last owner drops the log, with records in its queue that no thread
/// waits for.
pub(crate) fn the_last_owner_to_drop_the_log_finishes_what_is_queued() {
    let scene = Scene::new();
    let fs = scene.fs.clone();
    let owners = producers(&scene, 2, Weather::Fair, |scene, book| append(scene, book, 3));
    drop(scene);
    let mut books = join(owners);
    books.iter_mut().for_each(Book::closed_in_order);
    verify(&fs.crash(&mut || false), &mut books);
}

/// A random call fails in a random way. If it is a call of one shard, the other one goes on.
pub(crate) fn a_disk_that_fails_poisons_its_shard_and_everybody_is_answered() {
    let scene = Scene::new();
    let kind = one_of([
        FaultKind::Error(EIO),
        FaultKind::Error(ENOSPC),
        FaultKind::Panic,
        FaultKind::Short,
        FaultKind::PowerCut,
        FaultKind::TornPowerCut,
    ]);
    let call = one_of([Call::Write, Call::Sync, Call::Sync, Call::Rename, Call::SetLen, Call::Any]);
    let one_shard = flip();
    let path_contains = one_shard.then(|| "shard-0000".to_owned());
    let nth = 1 + below(6);
    let may_refuse = matches!(kind, FaultKind::Error(ENOSPC) | FaultKind::Short);
    scene.fs.fail(Fault { call, path_contains, nth, sticky: flip(), kind });
    let run = move |scene: &Scene, book: Book| {
        let book = if may_refuse { book.patient() } else { book };
        act(scene, book.of_length(some_length()), 3)
    };
    let mut books = join(producers(&scene, 2, Weather::Foul, run));
    if one_shard && !matches!(kind, FaultKind::PowerCut | FaultKind::TornPowerCut) {
        record_event("a fault beside a bystander");
        books.push(append(&scene, Book::in_shard_1(&scene.log, 2), 1));
    }
    scene.fs.clear_faults();
    end(scene, &mut books);
}

/// The power fails at a random moment.
pub(crate) fn power_loss_beside_appends_keeps_what_was_acknowledged() {
    let scene = Scene::new();
    let death = start(&scene, |scene| {
        later(150);
        lose_power(&scene.fs)
    });
    let run = |scene: &Scene, book: Book| act(scene, book.of_length(some_length()), 3);
    let mut books = join(producers(&scene, 2, Weather::Foul, run));
    let after = death.join().expect("it ends");
    if books.iter().any(|book| book.has_seen_failure() && book.has_been_acknowledged()) {
        record_event("power loss after an acknowledgement");
    }
    close(&scene.log, &mut books);
    verify(&after, &mut books);
}

/// Waits for a random number of turns below `turns_max`.
fn later(turns_max: u64) {
    (0..below(turns_max)).for_each(|_| choose());
}

fn some_length() -> usize {
    if flip() { LARGE } else { SMALL }
}

fn one_of<T: Copy, const N: usize>(choices: [T; N]) -> T {
    choices[usize::try_from(below(N as u64)).expect("an index")]
}

/// Makes `times` random appends or flushes.
fn act(scene: &Scene, mut book: Book, times: usize) -> Book {
    (0..times).for_each(|_| book.act(&scene.log));
    book
}

/// Appends single records, whose positions are known.
fn append(scene: &Scene, mut book: Book, times: usize) -> Book {
    (0..times).for_each(|_| book.append(&scene.log));
    book
}

/// Starts a thread that shares the scene. Not a scoped thread: shuttle's scope unblocks
/// threads that wait for something else.
fn start<R: Send + 'static>(
    scene: &Arc<Scene>,
    run: impl FnOnce(&Scene) -> R + Send + 'static,
) -> JoinHandle<R> {
    let scene = scene.clone();
    thread::spawn(move || run(&scene))
}

fn producers(
    scene: &Arc<Scene>,
    count: u64,
    weather: Weather,
    run: impl Fn(&Scene, Book) -> Book + Copy + Send + 'static,
) -> Vec<JoinHandle<Book>> {
    let producer = |number| {
        let book = Book::new(&scene.log, number, weather);
        start(scene, move |scene| run(scene, book))
    };
    (0..count).map(producer).collect()
}

fn join(producers: Vec<JoinHandle<Book>>) -> Vec<Book> {
    let ended = producers.into_iter().map(JoinHandle::join);
    ended.map(|book| book.expect("a producer ends in order")).collect()
}

fn end(scene: Arc<Scene>, books: &mut [Book]) {
    Arc::into_inner(scene).expect("all threads have ended").end(books);
}
