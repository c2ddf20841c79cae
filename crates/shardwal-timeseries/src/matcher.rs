//! Matchers: conditions that select series by label. They do not know samples.

use regex::Regex;

use super::Labels;

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
    cause: regex::Error,
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the pattern for label {:?} is invalid: {}", self.label, self.cause)
    }
}

impl std::error::Error for PatternError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
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

    /// `name=~"pattern"`: the pattern must match the whole value, as in Prometheus.
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn matches(name: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        let name = name.into();
        let test = Test::Matches(anchored(&name, pattern)?);
        Ok(Self { name, test })
    }

    /// `name!~"pattern"`
    ///
    /// # Errors
    /// The pattern is not a valid regular expression, or is too large.
    pub fn not_matches(name: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        let name = name.into();
        let test = Test::NotMatches(anchored(&name, pattern)?);
        Ok(Self { name, test })
    }

    /// Whether the labels satisfy this condition.
    #[must_use]
    pub fn accepts(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        match &self.test {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::NotMatches(pattern) => !pattern.is_match(value),
        }
    }
}

/// Anchors the pattern at both ends. As in Prometheus, a dot also matches a newline.
fn anchored(label: &str, pattern: &str) -> Result<Regex, PatternError> {
    // Compile the pattern alone first: a stray parenthesis would close the group.
    Regex::new(pattern)
        .and_then(|_| Regex::new(&format!("^(?s:{pattern})$")))
        .map_err(|cause| PatternError { label: label.to_owned(), cause })
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
}
