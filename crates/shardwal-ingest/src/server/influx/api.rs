//! The versions of InfluxDB's API: how each names its options. This file does not parse lines.

use super::precision::Precision;
use crate::server::refusal::Refusal;

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Versions 1 and 2, which differ in their paths only.
    V2,
    V3,
}

/// The options of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) precision: Precision,
    /// Whether valid lines are written if others are not.
    pub(crate) accept_partial: bool,
}

impl Api {
    /// The path of a write, as the counters name it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::V2 => "/api/v2/write",
            Self::V3 => "/api/v3/write_lp",
        }
    }

    /// Parses the options of a write. Unknown ones are ignored: a client names its database there.
    ///
    /// # Errors
    /// The precision is unknown, or a switch is neither `true` nor `false`.
    pub(crate) fn options(self, query: &[(String, String)]) -> Result<WriteOptions, Refusal> {
        let value = |name| {
            let found = query.iter().find(|(found, _)| found == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let unit = value("precision");
        let (precision, units) = match self {
            Self::V2 => (Precision::named(unit), "ns, us, ms, s, m or h"),
            Self::V3 => (
                Precision::named_in_v3(unit),
                "auto, nanosecond, microsecond, millisecond or second",
            ),
        };
        let precision = precision
            .ok_or_else(|| Refusal::Invalid(format!("unknown precision {unit:?}; use {units}")))?;
        let accept_partial = match (self, value("accept_partial")) {
            (Self::V2, _) | (Self::V3, "" | "true") => true,
            (Self::V3, "false") => false,
            (Self::V3, found) => {
                let why = format!("accept_partial is {found:?}; use true or false");
                return Err(Refusal::Invalid(why));
            }
        };
        Ok(WriteOptions { precision, accept_partial })
    }
}
