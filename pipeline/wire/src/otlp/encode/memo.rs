//! What is remembered about shapes and tables.

use std::ops::Range;
use std::sync::{Arc, Weak};

use foldhash::{HashMap, HashSet};
use pipeline_model::{Label, RowId, Shape, Str, Table};

use super::Options;
use super::attributes::write;
use super::back::Back;
use super::form::{Attributes, Form};

/// A row: where its value is, and its attributes among those of its table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) row: RowId,
    pub(super) slot: u32,
    pub(super) at: u32,
    pub(super) len: u32,
}

/// The rows of one metric within one group.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) form: Form,
    pub(super) rows: Range<usize>,
}

/// The rows of a table, those of one group and metric together.
#[derive(Debug, Default)]
pub(super) struct TableMemo {
    pub(super) rows: Vec<Row>,
    /// Attributes of all rows.
    pub(super) attributes: Vec<u8>,
    pub(super) runs: Vec<Run>,
    /// The runs of each group, by its index.
    pub(super) groups: Vec<Range<usize>>,
    /// Names of labels that rows have.
    names: HashSet<Str>,
    /// Labels of the row that has most.
    labels_max: usize,
    table: Weak<Table>,
}

/// What the points of a group share.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// What `ResourceMetrics` says beside scopes.
    pub(super) resource: Box<[u8]>,
    /// What `ScopeMetrics` says beside metrics.
    pub(super) scope: Box<[u8]>,
    /// Attributes that each point has beside its own, by [`Attributes`].
    pub(super) attributes: [Box<[u8]>; 3],
}

/// A shape: its groups, and where its rows are.
#[derive(Debug)]
pub(super) struct ShapeMemo {
    pub(super) groups: Vec<Group>,
    /// The groups, those of one resource together.
    pub(super) order: Vec<u32>,
    /// Rows of its own, where a label of a row and one of its group have one name.
    own: Option<Box<TableMemo>>,
    shape: Weak<Shape>,
    /// Key of its table, which is pinned by `TableMemo::table`.
    pub(super) table: usize,
    pub(super) used: u64,
    pub(super) bytes: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Memos {
    pub(super) shapes: HashMap<u64, ShapeMemo>,
    pub(super) tables: HashMap<usize, TableMemo>,
    clock: u64,
    pub(super) sweep_at: usize,
    /// Bytes that all of it takes.
    pub(super) total: usize,
    scratch: Back,
}

impl Memos {
    /// What is known about `shape`, found out now if need be.
    pub(super) fn get(
        &mut self,
        shape: &Arc<Shape>,
        options: &Options,
    ) -> Option<(&ShapeMemo, &TableMemo)> {
        self.clock += 1;
        if !self.shapes.contains_key(&shape.id()) {
            self.make_room(options.memory_max);
            self.learn(shape, options);
        }
        let memo = self.shapes.get_mut(&shape.id())?;
        memo.used = self.clock;
        let own = memo.own.as_deref();
        Some((memo, own.or_else(|| self.tables.get(&memo.table))?))
    }

    fn learn(&mut self, shape: &Arc<Shape>, options: &Options) {
        let key = Arc::as_ptr(shape.table()) as usize;
        let (scratch, total) = (&mut self.scratch, &mut self.total);
        let table = self.tables.entry(key).or_insert_with(|| {
            let table = TableMemo::new(shape, options, scratch, &HashSet::default());
            *total += table.bytes();
            table
        });
        let clash: HashSet<Str> = shape
            .groups()
            .iter()
            .flat_map(|group| group.labels.iter().map(move |label| (group, &label.name)))
            .filter(|(_, name)| table.names.contains(*name))
            .filter(|(group, name)| resource_name(group, options, name).is_none())
            .map(|(_, name)| name.clone())
            .collect();
        let own =
            (!clash.is_empty()).then(|| Box::new(TableMemo::new(shape, options, scratch, &clash)));
        let labels_max = own.as_deref().unwrap_or(table).labels_max;
        let room = options.limits.point_max.saturating_sub(labels_max);
        let groups: Vec<Group> = shape
            .groups()
            .iter()
            .map(|group| Group::new(group, options, room, &clash, scratch))
            .collect();
        let bytes = size_of::<ShapeMemo>()
            + own.as_ref().map_or(0, |own| own.bytes())
            + groups.iter().map(Group::bytes).sum::<usize>();
        let memo = ShapeMemo {
            order: by_resource(&groups),
            groups,
            own,
            shape: Arc::downgrade(shape),
            table: key,
            used: self.clock,
            bytes,
        };
        self.total += memo.bytes;
        self.shapes.insert(shape.id(), memo);
    }
}

impl ShapeMemo {
    /// False once nobody holds the shape.
    pub(super) fn is_alive(&self) -> bool {
        self.shape.strong_count() > 0
    }
}

/// Groups in order of the first of their resource.
fn by_resource(groups: &[Group]) -> Vec<u32> {
    let mut first: HashMap<&[u8], usize> = HashMap::default();
    let mut order: Vec<(usize, u32)> = groups
        .iter()
        .enumerate()
        .map(|(idx, group)| (*first.entry(&group.resource).or_insert(idx), idx as u32))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, idx)| idx).collect()
}

impl TableMemo {
    /// `clash`: names that rows may share with their group; for these the group's label is written with each row that
    /// has none of its own.
    fn new(shape: &Shape, options: &Options, scratch: &mut Back, clash: &HashSet<Str>) -> Self {
        let mut memo = Self { table: Arc::downgrade(shape.table()), ..Self::default() };
        // Rows of one group and metric together, both in the order of their first row.
        let mut runs: HashMap<(u32, usize), u32> = HashMap::default();
        let mut order: Vec<(u32, u32, RowId)> = Vec::with_capacity(shape.len());
        for series in shape.iter() {
            let next = runs.len() as u32;
            let key = (series.group_idx, Arc::as_ptr(series.metric) as usize);
            let run = *runs.entry(key).or_insert(next);
            order.push((series.group_idx, run, series.row));
        }
        order.sort_unstable();
        memo.rows.reserve_exact(order.len());
        let mut last = None;
        for (group, run, row) in order {
            let Some(series) = shape.get(row) else { continue };
            if last != Some(run) {
                last = Some(run);
                memo.open_run(group, Form::new(series.metric, options, scratch));
            }
            if clash.is_empty() {
                memo.names.extend(series.labels.iter().map(|label| label.name.clone()));
            }
            scratch.clear();
            let tag = Attributes::of(&series.metric.kind).tag();
            let own = series.labels_merged().filter(|label| {
                series.labels.get(&label.name).is_some() || clash.contains(&label.name)
            });
            let count = write(scratch, tag, own, options.limits.point_max, &options.limits);
            memo.labels_max = memo.labels_max.max(count);
            // 4 GiB of attributes in one shape: what lies beyond is written without.
            let at = u32::try_from(memo.attributes.len()).ok();
            let len = at.and_then(|_| u32::try_from(scratch.len()).ok()).unwrap_or(0);
            if len > 0 {
                memo.attributes.extend_from_slice(scratch.written());
            }
            let (at, slot) = (at.unwrap_or(0), series.slots().start as u32);
            memo.rows.push(Row { row, slot, at, len });
            if let Some(run) = memo.runs.last_mut() {
                run.rows.end = memo.rows.len();
            }
        }
        memo.attributes.shrink_to_fit();
        memo
    }

    fn open_run(&mut self, group: u32, form: Form) {
        let at = self.runs.len();
        while self.groups.len() <= group as usize {
            self.groups.push(at..at);
        }
        if let Some(runs) = self.groups.last_mut() {
            runs.end = at + 1;
        }
        self.runs.push(Run { form, rows: self.rows.len()..self.rows.len() });
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.rows.capacity() * size_of::<Row>()
            + self.attributes.capacity()
            + self.runs.iter().map(|run| size_of::<Run>() + run.form.bytes()).sum::<usize>()
    }

    /// False once nobody holds the table.
    pub(super) fn is_alive(&self) -> bool {
        self.table.strong_count() > 0
    }
}

impl Group {
    /// `room`: attributes that it may add to each point. `clash`: names that are written with the rows.
    fn new(
        group: &pipeline_model::Group,
        options: &Options,
        room: usize,
        clash: &HashSet<Str>,
        scratch: &mut Back,
    ) -> Self {
        let limits = &options.limits;
        let (mut resource, mut points) = (Vec::new(), Vec::new());
        for label in &group.labels {
            if clash.contains(&label.name) {
                continue;
            }
            match resource_name(group, options, &label.name) {
                Some(name) => {
                    resource.push(Label { name: name.into(), value: label.value.clone() });
                }
                None => points.push(label),
            }
        }
        scratch.clear();
        scratch.text_field(0x1a, &group.resource.schema_url);
        let mark = scratch.len();
        let all = group.resource.attributes.iter().chain(&resource);
        write(scratch, 0x0a, all, limits.resource_max, limits);
        scratch.close(0x0a, mark);
        let resource = scratch.written().into();
        scratch.clear();
        scratch.text_field(0x1a, &group.scope.schema_url);
        let mark = scratch.len();
        write(scratch, 0x1a, group.scope.attributes.iter(), limits.scope_max, limits);
        scratch.text_field(0x12, &group.scope.version);
        scratch.text_field(0x0a, &group.scope.name);
        scratch.close(0x0a, mark);
        let scope = scratch.written().into();
        let attributes = Attributes::ALL.map(|kind| {
            scratch.clear();
            write(scratch, kind.tag(), points.iter().copied(), room, limits);
            scratch.written().into()
        });
        Self { resource, scope, attributes }
    }

    fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|bytes| bytes.len()).sum();
        size_of::<Self>() + self.resource.len() + self.scope.len() + attributes
    }
}

/// The attribute of the resource that a label of its group becomes; `None`: an attribute of points.
fn resource_name<'a>(
    group: &pipeline_model::Group,
    options: &Options,
    label: &'a str,
) -> Option<&'a str> {
    let attributes = &group.resource.attributes;
    let name = if options.resource_labels.iter().any(|name| name == label) {
        label
    } else {
        match label {
            "job" if attributes.is_empty() => "service.name",
            "instance" if attributes.is_empty() => "service.instance.id",
            _ => return None,
        }
    };
    attributes.get(name).is_none().then_some(name)
}
