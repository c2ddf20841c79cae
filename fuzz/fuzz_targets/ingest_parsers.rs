//! Feeds arbitrary bytes to the parsers of the ingest server: line protocol, remote write of both
//! versions, OTLP in protobuf and in JSON, and selectors. The first byte of an input chooses the
//! parser.
//!
//! A parser returns what it found or an error. The limits of the fuzzer on memory and time hold for
//! each input.

#![no_main]
#![allow(dead_code, unused_imports)]

use libfuzzer_sys::fuzz_target;

use server::budget::Budget;
use server::influx::line::Lines;
use server::otlp;
use server::protobuf::{Malformed, Reader, Value};
use server::remote_write::{v1, v2};
use server::selector;

#[path = "../../crates/shardwal-ingest/benches/server/mod.rs"]
mod server;

/// Maximum bytes that a parser may reserve for an input of 4 KiB.
const RESERVED_MAX: usize = 4 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else { return };
    match choice % 6 {
        0 => lines(input),
        1 => drop(remote_write_v1(input)),
        2 => drop(remote_write_v2(input)),
        3 => {
            let budget = Budget::new(RESERVED_MAX);
            otlp::points(input, || budget.reserve_nothing());
        }
        4 => otlp_json(input),
        _ => selectors(input),
    }
});

fn lines(text: &[u8]) {
    let mut lines = Lines::new(text);
    while let Some(line) = lines.next() {
        let read = line.and_then(|line| {
            while lines.field(&line)?.is_some() {}
            lines.timestamp(&line).map(|_| ())
        });
        if let Err(error) = read {
            assert!(error.to_string().len() < 1024, "an error repeats little of a line");
        }
    }
}

fn remote_write_v1(message: &[u8]) -> Result<(), Malformed> {
    let mut entries = v1::Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        let labels = entry.labels();
        // A pair that is malformed ends the list.
        _ = v1::LabelPairs::new(&labels).take_while(Result::is_ok).count();
        while entry.next_sample()?.is_some() {}
    }
    Ok(())
}

fn remote_write_v2(message: &[u8]) -> Result<(), Malformed> {
    let mut symbols = v2::Symbols::new(message);
    while symbols.next()?.is_some() {}
    let mut entries = v2::Entries::new(message);
    while let Some(mut entry) = entries.next()? {
        let mut references = entry.references();
        while references.next()?.is_some() {}
        while entry.next_sample()?.is_some() {}
    }
    Ok(())
}

/// What is rewritten is a message, whose messages are well-formed too.
fn otlp_json(text: &[u8]) {
    let budget = Budget::new(RESERVED_MAX);
    let mut reservation = budget.reserve_nothing();
    let Some(message) = otlp::rewrite(text, &mut reservation) else { return };
    assert!(message.capacity() <= budget.in_use(), "all memory is counted");
    // The messages down to the points, by the numbers of their fields.
    let fields: [&[u64]; 5] = [&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]];
    check(&message, &fields);
}

fn check(message: &[u8], fields: &[&[u64]]) {
    let mut reader = Reader { rest: message };
    while let Some((number, value)) = reader.field().expect("it is a message") {
        if let (Some((numbers, deeper)), Value::Bytes(bytes)) = (fields.split_first(), value)
            && numbers.contains(&number)
        {
            check(bytes, deeper);
        }
    }
}

fn selectors(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    if let Err(why) = selector::parse(text, 1 << 20) {
        assert!(!why.is_empty());
    }
}
