//! Limits on what a read selects, of every protocol. This file does not know protocols.

use super::refusal::Refusal;

/// Maximum number of selectors of a read.
pub(crate) const SELECTORS_MAX: usize = 64;

/// Maximum number of matchers of a selector. Each costs time with the index locked.
pub(crate) const MATCHERS_MAX: usize = 64;

/// Maximum number of patterns of a read, and of bytes of all of them, compiled.
const PATTERNS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 8 << 20;

/// Checks the number of selectors of a read.
///
/// # Errors
/// There are too many.
pub(crate) fn check_selectors(selectors: usize) -> Result<(), Refusal> {
    if selectors > SELECTORS_MAX {
        let why = format!("a read has more than {SELECTORS_MAX} selectors");
        return Err(Refusal::Invalid(why));
    }
    Ok(())
}

/// Checks the number of matchers of a selector.
///
/// # Errors
/// There are too many.
pub(crate) fn check_matchers(matchers: usize) -> Result<(), String> {
    if matchers > MATCHERS_MAX {
        return Err(format!("a selector has more than {MATCHERS_MAX} matchers"));
    }
    Ok(())
}

/// Maximum bytes of each of a number of patterns, compiled.
///
/// # Errors
/// There are too many.
pub(crate) fn pattern_bytes_max(patterns: usize) -> Result<usize, Refusal> {
    if patterns > PATTERNS_MAX {
        let why = format!("{patterns} patterns are more than {PATTERNS_MAX}");
        return Err(Refusal::Invalid(why));
    }
    Ok(PATTERN_BYTES_MAX / patterns.max(1))
}
