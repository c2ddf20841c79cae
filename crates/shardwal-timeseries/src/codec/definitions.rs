//! The definitions of references: the labels of each series, encoded once per fresh period. The
//! names of a series' labels are its *shape*. Each name has its own list of values. A value that
//! repeats the last value of its name takes no bytes. This file does not know samples.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::{Reader, push_varint, unzigzag, zigzag};
use super::{DecodeError, DecodeFault, PREFIX_MAX, SHARED_LABELS_BYTES_MAX};
use crate::{LABELS_BYTES_MAX, LABELS_MAX, Labels};

/// Instead of a shape: clear the lists of strings and shapes.
const ANEW: u64 = 0;
/// Number of labels whose changes one varint says.
const GROUP_LABELS: usize = 64;
/// Instead of a value's number: a string that is new for its name.
const NEW: u64 = 0;

/// The encoder's numbers of strings in the current period. Strings of earlier periods stay, so that
/// a period begins in little time, however many there are.
#[derive(Default)]
struct Numbers {
    /// The period in which each string was encoded last, and its number then.
    known: HashMap<Arc<str>, (u32, u32)>,
    period: u32,
    /// Number of strings of this period.
    count: u32,
    /// Number of strings of a period, from experience.
    count_expected: u32,
    /// The string that was encoded last, and its number.
    last: Option<(Arc<str>, u32)>,
}

impl Numbers {
    /// Begins a period, in which no string has a number. Forgets all strings if most of them are
    /// of earlier periods. Returns whether it did.
    fn clear(&mut self) -> bool {
        self.count_expected = self.count.max(self.count_expected - self.count_expected / 8);
        (self.count, self.last) = (0, None);
        let kept_max = 2 * self.count_expected as usize + 64;
        if self.known.len() <= kept_max
            && let Some(next) = self.period.checked_add(1)
        {
            self.period = next;
            return false;
        }
        (self.known, self.period) = (HashMap::new(), 0);
        true
    }

    /// The number of a string in this period.
    fn get(&self, text: &str) -> Option<u32> {
        let (period, number) = self.known.get(text)?;
        (*period == self.period).then_some(*number)
    }

    /// Encodes a string, by number if it has one. Returns the number.
    fn encode(&mut self, text: &str, out: &mut Vec<u8>) -> u32 {
        let known = self.known.get_key_value(text).map(|(text, known)| (text.clone(), *known));
        let (text, known) = match known {
            Some((text, (period, number))) if period == self.period => (text, Some(number)),
            Some((text, _)) => (text, None),
            None => (text.into(), None),
        };
        let (before, last) = self.last.take().unwrap_or_else(|| ("".into(), 0));
        let number = known.unwrap_or(self.count);
        if known.is_none() {
            push_varint(out, NEW);
            push_text(&before, &text, out);
            self.known.insert(text.clone(), (self.period, number));
            self.count = self.count.checked_add(1).expect("fewer strings than bytes");
        } else {
            push_varint(out, zigzag(i64::from(number) - i64::from(last)) + 1);
        }
        self.last = Some((text, number));
        number
    }
}

/// Encodes a string: bytes shared with the last string, number of further bytes, and those bytes.
fn push_text(before: &str, text: &str, out: &mut Vec<u8>) {
    let shared = before.bytes().zip(text.bytes()).take(PREFIX_MAX).take_while(|(a, b)| a == b);
    let shared = shared.count();
    out.push(shared.to_le_bytes()[0]);
    push_varint(out, (text.len() - shared) as u64);
    out.extend_from_slice(&text.as_bytes()[shared..]);
}

/// The encoder's half: labels to bytes.
#[derive(Default)]
pub(super) struct Definer {
    names: Numbers,
    /// Values, per name. A name keeps its place beyond the period.
    values: Vec<Numbers>,
    places: HashMap<Arc<str>, usize>,
    /// The place of each name in `values`, by the number of the name.
    place_of: Vec<usize>,
    shapes: HashMap<Box<[u32]>, u64>,
    /// The shape of the current series.
    shape: Vec<u32>,
}

impl Definer {
    /// Begins a period. This takes time in proportion to the names, not to the values.
    pub(super) fn clear(&mut self) {
        self.clear_names();
        for values in &mut self.values {
            values.clear();
        }
    }

    /// Begins anew within a period: nothing was defined. A name that occurs clears its values.
    fn clear_names(&mut self) {
        if self.names.clear() {
            self.values.clear();
            self.places.clear();
        }
        self.place_of.clear();
        self.shapes.clear();
    }

    /// Encodes the labels of the next reference.
    pub(super) fn encode(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        if labels.canonical().len() > SHARED_LABELS_BYTES_MAX {
            push_varint(out, ANEW);
            self.clear_names();
        }
        self.encode_shape(labels, out);
        let (mut names, mut labels) = (self.shape.as_slice(), labels.iter());
        loop {
            let (group, rest) = names.split_at(names.len().min(GROUP_LABELS));
            let of_group = labels.clone();
            let mut changed = 0_u64;
            for (at, (name, (_, value))) in group.iter().zip(labels.by_ref()).enumerate() {
                let last = self.values[self.place_of[*name as usize]].last.as_ref();
                changed |= u64::from(last.is_none_or(|(text, _)| **text != *value)) << at;
            }
            push_varint(out, changed);
            for (at, (name, (_, value))) in group.iter().zip(of_group).enumerate() {
                if changed >> at & 1 == 1 {
                    self.values[self.place_of[*name as usize]].encode(value, out);
                }
            }
            if rest.is_empty() {
                return;
            }
            names = rest;
        }
    }

    fn encode_shape(&mut self, labels: &Labels, out: &mut Vec<u8>) {
        let count = labels.iter().count();
        self.shape.clear();
        self.shape.extend(labels.iter().map_while(|(name, _)| self.names.get(name)));
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
            let number = self.names.encode(name, out);
            if number as usize == self.place_of.len() {
                let place = self.place(name);
                self.place_of.push(place);
            }
            self.shape.push(number);
        }
        self.shapes.insert(self.shape.as_slice().into(), next);
    }

    /// The place of a name that is new in the period, with an empty list of values.
    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            if self.values[*place].count > 0 {
                self.values[*place].clear();
            }
            return *place;
        }
        self.places.insert(name.into(), self.values.len());
        self.values.push(Numbers::default());
        self.values.len() - 1
    }
}

/// The decoder's numbers of strings.
#[derive(Default)]
struct Strings {
    texts: Vec<Box<str>>,
    /// The number of the string that was decoded last.
    last: Option<usize>,
}

impl Strings {
    fn last(&self) -> Option<&str> {
        self.last.map(|last| &*self.texts[last])
    }

    /// Reads a string's number, or a new string, which gets the next number.
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

/// The decoder's half: bytes to labels.
#[derive(Default)]
pub(super) struct Definitions {
    names: Strings,
    /// Values, per name.
    values: Vec<Strings>,
    shapes: Vec<Box<[usize]>>,
}

impl Definitions {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Decodes the labels of the next reference.
    pub(super) fn decode(&mut self, reader: &mut Reader<'_>) -> Result<Labels, DecodeError> {
        let mut code = reader.varint()?;
        let anew = code == ANEW;
        if anew {
            self.clear();
            code = reader.varint()?;
        }
        let shape = self.decode_shape(code, reader)?;
        let names = &self.shapes[shape];
        let mut left = &**names;
        loop {
            let (group, rest) = left.split_at(left.len().min(GROUP_LABELS));
            let changed = reader.varint()?;
            let fault = DecodeFault::OutOfRange { what: "a set of labels", found: changed };
            if group.len() < GROUP_LABELS && changed >> group.len() != 0 {
                return Err(reader.fault(fault));
            }
            for (at, name) in group.iter().enumerate() {
                if changed >> at & 1 == 1 {
                    self.values[*name].take(reader)?;
                } else if self.values[*name].last.is_none() {
                    return Err(reader.fault(fault));
                }
            }
            if rest.is_empty() {
                break;
            }
            left = rest;
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

    /// Reads the number of a shape. The definition of a new shape follows its number.
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
