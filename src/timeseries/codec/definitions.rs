//! What the references mean: the labels of each series, told once in a fresh
//! period. The names of a series' labels are a shape; each name has its own
//! list of values. Most values are the last of their name, and are not told.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::{Reader, push_varint, unzigzag, zigzag};
use super::{DecodeError, DecodeFault, PREFIX_MAX, SHARED_LABELS_BYTES_MAX};
use crate::timeseries::{LABELS_BYTES_MAX, LABELS_MAX, Labels};

/// In a shape's place: the lists of strings and shapes begin anew.
const ANEW: u64 = 0;
/// In a value's place: a string that its name has not had.
const NEW: u64 = 0;

/// Strings by number, as the encoder needs them.
#[derive(Default)]
struct Numbers {
    numbers: HashMap<Arc<str>, u32>,
    /// The string that was told last, and its number.
    last: Option<(Arc<str>, u32)>,
}

impl Numbers {
    /// Tells a string, by its number if it has one.
    fn tell(&mut self, text: &str, out: &mut Vec<u8>) -> u32 {
        let known = self.numbers.get_key_value(text).map(|(text, number)| (text.clone(), *number));
        let told = known.unwrap_or_else(|| {
            let number = u32::try_from(self.numbers.len()).expect("fewer strings than bytes");
            (text.into(), number)
        });
        let (before, last) = self.last.take().unwrap_or_else(|| ("".into(), 0));
        if told.1 as usize == self.numbers.len() {
            push_varint(out, NEW);
            push_text(&before, text, out);
            self.numbers.insert(told.0.clone(), told.1);
        } else {
            push_varint(out, zigzag(i64::from(told.1) - i64::from(last)) + 1);
        }
        let number = told.1;
        self.last = Some(told);
        number
    }
}

/// How many bytes `text` shares with the one before; its length without them; these.
fn push_text(before: &str, text: &str, out: &mut Vec<u8>) {
    let shared = before.bytes().zip(text.bytes()).take(PREFIX_MAX).take_while(|(a, b)| a == b);
    let shared = shared.count();
    out.push(shared.to_le_bytes()[0]);
    push_varint(out, (text.len() - shared) as u64);
    out.extend_from_slice(&text.as_bytes()[shared..]);
}

/// The encoder's half.
#[derive(Default)]
pub(super) struct Definer {
    names: Numbers,
    /// For each name its values.
    values: Vec<Numbers>,
    shapes: HashMap<Box<[u32]>, u64>,
    /// The shape in hand.
    shape: Vec<u32>,
}

impl Definer {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Tells the labels of the next reference.
    pub(super) fn encode(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        if labels.canonical().len() > SHARED_LABELS_BYTES_MAX {
            push_varint(out, ANEW);
            self.clear();
        }
        self.encode_shape(labels, out);
        let mut told = 0_u64;
        for (at, (name, (_, value))) in self.shape.iter().zip(labels).enumerate() {
            let last = self.values[*name as usize].last.as_ref();
            told |= u64::from(last.is_none_or(|(text, _)| **text != *value)) << at;
        }
        push_varint(out, told);
        for (at, (name, (_, value))) in self.shape.iter().zip(labels).enumerate() {
            if told >> at & 1 == 1 {
                self.values[*name as usize].tell(value, out);
            }
        }
    }

    fn encode_shape(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        let count = labels.iter().count();
        self.shape.clear();
        let known = labels.iter().map_while(|(name, _)| self.names.numbers.get(name).copied());
        self.shape.extend(known);
        let is_known = self.shape.len() == count;
        if let Some(shape) = self.shapes.get(self.shape.as_slice()).filter(|_| is_known) {
            push_varint(out, shape + 1);
            return;
        }
        let next = self.shapes.len() as u64;
        push_varint(out, next + 1);
        push_varint(out, count as u64);
        self.shape.clear();
        for (name, _) in labels {
            let name = self.names.tell(name, out);
            self.values.resize_with(self.names.numbers.len(), Numbers::default);
            self.shape.push(name);
        }
        self.shapes.insert(self.shape.as_slice().into(), next);
    }
}

/// Strings by number, as the decoder needs them.
#[derive(Default)]
struct Strings {
    texts: Vec<Box<str>>,
    /// The number of the string that was told last.
    last: Option<usize>,
}

impl Strings {
    fn last(&self) -> Option<&str> {
        self.last.map(|last| &*self.texts[last])
    }

    /// Reads a string's number, or a string that gets the next one.
    fn take(&mut self, reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
        let code = reader.varint()?;
        let number = if code == NEW {
            let text = self.read_text(reader)?;
            self.texts.push(text);
            self.texts.len() - 1
        } else {
            let last = self.last.unwrap_or(0) as i64;
            let number = usize::try_from(last.wrapping_add(unzigzag(code - 1)));
            let number = number.ok().filter(|number| *number < self.texts.len());
            number.ok_or_else(|| {
                reader.fault(DecodeFault::OutOfRange { what: "a string", found: code })
            })?
        };
        self.last = Some(number);
        Ok(number)
    }

    fn read_text(&self, reader: &mut Reader<'_>) -> Result<Box<str>, DecodeError> {
        let shared = usize::from(reader.byte()?);
        let length = reader.at_most(LABELS_BYTES_MAX, "a string's length")?;
        let rest = reader.slice(length)?;
        let Some(shared) = self.last().unwrap_or("").as_bytes().get(..shared) else {
            let found = shared as u64;
            return Err(reader.fault(DecodeFault::OutOfRange { what: "a prefix", found }));
        };
        let text = String::from_utf8([shared, rest].concat());
        text.map(Into::into).map_err(|_| reader.fault(DecodeFault::NotUtf8))
    }
}

/// The decoder's half.
#[derive(Default)]
pub(super) struct Definitions {
    names: Strings,
    /// For each name its values.
    values: Vec<Strings>,
    shapes: Vec<Box<[usize]>>,
}

impl Definitions {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads the labels of the next reference.
    pub(super) fn decode(&mut self, reader: &mut Reader<'_>) -> Result<Labels, DecodeError> {
        let mut code = reader.varint()?;
        let anew = code == ANEW;
        if anew {
            self.clear();
            code = reader.varint()?;
        }
        let shape = self.decode_shape(code, reader)?;
        let told = reader.varint()?;
        let names = &self.shapes[shape];
        if names.len() < 64 && told >> names.len() != 0 {
            let fault = DecodeFault::OutOfRange { what: "a set of labels", found: told };
            return Err(reader.fault(fault));
        }
        for (at, name) in names.iter().enumerate() {
            if told >> at & 1 == 1 {
                self.values[*name].take(reader)?;
            } else if self.values[*name].last.is_none() {
                let fault = DecodeFault::OutOfRange { what: "a set of labels", found: told };
                return Err(reader.fault(fault));
            }
        }
        let text = |name: &usize| {
            (&*self.names.texts[*name], self.values[*name].last().unwrap_or_default())
        };
        let labels = Labels::new(names.iter().map(text))
            .map_err(|error| reader.fault(DecodeFault::Labels(error)))?;
        let bytes = labels.canonical().len();
        if bytes > SHARED_LABELS_BYTES_MAX && !anew {
            let found = bytes as u64;
            return Err(reader.fault(DecodeFault::OutOfRange { what: "shared labels", found }));
        }
        Ok(labels)
    }

    /// The number of a shape: of one that is known, or of the one that follows.
    fn decode_shape(&mut self, code: u64, reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
        let number = usize::try_from(code.wrapping_sub(1)).unwrap_or(usize::MAX);
        if number > self.shapes.len() {
            return Err(reader.fault(DecodeFault::OutOfRange { what: "a shape", found: code }));
        }
        if number == self.shapes.len() {
            let count = reader.at_most(LABELS_MAX, "a number of labels")?;
            let mut names = Vec::new();
            for _ in 0..count {
                names.push(self.names.take(reader)?);
                self.values.resize_with(self.names.texts.len(), Strings::default);
            }
            self.shapes.push(names.into());
        }
        Ok(number)
    }
}
