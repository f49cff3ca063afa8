//! [`Snapshot`]: what one render works on, shared with nobody who waits.

use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use pipeline_model::{Batch, Metric, Series, Shape};

use super::index::{Row, TableIndex, hash_labels, remembered};
use super::label_text::{OwnTexts, group_text};
use super::{Escaping, Format, Options, Style, protobuf, text};
use crate::prometheus::Naming;
use crate::prometheus::escape::label_name;
use crate::prometheus::family::Type;
use crate::prometheus::labels::is_empty;

/// A family as its first source describes it.
#[derive(Debug)]
pub(super) struct FamilyHead {
    pub(super) ty: Type,
    pub(super) metric: Arc<Metric>,
}

/// Whether group and own labels of a source have names in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identities {
    /// They have not: hashes add up.
    Separate,
    /// They have: the own value counts.
    Overlapping,
}

/// What is known of one source until its shape changes.
#[derive(Debug)]
pub(super) struct SourceIndex {
    pub(super) shape: Arc<Shape>,
    pub(super) table: Arc<TableIndex>,
    /// One bit per position of the table's rows: set where another one shows the series, or nobody can.
    pub(super) hidden: Option<Vec<u64>>,
    pub(super) identities: Identities,
    pub(super) texts: Mutex<Vec<(Escaping, Arc<SourceTexts>)>>,
}

/// The texts of one source's labels.
#[derive(Debug)]
pub(super) struct SourceTexts {
    /// Per group; empty texts where `own` has it all.
    pub(super) groups: Box<[Box<[u8]>]>,
    pub(super) own: Arc<OwnTexts>,
}

/// True when the bit is set.
#[inline]
pub(super) fn bit(bits: Option<&[u64]>, position: u32) -> bool {
    bits.is_some_and(|bits| {
        bits.get(position as usize / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    })
}

/// Sets a bit.
pub(super) fn set_bit(bits: &mut [u64], position: u32) {
    if let Some(word) = bits.get_mut(position as usize / 64) {
        *word |= 1 << (position % 64);
    }
}

impl SourceIndex {
    pub(super) fn identities(shape: &Shape, table: &TableIndex) -> Identities {
        if overlap(shape, table, |name| name.into()) {
            Identities::Overlapping
        } else {
            Identities::Separate
        }
    }

    /// Hash of each group's labels.
    pub(super) fn group_hashes(&self, hasher: &RandomState) -> Vec<u64> {
        self.shape.groups().iter().map(|group| hash_labels(hasher, &group.labels)).collect()
    }

    pub(super) fn identity(&self, row: &Row, groups: &[u64], hasher: &RandomState) -> u64 {
        match self.identities {
            Identities::Separate => self.table.identity(
                row,
                groups.get(row.group as usize).copied().unwrap_or(0),
                hasher,
            ),
            Identities::Overlapping => self.table.identity_of(row, &self.shape, hasher),
        }
    }

    /// The texts of its labels; made when first asked for.
    pub(super) fn texts(&self, escaping: Escaping) -> Arc<SourceTexts> {
        remembered(&self.texts, escaping, || {
            let (shape, table) = (&self.shape, &self.table);
            if overlap(shape, table, |name| label_name(name, escaping)) {
                let own = Arc::new(OwnTexts::new(table, shape, escaping, true));
                return SourceTexts {
                    groups: vec![Box::default(); shape.groups().len()].into(),
                    own,
                };
            }
            let groups = shape.groups().iter().map(|group| group_text(group, escaping)).collect();
            SourceTexts { groups, own: table.own_texts(shape, escaping) }
        })
    }
}

fn overlap<'a>(
    shape: &'a Shape,
    table: &'a TableIndex,
    name_of: impl Fn(&'a str) -> std::borrow::Cow<'a, str>,
) -> bool {
    shape.groups().iter().zip(&table.own_names).any(|(group, own)| {
        let own: Vec<_> = own.iter().map(|name| name_of(name)).collect();
        group.labels.iter().any(|label| own.contains(&name_of(&label.name)))
    })
}

/// One source at the moment of the snapshot.
#[derive(Debug)]
pub(super) struct View {
    pub(super) batch: Batch,
    pub(super) index: Arc<SourceIndex>,
}

/// Shows only series with a label that has one of some values. Where a series has no such label, own or of its group,
/// its resource's attribute of that name counts; one that has neither is not shown.
#[derive(Clone, Copy, Debug)]
pub struct Only<'a> {
    /// The name of the label and the attribute.
    pub label: &'a str,
    /// The values.
    pub values: &'a [String],
}

impl Only<'_> {
    fn value<'s>(&self, series: &Series<'s>) -> Option<&'s str> {
        // To Prometheus an empty label is none.
        let label = series.label(self.label).filter(|value| !is_empty(value));
        label.or_else(|| series.group.resource.attributes.get(self.label))?.as_str()
    }
}

impl View {
    /// The rows that are not to be shown: those hidden anyway and those that `only` leaves out.
    pub(super) fn hidden(&self, only: Option<Only<'_>>) -> Option<Vec<u64>> {
        let mut hidden = self.index.hidden.clone();
        if let Some(only) = only {
            let (rows, shape) = (&self.index.table.rows, &self.index.shape);
            let hidden = hidden.get_or_insert_with(|| vec![0; rows.len().div_ceil(64)]);
            for (position, row) in rows.iter().enumerate() {
                let value = shape.get(row.row).and_then(|series| only.value(&series));
                if !value.is_some_and(|value| only.values.iter().any(|allowed| allowed == value)) {
                    set_bit(hidden, position as u32);
                }
            }
        }
        hidden
    }
}

/// The state of an [`super::Exposition`] at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) heads: Arc<[FamilyHead]>,
    pub(super) views: Vec<View>,
    pub(super) naming: Naming,
    pub(super) version: u64,
}

impl Snapshot {
    /// The version of the exposition that it was taken from.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Sources in it.
    pub fn sources(&self) -> usize {
        self.views.len()
    }

    /// Appends the page to `out`: families by name, in each the sources by id and their rows in order.
    ///
    /// With the buffer of the page before, no two pages are in memory at a time; it is not faster than a fresh one.
    pub fn render(
        &self,
        style: Style,
        options: Options,
        only: Option<Only<'_>>,
        out: &mut Vec<u8>,
    ) {
        match style.format {
            Format::Text => text::render(self, style.escaping, false, options, only, out),
            Format::OpenMetrics => text::render(self, style.escaping, true, options, only, out),
            Format::Protobuf => protobuf::render(self, style.escaping, options, only, out),
        }
    }
}
