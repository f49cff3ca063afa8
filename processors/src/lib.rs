//! Processors: one folder each.

pub mod normalize;
