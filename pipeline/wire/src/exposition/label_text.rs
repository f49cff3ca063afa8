//! The parts of lines that are known before the values: own labels, group labels, `le` and `quantile`.
//!
//! A line is `name{` + group + own + value, where group is `a="1",b="2",` or nothing and own is `c="3"} ` or nothing.

use foldhash::HashMap;
use pipeline_model::{Bounds, Group, Label, Labels, Shape};

use super::Escaping;
use super::index::TableIndex;
use crate::prometheus::escape::{is_legal_label, push_name, push_quoted};
use crate::prometheus::labels::escaped_labels;
use crate::prometheus::labels::reserved_label;
use crate::prometheus::number::push_bound;

/// Pieces of text in one allocation.
#[derive(Debug, Default)]
struct Pieces {
    blob: Box<[u8]>,
    /// Where each piece begins, and where the last ends.
    at: Box<[u32]>,
}

impl Pieces {
    fn get(&self, idx: usize) -> &[u8] {
        match self.at.get(idx..idx + 2) {
            Some(&[from, to]) => self.blob.get(from as usize..to as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// `le="0.5"} ` per bound and for +Inf at the end.
#[derive(Debug)]
pub(super) struct BoundTexts {
    pieces: Pieces,
    bounds: Bounds,
}

impl BoundTexts {
    pub(super) fn new(label: &str, bounds: &Bounds) -> Self {
        let (mut blob, mut at) = (Vec::new(), vec![0]);
        for bound in bounds.as_slice().iter().copied().chain([f64::INFINITY]) {
            blob.extend_from_slice(label.as_bytes());
            blob.extend_from_slice(b"=\"");
            push_bound(&mut blob, bound);
            blob.extend_from_slice(b"\"} ");
            at.push(blob.len() as u32);
        }
        Self { pieces: Pieces { blob: blob.into(), at: at.into() }, bounds: bounds.clone() }
    }

    #[inline]
    pub(super) fn get(&self, idx: usize) -> &[u8] {
        self.pieces.get(idx)
    }

    /// How many, +Inf included.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The bound itself.
    pub(super) fn value(&self, idx: usize) -> f64 {
        self.bounds.as_slice().get(idx).copied().unwrap_or(f64::INFINITY)
    }
}

/// `c="3",d="4"} ` per row of a table in the order of the page; nothing for a row without own labels.
#[derive(Debug)]
pub(super) struct OwnTexts {
    blob: Box<[u8]>,
    /// Rows with one label set share the text.
    at: Box<[(u32, u32)]>,
}

impl OwnTexts {
    /// With `whole` the group's labels are among them, which takes a text per source instead of one per table: the way
    /// out where own and group labels have names in common.
    pub(super) fn new(index: &TableIndex, shape: &Shape, escaping: Escaping, whole: bool) -> Self {
        let (mut blob, mut at) = (Vec::new(), Vec::with_capacity(index.rows.len()));
        let mut known: HashMap<(&Labels, u32, Option<&str>), (u32, u32)> = HashMap::default();
        for row in &index.rows {
            let Some(series) = shape.get(row.row) else {
                at.push((0, 0));
                continue;
            };
            let reserved = reserved_label(&series.metric.kind);
            let key = (series.labels, if whole { series.group_idx } else { 0 }, reserved);
            at.push(*known.entry(key).or_insert_with(|| {
                let from = blob.len() as u32;
                if whole {
                    push_labels(&mut blob, series.labels_merged(), escaping, reserved);
                } else {
                    push_labels(&mut blob, series.labels.iter(), escaping, reserved);
                }
                if blob.len() as u32 > from {
                    blob.pop();
                    blob.extend_from_slice(b"} ");
                }
                (from, blob.len() as u32)
            }));
        }
        Self { blob: blob.into(), at: at.into() }
    }

    #[inline]
    pub(super) fn get(&self, position: usize) -> &[u8] {
        match self.at.get(position) {
            Some(&(from, to)) => self.blob.get(from as usize..to as usize).unwrap_or_default(),
            None => &[],
        }
    }
}

/// `a="1",b="2",`; nothing for a group without labels.
pub(super) fn group_text(group: &Group, escaping: Escaping) -> Box<[u8]> {
    let mut out = Vec::new();
    push_labels(&mut out, group.labels.iter(), escaping, None);
    out.into()
}

/// Appends labels, each with a comma behind it.
fn push_labels<'a>(
    out: &mut Vec<u8>,
    labels: impl Iterator<Item = &'a Label>,
    escaping: Escaping,
    reserved: Option<&str>,
) {
    for (name, value) in escaped_labels(labels, escaping, reserved) {
        push_name(out, &name, is_legal_label(&name));
        out.extend_from_slice(b"=\"");
        push_quoted(out, &value);
        out.extend_from_slice(b"\",");
    }
}
