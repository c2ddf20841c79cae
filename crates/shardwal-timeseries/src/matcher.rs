//! Matchers: conditions that select series by label. They do not know samples.

use regex::{Regex, RegexBuilder};

use super::Labels;
use super::re2;

/// The default for the compiled size of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 8 << 20;

/// A condition on one label, as in a PromQL selector. A missing label counts as an empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(String),
    NotEqual(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// A pattern that is not a valid regular expression.
#[derive(Clone, Debug)]
pub struct PatternError {
    label: String,
    cause: PatternFault,
}

#[derive(Clone, Debug)]
enum PatternFault {
    /// RE2 refuses it, and why.
    Syntax(String),
    Regex(regex::Error),
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the pattern for label {:?} is invalid: ", self.label)?;
        match &self.cause {
            PatternFault::Syntax(why) => f.write_str(why),
            PatternFault::Regex(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for PatternError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            PatternFault::Syntax(_) => None,
            PatternFault::Regex(error) => Some(error),
        }
    }
}

impl Matcher {
    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), test: Test::Equal(value.into()) }
    }

    /// `name!="value"`
    pub fn not_equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), test: Test::NotEqual(value.into()) }
    }

    /// `name=~"pattern"`: the pattern must match the whole value, as in Prometheus. Its syntax is
    /// RE2's: `\d`, `\s`, `\w` and `\b` are ASCII.
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn matches(name: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        Self::matches_within(name, pattern, PATTERN_BYTES_MAX)
    }

    /// [`Matcher::matches`], for a pattern of at most about `bytes_max` bytes once it is compiled.
    /// The time to compile it is bounded with its size.
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn matches_within(
        name: impl Into<String>,
        pattern: &str,
        bytes_max: usize,
    ) -> Result<Self, PatternError> {
        let name = name.into();
        let test = Test::Matches(anchored(&name, pattern, bytes_max)?);
        Ok(Self { name, test })
    }

    /// `name!~"pattern"`
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn not_matches(name: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        Self::not_matches_within(name, pattern, PATTERN_BYTES_MAX)
    }

    /// [`Matcher::not_matches`], within a limit: see [`Matcher::matches_within`].
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn not_matches_within(
        name: impl Into<String>,
        pattern: &str,
        bytes_max: usize,
    ) -> Result<Self, PatternError> {
        let name = name.into();
        let test = Test::NotMatches(anchored(&name, pattern, bytes_max)?);
        Ok(Self { name, test })
    }

    /// Whether the labels satisfy this condition.
    #[must_use]
    pub fn accepts(&self, labels: &Labels) -> bool {
        self.accepts_value(labels.get(&self.name).unwrap_or(""))
    }

    /// Whether a value of the label satisfies this condition.
    pub(crate) fn accepts_value(&self, value: &str) -> bool {
        #[cfg(test)]
        PATTERNS_MATCHED.set(PATTERNS_MATCHED.get() + u64::from(self.value().is_none()));
        match &self.test {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::NotMatches(pattern) => !pattern.is_match(value),
        }
    }

    /// The name of the label.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The value that the label must or must not have. `None` for a pattern.
    pub(crate) fn value(&self) -> Option<&str> {
        match &self.test {
            Test::Equal(value) | Test::NotEqual(value) => Some(value),
            Test::Matches(_) | Test::NotMatches(_) => None,
        }
    }

    /// Whether this is `name="value"`.
    pub(crate) const fn is_equal(&self) -> bool {
        matches!(self.test, Test::Equal(_))
    }
}

/// Anchors the pattern at both ends. As in Prometheus, a dot also matches a newline.
fn anchored(label: &str, pattern: &str, bytes_max: usize) -> Result<Regex, PatternError> {
    let invalid = |cause| PatternError { label: label.to_owned(), cause };
    let pattern = re2::translate(pattern).map_err(|why| invalid(PatternFault::Syntax(why)))?;
    let mut builder = RegexBuilder::new(&format!("^(?s:{pattern})$"));
    // The second limit is on the cache that matching fills.
    builder.size_limit(bytes_max).dfa_size_limit(bytes_max);
    builder.build().map_err(|error| invalid(PatternFault::Regex(error)))
}

#[cfg(test)]
std::thread_local! {
    /// Number of values that this thread has matched with patterns, for tests that bound it.
    pub(crate) static PATTERNS_MATCHED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::{Labels, Matcher};

    #[test]
    fn each_operator_does_as_in_prometheus() {
        let labels =
            Labels::new([("__name__", "up"), ("host", "db-1\nx")]).expect("they are valid");
        let matches = |name, pattern| Matcher::matches(name, pattern).expect("it is a pattern");
        let differs = |name, pattern| Matcher::not_matches(name, pattern).expect("it is a pattern");
        let cases = [
            (Matcher::equal("__name__", "up"), true),
            (Matcher::equal("__name__", "u"), false),
            (Matcher::equal("absent", ""), true),
            (Matcher::not_equal("host", "db-2"), true),
            (Matcher::not_equal("absent", ""), false),
            (matches("__name__", "u"), false),
            (matches("__name__", "u|up"), true),
            (matches("host", "db-.*"), true),
            (matches("absent", ".*"), true),
            (matches("absent", ".+"), false),
            (differs("host", "web.*"), true),
            (differs("__name__", "up|down"), false),
        ];
        for (matcher, expected) in cases {
            assert_eq!(matcher.accepts(&labels), expected, "{matcher:?}");
        }
        for pattern in ["(", "a)|(b"] {
            assert!(Matcher::matches("host", pattern).is_err(), "{pattern}");
        }
        let error = Matcher::matches("host", "(").expect_err("it is none").to_string();
        assert!(error.contains("\"host\""), "{error}");
    }

    /// Patterns that the `regex` crate reads in another way: a value that matches, and one that
    /// does not.
    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        let cases = [
            (r"\d", "7", "\u{663}"),
            (r"\w+", "a_1", "\u{e4}"),
            (r"[\w-]+", "a-1", "\u{e4}"),
            (r"\s", "\n", "\u{a0}"),
            (r"\S", "\u{a0}", " "),
            (r"a\b.*", "a\u{e4}", "ab"),
            (r"a\B.*", "ab", "a\u{e4}"),
            (r"[^\D5]", "4", "5"),
            ("[a&&b]", "&", "c"),
            ("[a[b]", "[", "]"),
            ("[+--b]", ",", "a"),
            ("[a~~b]", "~", "c"),
            ("[[]", "[", "]"),
            ("[]a]", "]", "b"),
            ("[a-c-e]", "-", "d"),
            ("[[:word:][:^digit:]]", "\u{e4}", ""),
            ("[[:a]", ":", "b"),
            (r"\<a\>", "<a>", "a"),
            (r"\_\-\/", "_-/", "_"),
            (r"a\b{start}", "never", "a"),
            (r"\Qa.b*\E+", "a.b**", "axb*"),
            ("{a}", "{a}", "a"),
            ("a{,2}", "a{,2}", "aa"),
            ("a{2", "a{2", "aa"),
            ("a{02}", "a{02}", "aa"),
            ("a{2,3}?", "aaa", "a"),
            (r"\101\60\x41\x{263a}", "A0A\u{263a}", "101"),
            (r"\p{^L}", "1", "a"),
            (r"\P{^Greek}\pN", "\u{3b1}1", "a1"),
            (r"(?P<1a>x)(?<b>y)", "xy", "x"),
            (r"(?i-s:A.)(?ii)b(?)c", "axBc", "a\nbc"),
            ("a.b", "a\nb", "ab"),
            ("(?i)\u{fc}", "\u{dc}", "u"),
            ("#x y", "#x y", "xy"),
        ];
        for (pattern, is, is_not) in cases {
            let matcher = Matcher::matches("a", pattern);
            let matcher = matcher.unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(matcher.accepts_value(is) || is == "never", "{pattern} {is:?}");
            assert!(!matcher.accepts_value(is_not), "{pattern} {is_not:?}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        let refused = r"
            * a** a+* (*a) a|* (?i)* a{1001} a{3,2} (a{100}){100} \1 \8 \E \C \Z \y \u{41}
            \x{110000} \x4 \ [a-\d] [b-a] [a [[:foo:]] [\b] [\Qa\E] (?x)a (?u)a (?-) (?i (?P=a)
            \Q[ (?P<>x) (?=a) (?<=a) (?!a) \p{Letter} \p{greek} \p{gc=L} \p{L \pl ) ( a)|(b
        ";
        for pattern in refused.split_whitespace() {
            assert!(Matcher::matches("a", pattern).is_err(), "{pattern}");
        }
        for pattern in
            ["(?P<a>x)(?P<a>y)", "(a{10}){100}", "^*", "", "|", "()", "(|a)*", "a{0}", "a{0,1000}"]
        {
            assert!(Matcher::matches("a", pattern).is_ok(), "{pattern}");
        }
    }
}
