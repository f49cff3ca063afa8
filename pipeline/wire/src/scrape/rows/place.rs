//! Rows put into a shape, and the place of every line in it.

use std::sync::Arc;

use pipeline_model::{Bounds, Hint, Kind, Metric, Number, RowId, ShapeBuilder, Temporality};

use super::{Assembler, Draft, Member, NO_ROW};
use crate::scrape::error::Fault;
use crate::scrape::family::{Class, NONE, Type};
use crate::scrape::layout::{Action, Fix};
use crate::scrape::unit::ucum;

/// Where a draft got its slots.
#[derive(Clone, Copy, Debug)]
struct Home {
    row: RowId,
    slot: u32,
}

impl Assembler<'_> {
    /// Puts the rows into `builder`, in order of their first lines, and gives each line its place.
    pub(crate) fn finish(
        &mut self,
        builder: &mut ShapeBuilder<'_>,
        group: u32,
        mut slot: u32,
    ) -> Result<(), Fault> {
        // Mostly sorted already: buckets come ascending and one row after the other.
        self.members.sort_by(|a, b| a.draft.cmp(&b.draft).then(a.bound.total_cmp(&b.bound)));
        let members = std::mem::take(&mut self.members);
        let mut rest = members.as_slice();
        let mut bounds = Vec::new();
        for idx in 0..self.drafts.len() {
            let Some(draft) = self.drafts.get(idx).copied() else { break };
            let own = rest.iter().take_while(|member| member.draft == idx as u32).count();
            let (mine, others) = rest.split_at_checked(own).unwrap_or((rest, &[]));
            rest = others;
            if draft.synthetic {
                continue;
            }
            self.dedup(mine, &mut bounds);
            let class = self.bases.get(draft.base as usize).map(|base| base.class);
            let kept = match class {
                Some(Class::Histogram) => draft.count != NONE || draft.inf != NONE || own > 0,
                _ => draft.value != NONE || draft.count != NONE || own > 0,
            };
            if !kept {
                self.loose = true;
                self.place(draft.value, NO_ROW, Action::Incomplete);
                continue;
            }
            let Some(metric) = self.metric(draft.base, &bounds) else { continue };
            let Some(labels) = self.sets.get(draft.labels as usize) else { continue };
            let row = builder.push(group, &metric, labels)?;
            let home = Home { row, slot };
            slot += metric.kind.slots();
            match class {
                Some(Class::Histogram) => self.place_histogram(draft, home, mine),
                Some(Class::Summary) => self.place_summary(draft, home, mine),
                _ => self.place(draft.value, home.row, Action::Value(home.slot)),
            }
            self.place(draft.start, home.row, Action::Start);
        }
        Ok(())
    }

    /// Bounds of `members`, ascending; a bound's later lines are its first line's duplicates.
    fn dedup(&mut self, members: &[Member], bounds: &mut Vec<f64>) {
        bounds.clear();
        let mut owner = NONE;
        for member in members {
            if bounds.last() == Some(&member.bound) {
                if let Some(placed) = self.placed.get_mut(member.line as usize) {
                    placed.owner = owner;
                }
            } else {
                bounds.push(member.bound);
                owner = member.line;
            }
        }
    }

    fn place(&mut self, line: u32, row: RowId, action: Action) {
        if let Some(placed) = self.placed.get_mut(line as usize) {
            (placed.row, placed.action) = (row, action);
        }
    }

    fn place_members(&mut self, home: Home, members: &[Member]) -> u32 {
        let mut slot = home.slot + 2;
        for member in members {
            if self.placed.get(member.line as usize).is_some_and(|p| p.owner == member.line) {
                self.place(member.line, home.row, Action::Value(slot));
                slot += 1;
            }
        }
        slot
    }

    fn place_histogram(&mut self, draft: Draft, home: Home, members: &[Member]) {
        let end = self.place_members(home, members);
        let (sum, count) = (home.slot, home.slot + 1);
        if draft.value == NONE {
            self.fixes.push(Fix::Nan(sum));
        }
        self.place(draft.value, home.row, Action::Value(sum));
        match (draft.count, draft.inf) {
            // At least one bucket is there: what it counts is all that is known.
            (NONE, NONE) => self.fixes.push(Fix::Copy { from: end - 1, to: count }),
            (NONE, inf) => self.place(inf, home.row, Action::Value(count)),
            (line, inf) => {
                self.place(line, home.row, Action::Value(count));
                self.place(inf, home.row, Action::Ignore);
            }
        }
    }

    fn place_summary(&mut self, draft: Draft, home: Home, members: &[Member]) {
        self.place_members(home, members);
        if draft.value == NONE {
            self.fixes.push(Fix::Nan(home.slot));
        }
        self.place(draft.value, home.row, Action::Value(home.slot));
        self.place(draft.count, home.row, Action::Value(home.slot + 1));
    }

    fn metric(&mut self, base: u32, bounds: &[f64]) -> Option<Arc<Metric>> {
        let base = self.bases.get_mut(base as usize)?;
        if let Some(known) = &base.metric
            && bounds_of(&known.kind) == bounds
        {
            return Some(Arc::clone(known));
        }
        let family = self.families.get(base.family);
        let (kind, hint) = match base.class {
            Class::Number => base.of.number(),
            Class::Histogram => {
                let bounds = Bounds::new(bounds);
                let kind = Kind::Histogram {
                    temporality: Temporality::Cumulative,
                    bounds,
                    min_max: false,
                };
                let gauge = base.of == Type::GaugeHistogram;
                (kind, if gauge { Hint::GaugeHistogram } else { Hint::None })
            }
            Class::Summary => (Kind::Summary { quantiles: Bounds::new(bounds) }, Hint::None),
        };
        let text = |text: Option<&str>| self.labeler.interner.str(text.unwrap_or_default());
        let metric = Arc::new(Metric {
            name: base.name.clone(),
            unit: text(family.and_then(|family| family.unit.as_deref()).map(ucum)),
            description: text(family.and_then(|family| family.help.as_deref())),
            kind,
            number: Number::Double,
            hint,
        });
        base.metric = Some(Arc::clone(&metric));
        Some(metric)
    }
}

fn bounds_of(kind: &Kind) -> &[f64] {
    match kind {
        Kind::Histogram { bounds, .. } => bounds.as_slice(),
        Kind::Summary { quantiles } => quantiles.as_slice(),
        Kind::Gauge | Kind::Sum { .. } | Kind::ExponentialHistogram { .. } => &[],
    }
}
