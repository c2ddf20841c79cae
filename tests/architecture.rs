//! Checks ARCHITECTURE.md and docs/durability.md against the tree: the import table,
//! the file list, the invariant labels, the forbidden names, and the test of each promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The file of a test program's module, in this package or in one of `crates/`.
fn test_file(name: &str) -> PathBuf {
    let crates = ["shardwal-timeseries", "shardwal-ingest", "shardwal-cli"];
    let crates = crates.map(|name| root().join("crates").join(name));
    let mut files = [root()].into_iter().chain(crates).map(|dir| dir.join("tests").join(name));
    files.find(|path| path.exists()).unwrap_or_else(|| panic!("there is no {name}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn map() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md exists")
}

/// Every Rust file below a directory, with its text.
fn sources(subdir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(subdir)];
    while let Some(subdir) = dirs.pop() {
        for entry in fs::read_dir(&subdir).expect("the directory exists") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it can be read");
                found.push((path, text));
            }
        }
    }
    found
}

fn within(path: &Path) -> String {
    let path = path.strip_prefix(root().join("src")).expect("it is below src");
    path.to_string_lossy().into_owned()
}

/// Lines of code, without comments and without the trailing test module.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or(text);
    shipped.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn is_mapped(path: &Path) -> bool {
    let path = within(path);
    path != "lib.rs" && path != "internals.rs"
}

#[test]
fn module_imports_match_the_table() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources("src").iter().filter(|(path, _)| is_mapped(path)) {
        let first = within(path);
        let first = first.split('/').next().expect("a path has a part");
        let module = first.trim_end_matches(".rs").to_string();
        let named = imports.entry(module.clone()).or_default();
        for line in code(text) {
            for rest in line.split("crate::").skip(1) {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                named.extend(name.filter(|name| *name != module).map(String::from));
            }
        }
    }
    let map = map();
    let table = map.split("## Layers").nth(1).expect("the table is there");
    let table = table.split("\n## ").next().expect("it ends");
    let mut said = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names = cells[2].split(' ').filter(|name| *name != "-").map(String::from);
        said.insert(cells[1].to_string(), names.collect::<BTreeSet<_>>());
    }
    assert_eq!(said, imports, "left: ARCHITECTURE.md, right: the tree");
    for layer in imports.keys() {
        assert!(!reaches(&imports, layer, layer), "{layer} imports itself through others");
    }
}

/// Whether `from` imports `to`, directly or through other layers.
fn reaches(imports: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(layer) = next.pop() {
        for import in imports.get(layer).into_iter().flatten() {
            if import == to {
                return true;
            }
            if seen.insert(import) {
                next.push(import);
            }
        }
    }
    false
}

#[test]
fn architecture_md_names_every_file() {
    let map = map();
    for (path, _) in sources("src").iter().filter(|(path, _)| is_mapped(path)) {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        assert!(
            map.contains(&format!("{name}`")),
            "ARCHITECTURE.md does not name {}",
            within(path)
        );
    }
}

#[test]
fn every_invariant_label_is_in_code_in_a_model_and_in_a_test() {
    let text = |subdir: &str| -> String {
        let sources = sources(subdir).into_iter();
        let but_this = sources.filter(|(path, _)| !path.ends_with("architecture.rs"));
        but_this.map(|(_, text)| text).collect()
    };
    let (code, models) = (text("src") + &text("crates"), text("loom-tests"));
    let tests = text("tests") + &text("crates");
    let map = map();
    let table = map.split("## Invariants").nth(1).expect("the table is there");
    let mut labels = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let label = row.split('|').nth(1).expect("a row has cells").trim();
        assert!(code.contains(label), "{label} is in no source file of src");
        let concurrent = !label.starts_with(['R', 'T']) && label != "S3 COMPLETE";
        assert!(!concurrent || models.contains(label), "{label} is in no loom model");
        assert!(tests.contains(label), "{label} is in no test");
        labels += 1;
        if label.starts_with("T2") {
            break;
        }
    }
    assert_eq!(labels, 26);
}

#[test]
fn only_the_facade_names_std_loom_and_shuttle() {
    let outside = [
        "util/sync/mod.rs",
        "util/sync/channel.rs",
        "util/sync/shuttle.rs",
        "internals.rs",
        "stats/recorder.rs",
        "recovery/replay/threads.rs",
        "util/parallel.rs",
    ];
    for (path, text) in sources("src") {
        let path = within(&path);
        if outside.contains(&path.as_str()) || path.starts_with("fs/sim") {
            continue;
        }
        for line in code(&text) {
            let names = [
                "std::sync::atomic",
                "std::thread",
                "std::sync::Mutex",
                "std::sync::Condvar",
                "std::sync::mpsc",
                "crossbeam_channel",
                "loom::",
                "shuttle",
            ];
            let named = names.iter().find(|name| line.contains(**name));
            assert!(
                named.is_none() || line.contains("available_parallelism"),
                "{path} names {named:?}: {line}"
            );
        }
    }
}

#[test]
fn unsafe_code_is_in_the_allowed_files_only() {
    for (path, text) in sources("src") {
        let path = within(&path);
        let allowed = [
            "fs/fork.rs",
            "util/slot_groups.rs",
            "queue/queue.rs",
            "queue/receiver.rs",
            "queue/ring.rs",
            "queue/backlog.rs",
            "commit/commit_lock.rs",
            "wait/wait_list/mod.rs",
            "wait/waiter_table.rs",
            "wait/wake_chain/mod.rs",
        ];
        let allowed = allowed.contains(&path.as_str());
        let found =
            code(&text).any(|line| line.contains("unsafe {") || line.contains("unsafe impl"));
        assert!(
            allowed || !found,
            "{path} contains unsafe code and is not in the list of allowed files"
        );
    }
}

#[test]
fn only_the_file_system_module_depends_on_the_operating_system() {
    for (path, text) in sources("src") {
        let path = within(&path);
        let names = ["target_os", "cfg(unix)", "cfg(windows)", "cfg!(windows)"];
        let named = code(&text).any(|line| names.iter().any(|name| line.contains(name)));
        assert!(!named || path.starts_with("fs/"), "{path}");
    }
}

/// The tests that a text names, each with its file. A list item has a file, a colon and
/// its tests; further tests may follow on the next lines.
fn named_tests(text: &str) -> BTreeSet<(&str, &str)> {
    let mut tests = BTreeSet::new();
    let mut file = "";
    for line in text.lines() {
        let names = if let Some(item) = line.strip_prefix("  - `") {
            let (name, names) = item.split_once("`:").expect("a file, and its tests");
            file = name;
            names
        } else if line.starts_with("    `") {
            line
        } else {
            continue;
        };
        tests.extend(names.split('`').skip(1).step_by(2).map(|name| (file, name)));
    }
    tests
}

#[test]
fn every_promise_in_durability_md_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/durability.md")).expect("the page is there");
    let tests = named_tests(&page);
    for (file, test) in &tests {
        let text = fs::read_to_string(test_file(&format!("{file}.rs"))).expect("it can be read");
        let (before, _) = text
            .split_once(&format!("fn {test}() {{"))
            .unwrap_or_else(|| panic!("there is no test {test} in {file}"));
        // Between the `#[test]` attribute and the name there may only be other
        // attributes.
        let (_, between) =
            before.rsplit_once("#[test]").unwrap_or_else(|| panic!("{test} has no attribute"));
        assert!(!between.contains("fn "), "{test} in {file} has no #[test] attribute");
    }
    assert!(tests.len() >= 180, "{} tests are named", tests.len());
    let mut promises = 0;
    for section in ["## The promise", "## Corruption"] {
        let text = page.split(section).nth(1).and_then(|text| text.split("\n## ").next());
        for promise in text.expect("the section is there").split("\n- **").skip(1) {
            assert!(!named_tests(promise).is_empty(), "this promise names no test: {promise}");
            promises += 1;
        }
    }
    assert!(promises >= 90, "{promises} promises");
}
