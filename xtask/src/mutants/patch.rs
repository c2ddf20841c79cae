//! A mutant: a patch file, its title, and what is said about its fate.
//!
//! ```text
//! TITLE
//!
//! caught by KIND: TEST, TEST | KIND: TEST
//!
//! --- a/FILE
//! +++ b/FILE
//! @@ ...
//! ```
//!
//! A mutant that no test can detect has `survives: REASON` in place of the second paragraph.
//! Further paragraphs before the diff are notes for readers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Result, tree};

pub(super) struct Mutant {
    /// The path of the patch file below `mutants/`, without its extension.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) fate: Fate,
    hunks: Vec<Hunk>,
}

pub(super) enum Fate {
    CaughtBy(Vec<TestName>),
    Survives(String),
}

/// A test as a patch names it.
pub(super) struct TestName {
    /// `loom`, `shuttle`, `lib` or `test PROGRAM`.
    pub(super) kind: String,
    pub(super) path: String,
}

struct Hunk {
    file: String,
    old: String,
    new: String,
}

impl Mutant {
    /// Reads a patch file. The error says what is wrong with it.
    pub(super) fn read(file: &Path, name: String) -> Result<Self> {
        let text = tree::read(file)?;
        let (head, diff) = text.split_once("\n--- ").ok_or("it has no diff")?;
        let mut lines = head.lines().filter(|line| !line.is_empty());
        let title = lines.next().ok_or("it has no title")?.to_owned();
        let fate = fate(lines.next().ok_or("it has neither `caught by` nor `survives:`")?)?;
        Ok(Self { name, title, fate, hunks: hunks(diff)? })
    }

    /// The files that the mutant changes: their text before and after.
    pub(super) fn apply(&self, root: &Path) -> Result<BTreeMap<PathBuf, (String, String)>> {
        let mut files = BTreeMap::new();
        for Hunk { file, old, new } in &self.hunks {
            let path = root.join(file);
            let (text, changed) = match files.remove(&path) {
                Some(before) => before,
                None => tree::read(&path).map(|text| (text.clone(), text))?,
            };
            let count = count(&changed, old);
            if count != 1 {
                let first = old.lines().find(|line| !line.is_empty()).unwrap_or_default().trim();
                return Err(format!("{file} has the lines of a hunk {count} times: {first}").into());
            }
            let changed = changed.replacen(old, new, 1);
            files.insert(path, (text, changed));
        }
        Ok(files)
    }

    /// Whether a word is part of the name or of the title.
    pub(super) fn matches(&self, word: &str) -> bool {
        self.name.contains(word) || self.title.contains(word)
    }
}

/// The number of places in `text` where whole lines equal `lines`.
fn count(text: &str, lines: &str) -> usize {
    let at_line_start = |&(at, _): &(usize, &str)| at == 0 || text.as_bytes()[at - 1] == b'\n';
    text.match_indices(lines).filter(at_line_start).count()
}

fn fate(line: &str) -> Result<Fate> {
    if let Some(reason) = line.strip_prefix("survives: ") {
        return Ok(Fate::Survives(reason.to_owned()));
    }
    let list = line.strip_prefix("caught by ");
    let list = list.ok_or("its second paragraph is neither `caught by` nor `survives:`")?;
    let mut tests = Vec::new();
    for part in list.split('|') {
        let (kind, names) = part.split_once(": ").ok_or("a test without a kind")?;
        for path in names.split(',') {
            let [kind, path] = [kind, path].map(|text| text.trim().to_owned());
            tests.push(TestName { kind, path });
        }
    }
    Ok(Fate::CaughtBy(tests))
}

/// The hunks of a unified diff whose first `--- ` was cut off.
fn hunks(diff: &str) -> Result<Vec<Hunk>> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut file = "";
    // The first line names the file, as `+++` does in the next one.
    for line in diff.lines().skip(1) {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = path;
        } else if line.starts_with("--- a/") {
            // Its name follows in the next line.
        } else if line.starts_with("@@ ") {
            let (old, new) = (String::new(), String::new());
            hunks.push(Hunk { file: file.to_owned(), old, new });
        } else {
            let hunk = hunks.last_mut().ok_or_else(|| format!("a line before `@@`: {line}"))?;
            // An editor may have stripped the space of an empty line.
            let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            for (text, skipped) in [(&mut hunk.old, "+"), (&mut hunk.new, "-")] {
                if sign != skipped {
                    text.push_str(rest);
                    text.push('\n');
                }
            }
            if !["+", "-", " "].contains(&sign) {
                return Err(
                    format!("a line that begins with none of `+`, `-` and space: {line}").into()
                );
            }
        }
    }
    if hunks.is_empty() { Err("it has no hunk".into()) } else { Ok(hunks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunk_has_the_lines_before_and_after() {
        let diff = "a/f.rs\n+++ b/f.rs\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n\n";
        let hunks = hunks(diff).unwrap();
        assert_eq!(hunks.len(), 1);
        assert_eq!(hunks[0].file, "f.rs");
        assert_eq!(hunks[0].old, "one\ntwo\n\n");
        assert_eq!(hunks[0].new, "one\n2\n\n");
    }

    #[test]
    fn lines_are_counted_where_a_line_begins() {
        assert_eq!(count("ab\nb\nab\n", "b\n"), 1);
    }

    #[test]
    fn tests_are_listed_with_their_kinds() {
        let Fate::CaughtBy(tests) = fate("caught by loom: a::b, c | test engine: d").unwrap()
        else {
            panic!("no tests");
        };
        let named: Vec<_> = tests.iter().map(|it| (it.kind.as_str(), it.path.as_str())).collect();
        assert_eq!(named, [("loom", "a::b"), ("loom", "c"), ("test engine", "d")]);
        assert!(fate("seen by loom: a").is_err());
    }
}
