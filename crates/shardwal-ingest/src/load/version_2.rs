//! Messages of remote write 2.0 from those of 1.0: the same series and samples, whose labels refer
//! to a table of texts. Metadata and exemplars are left out, as Prometheus does by default.

use std::collections::HashMap;

use super::bodies::for_each_field;

/// The first symbol is empty, as the specification says.
const SYMBOLS_BEGIN: &[u8] = &[SYMBOL, 0];

/// The tags of a symbol and of a series in a request, of references and of a sample in a series.
const SYMBOL: u8 = 4 << 3 | 2;
const SERIES: u8 = 5 << 3 | 2;
const REFERENCES: u8 = 1 << 3 | 2;
const SAMPLE: u8 = 2 << 3 | 2;

/// Converts a `prometheus.WriteRequest` to an `io.prometheus.write.v2.Request`. `None` if it is
/// none.
pub(super) fn convert(message: &mut [u8]) -> Option<Vec<u8>> {
    let mut symbols = Symbols::default();
    let mut all_series = Vec::new();
    for_each_field(message, &mut |tag, content| {
        if tag == 0x0A {
            let series = convert_series(content, &mut symbols)?;
            push_bytes(&mut all_series, SERIES, &series);
        }
        Some(())
    })?;
    Some([SYMBOLS_BEGIN, &symbols.encoded, &all_series].concat())
}

fn convert_series(series: &mut [u8], symbols: &mut Symbols) -> Option<Vec<u8>> {
    let (mut references, mut samples) = (Vec::new(), Vec::new());
    for_each_field(series, &mut |tag, content| match tag {
        0x0A => {
            let mut label = [0, 0];
            for_each_field(content, &mut |tag, text| {
                match tag {
                    0x0A => label[0] = symbols.reference(text),
                    0x12 => label[1] = symbols.reference(text),
                    _ => {}
                }
                Some(())
            })?;
            label.into_iter().for_each(|reference| push_varint(&mut references, reference));
            Some(())
        }
        0x12 => {
            // A sample has the same fields in both versions.
            push_bytes(&mut samples, SAMPLE, content);
            Some(())
        }
        _ => Some(()),
    })?;
    let mut converted = Vec::new();
    push_bytes(&mut converted, REFERENCES, &references);
    converted.extend_from_slice(&samples);
    Some(converted)
}

/// The texts of a request.
#[derive(Default)]
struct Symbols {
    numbers: HashMap<Vec<u8>, u64>,
    encoded: Vec<u8>,
}

impl Symbols {
    fn reference(&mut self, text: &[u8]) -> u64 {
        if text.is_empty() {
            return 0;
        }
        let next = self.numbers.len() as u64 + 1;
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.numbers.insert(text.to_vec(), next);
        push_bytes(&mut self.encoded, SYMBOL, text);
        next
    }
}

fn push_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

#[cfg(test)]
mod tests {
    use super::convert;

    /// The sample 0.5 at 7.
    const SAMPLE: &[u8] = b"\x12\x0B\x09\0\0\0\0\0\0\xE0\x3F\x10\x07";

    #[test]
    fn each_text_is_once_in_the_table() {
        // The labels are a="b" and c="a". The series has an exemplar too.
        let labels = b"\x0A\x06\x0A\x01a\x12\x01b\x0A\x06\x0A\x01c\x12\x01a";
        let mut message = [b"\x0A\x1F", &labels[..], SAMPLE, b"\x1A\0"].concat();
        let converted = convert(&mut message).unwrap();
        let symbols = b"\x22\0\x22\x01a\x22\x01b\x22\x01c";
        let expected = [symbols, &b"\x2A\x13\x0A\x04\x01\x02\x03\x01"[..], SAMPLE].concat();
        assert_eq!(converted, expected);
        assert_eq!(convert(&mut [0x0A, 5, 0]), None);
    }
}
