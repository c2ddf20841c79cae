//! OTLP in JSON: rewrites a request as the same message in protobuf, so that one decoder reads
//! both.
//!
//! Rules of the encoding: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>.
//! Numbers may be strings, `null` is a field that is not set, and unknown fields are ignored. The
//! request is rewritten as it is parsed, so beside the result at most one text is held.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use crate::server::budget::{Exhausted, Reservation};
use crate::server::refusal::Refusal;
use crate::server::varint::{VARINT_BYTES_MAX, put_varint};
use schema::{Field, Kind};

mod schema;

/// Bytes of the length of a message. It is known only once the message is written.
const LENGTH_BYTES: usize = 5;

/// Maximum characters of a text that an error repeats.
const CHARS_SHOWN_MAX: usize = 100;

/// A request in protobuf.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) message: Vec<u8>,
    /// Number of fields that no message has. They are left out.
    pub(super) unknown: u64,
}

/// Rewrites a request in JSON as one in protobuf.
///
/// # Errors
/// The text is not a request, or the budget is exhausted.
pub(super) fn rewrite(text: &[u8], reservation: &mut Reservation) -> Result<Rewritten, Refusal> {
    // A text with escapes is unescaped into memory of its own.
    reservation.grow(text.len())?;
    let texts = text.len();
    let mut output = Output { message: Vec::new(), unknown: 0, reservation, exhausted: None };
    let mut text = serde_json::Deserializer::from_slice(text);
    let fields = Fields { fields: &schema::REQUEST, output: &mut output };
    let read = text.deserialize_map(fields).and_then(|()| text.end());
    let Output { message, unknown, exhausted, reservation } = output;
    reservation.release(texts);
    match (read, exhausted) {
        (Ok(()), _) => Ok(Rewritten { message, unknown }),
        (Err(_), Some(exhausted)) => Err(exhausted.into()),
        (Err(error), None) => {
            Err(Refusal::Invalid(format!("the body is not a valid request in JSON: {error}")))
        }
    }
}

/// The message that is being written.
struct Output<'request> {
    message: Vec<u8>,
    unknown: u64,
    reservation: &'request mut Reservation,
    /// Why nothing more is written.
    exhausted: Option<Exhausted>,
}

impl Output<'_> {
    fn make_room<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        let room = self.reservation.make_room_for(&mut self.message, bytes);
        room.map_err(|exhausted| {
            self.exhausted = Some(exhausted);
            E::custom("the memory for requests is exhausted")
        })
    }

    fn put<E: Error>(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.make_room(bytes.len())?;
        self.message.extend_from_slice(bytes);
        Ok(())
    }

    fn put_varint<E: Error>(&mut self, number: u64) -> Result<(), E> {
        self.make_room(VARINT_BYTES_MAX)?;
        put_varint(&mut self.message, number);
        Ok(())
    }

    fn put_tag<E: Error>(&mut self, field: &Field) -> Result<(), E> {
        let wire_type = match field.kind {
            Kind::Bool | Kind::Unsigned | Kind::Signed | Kind::Zigzag => 0,
            Kind::Fixed | Kind::SignedFixed | Kind::Double => 1,
            Kind::Message(_) | Kind::Text | Kind::Bytes => 2,
        };
        self.put(&[field.number << 3 | wire_type])
    }

    fn put_text<E: Error>(&mut self, field: &Field, bytes: &[u8]) -> Result<(), E> {
        self.put_tag(field)?;
        self.put_varint(bytes.len() as u64)?;
        self.put(bytes)
    }
}

/// The fields of a message, which are appended.
struct Fields<'output, 'request> {
    fields: &'static [Field],
    output: &'output mut Output<'request>,
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { fields, output } = self;
        while let Some(field) = map.next_key_seed(Name(fields))? {
            match field {
                Some(field) => map.next_value_seed(Content { field, output })?,
                None => {
                    // Of an exemplar, only its existence counts.
                    output.unknown += u64::from(!fields.is_empty());
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The name of a field: the field, if the message has it.
struct Name(&'static [Field]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|field| field.name == name))
    }
}

/// The content of a field, which is appended: a value, or a list of them.
struct Content<'output, 'request> {
    field: &'static Field,
    output: &'output mut Output<'request>,
}

impl<'de> DeserializeSeed<'de> for Content<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, content: D) -> Result<(), D::Error> {
        content.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.is_list {
            true => write!(formatter, "a list in {:?}", self.field.name),
            false => expect_value(self.field, formatter),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, output } = self;
        if !field.is_list {
            return Err(A::Error::invalid_type(Unexpected::Seq, &Content { field, output }));
        }
        while list.next_element_seed(Element(Content { field, output: &mut *output }))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.one(Unexpected::Map)?.visit_map(map)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.one(Unexpected::Str(shown(text)))?.visit_str(text)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.one(Unexpected::Bool(value))?.visit_bool(value)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.one(Unexpected::Unsigned(number))?.visit_u64(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.one(Unexpected::Signed(number))?.visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.one(Unexpected::Float(number))?.visit_f64(number)
    }
}

impl<'output, 'request> Content<'output, 'request> {
    /// The content as one value.
    fn one<E: Error>(self, found: Unexpected<'_>) -> Result<Element<'output, 'request>, E> {
        if self.field.is_list {
            return Err(E::invalid_type(found, &self));
        }
        Ok(Element(self))
    }
}

/// Says what a value of a field is.
fn expect_value(field: &Field, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let what = match field.kind {
        Kind::Message(_) => "an object",
        Kind::Text => "a string",
        Kind::Bytes => "a string of base64",
        Kind::Bool => "true or false",
        Kind::Unsigned | Kind::Fixed => "a number without a sign",
        Kind::Signed | Kind::Zigzag | Kind::SignedFixed => "an integer",
        Kind::Double => "a number",
    };
    write!(formatter, "{what} in {:?}", field.name)
}

/// The beginning of a text, for an error.
fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(CHARS_SHOWN_MAX).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// One value of a field, which is appended.
struct Element<'output, 'request>(Content<'output, 'request>);

impl Element<'_, '_> {
    /// Appends an integer, if the field holds one and it is in range.
    fn put_integer<E: Error>(self, number: i128, found: Unexpected<'_>) -> Result<(), E> {
        let Content { field, output } = self.0;
        let signed = || i64::try_from(number);
        let unsigned = || u64::try_from(number);
        let invalid = |output| E::invalid_value(found, &Element(Content { field, output }));
        let bits = match field.kind {
            Kind::Unsigned | Kind::Fixed => unsigned(),
            Kind::Signed | Kind::SignedFixed => signed().map(i64::cast_unsigned),
            Kind::Zigzag => signed().map(|number| (number << 1 ^ number >> 63).cast_unsigned()),
            _ => return Err(E::invalid_type(found, &Element(Content { field, output }))),
        };
        let Ok(bits) = bits else { return Err(invalid(output)) };
        output.put_tag(field)?;
        match field.kind {
            Kind::Fixed | Kind::SignedFixed => output.put(&bits.to_le_bytes()),
            _ => output.put_varint(bits),
        }
    }

    fn put_double<E: Error>(self, number: f64) -> Result<(), E> {
        let Content { field, output } = self.0;
        output.put_tag(field)?;
        output.put(&number.to_bits().to_le_bytes())
    }

    fn is_double(&self) -> bool {
        matches!(self.0.field.kind, Kind::Double)
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, element: D) -> Result<(), D::Error> {
        element.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        expect_value(self.0.field, formatter)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Content { field, output } = self.0;
        let Kind::Message(fields) = field.kind else {
            let expected = Element(Content { field, output });
            return Err(A::Error::invalid_type(Unexpected::Map, &expected));
        };
        output.put_tag(field)?;
        let begin = output.message.len();
        output.put(&[0; LENGTH_BYTES])?;
        Fields { fields, output }.visit_map(map)?;
        let mut length = output.message.len() - begin - LENGTH_BYTES;
        // A varint may have more bytes than it needs.
        let bytes = &mut output.message[begin..begin + LENGTH_BYTES];
        for byte in bytes.iter_mut() {
            *byte = length.to_le_bytes()[0] | 0x80;
            length >>= 7;
        }
        bytes[LENGTH_BYTES - 1] &= 0x7F;
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let found = Unexpected::Str(shown(text));
        match self.0.field.kind {
            Kind::Text => self.0.output.put_text(self.0.field, text.as_bytes()),
            Kind::Bytes => match STANDARD.decode(text) {
                Ok(bytes) => self.0.output.put_text(self.0.field, &bytes),
                Err(_) => Err(E::invalid_value(found, &self)),
            },
            Kind::Double => match text.parse() {
                Ok(number) => self.put_double(number),
                Err(_) => Err(E::invalid_value(found, &self)),
            },
            Kind::Message(_) | Kind::Bool => Err(E::invalid_type(found, &self)),
            _ => match text.parse() {
                Ok(number) => self.put_integer(number, found),
                Err(_) => Err(E::invalid_value(found, &self)),
            },
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Content { field, output } = self.0;
        if !matches!(field.kind, Kind::Bool) {
            let expected = Element(Content { field, output });
            return Err(E::invalid_type(Unexpected::Bool(value), &expected));
        }
        output.put_tag(field)?;
        output.put(&[u8::from(value)])
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        if self.is_double() {
            return self.put_double(number as f64);
        }
        self.put_integer(number.into(), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        if self.is_double() {
            return self.put_double(number as f64);
        }
        self.put_integer(number.into(), Unexpected::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if self.is_double() {
            return self.put_double(number);
        }
        let found = Unexpected::Float(number);
        // A number of JSON may have an exponent and be an integer. It is printed without one.
        match number.to_string().parse() {
            Ok(number) => self.put_integer(number, found),
            Err(_) => Err(E::invalid_value(found, &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(E::invalid_type(Unexpected::Unit, &self))
    }
}
