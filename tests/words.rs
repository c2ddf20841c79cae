//! One term per concept: the words that the glossary of CONTRIBUTING.md replaced must
//! not come back, in sources or in pages.
//!
//! An identifier is split at underscores and capitals, so `hand_to_chore` holds the
//! word `chore`. Names of files on disk keep their old words, because the format keeps
//! them. [`ALLOWED`] lists those, each with its reason.

use std::fs;
use std::path::{Path, PathBuf};

/// A word that has a better one, and the better one.
const WORDS: &[(&str, &str)] = &[
    ("chore", "request"),
    ("chores", "requests"),
    ("condemn", "request_fail"),
    ("condemned", "fail requested"),
    ("damage", "corruption"),
    ("damaged", "corrupted"),
    ("damages", "corruptions"),
    ("undamaged", "intact"),
    ("enroll", "register"),
    ("enrolled", "registered"),
    ("lane", "committer, or shard"),
    ("lanes", "committers, or shards"),
    ("lend", "commit inline"),
    ("lending", "inline commit"),
    ("lends", "commits inline"),
    ("lent", "inline"),
    ("mailbox", "queue"),
    ("patience", "spin policy"),
    ("purge", "truncate, truncation mark"),
    ("purged", "truncated"),
    ("rouse", "unpark"),
    ("roused", "notified"),
    ("settle", "resume, sync, release"),
    ("settled", "resumed, synced, answered"),
    ("spare", "recycled segment"),
    ("spares", "recycled segments"),
    ("spine", "skeleton"),
    ("stands", "is"),
    ("survey", "scan"),
    ("tell", "report, distinguish"),
    ("tells", "reports, distinguishes"),
    ("token", "commit lock"),
    ("told", "answered, reported"),
    ("watermark", "free-space limit"),
    ("watermarks", "free-space limits"),
    ("whoever", "a subject with a name"),
];

/// A phrase, also inside an identifier, and what to write. Spaces match underscores.
const PHRASES: &[(&str, &str)] = &[
    ("gave up", "timed out"),
    ("give up", "truncate, return, time out"),
    ("given up", "truncated"),
    ("gives up", "truncates, returns"),
    ("hand to", "reply"),
    ("lends a hand", "commits inline"),
    ("passed on", "delegate"),
    ("see the module's words", "what the item does"),
    ("so many", "the number of, this number of"),
];

/// An identifier, exactly, and its successor.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("Barrier", "Flush"),
    ("DiskFile", "FileHandle"),
    ("DiskSpace", "FreeSpace"),
    ("DiskState", "FreeSpaceState"),
    ("FailedPart", "FailedShard"),
    ("Folder", "ShardDir"),
    ("Frozen", "HeadSnapshot"),
    ("OnDamage", "OnCorruption"),
    ("RealDisk", "OsFileSystem"),
    ("SimDisk", "SimFileSystem"),
    ("append_lending", "append_inline"),
    ("append_parts", "append_by_shard"),
    ("coin", "flip"),
    ("commit_path", "commit_syscalls"),
    ("direct_block_bytes", "direct_io_alignment"),
    ("disk_hard_bytes", "free_space_min_bytes"),
    ("disk_soft_bytes", "free_space_low_bytes"),
    ("gap_sequences", "lost_sequences"),
    ("has_other_names", "is_hard_linked"),
    ("is_heavy", "exceeds_byte_limit"),
    ("lie_down", "park"),
    ("open_on", "open_in"),
    ("queue_records", "queue_capacity"),
    ("ready_segments", "preallocated_segments"),
    ("saw", "record_event"),
    ("shardwal_disk_free_bytes", "shardwal_free_space_bytes"),
    ("shardwal_disk_low", "shardwal_free_space_low"),
    ("shardwal_disk_refusing", "shardwal_free_space_refusing"),
    ("spare_segments", "recycled_segments_max"),
    ("story", "transcript"),
    ("try_push_quietly", "try_push_no_wake"),
    ("was_damaged", "was_corrupted"),
];

/// How no comment may begin.
const OPENINGS: &[&str] = &["who ", "whoever ", "the same", "so many", "as above"];

/// A path's beginning, a word that is right there, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("CONTRIBUTING.md", "*", "the glossary names the old words"),
    ("CHANGELOG.md", "*", "it names what was renamed"),
    ("tests/words.rs", "*", "this list"),
    ("FORMAT.md", "purge", "the name of a file on disk"),
    ("FORMAT.md", "spare", "the extension of a file on disk"),
    ("FORMAT.md", "token", "a unit of the sample codec"),
    ("docs/operating.md", "spare", "the extension of a file on disk"),
    ("docs/operating.md", "purge", "the name of a file on disk"),
    ("docs/durability.md", "purge", "the name of a file on disk"),
    ("src/layout/truncation_mark/", "purge", "the name of a file on disk"),
    ("src/recovery/", "purge", "the name of a file on disk"),
    ("src/segment/header.rs", "spare", "the extension of a file on disk"),
    ("src/commit/progress.rs", "watermark", "a number that only rises, the field's word"),
    ("tests/", "purge", "the name of a file on disk"),
    ("tests/", "spare", "the extension of a file on disk"),
    ("tests/", "Barrier", "std::sync::Barrier"),
    ("benches/", "Barrier", "std::sync::Barrier"),
    ("crates/", "Barrier", "std::sync::Barrier"),
    ("tests/kernel/inject.rs", "saw", "the verb, in a line of output"),
    ("crates/shardwal-cli/tests/", "purge", "the name of a file on disk"),
    ("crates/shardwal-timeseries/", "token", "a unit of the sample codec"),
    ("crates/shardwal-ingest/", "token", "what a client shows for access, HTTP's word"),
    ("docs/ingest.md", "token", "what a client shows for access, HTTP's word"),
    ("xtask/src/end_to_end/", "token", "what a client shows for access, HTTP's word"),
    ("crates/shardwal-bench/arena/", "lane", "a queue of one thread to a peer"),
    ("crates/shardwal-bench/arena/", "lanes", "queues of one thread each to a peer"),
];

/// Longest line of a comment, in characters, and of a table within one.
const COMMENT_COLUMNS: usize = 100;
const TABLE_COLUMNS: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("the directory can be listed").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

/// Sources and pages: the path from the root, and the text.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in ["src", "crates", "tests", "loom-tests", "shuttle-tests", "benches", "examples"] {
        files(&root().join(dir), "rs", &mut found);
        files(&root().join(dir), "md", &mut found);
    }
    files(&root().join("docs"), "md", &mut found);
    for entry in fs::read_dir(root()).expect("the root can be listed") {
        let path = entry.expect("the root can be listed").path();
        found.extend(Some(path).filter(|path| path.extension().is_some_and(|it| it == "md")));
    }
    let text = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("it is below the root");
        let name = name.to_str().expect("names are text").replace('\\', "/");
        (name, fs::read_to_string(&path).expect("sources are text"))
    };
    found.into_iter().map(text).collect()
}

/// The words of a line, lower case. Underscores and capitals end a word.
fn words(line: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for letter in line.chars() {
        if letter.is_ascii_uppercase() && was_lower {
            spaced.push(' ');
        }
        was_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        spaced.push(if letter == '_' { ' ' } else { letter.to_ascii_lowercase() });
    }
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '\'';
    spaced.split(|it| !is_word(it)).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
}

fn is_allowed(path: &str, word: &str) -> bool {
    ALLOWED.iter().any(|(at, it, _)| path.starts_with(at) && (*it == word || *it == "*"))
}

/// The old words of a line, each with the right one.
fn old_words(line: &str) -> Vec<(&'static str, &'static str)> {
    let words = words(line);
    let word = WORDS.iter().filter(|(old, _)| words.iter().any(|it| it == old));
    let phrase = PHRASES.iter().filter(|(old, _)| {
        let old: Vec<_> = old.split(' ').collect();
        words.windows(old.len()).any(|it| it == old)
    });
    let identifier = IDENTIFIERS
        .iter()
        .filter(|(old, _)| line.contains(old) && identifiers(line).any(|it| it == *old));
    word.chain(phrase).chain(identifier).copied().collect()
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

#[test]
fn no_old_word_comes_back() {
    let mut found = Vec::new();
    for (path, text) in texts() {
        for (number, line) in (1..).zip(text.lines()) {
            for (old, new) in old_words(line) {
                if !is_allowed(&path, old) {
                    found.push(format!("{path}:{number}: {old:?}, write {new:?}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} old words\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_comment_opens_in_the_dialect_or_runs_too_long() {
    let mut found = Vec::new();
    for (path, text) in texts() {
        let (mut was_comment, mut ended) = (false, true);
        for (number, line) in (1..).zip(text.lines()) {
            let Some(comment) = comment(line).filter(|_| path.ends_with(".rs")) else {
                was_comment = false;
                continue;
            };
            // A sentence that goes on from the line before is not an opening.
            let opens = !was_comment || ended;
            let lower = format!("{} ", comment.to_lowercase());
            if opens && OPENINGS.iter().any(|opening| lower.starts_with(opening)) {
                found.push(format!("{path}:{number}: an opening: {}", line.trim()));
            }
            let limit = if comment.starts_with('|') { TABLE_COLUMNS } else { COMMENT_COLUMNS };
            if line.chars().count() > limit {
                found.push(format!("{path}:{number}: over {limit} columns: {}", line.trim()));
            }
            (was_comment, ended) = (true, comment.is_empty());
        }
    }
    assert!(found.is_empty(), "{} comments\n{}", found.len(), found.join("\n"));
}

/// The search finds an old word wherever it may hide.
#[test]
fn an_old_word_is_found_in_any_form() {
    for (line, expected) in [
        ("struct DamagedFrame;", "damaged"),
        ("let hand_to_chore = 1;", "hand to"),
        ("the writer gives\u{20}up", "gives up"),
        ("/// What Spares the caller", "spares"),
        ("config.disk_soft_bytes(1)", "disk_soft_bytes"),
        ("fn told(&self)", "told"),
    ] {
        assert!(old_words(line).iter().any(|(old, _)| *old == expected), "{line}");
    }
    for line in ["let separate = purgeable;", "a lantern", "saw_tooth", "so manyfold"] {
        assert!(old_words(line).is_empty(), "{line}: {:?}", old_words(line));
    }
}
