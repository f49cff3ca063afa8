//! Batches to the bytes of an `ExportMetricsServiceRequest`.
//!
//! The one idea: of a point only its numbers change. Resource, scope, the head of a metric and the attributes of a row
//! are written once, when a shape is first seen, and kept as bytes; rows are kept per [`pipeline_model::Table`], which
//! the equal pages of a fleet share. A request is those bytes copied, with numbers between them.
//!
//! Groups with labels (target labels of a scrape, attached labels) have no place in OTLP. Where the resource says
//! nothing, `job` becomes `service.name` and `instance` becomes `service.instance.id`, as OpenTelemetry's Prometheus
//! compatibility page has it; other labels become attributes of each point, or of the resource where
//! [`Options::resource_labels`] names them. Names of metrics stay as they are.

mod attributes;
mod back;
mod form;
mod memo;
mod point;
mod prune;
#[cfg(test)]
mod tests;

use std::ops::Range;

use pipeline_model::{Batch, RowId};

pub use attributes::Limits;
use back::Back;
use memo::Memos;
use point::Moment;

/// What a backend wants to be told, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Labels of groups that become attributes of the resource, under their own name.
    pub resource_labels: Vec<String>,
    /// Tells of series that have ended, by points with the flag `NO_RECORDED_VALUE`.
    pub ends: bool,
    /// Leaves out numbers that are NaN or infinite.
    pub only_finite: bool,
    /// Leaves out deltas of sums that go up and down.
    pub no_up_down_deltas: bool,
    /// What it takes of attributes.
    pub limits: Limits,
    /// Bytes to remember. The least recently used shapes are forgotten when it is more.
    pub memory_max: usize,
}

impl Default for Options {
    /// Everything is said; 64 MiB, some 500 000 series with attributes of their own.
    fn default() -> Self {
        Self {
            resource_labels: Vec::new(),
            ends: true,
            only_finite: false,
            no_up_down_deltas: false,
            limits: Limits::NONE,
            memory_max: 64 << 20,
        }
    }
}

/// What was left out of a request although it was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Numbers that are none: [`Options::only_finite`].
    pub not_finite: usize,
    /// Deltas of sums that go up and down: [`Options::no_up_down_deltas`].
    pub up_down_deltas: usize,
    /// Ends of series, without [`Options::ends`].
    pub ends: usize,
}

impl LeftOut {
    /// Values that the backend does not get.
    pub fn values(self) -> usize {
        self.not_finite + self.up_down_deltas
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// The message. Empty when there was nothing to say.
    pub bytes: &'a [u8],
    /// Points in it.
    pub points: usize,
    /// What is not in it.
    pub left_out: LeftOut,
}

/// Makes requests, and remembers what it wrote about the shapes it has seen.
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    memos: Memos,
    back: Back,
}

impl Encoder {
    /// An encoder that has seen nothing.
    pub fn new(options: Options) -> Self {
        Self { options, memos: Memos::default(), back: Back::default() }
    }

    /// A request with the given rows of the given batches, in order. One allocation at most once it has grown.
    pub fn encode<'a, I>(&mut self, items: I) -> Encoded<'_>
    where
        I: IntoIterator<
                Item = (&'a Batch, Range<RowId>),
                IntoIter: DoubleEndedIterator + ExactSizeIterator,
            >,
    {
        self.encode_some(items, |_, _| true)
    }

    /// As [`Encoder::encode`], of those groups that `keep` says: by the index of the item, and that of the group in
    /// its shape.
    pub fn encode_some<'a, I>(
        &mut self,
        items: I,
        mut keep: impl FnMut(usize, u32) -> bool,
    ) -> Encoded<'_>
    where
        I: IntoIterator<
                Item = (&'a Batch, Range<RowId>),
                IntoIter: DoubleEndedIterator + ExactSizeIterator,
            >,
    {
        let Self { options, memos, back } = self;
        back.clear();
        let (mut points, mut left_out) = (0, LeftOut::default());
        for (item, (batch, rows)) in items.into_iter().enumerate().rev() {
            let Some((shape, table)) = memos.get(&batch.shape, options) else { continue };
            let mut moment = Moment::new(batch, rows, options);
            let mut open: Option<(usize, &memo::Group)> = None;
            for group_idx in shape.order.iter().rev() {
                let Some(group) = shape.groups.get(*group_idx as usize) else { continue };
                if let Some((mark, last)) = open
                    && last.resource != group.resource
                {
                    back.bytes(&last.resource);
                    back.close(0x0a, mark);
                    open = None;
                }
                if !keep(item, *group_idx) {
                    continue;
                }
                let mark = open.map_or(back.len(), |(mark, _)| mark);
                if moment.group(back, table, group, *group_idx) {
                    open = Some((mark, group));
                }
            }
            if let Some((mark, last)) = open {
                back.bytes(&last.resource);
                back.close(0x0a, mark);
            }
            points += moment.points;
            left_out.not_finite += moment.left_out.not_finite;
            left_out.up_down_deltas += moment.left_out.up_down_deltas;
            left_out.ends += moment.left_out.ends;
        }
        Encoded { bytes: back.written(), points, left_out }
    }

    /// Bytes that are remembered about shapes.
    pub fn memory(&self) -> usize {
        self.memos.total
    }
}
