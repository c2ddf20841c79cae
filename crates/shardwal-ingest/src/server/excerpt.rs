//! Texts of errors, cut to a bounded length. A text may repeat what a client sent, and a client may
//! send megabytes.

use std::fmt::{self, Display, Write};

/// Maximum bytes of a text.
const BYTES_MAX: usize = 300;

/// Maximum lines of a text.
const LINES_MAX: usize = 5;

/// The beginning of a text. The rest is counted, and never held.
#[derive(Default)]
struct Excerpt {
    text: String,
    lines: usize,
    left_out: usize,
}

impl Write for Excerpt {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            let length = c.len_utf8();
            self.lines += usize::from(c == '\n');
            let fits = self.text.len() + length <= BYTES_MAX && self.lines < LINES_MAX;
            if fits && self.left_out == 0 {
                self.text.push(c);
            } else {
                self.left_out += length;
            }
        }
        Ok(())
    }
}

/// Prints at most a few hundred bytes and a few lines, and the number of further bytes.
pub(crate) fn excerpt(text: &impl Display) -> String {
    let mut excerpt = Excerpt::default();
    // Neither a `String` nor a count fails. A text that reports an error is cut there.
    write!(excerpt, "{text}").ok();
    let Excerpt { mut text, left_out, .. } = excerpt;
    if left_out > 0 {
        text.push_str(&format!("... ({left_out} bytes more)"));
    }
    text
}
