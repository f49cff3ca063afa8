//! Signals in memory: series, shapes, batches, plans and the metric contract.
//!
//! The one idea: identity is paid for once, values every time. A [`Shape`] is the ordered list of series of
//! one source, immutable and shared; a [`Batch`] is a shape plus one flat column of numbers. Work on identity
//! ([`Reshape`]) runs once per shape and is folded into a plan; work on values ([`Compute`]) is a loop over
//! columns.
//!
//! No IO, no async, no configuration, no wire formats.

mod batch;
mod contract;
mod exponential;
mod intern;
mod labels;
mod metadata;
mod metric;
mod plan;
mod pool;
mod program;
mod reshape;
mod shape;
mod text;

pub use batch::{Batch, Exemplar, Extras, Mark, STALE_NAN_BITS, Slot, SourceId, Starts};
pub use contract::{
    CONTRACT, Contract, ContractMetric, ContractType, DEFAULT_PREFIX, ENGINE_LABELS, EXTENSIONS,
    LabelGroup, label_values,
};
pub use exponential::{ExponentialBuckets, ExponentialPoint};
pub use intern::{Interner, InternerStats};
pub use labels::{Label, Labels, Value};
pub use metadata::{Entity, Metadata, MetadataStore};
pub use metric::{Bounds, Hint, Kind, Metric, Number, Temporality};
pub use plan::{Compute, Plan, SourcePlan};
pub use pool::Pool;
pub use program::Program;
pub use reshape::{Context, Feed, Fold, PushError, Reshape, Reshaped};
pub use shape::{Group, Resource, RowId, Scope, Series, Shape, ShapeBuilder, ShapeError, Table};
pub use text::Str;
