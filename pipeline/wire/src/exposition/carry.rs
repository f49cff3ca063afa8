//! Absent rows: a batch that says nothing about a row leaves the row's last value standing.

use std::sync::Arc;

use pipeline_model::{Batch, Extras, Mark, RowId};

/// When each row was last said, in the clock of [`super::Exposition::update`].
pub(super) type Seen = Vec<u64>;

/// True when some row of `batch` is absent.
pub(super) fn has_absent(batch: &Batch) -> bool {
    batch.marks.as_ref().is_some_and(|marks| marks.contains(&Mark::Absent))
}

/// `next` with the values of `last` where it is absent, and when each row was last said.
///
/// `seen` belongs to `last`; without it all of its rows were said at `at`.
pub(super) fn carry_over(
    last: &Batch,
    seen: Option<&Seen>,
    at: u64,
    next: Batch,
    now: u64,
) -> (Batch, Seen) {
    let mut said = vec![now; next.shape.len()];
    let mut values = (*next.values).clone();
    let mut marks = next
        .marks
        .as_ref()
        .map_or_else(|| vec![Mark::Present; said.len()], |marks| (**marks).clone());
    let mut exponentials = Vec::new();
    let mut carry = |from: RowId, to: RowId| {
        let Some(mark) = marks.get_mut(to as usize).filter(|mark| **mark == Mark::Absent) else {
            return;
        };
        if last.mark(from) != Mark::Present {
            return;
        }
        let (slots, point) = (next.shape.slots_of(to), last.point(from));
        if let Some(out) = values.get_mut(slots).filter(|out| out.len() == point.len()) {
            out.copy_from_slice(point);
            *mark = Mark::Present;
            said[to as usize] =
                seen.and_then(|seen| seen.get(from as usize).copied()).unwrap_or(at);
            if let Some(point) = last.extras.as_ref().and_then(|extras| extras.exponential(from)) {
                exponentials.push((to, point.clone()));
            }
        }
    };
    if last.shape.id() == next.shape.id() {
        (0..last.shape.len() as RowId).for_each(|row| carry(row, row));
    } else {
        for (from, to) in last.shape.match_rows(&next.shape).into_iter().enumerate() {
            if let Some(to) = to {
                carry(from as RowId, to);
            }
        }
    }
    let mut extras = next.extras.clone();
    if !exponentials.is_empty() {
        let mut merged = extras.as_deref().cloned().unwrap_or_else(Extras::default);
        merged.exponentials.extend(exponentials);
        merged.exponentials.sort_by_key(|(row, _)| *row);
        extras = Some(Arc::new(merged));
    }
    (Batch { values: Arc::new(values), marks: Some(Arc::new(marks)), extras, ..next }, said)
}

/// Marks rows absent that were last said before `deadline`. True when there were such.
pub(super) fn expire(batch: &mut Batch, seen: &Seen, deadline: u64) -> bool {
    let Some(marks) = &mut batch.marks else { return false };
    let old = |(mark, seen): (&Mark, &u64)| *mark == Mark::Present && *seen < deadline;
    if !marks.iter().zip(seen).any(old) {
        return false;
    }
    for (mark, seen) in Arc::make_mut(marks).iter_mut().zip(seen) {
        if old((mark, seen)) {
            *mark = Mark::Absent;
        }
    }
    true
}
