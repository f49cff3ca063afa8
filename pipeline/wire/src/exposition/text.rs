//! Prometheus text and OpenMetrics.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::{HashSet, HashSetExt};
use pipeline_model::{Batch, Exemplar, Mark, Slot};

use super::index::{Layout, Row, Span};
use super::label_text::BoundTexts;
use super::snapshot::{FamilyHead, Only, Snapshot, SourceTexts, View, bit};
use super::{Escaping, Options};
use crate::prometheus::escape;
use crate::prometheus::escape::{is_legal_metric, push_help, push_name};
use crate::prometheus::family::{Type, unit_word};
use crate::prometheus::labels::escaped_labels;
use crate::prometheus::number::{push_double, push_int, push_seconds, push_slot};
use crate::prometheus::translate::{Naming, full_name};

/// Exemplars may carry this many characters of names and values. Source: OpenMetrics 1.0.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// The beginning of lines: `name{`, and `name ` for those without any label.
struct Name {
    open: Vec<u8>,
    bare: Vec<u8>,
}

impl Name {
    fn new(name: &str, suffix: &str) -> Self {
        let name = format!("{name}{suffix}");
        let (mut open, mut bare) = (Vec::new(), Vec::new());
        if is_legal_metric(&name) {
            open.extend_from_slice(name.as_bytes());
            bare.clone_from(&open);
            open.push(b'{');
            bare.push(b' ');
        } else {
            open.push(b'{');
            push_name(&mut open, &name, false);
            bare.clone_from(&open);
            open.push(b',');
            bare.extend_from_slice(b"} ");
        }
        Self { open, bare }
    }
}

/// What the lines of a family begin with, and what stands above them.
struct Head {
    header: Vec<u8>,
    plain: Name,
    bucket: Name,
    sum: Name,
    count: Name,
    created: Name,
    /// OpenMetrics has exemplars on counters and buckets only.
    exemplars: bool,
}

/// The names that a family has on the page.
pub(super) struct FamilyName {
    /// On its HELP and TYPE.
    pub(super) family: String,
    /// On its plain lines.
    pub(super) sample: String,
    /// Its type on the page.
    pub(super) ty: Type,
}

/// The names of all families; `None` for one that cannot stand beside another on this page: its name, escaped, is that
/// of the other, or one that the other's samples have (`k_bucket` beside the histogram `k`).
///
/// OpenMetrics names a counter's family without `_total`. Where that name is taken, the counter stays whole as one of
/// unknown type.
pub(super) fn family_names(
    heads: &[FamilyHead],
    naming: Naming,
    escaping: Escaping,
    open_metrics: bool,
) -> Vec<Option<FamilyName>> {
    let full: Vec<Cow<'_, str>> =
        heads.iter().map(|head| full_name(&head.metric, head.ty, escaping, naming)).collect();
    let all: HashSet<&str> = full.iter().map(|name| &**name).collect();
    let mut names: Vec<Option<FamilyName>> = heads.iter().map(|_| None).collect();
    // Shorter names first: that of a sample is longer than that of its family.
    let mut order: Vec<usize> = (0..full.len()).collect();
    order.sort_by_key(|idx| full[*idx].len());
    let mut taken = HashSet::new();
    for idx in order {
        let (name, ty) = (&*full[idx], heads[idx].ty);
        let whole = |ty| FamilyName { family: name.to_owned(), sample: name.to_owned(), ty };
        let choices = match ty.suffix().filter(|_| open_metrics) {
            Some(suffix) => [split_name(name, suffix, ty, &all), Some(whole(Type::Unknown))],
            None => [Some(whole(ty)), None],
        };
        let is_free =
            |found: &FamilyName| !taken.contains(&found.family) && !taken.contains(&found.sample);
        let Some(found) = choices.into_iter().flatten().find(is_free) else { continue };
        for suffix in found.ty.suffixes(open_metrics) {
            taken.insert(format!("{}{suffix}", found.family));
        }
        taken.insert(found.family.clone());
        names[idx] = Some(found);
    }
    names
}

/// The names in OpenMetrics of a family whose samples end in `suffix`, which its own name does not; `None` where either
/// is another's.
fn split_name(name: &str, suffix: &str, ty: Type, all: &HashSet<&str>) -> Option<FamilyName> {
    let (family, sample) = match name.strip_suffix(suffix) {
        Some(family) => (family.to_owned(), name.to_owned()),
        None => (name.to_owned(), format!("{name}{suffix}")),
    };
    let new = if family == name { &sample } else { &family };
    let free = !family.is_empty() && !all.contains(new.as_str());
    free.then_some(FamilyName { family, sample, ty })
}

impl Head {
    fn new(head: &FamilyHead, name: &FamilyName, open_metrics: bool) -> Self {
        let FamilyName { family, sample, ty } = name;
        let mut header = Vec::new();
        let mut line = |keyword: &str, text: &mut dyn FnMut(&mut Vec<u8>)| {
            header.extend_from_slice(keyword.as_bytes());
            push_name(&mut header, family, is_legal_metric(family));
            header.push(b' ');
            text(&mut header);
            header.push(b'\n');
        };
        let metric = &head.metric;
        if !metric.description.is_empty() {
            line("# HELP ", &mut |out| push_help(out, &metric.description, open_metrics));
        }
        let word = if open_metrics { ty.open_metrics_word() } else { ty.text_word() };
        line("# TYPE ", &mut |out| out.extend_from_slice(word.as_bytes()));
        if open_metrics && let Some(unit) = unit_word(family, &metric.unit) {
            line("# UNIT ", &mut |out| out.extend_from_slice(unit.as_bytes()));
        }
        let (sum, count) = if open_metrics && *ty == Type::GaugeHistogram {
            ("_gsum", "_gcount")
        } else {
            ("_sum", "_count")
        };
        Self {
            header,
            plain: Name::new(sample, ""),
            bucket: Name::new(family, "_bucket"),
            sum: Name::new(family, sum),
            count: Name::new(family, count),
            created: Name::new(family, "_created"),
            exemplars: open_metrics
                && matches!(ty, Type::Counter | Type::Histogram | Type::GaugeHistogram),
        }
    }
}

/// One source, as far as it has been written.
struct Cursor<'a> {
    view: &'a View,
    texts: Arc<SourceTexts>,
    hidden: Option<Vec<u64>>,
    /// The next of its spans.
    span: usize,
}

/// Writes the page.
pub(super) fn render(
    snapshot: &Snapshot,
    escaping: Escaping,
    open_metrics: bool,
    options: Options,
    only: Option<Only<'_>>,
    out: &mut Vec<u8>,
) {
    let mut sources: Vec<Cursor<'_>> = snapshot
        .views
        .iter()
        .map(|view| Cursor {
            view,
            texts: view.index.texts(escaping),
            hidden: view.hidden(only),
            span: 0,
        })
        .collect();
    let names = family_names(&snapshot.heads, snapshot.naming, escaping, open_metrics);
    let mut scratch = Vec::new();
    for (family, name) in snapshot.heads.iter().zip(&names) {
        let head = name.as_ref().map(|name| Head::new(family, name, open_metrics));
        let mut begun = false;
        for source in &mut sources {
            let Some(span) = next_span(source, family) else { continue };
            let Some(head) = &head else { continue };
            let mut page =
                Page { head, open_metrics, options, escaping, begun, out, scratch: &mut scratch };
            page.span(source, span);
            begun = page.begun;
        }
    }
    if open_metrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

/// The span of `family` in a source, if it has one. Spans and families have the same order; a family that is not on the
/// page was hidden in all of its sources.
fn next_span<'a>(source: &mut Cursor<'a>, family: &FamilyHead) -> Option<&'a Span> {
    loop {
        let span = source.view.index.table.spans.get(source.span)?;
        match span.metric.name.cmp(&family.metric.name) {
            std::cmp::Ordering::Less => source.span += 1,
            std::cmp::Ordering::Equal => {
                source.span += 1;
                return Some(span);
            }
            std::cmp::Ordering::Greater => return None,
        }
    }
}

/// One family being written.
struct Page<'a> {
    head: &'a Head,
    open_metrics: bool,
    options: Options,
    escaping: Escaping,
    /// The header is out.
    begun: bool,
    out: &'a mut Vec<u8>,
    scratch: &'a mut Vec<u8>,
}

/// What the lines of one row have in common.
#[derive(Clone, Copy)]
struct Point<'a> {
    batch: &'a Batch,
    row: &'a Row,
    /// `a="1",` or nothing.
    group: &'a [u8],
    /// `c="3"} ` or nothing.
    own: &'a [u8],
}

impl Page<'_> {
    fn span(&mut self, source: &Cursor<'_>, span: &Span) {
        let (index, batch) = (&source.view.index, &source.view.batch);
        let marks = batch.marks.as_ref().map(|marks| marks.as_slice());
        let hidden = source.hidden.as_deref();
        for position in span.rows.clone() {
            let Some(row) = index.table.rows.get(position as usize) else { continue };
            let present =
                marks.is_none_or(|marks| marks.get(row.row as usize) == Some(&Mark::Present));
            if !present || bit(hidden, position) {
                continue;
            }
            if !self.begun {
                self.begun = true;
                self.out.extend_from_slice(&self.head.header);
            }
            let group = source.texts.groups.get(row.group as usize).map_or(&[][..], |text| text);
            let point = Point { batch, row, group, own: source.texts.own.get(position as usize) };
            if let Some((_, layout)) = index.table.metrics.get(row.metric as usize) {
                self.row(point, layout);
            }
        }
    }

    #[inline]
    fn row(&mut self, point: Point<'_>, layout: &Layout) {
        let slots = point.batch.values.get(point.row.slot as usize..).unwrap_or_default();
        match layout {
            Layout::Number { int } => {
                let Some(value) = slots.first() else { return };
                line(self.out, &self.head.plain, &point);
                push_slot(self.out, *value, *int);
                self.timestamp(&point);
                self.exemplar(&point, f64::NEG_INFINITY, f64::INFINITY);
                self.out.push(b'\n');
            }
            Layout::Histogram { first, bounds } => self.histogram(point, slots, *first, bounds),
            Layout::Summary { quantiles } => self.summary(point, slots, quantiles),
            Layout::Exponential => {
                // Without native histograms only the bucket to +Inf is common to all points of a series.
                let [sum, count, ..] = slots else { return };
                let infinite = BoundTexts::new("le", &pipeline_model::Bounds::new(&[]));
                self.histogram(point, &[*sum, *count], 2, &infinite);
            }
        }
        if self.open_metrics && self.options.created {
            self.created(&point);
        }
    }

    fn histogram(&mut self, point: Point<'_>, slots: &[Slot], first: usize, bounds: &BoundTexts) {
        let [sum, count, ..] = slots else { return };
        let finite = bounds.len() - 1;
        let Some(buckets) = slots.get(first..first + finite) else { return };
        self.prefix(&self.head.bucket, &point);
        let plain = self.is_plain(&point);
        for (idx, value) in buckets.iter().chain([count]).enumerate() {
            self.out.extend_from_slice(self.scratch);
            self.out.extend_from_slice(bounds.get(idx));
            push_double(self.out, value.as_double());
            if !plain {
                self.timestamp(&point);
                let above = if idx == 0 { f64::NEG_INFINITY } else { bounds.value(idx - 1) };
                self.exemplar(&point, above, bounds.value(idx));
            }
            self.out.push(b'\n');
        }
        self.sum_and_count(&point, *sum, *count);
    }

    fn summary(&mut self, point: Point<'_>, slots: &[Slot], quantiles: &BoundTexts) {
        let [sum, count, values @ ..] = slots else { return };
        self.prefix(&self.head.plain, &point);
        for (idx, value) in values.iter().take(quantiles.len() - 1).enumerate() {
            self.out.extend_from_slice(self.scratch);
            self.out.extend_from_slice(quantiles.get(idx));
            push_double(self.out, value.as_double());
            self.timestamp(&point);
            self.out.push(b'\n');
        }
        self.sum_and_count(&point, *sum, *count);
    }

    fn sum_and_count(&mut self, point: &Point<'_>, sum: Slot, count: Slot) {
        // NaN says that the source has no sum.
        let sum = Some(sum).filter(|sum| !sum.as_double().is_nan());
        for (name, value) in [(&self.head.sum, sum), (&self.head.count, Some(count))] {
            let Some(value) = value else { continue };
            line(self.out, name, point);
            push_double(self.out, value.as_double());
            self.timestamp(point);
            self.out.push(b'\n');
        }
    }

    /// `name_bucket{a="1",c="3",` into the scratch: what all buckets of a point begin with.
    fn prefix(&mut self, name: &Name, point: &Point<'_>) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&name.open);
        self.scratch.extend_from_slice(point.group);
        if let Some(own) = point.own.strip_suffix(b"} ") {
            self.scratch.extend_from_slice(own);
            self.scratch.push(b',');
        }
    }

    /// True when nothing follows the values.
    fn is_plain(&self, point: &Point<'_>) -> bool {
        !(self.options.timestamps || self.head.exemplars && point.batch.extras.is_some())
    }

    #[inline]
    fn timestamp(&mut self, point: &Point<'_>) {
        if self.options.timestamps {
            self.out.push(b' ');
            let time = point.batch.time_of(point.row.row);
            if self.open_metrics {
                push_seconds(self.out, time);
            } else {
                push_int(self.out, time.div_euclid(1_000_000));
            }
        }
    }

    fn created(&mut self, point: &Point<'_>) {
        let start = point.batch.start(point.row.row);
        let counts = point.batch.shape.get(point.row.row).is_some_and(|series| {
            series.metric.kind.is_cumulative_monotonic()
                || matches!(series.metric.kind, pipeline_model::Kind::Summary { .. })
        });
        if start > 0 && counts {
            line(self.out, &self.head.created, point);
            push_seconds(self.out, start);
            self.out.push(b'\n');
        }
    }

    /// The latest exemplar of the row within (above, upto].
    #[inline]
    fn exemplar(&mut self, point: &Point<'_>, above: f64, upto: f64) {
        if self.head.exemplars
            && let Some(extras) = point.batch.extras.as_ref()
            && !extras.exemplars.is_empty()
            && let Some(exemplar) = latest(&extras.exemplars, point.row.row, above, upto)
        {
            push_exemplar(self.out, exemplar, self.escaping);
        }
    }
}

/// `name{` + group + own, with the braces right where one or both are nothing.
#[inline]
fn line(out: &mut Vec<u8>, name: &Name, point: &Point<'_>) {
    match (point.group, point.own) {
        (group, own @ [_, ..]) => {
            out.extend_from_slice(&name.open);
            out.extend_from_slice(group);
            out.extend_from_slice(own);
        }
        ([group @ .., _comma], []) => {
            out.extend_from_slice(&name.open);
            out.extend_from_slice(group);
            out.extend_from_slice(b"} ");
        }
        ([], []) => out.extend_from_slice(&name.bare),
    }
}

/// The latest exemplar of `row` with a value in (above, upto].
pub(super) fn latest(exemplars: &[Exemplar], row: u32, above: f64, upto: f64) -> Option<&Exemplar> {
    let from = exemplars.partition_point(|exemplar| exemplar.row < row);
    exemplars
        .iter()
        .skip(from)
        .take_while(|exemplar| exemplar.row == row)
        .filter(|exemplar| exemplar.value > above && exemplar.value <= upto)
        .max_by_key(|exemplar| exemplar.time)
}

fn push_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar, escaping: Escaping) {
    let labels = escaped_labels(exemplar.labels.iter(), escaping, None);
    let chars: usize =
        labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if chars > EXEMPLAR_CHARS_MAX {
        return;
    }
    out.extend_from_slice(b" # {");
    for (idx, (name, value)) in labels.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        push_name(out, name, escape::is_legal_label(name));
        out.extend_from_slice(b"=\"");
        escape::push_quoted(out, value);
        out.push(b'"');
    }
    out.extend_from_slice(b"} ");
    push_double(out, exemplar.value);
    if exemplar.time > 0 {
        out.push(b' ');
        push_seconds(out, exemplar.time);
    }
}
