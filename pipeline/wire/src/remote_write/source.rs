//! What an encoder remembers of a source: its series' labels, and up to when they were sent.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{RowId, Shape, SourceId};

use super::infos::Key;
use super::memo::{Info, Memo};

/// No time yet.
pub(super) const NEVER: i64 = i64::MIN;
/// [`Source::asked`] of one that never asked.
pub(super) const FIRST: u64 = u64::MAX;

/// Up to when all rows were sent, in milliseconds: those before `rows` at `ms` itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) ms: i64,
    pub(super) rows: RowId,
}

/// Labels and family, by number.
pub(super) type Numbers = (Vec<u32>, u32);

/// See the module.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) shape: Arc<Shape>,
    /// Made when first needed, and again after the dictionary was.
    pub(super) memo: Option<Memo>,
    pub(super) last: Last,
    /// Per row, once a batch had rows that were absent or had times of their own.
    pub(super) row_last: Vec<i64>,
    /// When series were said to have ended because they were not in this shape.
    pub(super) ended_ms: i64,
    /// The same of the shapes before: those series may be back in this one, as new rows.
    pub(super) floor: i64,
    /// Who this source speaks for, with the labels' numbers and family.
    pub(super) infos: Vec<(Info, Option<Numbers>)>,
    /// When it last did, be it with another shape.
    pub(super) info_ms: i64,
    /// It has to, however short ago that was.
    pub(super) info_due: bool,
    /// Another source speaks for one of them: what [`super::TargetInfos::freed`] was when it asked.
    pub(super) asked: Option<u64>,
    /// Newest time seen, for letting go of what is silent.
    pub(super) seen_ms: i64,
}

impl Source {
    pub(super) fn new(shape: Arc<Shape>) -> Self {
        Self {
            shape,
            memo: None,
            last: Last { ms: NEVER, rows: 0 },
            row_last: Vec::new(),
            ended_ms: NEVER,
            floor: NEVER,
            infos: Vec::new(),
            info_ms: NEVER,
            info_due: true,
            asked: Some(FIRST),
            seen_ms: NEVER,
        }
    }

    /// The same source with another shape: what was sent of series that stay is known still.
    pub(super) fn with_shape(&self, shape: &Arc<Shape>, matched: &[Option<RowId>]) -> Self {
        let mut next = Self::new(Arc::clone(shape));
        (next.seen_ms, next.floor) = (self.seen_ms, self.floor.max(self.ended_ms));
        if self.row_last.is_empty() {
            next.last = Last { ms: self.last.ms, rows: RowId::MAX };
            // A shape that grows in the middle of a batch that was split: what is new was not sent.
            if self.last.rows < self.shape.len() as RowId {
                next.last = Last { ms: self.last.ms, rows: 0 };
            }
            return next;
        }
        next.row_last = vec![NEVER; shape.len()];
        for (was, to) in self.row_last.iter().zip(matched) {
            if let Some(slot) = to.and_then(|to| next.row_last.get_mut(to as usize)) {
                *slot = *was;
            }
        }
        next
    }

    /// Begins to remember per row.
    pub(super) fn by_row(&mut self) {
        if self.row_last.is_empty() {
            let Last { ms, rows } = self.last;
            let before = ms.saturating_sub(1);
            let of = |row| if row < rows { ms } else { before };
            self.row_last = (0..self.shape.len() as RowId).map(of).collect();
        }
    }

    /// Rows of `was` by which one of these is known under other terms: the same name and labels, another kind. They go on
    /// from there.
    pub(super) fn take_over(&mut self, was: &Self, matched: &[Option<RowId>]) {
        let (Some(old), Some(new)) = (&was.memo, &self.memo) else { return };
        if self.row_last.is_empty() {
            return;
        }
        let mut last_of: HashMap<u64, i64> = HashMap::default();
        for (row, of) in old.rows.iter().enumerate().filter(|(row, _)| matched[*row].is_none()) {
            for one in old.of(*of) {
                last_of.insert(old.identity(one), was.last_of(row as RowId));
            }
        }
        for (row, of) in new.rows.iter().enumerate() {
            let last = new.of(*of).iter().filter_map(|one| last_of.get(&new.identity(one))).max();
            if let (Some(last), Some(slot)) = (last, self.row_last.get_mut(row)) {
                *slot = (*slot).max(*last);
            }
        }
    }

    /// When `row` was last sent.
    pub(super) fn last_of(&self, row: RowId) -> i64 {
        self.row_last.get(row as usize).copied().unwrap_or(self.last.ms)
    }
}

/// For each row of `was` the row of `next` that is the same series. Shapes mostly grow, which is seen without hashing.
pub(super) fn match_rows(was: &Shape, next: &Shape) -> Vec<Option<RowId>> {
    let grown = was.len() <= next.len() && was.iter().zip(next.iter()).all(|(a, b)| a.is_same(&b));
    if grown { (0..was.len() as RowId).map(Some).collect() } else { was.match_rows(next) }
}

/// What a request changed, to be undone when it was not taken.
#[derive(Debug)]
pub(super) enum Undo {
    /// The last time of a row.
    Row(SourceId, RowId, i64),
    /// The last time of all rows, and whether there were times per row.
    Last(SourceId, Last),
    /// It has times per row since.
    ByRow(SourceId),
    /// When it last spoke for its resources, and whether it had to.
    Info(SourceId, i64, bool),
    /// It speaks for a job and instance since.
    Claim(SourceId, Key),
    /// When it last asked for whom it may speak.
    Asked(SourceId, Option<u64>),
    /// A source as it was; `None`: it was not there.
    Source(SourceId, Option<Box<Source>>),
}
