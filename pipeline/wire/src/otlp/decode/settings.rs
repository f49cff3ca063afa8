//! [`ReadSettings`]: what a request may bring.

use std::time::Duration;

/// Limits of a reader. What is beyond them is rejected point by point, with a counted [`super::Reason`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSettings {
    /// Resources remembered at once.
    pub resources_max: usize,
    /// Series of one resource.
    pub series_max: usize,
    /// Attributes of one resource, scope or point.
    pub attributes_max: usize,
    /// Bytes of a metric's name, of its unit, and of an attribute's key.
    pub name_bytes_max: usize,
    /// Bytes of one attribute's value, as sent.
    pub value_bytes_max: usize,
    /// Buckets of one histogram point, quantiles of one summary point.
    pub buckets_max: usize,
    /// Bytes held for knowing resources and series again, and for a column of each.
    pub bytes_max: usize,
    /// How far a point's time may lie ahead of the clock here.
    pub future_max: Duration,
    /// Series up to which a resource is one source; a resource with more is several, so that a request with few of
    /// its series is not a column of all of them.
    pub source_series_max: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self {
            resources_max: 10_000,
            series_max: 100_000,
            attributes_max: 128,
            name_bytes_max: 1024,
            value_bytes_max: 16 << 10,
            buckets_max: 4096,
            bytes_max: 512 << 20,
            future_max: Duration::from_secs(24 * 3600),
            source_series_max: 2048,
        }
    }
}
