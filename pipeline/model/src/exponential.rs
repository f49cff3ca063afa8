//! Exponential (native) histogram points: too ragged for slots, rare enough to travel beside them.

/// Buckets of one sign: bucket `offset + i` counts observations in (base^(offset+i), base^(offset+i+1)],
/// base = 2^(2^-scale). Counts are per bucket, not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialBuckets {
    /// Index of the first bucket, OTLP's convention (Prometheus' native index is one higher).
    pub offset: i32,
    /// Observations per bucket; doubles, as float native histograms have.
    pub counts: Vec<f64>,
}

/// The ragged part of one exponential histogram point; its sum and count are the row's slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialPoint {
    /// Resolution, -10 to 20 in OTLP, -4 to 8 in Prometheus' native histograms.
    pub scale: i32,
    /// Observations within the zero threshold.
    pub zero_count: f64,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Positive observations.
    pub positive: ExponentialBuckets,
    /// Negative observations, by magnitude.
    pub negative: ExponentialBuckets,
    /// Smallest observation where the source says it.
    pub min: Option<f64>,
    /// Largest observation where the source says it.
    pub max: Option<f64>,
}
