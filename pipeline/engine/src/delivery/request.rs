//! [`Request`]: the parts of one attempt, and how they are cut.

use pipeline_component::Part;
use pipeline_model::{Mark, RowId};

use super::entry::Size;

/// What goes to a sender at once.
#[derive(Debug)]
pub(crate) struct Request {
    /// In order.
    pub(crate) parts: Vec<Part>,
    /// Of all of them.
    pub(crate) size: Size,
}

impl Request {
    fn new(parts: Vec<Part>) -> Self {
        let mut size = Size::default();
        parts.iter().for_each(|part| size += Size::of(part));
        Self { parts, size }
    }

    /// The requests that `self` makes, the first one last: one, unless a batch alone weighs more than `weight_max`.
    pub(crate) fn plan(self, weight_max: usize) -> Vec<Self> {
        if self.size.weight <= weight_max.max(1) {
            return vec![self];
        }
        let mut requests: Vec<Self> = self
            .parts
            .iter()
            .flat_map(|part| cut(part, weight_max.max(1)))
            .map(|part| Self::new(vec![part]))
            .collect();
        requests.reverse();
        requests
    }

    /// Two requests of about half the weight each; `None` for a single row.
    pub(crate) fn halve(&self) -> Option<(Self, Self)> {
        let half = self.size.weight / 2;
        if half == 0 {
            return None;
        }
        let (mut first, mut second, mut weight) = (Vec::new(), Vec::new(), 0);
        for part in &self.parts {
            let own = Size::of(part).weight;
            if weight + own <= half {
                first.push(part.clone());
            } else if weight >= half {
                second.push(part.clone());
            } else {
                let [left, right] = cut_at(part, half - weight);
                first.push(left);
                second.push(right);
            }
            weight += own;
        }
        Some((Self::new(first), Self::new(second)))
    }
}

/// `part` in pieces of `weight_max` at most, in order; together they have all its rows.
fn cut(part: &Part, weight_max: usize) -> Vec<Part> {
    let mut pieces = Vec::new();
    let mut rest = part.clone();
    while Size::of(&rest).weight > weight_max {
        let [piece, after] = cut_at(&rest, weight_max);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

/// `part` cut behind the row with which it weighs `weight`.
fn cut_at(part: &Part, weight: usize) -> [Part; 2] {
    let mut left = weight;
    let mut at = part.rows.end;
    for row in part.rows.clone() {
        if left == 0 {
            at = row;
            break;
        }
        if part.batch.marks.is_none() || part.batch.mark(row) != Mark::Absent {
            left -= 1;
        }
    }
    let of = |rows: std::ops::Range<RowId>| Part { batch: part.batch.clone(), rows };
    [of(part.rows.start..at), of(at..part.rows.end)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pipeline_model::{
        Batch, Group, Interner, Kind, Labels, Metric, ShapeBuilder, Slot, SourceId,
    };

    use super::*;

    fn part(rows: usize, absent: &[usize]) -> Part {
        let interner = Interner::new();
        let mut builder = ShapeBuilder::new(&interner);
        let group = builder.group(Group::default());
        for n in 0..rows {
            let metric = Arc::new(Metric::new(&format!("m{n}"), "", "", Kind::Gauge));
            builder.push(group, &metric, &Labels::empty()).unwrap();
        }
        let shape = builder.finish();
        let mut batch = Batch::new(SourceId::next(), shape, 1, vec![Slot::default(); rows]);
        if !absent.is_empty() {
            let mark = |n| if absent.contains(&n) { Mark::Absent } else { Mark::Present };
            batch.marks = Some(Arc::new((0..rows).map(mark).collect()));
        }
        Part::whole(batch)
    }

    fn rows(request: &Request) -> Vec<(RowId, RowId)> {
        request.parts.iter().map(|part| (part.rows.start, part.rows.end)).collect()
    }

    #[test]
    fn a_batch_above_the_limit_is_cut_by_rows_and_others_stay_whole() {
        let requests = Request::new(vec![part(3, &[]), part(4, &[])]).plan(7);
        assert_eq!(requests.len(), 1);
        let requests = Request::new(vec![part(7, &[])]).plan(3);
        let cut: Vec<_> = requests.iter().rev().map(rows).collect();
        assert_eq!(cut, [[(0, 3)], [(3, 6)], [(6, 7)]]);
        // Rows that say nothing weigh nothing, and go along.
        let requests = Request::new(vec![part(8, &[0, 1, 3, 7])]).plan(2);
        let cut: Vec<_> = requests.iter().rev().map(rows).collect();
        assert_eq!(cut, [[(0, 5)], [(5, 8)]]);
        assert!(requests.iter().all(|request| request.size.weight == 2));
    }

    #[test]
    fn halves_have_every_row_once_down_to_a_single_one() {
        let mut requests = vec![Request::new(vec![part(5, &[]), part(3, &[1]), part(1, &[])])];
        let mut singles = Vec::new();
        while let Some(request) = requests.pop() {
            match request.halve() {
                Some((first, second)) => {
                    assert!(first.size.weight.abs_diff(second.size.weight) <= 1);
                    requests.extend([second, first]);
                }
                None => singles.push(request),
            }
        }
        assert_eq!(singles.len(), 8);
        let rows: u32 = singles.iter().flat_map(rows).map(|(start, end)| end - start).sum();
        assert_eq!(rows, 9);
        assert!(singles.iter().all(|one| one.size.points == 1));
    }
}
