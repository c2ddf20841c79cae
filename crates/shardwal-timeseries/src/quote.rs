//! Prints label values as Go's `%q` does, because Prometheus prints them so.

use std::fmt::{self, Write};

/// Writes `text` as Go's `strconv.Quote` does. Rust's and Go's Unicode tables decide which
/// characters beyond ASCII are printable. The results differ for characters that only the newer
/// table contains.
pub(super) fn quote(text: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    formatter.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(formatter, "\\{character}")?,
            ' '..='~' => formatter.write_char(character)?,
            '\x07' => formatter.write_str("\\a")?,
            '\x08' => formatter.write_str("\\b")?,
            '\x0c' => formatter.write_str("\\f")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            '\x0b' => formatter.write_str("\\v")?,
            '\0'..='\x1f' | '\x7f' => write!(formatter, "\\x{:02x}", u32::from(character))?,
            _ if is_printable(character) => formatter.write_char(character)?,
            '\u{80}'..='\u{ffff}' => write!(formatter, "\\u{:04x}", u32::from(character))?,
            _ => write!(formatter, "\\U{:08x}", u32::from(character))?,
        }
    }
    formatter.write_char('"')
}

/// Whether a character beyond ASCII is a letter, mark, number, punctuation or symbol. The standard
/// library shows this only in what it escapes. It prints a combining mark only after a character to
/// combine with, hence the letter before it.
fn is_printable(character: char) -> bool {
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    let end = 1 + character.encode_utf8(&mut bytes[1..]).len();
    let text = std::str::from_utf8(&bytes[..end]).expect("two characters, encoded as such");
    text.escape_debug().nth(1) == Some(character)
}

#[cfg(test)]
mod tests {
    struct Quoted(&'static str);

    impl std::fmt::Display for Quoted {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            super::quote(self.0, formatter)
        }
    }

    /// The right-hand sides follow Go's documentation of `strconv.Quote`.
    #[test]
    fn values_are_quoted_as_go_does() {
        let expected = [
            ("", r#""""#),
            ("a b~", r#""a b~""#),
            ("\"\\'", r#""\"\\'""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\0\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("\u{80}\u{a0}\u{ad}\u{200b}\u{2028}", r#""\u0080\u00a0\u00ad\u200b\u2028""#),
            ("\u{feff}\u{e000}\u{fffd}", "\"\\ufeff\\ue000\u{fffd}\""),
            ("äß世\u{301}☺😀", "\"äß世\u{301}☺😀\""),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
        ];
        for (text, quoted) in expected {
            assert_eq!(Quoted(text).to_string(), quoted, "{text:?}");
        }
    }
}
