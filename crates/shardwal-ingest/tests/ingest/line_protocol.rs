//! The scanner of line protocol: against a reference that is written from the specification, and
//! that it is linear.

use std::fmt::Write;

use proptest::prelude::*;

use crate::line_reference::{Point, points};
use line::{Field, Lines, Value};
use name::Head;
use precision::Precision;

#[path = "../../src/server/influx/line.rs"]
mod line;
#[path = "../../src/server/influx/name.rs"]
mod name;
#[path = "../../src/server/influx/precision.rs"]
mod precision;

/// Reads one line after `next`. `None` if it is invalid.
fn read<'a>(lines: &mut Lines<'a>, line: &line::Line<'a>) -> Option<Point> {
    let mut fields = Vec::new();
    while let Some(field) = lines.field(line).ok()? {
        if let Value::Number(value) = field.value {
            fields.push((field.key.to_vec(), value));
        }
    }
    let timestamp = lines.timestamp(line).ok()?;
    let bytes = |text: &str| text.as_bytes().to_vec();
    let Head { measurement, tags } = Head::new(line.head).expect("the tests are in UTF-8");
    let tags = tags.iter().map(|(key, value)| (bytes(key), bytes(value))).collect();
    Some(Point { measurement: bytes(&measurement), tags, fields, timestamp })
}

/// Each line as the scanner finds it, and the number of bytes that it scanned.
fn scanned(text: &[u8]) -> (Vec<(usize, Option<Point>)>, usize) {
    let mut lines = Lines::new(text);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        found.push(match line {
            Ok(line) => (line.error("").line, read(&mut lines, &line)),
            Err(error) => (error.line, None),
        });
    }
    (found, lines.scanned)
}

/// Text that is dense in what matters to the scanner.
fn texts() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "ä",
        "_",
        "1",
        "1i",
        "1t",
        "t",
        ",",
        "=",
        " ",
        "\"",
        "\\",
        "\n",
        "\r\n",
        "#",
        "a=",
        ",b=",
        "=\"",
        "\",",
        "\" ",
        "m f=1\n",
        "m,t=v f=\"x\" 1\n",
        "\\\"",
        "\\\\",
        "\\ ",
        "\t",
        "\u{feff}",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn lines_are_read_as_the_specification_says(text in texts()) {
        let (found, _) = scanned(text.as_bytes());
        prop_assert_eq!(found, points(text.as_bytes()));
    }

    #[test]
    fn no_byte_is_scanned_more_than_three_times(text in texts(), repeat in 1_usize..20) {
        let text = text.repeat(repeat);
        let (_, scanned) = scanned(text.as_bytes());
        prop_assert!(scanned <= 3 * text.len() + 1, "{} of {}", scanned, text.len());
    }

    #[test]
    fn any_bytes_are_an_error_or_points(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut lines = Lines::new(&bytes);
        while let Some(line) = lines.next() {
            let Ok(line) = line else { continue };
            while let Ok(Some(field)) = lines.field(&line) {
                if let Ok(head) = Head::new(line.head) {
                    head.labels(field.key).map(Iterator::count).ok();
                }
            }
            lines.skip(&line);
        }
    }
}

/// The inputs of which a scanner can be quadratic: a line without an end that it can trust.
#[test]
fn hostile_lines_are_scanned_in_linear_time() {
    let shapes: [fn(usize) -> String; 7] = [
        |n| "m f=\"\n".repeat(n),
        |n| format!("m f=\"{}", "\nm f=1x".repeat(n)),
        |n| "m x\",t=\" f=\"\n".repeat(n),
        |n| "x a=\",b=\"\n".repeat(n),
        |n| "x y=1\",k=\"\n".repeat(n),
        |n| format!("m{} f=1{}", ",t=".repeat(n), ",f=1".repeat(n)),
        |n| format!("m f=\"{}", "\\\"\n".repeat(n)),
    ];
    for shape in shapes {
        for n in [100, 1_000, 10_000] {
            let text = shape(n);
            let (_, scanned) = scanned(text.as_bytes());
            assert!(scanned <= 3 * text.len() + 1, "{scanned} of {}: {:.40}", text.len(), text);
        }
    }
}

/// The numbers of the invalid lines, and the measurements of the valid ones.
fn outcome(text: &[u8]) -> String {
    let mut outcome = String::new();
    for (number, point) in scanned(text).0 {
        match point {
            Some(point) => {
                let name = String::from_utf8_lossy(&point.measurement);
                write!(outcome, "{name}:{}", point.fields.len()).expect("a String takes all");
            }
            None => write!(outcome, "{number}!").expect("a String takes all"),
        }
        outcome.push(' ');
    }
    outcome
}

#[test]
fn a_line_begins_and_ends_where_the_grammar_says() {
    for (text, expected) in [
        // A quote that is not closed costs its own line only.
        ("k s=\"a 1\nk n=1,t=\"x\" 2", "1! k:1 "),
        ("m s=\"a\"b\" 1\nm f=1", "1! m:1 "),
        ("m s=\"a\nb 1\nc f=1", "1! 2! c:1 "),
        ("m s=\"a\",f=1x\nn f=1", "1! n:1 "),
        ("m s=\"a\nn f=1\nm s=\"\",f=x", "1! n:1 3! "),
        // A quote outside a field's value is literal, also behind a space.
        (" o,a=\"x f=1 1\no,a=\"y f=2 2", "o:1 o:1 "),
        ("m f\"=1\nn f=1", "m:1 n:1 "),
        // A string may hold newlines, and the next line has the number that follows them.
        ("m s=\"a\n\nb\",f=1\nn f=x", "m:1 4! "),
        ("\u{feff}cpu f=1\n\u{feff}cpu f=1", "cpu:1 \u{feff}cpu:1 "),
        ("m s=\"caf\",f=1\r\n\r\n# x\"\n \t\nn f=2i  5 \r\n", "m:1 n:1 "),
    ] {
        assert_eq!(outcome(text.as_bytes()), expected, "{text:?}");
    }
    assert_eq!(outcome(b"s msg=\"caf\xe9\",load=1.5"), "s:1 ", "a string may be any bytes");
}

#[test]
fn only_a_separator_is_escaped_outside_strings() {
    for (head, measurement, tags) in [
        (r"m,share=\\srv\d", "m", vec![("share", r"\\srv\d")]),
        (r"m,p=a\b", "m", vec![("p", r"a\b")]),
        (r"m,p=a\\b", "m", vec![("p", r"a\\b")]),
        (r"cpu,host=two\\ words", "cpu", vec![("host", r"two\ words")]),
        (r"m\,1,t\ 1=a\=b\,c,e=", "m,1", vec![("t 1", "a=b,c")]),
        (r"m\=1\,\ ", r"m\=1, ", vec![]),
    ] {
        let line = format!("{head} f=1 5");
        let mut lines = Lines::new(line.as_bytes());
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.head, head.as_bytes());
        let found = Head::new(line.head).unwrap();
        let tags: Vec<_> =
            tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        assert_eq!(found, Head { measurement: measurement.into(), tags });
    }
}

fn fields(line: &str) -> Result<Vec<Field<'_>>, String> {
    let mut lines = Lines::new(line.as_bytes());
    let line = lines.next().expect("there is a line").map_err(|error| error.to_string())?;
    let mut fields = Vec::new();
    while let Some(field) = lines.field(&line).map_err(|error| error.to_string())? {
        fields.push(field);
    }
    Ok(fields)
}

#[test]
fn a_fields_value_is_a_number_a_boolean_a_string_or_a_timestamp() {
    for (text, value) in [
        ("1", Value::Number(1.0)),
        ("-1.5e-3", Value::Number(-0.0015)),
        ("9223372036854775807i", Value::Number(9_223_372_036_854_775_807_i64 as f64)),
        ("18446744073709551615u", Value::Number(u64::MAX as f64)),
        ("t", Value::Number(1.0)),
        ("FALSE", Value::Number(0.0)),
        ("\"1\"", Value::String),
        ("\"\\\"a, b=c\\\\\"", Value::String),
        ("7t", Value::Timestamp),
        ("-7t", Value::Timestamp),
    ] {
        let line = format!("m f={text} 1");
        assert_eq!(fields(&line), Ok(vec![Field { key: b"f", value }]), "{text}");
    }
    for text in [
        "",
        "x",
        "1x",
        "1.5t",
        "-t",
        "1n",
        "inf",
        "NaN",
        "9223372036854775808i",
        "-1u",
        "tr",
        "\"open",
        "1e999",
    ] {
        assert!(fields(&format!("m f={text}")).is_err(), "{text}");
    }
    let error = fields(r"m\,1,t\ 1=a\=b\,c d\ e,f\=1=2").unwrap_err();
    assert!(error.ends_with("missing field value (line 1)"), "{error}");
}

#[test]
fn a_timestamp_is_rounded_down_to_the_millisecond() {
    for (unit, timestamp, milliseconds) in [
        ("", 1_999_999, 1),
        ("ns", -1, -1),
        ("us", 1_500, 1),
        ("ms", 7, 7),
        ("s", i64::MAX, i64::MAX),
        ("h", -2, -7_200_000),
    ] {
        let precision = Precision::named(unit).expect("there is such a unit");
        assert_eq!(precision.milliseconds(timestamp), milliseconds, "{timestamp} {unit}");
    }
    assert_eq!(Precision::named("day"), None);
}

/// The bounds are those that InfluxDB 3 documents.
#[test]
fn version_3_guesses_the_unit_of_each_timestamp() {
    for (unit, timestamp, milliseconds) in [
        ("", 4_999_999_999, 4_999_999_999_000),
        ("auto", 5_000_000_000, 5_000_000_000),
        ("auto", -1_700_000_000, -1_700_000_000_000),
        ("auto", 4_999_999_999_999, 4_999_999_999_999),
        ("auto", 5_000_000_000_000, 5_000_000_000),
        ("auto", 5_000_000_000_000_000, 5_000_000_000),
        ("auto", i64::MIN, -9_223_372_036_855),
        ("nanosecond", 1_999_999, 1),
        ("microsecond", 1_999, 1),
        ("millisecond", 7, 7),
        ("second", 7, 7_000),
        ("s", 7, 7_000),
    ] {
        let precision = Precision::named_in_v3(unit).expect("there is such a unit");
        assert_eq!(precision.milliseconds(timestamp), milliseconds, "{timestamp} {unit}");
    }
    assert_eq!(Precision::named_in_v3("h"), None);
    assert_eq!(Precision::named("auto"), None);
}
