//! The parsers of the server without HTTP, for the benchmark and the fuzz target. The server is a
//! program, so its sources are compiled in. Both allow code that they do not use.

#[path = "../../src/server/budget.rs"]
pub(crate) mod budget;
#[path = "../../src/server/protobuf.rs"]
pub(crate) mod protobuf;
#[path = "../../src/server/read_limits.rs"]
pub(crate) mod read_limits;
#[path = "../../src/server/selector.rs"]
pub(crate) mod selector;
#[path = "../../src/server/varint.rs"]
pub(crate) mod varint;

/// Why a request is refused, as far as the parsers know it.
pub(crate) mod refusal {
    use super::budget::Exhausted;
    use super::protobuf::Malformed;

    #[derive(Debug)]
    pub(crate) enum Refusal {
        Invalid(String),
        Exhausted(Exhausted),
    }

    impl From<Malformed> for Refusal {
        fn from(malformed: Malformed) -> Self {
            Self::Invalid(malformed.to_string())
        }
    }

    impl From<Exhausted> for Refusal {
        fn from(exhausted: Exhausted) -> Self {
            Self::Exhausted(exhausted)
        }
    }
}

#[path = "../../src/server/remote_write"]
pub(crate) mod remote_write {
    use super::protobuf;

    mod sample;
    pub(crate) mod v1;
    pub(crate) mod v2;
}

#[path = "../../src/server/influx"]
pub(crate) mod influx {
    pub(crate) mod line;
}

#[path = "../../src/server/otlp"]
pub(crate) mod otlp {
    use super::budget::Reservation;
    use point::{Point, Type};

    mod attributes;
    mod json;
    mod point;

    /// Reads a message as a point of each type, and its attributes.
    pub(crate) fn points(message: &[u8], reservation: impl Fn() -> Reservation) {
        let mut point = Point::default();
        for of in
            [Type::Gauge, Type::Sum, Type::Histogram, Type::ExponentialHistogram, Type::Summary]
        {
            if point.read(of, message, &mut reservation()).is_ok() {
                _ = attributes::pairs(&point.attributes, of.attribute_field());
            }
        }
    }

    /// Rewrites a request in JSON as a message, if it is one.
    pub(crate) fn rewrite(text: &[u8], reservation: &mut Reservation) -> Option<Vec<u8>> {
        json::rewrite(text, reservation).ok().map(|rewritten| rewritten.message)
    }
}
