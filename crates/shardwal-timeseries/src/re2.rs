//! Translates patterns from RE2's syntax, which Prometheus uses, to that of the `regex` crate. Both
//! read most patterns alike, but not brackets in brackets, `\d`, octal escapes or lone braces.
//! What RE2 refuses is refused. This file does not know labels.

use std::iter::Peekable;
use std::str::Chars;

/// The largest count of a repetition, and of nested ones together.
const REPEAT_MAX: u32 = 1000;

/// General categories that RE2 knows. Other names are scripts.
const CATEGORIES: &str = " C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po \
                          Ps S Sc Sk Sm So Z Zl Zp Zs ";

/// Translates a pattern. All groups become groups without capture.
///
/// # Errors
/// RE2 refuses the pattern. The text says why.
pub(crate) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        open: Vec::new(),
        most: 0,
        before: Before::Nothing,
        has_no_posix_end: false,
    };
    while let Some(c) = translator.rest.next() {
        translator.take(c)?;
    }
    if translator.open.is_empty() { Ok(translator.out) } else { refuse("a missing )") }
}

fn refuse<T>(what: &str) -> Result<T, String> {
    Err(format!("the pattern has {what}"))
}

/// What precedes the current place.
enum Before {
    /// Nothing that can be repeated.
    Nothing,
    /// Something that can be, with the largest product of nested counts in it.
    Atom(u32),
    /// A repetition.
    Repetition,
}

/// A class of characters that has a letter, such as `\d`.
enum Class {
    Char(char),
    /// Members, in the syntax within brackets.
    Set(String),
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// For each open group, `most` outside of it.
    open: Vec<u32>,
    /// The largest product of nested counts in the current group.
    most: u32,
    before: Before,
    /// Whether no `:]` comes any more. Without this, each `[:` would search the whole rest.
    has_no_posix_end: bool,
}

impl Translator<'_> {
    fn take(&mut self, c: char) -> Result<(), String> {
        match c {
            '(' => return self.take_group(),
            ')' => {
                let Some(most) = self.open.pop() else { return refuse("an unexpected )") };
                self.before = Before::Atom(self.most);
                self.most = self.most.max(most);
                self.out.push(')');
                return Ok(());
            }
            '|' => {
                self.out.push('|');
                self.before = Before::Nothing;
                return Ok(());
            }
            '*' | '+' | '?' => return self.take_repetition(&c.to_string(), 0),
            '{' => {
                if let Some((text, min, max)) = self.take_counts() {
                    if min.max(max.unwrap_or(0)) > REPEAT_MAX || max.is_some_and(|max| max < min) {
                        return refuse("an invalid repeat count");
                    }
                    return self.take_repetition(&text, max.unwrap_or(min));
                }
                self.literal('{');
            }
            '.' | '^' | '$' => self.out.push(c),
            '[' => self.take_class()?,
            '\\' => self.take_escape()?,
            c => self.literal(c),
        }
        self.before = Before::Atom(0);
        Ok(())
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    /// Takes a repetition operator, and perhaps the `?` of a lazy one. `count` is the largest
    /// count.
    fn take_repetition(&mut self, operator: &str, count: u32) -> Result<(), String> {
        let inner = match self.before {
            Before::Nothing => return refuse("nothing to repeat"),
            Before::Repetition => return refuse("a nested repetition operator"),
            Before::Atom(inner) => inner,
        };
        let product = count.max(1) * inner.max(1);
        if count >= 2 && product > REPEAT_MAX {
            return refuse("an invalid repeat count");
        }
        self.most = self.most.max(product);
        self.out.push_str(operator);
        if self.rest.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
        self.before = Before::Repetition;
        Ok(())
    }

    /// Takes `n}`, `n,}` or `n,m}`, and returns it with its brace, `n` and `m`. Anything else is
    /// no repetition.
    fn take_counts(&mut self) -> Option<(String, u32, Option<u32>)> {
        let mut ahead = self.rest.clone();
        let number = |ahead: &mut Peekable<Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = ahead.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let is_number = !digits.is_empty() && (digits.len() == 1 || !digits.starts_with('0'));
            is_number.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let min: u32 = number(&mut ahead)?;
        let (text, max) = if ahead.next_if_eq(&',').is_none() {
            (format!("{{{min}}}"), Some(min))
        } else if ahead.peek() == Some(&'}') {
            (format!("{{{min},}}"), None)
        } else {
            let max = number(&mut ahead)?;
            (format!("{{{min},{max}}}"), Some(max))
        };
        ahead.next_if_eq(&'}')?;
        self.rest = ahead;
        Some((text, min, max))
    }

    /// Takes what follows an opening parenthesis.
    fn take_group(&mut self) -> Result<(), String> {
        self.before = Before::Nothing;
        let mut flags = String::new();
        if self.rest.next_if_eq(&'?').is_some() {
            let is_name = self.rest.next_if_eq(&'P').is_some();
            if self.rest.next_if_eq(&'<').is_some() {
                self.take_group_name()?;
            } else if is_name {
                return refuse("an invalid group name");
            } else {
                let (found, ends) = self.take_flags()?;
                if ends {
                    self.out.push_str(&format!("(?{found})").replace("(?)", "(?:)"));
                    return Ok(());
                }
                flags = found;
            }
        }
        self.out.push_str(&format!("(?{flags}:"));
        self.open.push(self.most);
        self.most = 0;
        Ok(())
    }

    fn take_group_name(&mut self) -> Result<(), String> {
        let mut length = 0;
        while self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {
            length += 1;
        }
        let is_name = self.rest.next_if_eq(&'>').is_some() && length > 0;
        if is_name { Ok(()) } else { refuse("an invalid group name") }
    }

    /// Takes flags up to a colon or a parenthesis. Returns them, and whether it was a parenthesis.
    fn take_flags(&mut self) -> Result<(String, bool), String> {
        let (mut on, mut off, mut negative, mut any) = (String::new(), String::new(), false, false);
        loop {
            match self.rest.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    on.retain(|other| other != flag);
                    off.retain(|other| other != flag);
                    if negative {
                        off.push(flag)
                    } else {
                        on.push(flag)
                    }
                    any = true;
                }
                Some('-') if !negative => (negative, any) = (true, false),
                Some(end @ (':' | ')')) if !negative || any => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    return Ok((format!("{on}{minus}{off}"), end == ')'));
                }
                _ => return refuse("invalid flags"),
            }
        }
    }

    /// Takes what follows a backslash outside of a class.
    fn take_escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('A') => self.out.push_str("\\A"),
            Some('z') => self.out.push_str("\\z"),
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            Some('Q') => {
                self.rest.next();
                return self.take_quoted();
            }
            _ => {
                match self.escaped()? {
                    Class::Char(c) => self.literal(c),
                    Class::Set(set) => self.out.push_str(&format!("[{set}]")),
                }
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// Takes literal text up to `\E`. Prometheus refuses text without it, which would hide the
    /// end of its own group.
    fn take_quoted(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return Ok(());
            }
            self.literal(c);
        }
        refuse("a missing \\E")
    }

    /// Takes what follows a backslash: a character or a set of them.
    fn escaped(&mut self) -> Result<Class, String> {
        let kind = self.rest.next();
        let set = |text: &str| Ok(Class::Set(text.to_owned()));
        let c = match kind {
            Some('d') => return set("0-9"),
            Some('D') => return set("[^0-9]"),
            Some('s') => return set("\\t\\n\\f\\r\\x20"),
            Some('S') => return set("[^\\t\\n\\f\\r\\x20]"),
            Some('w') => return set("0-9A-Za-z_"),
            Some('W') => return set("[^0-9A-Za-z_]"),
            Some(negative @ ('p' | 'P')) => return self.unicode_class(negative == 'P'),
            Some('a') => '\x07',
            Some('f') => '\x0C',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0B',
            Some('x') => return self.hexadecimal(),
            Some(first @ '0'..='7') => {
                let mut value = first.to_digit(8).unwrap_or(0);
                let mut digits = 1;
                while let Some(digit) = self.rest.next_if(|c| digits < 3 && c.is_digit(8)) {
                    value = value * 8 + digit.to_digit(8).unwrap_or(0);
                    digits += 1;
                }
                if first != '0' && digits == 1 {
                    return refuse("a backreference");
                }
                char::from_u32(value).unwrap_or_default()
            }
            Some(c) if c.is_ascii_punctuation() || c.is_ascii_control() || c == ' ' => c,
            _ => return refuse("an invalid escape"),
        };
        Ok(Class::Char(c))
    }

    fn hexadecimal(&mut self) -> Result<Class, String> {
        let mut digits = String::new();
        let is_long = self.rest.next_if_eq(&'{').is_some();
        while let Some(digit) =
            self.rest.next_if(|c| (is_long || digits.len() < 2) && c.is_ascii_hexdigit())
        {
            digits.push(digit);
        }
        let is_whole =
            if is_long { self.rest.next_if_eq(&'}').is_some() } else { digits.len() == 2 };
        let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
        match c {
            Some(c) if is_whole => Ok(Class::Char(c)),
            _ => refuse("an invalid escape"),
        }
    }

    /// Takes what follows `\p`.
    fn unicode_class(&mut self, mut negative: bool) -> Result<Class, String> {
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            negative ^= self.rest.next_if_eq(&'^').is_some();
            while let Some(c) = self.rest.next_if(|c| *c != '}') {
                name.push(c);
            }
            if self.rest.next().is_none() {
                return refuse("an invalid character class");
            }
        } else {
            name.extend(self.rest.next());
        }
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().skip(1).all(|c| c.is_ascii_alphabetic() || c == '_')
            && name.chars().nth(1).is_none_or(|c| c.is_ascii_lowercase());
        if !is_name {
            return refuse("an invalid character class");
        }
        let class = match name.as_str() {
            "Any" => "Any".to_owned(),
            name if CATEGORIES.contains(&format!(" {name} ")) => format!("gc={name}"),
            name => format!("Script={name}"),
        };
        Ok(Class::Set(format!("\\{}{{{class}}}", if negative { 'P' } else { 'p' })))
    }

    /// Takes what follows an opening bracket.
    fn take_class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        while is_first || self.rest.peek() != Some(&']') {
            is_first = false;
            if self.take_posix_class()? {
                continue;
            }
            let low = match self.class_member()? {
                Class::Set(set) => {
                    self.out.push_str(&set);
                    continue;
                }
                Class::Char(low) => low,
            };
            let mut ahead = self.rest.clone();
            let is_range =
                ahead.next() == Some('-') && ahead.peek().is_some_and(|after| *after != ']');
            let mut high = low;
            if is_range {
                self.rest = ahead;
                match self.class_member()? {
                    Class::Char(end) if end >= low => high = end,
                    _ => return refuse("an invalid range"),
                }
            }
            let (low, high) = (u32::from(low), u32::from(high));
            self.out.push_str(&format!("\\x{{{low:x}}}-\\x{{{high:x}}}"));
        }
        self.rest.next();
        self.out.push(']');
        Ok(())
    }

    fn class_member(&mut self) -> Result<Class, String> {
        match self.rest.next() {
            Some('\\') => self.escaped(),
            Some(c) => Ok(Class::Char(c)),
            None => refuse("a missing ]"),
        }
    }

    /// Takes `[:name:]`, if that is next. Without an end it is a bracket.
    fn take_posix_class(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        if self.has_no_posix_end || ahead.next() != Some('[') || ahead.next() != Some(':') {
            return Ok(false);
        }
        let mut name = String::new();
        while let Some(c) = ahead.next() {
            if c == ':' && ahead.next_if_eq(&']').is_some() {
                let known = "alnum alpha ascii blank cntrl digit graph lower print punct space upper \
                             word xdigit";
                if !known.split(' ').any(|known| known == name.trim_start_matches('^')) {
                    return refuse("an invalid range");
                }
                self.out.push_str(&format!("[:{name}:]"));
                self.rest = ahead;
                return Ok(true);
            }
            name.push(c);
        }
        self.has_no_posix_end = true;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    /// Regression: each `[:` searched the whole rest, which took minutes. Now it is searched once.
    #[test]
    fn a_long_pattern_is_read_once() {
        assert!(translate(&"[:".repeat(500_000)).is_err(), "a bracket is missing");
        assert!(translate(&format!("{}x]", "[:".repeat(500_000))).is_ok(), "all are in one class");
        assert!(translate("[[:alpha:][:]x[:digit:]").is_err(), "`:]x[:digit` is no class");
    }
}
