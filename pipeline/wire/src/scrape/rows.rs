//! Samples of a text page put together to series: which rows there are, and what each line is to its row.
//!
//! Lines of a family may come in any order and anywhere on the page. Two samples are of one series when name, class
//! and labels (less `le` and `quantile`) are equal; the raw spelling does not matter.

mod place;

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{Label, Labels, Metric, RowId, Str, Value};

use super::error::Fault;
use super::family::{Class, Families, NONE, Part, Resolved, Type};
use super::float;
use super::labeler::{LabelFault, Labeler};
use super::layout::{Action, Fix};
use super::raw::{Lists, RawLabel, RawSample, Span, Text};

/// Row 0xffffffff: a line that belongs to no row.
pub(crate) const NO_ROW: RowId = RowId::MAX;

/// A line's place in the shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) action: Action,
    pub(crate) row: RowId,
    pub(crate) family: u32,
    /// The line whose cell this one repeats; itself when it has its own. [`NONE`] when a row of the caller's is
    /// repeated.
    pub(crate) owner: u32,
}

impl Placed {
    /// A line with no place yet.
    fn new(line: u32, family: u32) -> Self {
        Self { action: Action::Ignore, row: NO_ROW, family, owner: line }
    }
}

/// The series that a run of sample names makes up.
#[derive(Debug)]
struct Base {
    name: Str,
    class: Class,
    of: Type,
    family: u32,
    /// The metric made last: rows of one name mostly share it.
    metric: Option<Arc<Metric>>,
}

/// A row in the making. Lines are indices, [`NONE`] where there is none.
#[derive(Clone, Copy, Debug)]
struct Draft {
    base: u32,
    labels: u32,
    /// The value of a number, the sum of all else.
    value: u32,
    count: u32,
    inf: u32,
    start: u32,
    /// It stands for a row that the caller fills.
    synthetic: bool,
}

/// A bucket or quantile line.
#[derive(Clone, Copy, Debug)]
struct Member {
    draft: u32,
    bound: f64,
    line: u32,
}

/// A label list as written.
#[derive(Clone, Copy, Debug, Eq, Hash)]
struct Spelling<'a> {
    before: &'a [u8],
    after: &'a [u8],
    /// One label more was there, which counts towards the limit on labels.
    skipped: bool,
}

impl PartialEq for Spelling<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.skipped == other.skipped
            && same(self.before, other.before)
            && same(self.after, other.after)
    }
}

/// True for equal bytes. Label lists are a few dozen of them, for which a call of `memcmp` costs more than the work.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    let (words_a, words_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let tails = words_a.remainder().iter().eq(words_b.remainder());
    a.len() == b.len() && tails && words_a.zip(words_b).all(|(a, b)| word(a) == word(b))
}

/// True for what `le` may say.
fn is_bound(bound: f64) -> bool {
    bound > f64::NEG_INFINITY
}

fn word(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.first_chunk()?))
}

/// Puts samples together.
#[derive(Debug)]
pub(crate) struct Assembler<'a> {
    body: &'a str,
    labeler: Labeler<'a>,
    pub(crate) families: Families<'a>,
    lists: &'a Lists,
    /// Interned text by its bytes, to ask the shared interner once per page only.
    strings: HashMap<&'a [u8], Str>,
    /// Sample names seen, with what they lead to and the base (or, of a start time, the parent).
    names: HashMap<&'a [u8], (Resolved, u32)>,
    bases: Vec<Base>,
    /// By name, for each class.
    base_of: [HashMap<Str, u32>; 3],
    /// Label lists as written, and their sets.
    spelled: HashMap<Spelling<'a>, u32>,
    sets: Vec<Labels>,
    set_of: HashMap<Labels, u32>,
    drafts: Vec<Draft>,
    draft_of: HashMap<(u32, u32), u32>,
    members: Vec<Member>,
    /// What start times belong to: class and name less `_created`.
    parents: Vec<(Class, Cow<'a, str>)>,
    /// Start times: parent, label set, line.
    starts: Vec<(u32, u32, u32)>,
    /// Start times of no series, by what they would belong to.
    orphans: HashMap<(Class, Cow<'a, str>, u32), u32>,
    pub(crate) placed: Vec<Placed>,
    pub(crate) fixes: Vec<Fix>,
    /// Lines that a line yet to come could make something else of: orphans, start times that took a second choice.
    pub(crate) loose: bool,
    last: Option<(&'a [u8], Resolved, u32)>,
    last_labels: Option<(Spelling<'a>, u32)>,
    last_draft: Option<((u32, u32), u32)>,
    /// The line before, when it was a bucket: its draft, family, and which of its labels the bound was.
    last_bucket: Option<(u32, u32, u32)>,
}

impl<'a> Assembler<'a> {
    pub(crate) fn new(
        body: &'a str,
        lists: &'a Lists,
        families: Families<'a>,
        labeler: Labeler<'a>,
    ) -> Self {
        Self {
            body,
            labeler,
            families,
            lists,
            strings: HashMap::default(),
            names: HashMap::default(),
            bases: Vec::new(),
            base_of: Default::default(),
            spelled: HashMap::default(),
            sets: Vec::new(),
            set_of: HashMap::default(),
            drafts: Vec::new(),
            draft_of: HashMap::default(),
            members: Vec::new(),
            parents: Vec::new(),
            starts: Vec::new(),
            orphans: HashMap::default(),
            placed: Vec::new(),
            fixes: Vec::new(),
            loose: false,
            last: None,
            last_labels: None,
            last_draft: None,
            last_bucket: None,
        }
    }

    /// Declares a row that the caller fills: samples of the page that repeat it are duplicates.
    pub(crate) fn synthetic(&mut self, metric: &Metric) {
        let set = self.set(Labels::empty());
        let base = self.base(Class::Number, &metric.name, Type::Unknown, NONE);
        let draft = self.draft(base, set);
        if let Some(draft) = self.drafts.get_mut(draft as usize) {
            draft.synthetic = true;
        }
    }

    /// Takes all samples in. Lines are told apart by their index.
    pub(crate) fn add_all(&mut self, samples: &[RawSample]) -> Result<(), Fault> {
        self.placed.reserve(samples.len());
        for (line, sample) in samples.iter().enumerate() {
            self.add(line as u32, sample)?;
        }
        for (parent, set, line) in std::mem::take(&mut self.starts) {
            self.attach_start(parent, set, line);
        }
        Ok(())
    }

    fn add(&mut self, line: u32, sample: &RawSample) -> Result<(), Fault> {
        if let Some((draft, family, le)) = self.last_bucket
            && sample.changed == le
            && let Some(bound) = self.number(sample, le).filter(|bound| is_bound(*bound))
        {
            // The next bucket of the histogram that the line before was a bucket of.
            self.put(line, draft, family, Part::Bucket, Some(bound));
            return Ok(());
        }
        self.last_bucket = None;
        let (resolved, mut base) = self.name(sample);
        let (mut skip, mut bound) = (NONE, None);
        if let Part::Bucket | Part::Quantile = resolved.part {
            let bucket = resolved.part == Part::Bucket;
            let label = self.find(sample, if bucket { b"le" } else { b"quantile" });
            let valid = |bound: &f64| if bucket { is_bound(*bound) } else { bound.is_finite() };
            bound = label.and_then(|label| self.number(sample, label)).filter(valid);
            match (label, bound) {
                (Some(label), Some(_)) => skip = sample.labels.0 + label,
                _ => {
                    // Not the part that its name promises: a number of its own.
                    let name = sample.name.of(self.body);
                    base = self.base(Class::Number, &name, Type::Unknown, resolved.family);
                }
            }
        }
        let set = self.labels(sample, skip)?;
        if resolved.part == Part::Created {
            self.starts.push((base, set, line));
            self.placed.push(Placed::new(line, resolved.family));
            return Ok(());
        }
        let draft = self.draft(base, set);
        if skip != NONE && resolved.part == Part::Bucket {
            self.last_bucket = Some((draft, resolved.family, skip - sample.labels.0));
        }
        self.put(line, draft, resolved.family, resolved.part, bound);
        Ok(())
    }

    /// Makes `line` a part of row `idx`; with a bound it is a bucket or quantile.
    fn put(&mut self, line: u32, idx: u32, family: u32, part: Part, bound: Option<f64>) {
        let mut placed = Placed::new(line, family);
        if let Some(draft) = self.drafts.get_mut(idx as usize) {
            let cell = match (part, bound) {
                (Part::Bucket, Some(f64::INFINITY)) => Some(&mut draft.inf),
                (_, Some(bound)) => {
                    self.members.push(Member { draft: idx, bound, line });
                    None
                }
                (Part::Count, None) => Some(&mut draft.count),
                _ => Some(&mut draft.value),
            };
            match cell {
                Some(_) if draft.synthetic => placed.owner = NONE,
                Some(cell) if *cell == NONE => *cell = line,
                Some(cell) => placed.owner = *cell,
                None => {}
            }
        }
        self.placed.push(placed);
    }

    fn name(&mut self, sample: &RawSample) -> (Resolved, u32) {
        let raw = sample.name.span.of(self.body.as_bytes());
        if let Some((last, resolved, base)) = self.last
            && same(last, raw)
        {
            return (resolved, base);
        }
        let (resolved, base) = match self.names.get(raw) {
            Some(known) => *known,
            None => {
                let name = sample.name.of(self.body);
                let resolved = self.families.resolve(&name);
                let base = if resolved.part == Part::Created {
                    let parent = match name {
                        Cow::Borrowed(name) => {
                            Cow::Borrowed(name.get(..resolved.base_bytes).unwrap_or(name))
                        }
                        Cow::Owned(mut name) => {
                            name.truncate(resolved.base_bytes);
                            Cow::Owned(name)
                        }
                    };
                    self.parents.push((resolved.class, parent));
                    self.parents.len() as u32 - 1
                } else {
                    let base = name.get(..resolved.base_bytes).unwrap_or(&name);
                    self.base(resolved.class, base, resolved.of, resolved.family)
                };
                self.names.insert(raw, (resolved, base));
                (resolved, base)
            }
        };
        self.last = Some((raw, resolved, base));
        (resolved, base)
    }

    fn base(&mut self, class: Class, name: &str, of: Type, family: u32) -> u32 {
        let Some(known) = self.base_of.get_mut(class as usize) else { return NONE };
        if let Some(idx) = known.get(name) {
            return *idx;
        }
        let name = self.labeler.interner.str(name);
        let next = self.bases.len() as u32;
        known.insert(name.clone(), next);
        self.bases.push(Base { name, class, of, family, metric: None });
        next
    }

    /// The place of label `name` among the sample's.
    fn find(&self, sample: &RawSample, name: &[u8]) -> Option<u32> {
        let labels = self.lists.labels(sample.labels);
        let is_named = |label: &RawLabel| same(label.name.span.of(self.body.as_bytes()), name);
        labels.iter().position(is_named).map(|idx| idx as u32)
    }

    /// The value of the sample's label at `label` as a number; -0 and 0 are one.
    fn number(&self, sample: &RawSample, label: u32) -> Option<f64> {
        let label = self.lists.labels(sample.labels).get(label as usize)?;
        float::token(label.value.span.of(self.body.as_bytes())).map(|value| value + 0.0)
    }

    fn draft(&mut self, base: u32, labels: u32) -> u32 {
        if let Some((last, idx)) = self.last_draft
            && last == (base, labels)
        {
            return idx;
        }
        let next = self.drafts.len() as u32;
        let idx = *self.draft_of.entry((base, labels)).or_insert(next);
        self.last_draft = Some(((base, labels), idx));
        if idx == next {
            self.drafts.push(Draft {
                base,
                labels,
                value: NONE,
                count: NONE,
                inf: NONE,
                start: NONE,
                synthetic: false,
            });
        }
        idx
    }

    /// A counter's start time goes to the series with `_total` or, failing that, to the one without.
    fn attach_start(&mut self, parent: u32, set: u32, line: u32) {
        let Some((class, name)) = self.parents.get(parent as usize).cloned() else { return };
        let find = |name: &str| {
            let base = self.base_of.get(class as usize)?.get(name)?;
            let of = self.bases.get(*base as usize)?.of;
            let draft = *self.draft_of.get(&(*base, set))?;
            (class != Class::Number || of == Type::Counter).then_some(draft)
        };
        let mut found = None;
        if class == Class::Number {
            found = find(&format!("{name}_total"));
            self.loose |= found.is_none();
        }
        let found = found.or_else(|| find(&name));
        let owner = match found.and_then(|idx| self.drafts.get_mut(idx as usize)) {
            Some(draft) => {
                draft.start = if draft.start == NONE { line } else { draft.start };
                draft.start
            }
            None => {
                self.loose = true;
                *self.orphans.entry((class, name, set)).or_insert(line)
            }
        };
        if let Some(placed) = self.placed.get_mut(line as usize) {
            placed.owner = owner;
        }
    }

    fn set(&mut self, labels: Labels) -> u32 {
        let next = self.sets.len() as u32;
        let idx = *self.set_of.entry(labels.clone()).or_insert(next);
        if idx == next {
            self.sets.push(labels);
        }
        idx
    }

    /// The labels of a sample as written, from the first name to the last value, in two parts when one in between is
    /// skipped.
    fn spelling(&self, sample: &RawSample, skip: u32) -> Spelling<'a> {
        let (first, end) = sample.labels;
        let (lists, body) = (self.lists, self.body.as_bytes());
        let region = |first: u32, end: u32| match lists.labels((first, end)) {
            [] => &[],
            [only] => Span { at: only.name.span.at, end: only.value.span.end }.of(body),
            [a, .., b] => Span { at: a.name.span.at, end: b.value.span.end }.of(body),
        };
        match skip {
            NONE => Spelling { before: region(first, end), after: &[], skipped: false },
            _ => Spelling {
                before: region(first, skip),
                after: region(skip + 1, end),
                skipped: true,
            },
        }
    }

    /// The label set of a sample without the label at `skip`.
    fn labels(&mut self, sample: &RawSample, skip: u32) -> Result<u32, Fault> {
        let spelling = self.spelling(sample, skip);
        if let Some((last, set)) = self.last_labels
            && last == spelling
        {
            return Ok(set);
        }
        let set = match self.spelled.get(&spelling) {
            Some(set) => *set,
            None => {
                let labels = self.make_labels(sample, skip)?;
                let set = self.set(labels);
                self.spelled.insert(spelling, set);
                set
            }
        };
        self.last_labels = Some((spelling, set));
        Ok(set)
    }

    fn make_labels(&mut self, sample: &RawSample, skip: u32) -> Result<Labels, Fault> {
        let (first, end) = sample.labels;
        let raw = self.lists.labels((first, end));
        let mut labels = Vec::with_capacity(raw.len());
        for (label, idx) in raw.iter().zip(first..) {
            if idx != skip {
                let name = self.str(label.name);
                labels.push(Label { name, value: Value::Str(self.str(label.value)) });
            }
        }
        let beside = usize::from(skip != NONE);
        self.labeler.make(labels, beside).map_err(|fault| match fault {
            LabelFault::Expected(what) => Fault::At(sample.key.at as usize, what),
            LabelFault::Page(error) => Fault::Page(error),
        })
    }

    fn str(&mut self, text: Text) -> Str {
        let raw = text.span.of(self.body.as_bytes());
        if let Some(known) = self.strings.get(raw).filter(|_| !text.escaped) {
            return known.clone();
        }
        let shared = self.labeler.interner.str(&text.of(self.body));
        if !text.escaped {
            self.strings.insert(raw, shared.clone());
        }
        shared
    }

    /// True when one of the rows in the making has name and labels of `metric` and `labels`, whatever its class.
    pub(crate) fn repeats(&self, name: &Str, labels: &Labels) -> bool {
        self.base_of.iter().any(|of_class| {
            of_class.get(name).is_some_and(|base| {
                let set = self.set_of.get(labels);
                set.is_some_and(|set| self.draft_of.contains_key(&(*base, *set)))
            })
        })
    }
}
