//! The messages of OTLP metrics: names and numbers of their fields, and how each is encoded.
//!
//! Source: `opentelemetry/proto/metrics/v1/metrics.proto` and `common/v1/common.proto`, version
//! 1.9. Of an exemplar only its existence counts.

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in JSON.
    pub(super) name: &'static str,
    /// Its number, at most 15.
    pub(super) number: u8,
    pub(super) kind: Kind,
    pub(super) is_list: bool,
}

/// How a value is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Message(&'static [Field]),
    Text,
    /// Base64 in JSON.
    Bytes,
    Bool,
    /// A number without a sign, as a varint.
    Unsigned,
    /// A number with a sign, as a varint.
    Signed,
    /// A number with a sign, whose varint alternates between the signs.
    Zigzag,
    /// A number without a sign, in eight bytes.
    Fixed,
    /// A number with a sign, in eight bytes.
    SignedFixed,
    Double,
}

const fn one(name: &'static str, number: u8, kind: Kind) -> Field {
    Field { name, number, kind, is_list: false }
}

const fn list(name: &'static str, number: u8, kind: Kind) -> Field {
    Field { name, number, kind, is_list: true }
}

/// `ExportMetricsServiceRequest`.
pub(super) static REQUEST: [Field; 1] =
    [list("resourceMetrics", 1, Kind::Message(&RESOURCE_METRICS))];

static RESOURCE_METRICS: [Field; 3] = [
    one("resource", 1, Kind::Message(&RESOURCE)),
    list("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Kind::Text),
];

static RESOURCE: [Field; 2] = [
    list("attributes", 1, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Kind::Unsigned),
];

static SCOPE_METRICS: [Field; 3] = [
    one("scope", 1, Kind::Message(&SCOPE)),
    list("metrics", 2, Kind::Message(&METRIC)),
    one("schemaUrl", 3, Kind::Text),
];

static SCOPE: [Field; 4] = [
    one("name", 1, Kind::Text),
    one("version", 2, Kind::Text),
    list("attributes", 3, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Kind::Unsigned),
];

static METRIC: [Field; 9] = [
    one("name", 1, Kind::Text),
    one("description", 2, Kind::Text),
    one("unit", 3, Kind::Text),
    one("gauge", 5, Kind::Message(&NUMBERS)),
    one("sum", 7, Kind::Message(&NUMBERS)),
    one("histogram", 9, Kind::Message(&HISTOGRAMS)),
    one("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL_HISTOGRAMS)),
    one("summary", 11, Kind::Message(&SUMMARIES)),
    list("metadata", 12, Kind::Message(&KEY_VALUE)),
];

static NUMBERS: [Field; 3] = [
    list("dataPoints", 1, Kind::Message(&NUMBER_POINT)),
    one("aggregationTemporality", 2, Kind::Unsigned),
    one("isMonotonic", 3, Kind::Bool),
];

static HISTOGRAMS: [Field; 2] = [
    list("dataPoints", 1, Kind::Message(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Kind::Unsigned),
];

static EXPONENTIAL_HISTOGRAMS: [Field; 2] = [
    list("dataPoints", 1, Kind::Message(&EXPONENTIAL_HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Kind::Unsigned),
];

static SUMMARIES: [Field; 1] = [list("dataPoints", 1, Kind::Message(&SUMMARY_POINT))];

static NUMBER_POINT: [Field; 7] = [
    one("startTimeUnixNano", 2, Kind::Fixed),
    one("timeUnixNano", 3, Kind::Fixed),
    one("asDouble", 4, Kind::Double),
    list("exemplars", 5, Kind::Message(&[])),
    one("asInt", 6, Kind::SignedFixed),
    list("attributes", 7, Kind::Message(&KEY_VALUE)),
    one("flags", 8, Kind::Unsigned),
];

static HISTOGRAM_POINT: [Field; 11] = [
    one("startTimeUnixNano", 2, Kind::Fixed),
    one("timeUnixNano", 3, Kind::Fixed),
    one("count", 4, Kind::Fixed),
    one("sum", 5, Kind::Double),
    list("bucketCounts", 6, Kind::Fixed),
    list("explicitBounds", 7, Kind::Double),
    list("exemplars", 8, Kind::Message(&[])),
    list("attributes", 9, Kind::Message(&KEY_VALUE)),
    one("flags", 10, Kind::Unsigned),
    one("min", 11, Kind::Double),
    one("max", 12, Kind::Double),
];

static EXPONENTIAL_HISTOGRAM_POINT: [Field; 14] = [
    list("attributes", 1, Kind::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Kind::Fixed),
    one("timeUnixNano", 3, Kind::Fixed),
    one("count", 4, Kind::Fixed),
    one("sum", 5, Kind::Double),
    one("scale", 6, Kind::Zigzag),
    one("zeroCount", 7, Kind::Fixed),
    one("positive", 8, Kind::Message(&BUCKETS)),
    one("negative", 9, Kind::Message(&BUCKETS)),
    one("flags", 10, Kind::Unsigned),
    list("exemplars", 11, Kind::Message(&[])),
    one("min", 12, Kind::Double),
    one("max", 13, Kind::Double),
    one("zeroThreshold", 14, Kind::Double),
];

static BUCKETS: [Field; 2] =
    [one("offset", 1, Kind::Zigzag), list("bucketCounts", 2, Kind::Unsigned)];

static SUMMARY_POINT: [Field; 7] = [
    one("startTimeUnixNano", 2, Kind::Fixed),
    one("timeUnixNano", 3, Kind::Fixed),
    one("count", 4, Kind::Fixed),
    one("sum", 5, Kind::Double),
    list("quantileValues", 6, Kind::Message(&QUANTILE)),
    list("attributes", 7, Kind::Message(&KEY_VALUE)),
    one("flags", 8, Kind::Unsigned),
];

static QUANTILE: [Field; 2] = [one("quantile", 1, Kind::Double), one("value", 2, Kind::Double)];

static KEY_VALUE: [Field; 2] =
    [one("key", 1, Kind::Text), one("value", 2, Kind::Message(&ANY_VALUE))];

static ANY_VALUE: [Field; 7] = [
    one("stringValue", 1, Kind::Text),
    one("boolValue", 2, Kind::Bool),
    one("intValue", 3, Kind::Signed),
    one("doubleValue", 4, Kind::Double),
    one("arrayValue", 5, Kind::Message(&ARRAY)),
    one("kvlistValue", 6, Kind::Message(&KEY_VALUE_LIST)),
    one("bytesValue", 7, Kind::Bytes),
];

static ARRAY: [Field; 1] = [list("values", 1, Kind::Message(&ANY_VALUE))];

static KEY_VALUE_LIST: [Field; 1] = [list("values", 1, Kind::Message(&KEY_VALUE))];
