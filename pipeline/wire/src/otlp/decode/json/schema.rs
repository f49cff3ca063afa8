//! The messages of OTLP metrics as their JSON names them: field name, number and type.
//!
//! Source: opentelemetry-proto, and the section on JSON of <https://opentelemetry.io/docs/specs/otlp/>: names are
//! lowerCamelCase only, ids of traces and spans are hex, other bytes base64, enums integers.

/// Type of a field.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Message(&'static Fields),
    Text,
    Bytes,
    /// Bytes, written as hex.
    Id,
    Bool,
    Double,
    Fixed64,
    Sfixed64,
    Int64,
    Uint64,
    Uint32,
    Sint32,
    Enum,
}

impl Type {
    /// For messages to people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Message(_) => "an object",
            Self::Text => "a text",
            Self::Bytes => "base64",
            Self::Id => "hex digits",
            Self::Bool => "true or false",
            Self::Double => "a number",
            Self::Fixed64 | Self::Uint64 => "an integer from 0 to 2^64 - 1",
            Self::Sfixed64 | Self::Int64 => "an integer of 64 bits",
            Self::Uint32 => "an integer from 0 to 2^32 - 1",
            Self::Sint32 => "an integer of 32 bits",
            Self::Enum => "the number of an enum",
        }
    }

    /// True when a repeated field of this type is packed.
    pub(super) fn is_packed(self) -> bool {
        !matches!(self, Self::Message(_) | Self::Text | Self::Bytes | Self::Id)
    }
}

/// The fields of a message; a type of its own because statics may refer to each other's addresses only.
pub(super) struct Fields(pub(super) &'static [FieldSpec]);

/// A field.
pub(super) struct FieldSpec {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) of: Type,
    pub(super) repeated: bool,
}

const fn one(name: &'static str, number: u32, of: Type) -> FieldSpec {
    FieldSpec { name, number, of, repeated: false }
}

const fn many(name: &'static str, number: u32, of: Type) -> FieldSpec {
    FieldSpec { name, number, of, repeated: true }
}

/// `ExportMetricsServiceRequest`.
pub(super) static REQUEST: Fields =
    Fields(&[many("resourceMetrics", 1, Type::Message(&RESOURCE_METRICS))]);

static RESOURCE_METRICS: Fields = Fields(&[
    one("resource", 1, Type::Message(&RESOURCE)),
    many("scopeMetrics", 2, Type::Message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Type::Text),
]);

static RESOURCE: Fields = Fields(&[
    many("attributes", 1, Type::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Type::Uint32),
]);

static SCOPE_METRICS: Fields = Fields(&[
    one("scope", 1, Type::Message(&SCOPE)),
    many("metrics", 2, Type::Message(&METRIC)),
    one("schemaUrl", 3, Type::Text),
]);

static SCOPE: Fields = Fields(&[
    one("name", 1, Type::Text),
    one("version", 2, Type::Text),
    many("attributes", 3, Type::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Type::Uint32),
]);

static KEY_VALUE: Fields =
    Fields(&[one("key", 1, Type::Text), one("value", 2, Type::Message(&ANY_VALUE))]);

static ANY_VALUE: Fields = Fields(&[
    one("stringValue", 1, Type::Text),
    one("boolValue", 2, Type::Bool),
    one("intValue", 3, Type::Int64),
    one("doubleValue", 4, Type::Double),
    one("arrayValue", 5, Type::Message(&ARRAY_VALUE)),
    one("kvlistValue", 6, Type::Message(&KEY_VALUE_LIST)),
    one("bytesValue", 7, Type::Bytes),
]);

static ARRAY_VALUE: Fields = Fields(&[many("values", 1, Type::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Fields = Fields(&[many("values", 1, Type::Message(&KEY_VALUE))]);

static METRIC: Fields = Fields(&[
    one("name", 1, Type::Text),
    one("description", 2, Type::Text),
    one("unit", 3, Type::Text),
    one("gauge", 5, Type::Message(&GAUGE)),
    one("sum", 7, Type::Message(&SUM)),
    one("histogram", 9, Type::Message(&HISTOGRAM)),
    one("exponentialHistogram", 10, Type::Message(&EXPONENTIAL_HISTOGRAM)),
    one("summary", 11, Type::Message(&SUMMARY)),
    many("metadata", 12, Type::Message(&KEY_VALUE)),
]);

static GAUGE: Fields = Fields(&[many("dataPoints", 1, Type::Message(&NUMBER_DATA_POINT))]);

static SUM: Fields = Fields(&[
    many("dataPoints", 1, Type::Message(&NUMBER_DATA_POINT)),
    one("aggregationTemporality", 2, Type::Enum),
    one("isMonotonic", 3, Type::Bool),
]);

static HISTOGRAM: Fields = Fields(&[
    many("dataPoints", 1, Type::Message(&HISTOGRAM_DATA_POINT)),
    one("aggregationTemporality", 2, Type::Enum),
]);

static EXPONENTIAL_HISTOGRAM: Fields = Fields(&[
    many("dataPoints", 1, Type::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT)),
    one("aggregationTemporality", 2, Type::Enum),
]);

static SUMMARY: Fields = Fields(&[many("dataPoints", 1, Type::Message(&SUMMARY_DATA_POINT))]);

static NUMBER_DATA_POINT: Fields = Fields(&[
    many("attributes", 7, Type::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Type::Fixed64),
    one("timeUnixNano", 3, Type::Fixed64),
    one("asDouble", 4, Type::Double),
    one("asInt", 6, Type::Sfixed64),
    many("exemplars", 5, Type::Message(&EXEMPLAR)),
    one("flags", 8, Type::Uint32),
]);

static HISTOGRAM_DATA_POINT: Fields = Fields(&[
    many("attributes", 9, Type::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Type::Fixed64),
    one("timeUnixNano", 3, Type::Fixed64),
    one("count", 4, Type::Fixed64),
    one("sum", 5, Type::Double),
    many("bucketCounts", 6, Type::Fixed64),
    many("explicitBounds", 7, Type::Double),
    many("exemplars", 8, Type::Message(&EXEMPLAR)),
    one("flags", 10, Type::Uint32),
    one("min", 11, Type::Double),
    one("max", 12, Type::Double),
]);

static EXPONENTIAL_HISTOGRAM_DATA_POINT: Fields = Fields(&[
    many("attributes", 1, Type::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Type::Fixed64),
    one("timeUnixNano", 3, Type::Fixed64),
    one("count", 4, Type::Fixed64),
    one("sum", 5, Type::Double),
    one("scale", 6, Type::Sint32),
    one("zeroCount", 7, Type::Fixed64),
    one("positive", 8, Type::Message(&BUCKETS)),
    one("negative", 9, Type::Message(&BUCKETS)),
    one("flags", 10, Type::Uint32),
    many("exemplars", 11, Type::Message(&EXEMPLAR)),
    one("min", 12, Type::Double),
    one("max", 13, Type::Double),
    one("zeroThreshold", 14, Type::Double),
]);

static BUCKETS: Fields =
    Fields(&[one("offset", 1, Type::Sint32), many("bucketCounts", 2, Type::Uint64)]);

static SUMMARY_DATA_POINT: Fields = Fields(&[
    many("attributes", 7, Type::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Type::Fixed64),
    one("timeUnixNano", 3, Type::Fixed64),
    one("count", 4, Type::Fixed64),
    one("sum", 5, Type::Double),
    many("quantileValues", 6, Type::Message(&VALUE_AT_QUANTILE)),
    one("flags", 8, Type::Uint32),
]);

static VALUE_AT_QUANTILE: Fields =
    Fields(&[one("quantile", 1, Type::Double), one("value", 2, Type::Double)]);

static EXEMPLAR: Fields = Fields(&[
    many("filteredAttributes", 7, Type::Message(&KEY_VALUE)),
    one("timeUnixNano", 2, Type::Fixed64),
    one("asDouble", 3, Type::Double),
    one("asInt", 6, Type::Sfixed64),
    one("spanId", 4, Type::Id),
    one("traceId", 5, Type::Id),
]);
