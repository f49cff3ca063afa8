//! New series on a page that is otherwise known: a few rows more at the end of the shape.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{Shape, ShapeBuilder};

use super::PageReader;
use super::family::NONE;
use super::filling::TailSource;
use super::full;
use super::labeler::Labeler;
use super::layout::{Action, Layout, LayoutBuilder};
use super::lex::Lexer;
use super::raw::Lists;
use super::rows::Assembler;
use super::walk::Walk;

/// What a page has grown to.
pub(crate) struct Grown {
    pub(crate) shape: Arc<Shape>,
    pub(crate) layout: Layout,
    /// Sample lines of the new rows.
    pub(crate) lines: usize,
}

/// Takes the unknown lines of `walk` in. `None` when they are not rows of their own (another bucket of a known
/// histogram, another spelling of a known series), when a known line may mean something else beside them, or when
/// they are so many that a full parse is as cheap.
pub(crate) fn read(reader: &PageReader, walk: &mut Walk<'_>, shape: &Arc<Shape>) -> Option<Grown> {
    let known = walk.layout;
    if known.loose || walk.fresh.len() > 64 + known.lines().len() / 4 {
        return None;
    }
    let body = walk.body;
    let text = full::check(body, known.format).ok()?;
    let (families, metas) = full::families(text, known.format).ok()?;
    let lexer = Lexer::new(body, known.format);
    let mut lists = Lists::default();
    let mut samples = Vec::with_capacity(walk.fresh.len());
    for at in &walk.fresh {
        samples.push(lexer.sample(*at as usize, &mut lists).ok()?.0);
    }
    let labeler = Labeler { interner: walk.interner, settings: &reader.settings };
    let mut rows = Assembler::new(text, &lists, families, labeler);
    rows.add_all(&samples).ok()?;
    if rows.loose || shape.iter().any(|series| rows.repeats(&series.metric.name, series.labels)) {
        return None;
    }
    let mut builder = ShapeBuilder::grow(walk.interner, shape);
    let slots = u32::try_from(shape.slots()).ok()?;
    rows.finish(&mut builder, 0, slots).ok()?;
    let Assembler { placed, fixes, loose, families, .. } = rows;
    if loose || families.ambiguous {
        return None;
    }
    let shape = builder.finish();
    walk.filling.grow(&shape);
    let source = TailSource {
        body,
        lists: &lists,
        interner: walk.interner,
        honor_timestamps: reader.settings.honor_timestamps,
    };
    full::fill(&mut walk.filling, &samples, &placed, &source);
    walk.filling.fix(&fixes);
    walk.filling.stats.samples += samples.len();

    // Families are numbered as the layout numbers them; all of their lines are known to it.
    let mut family_of: HashMap<u32, u32> = HashMap::default();
    for (span, family) in metas {
        let entry = known.find(span.of(body)).and_then(|idx| known.entry(idx))?;
        family_of.insert(family, entry.family);
    }
    let mut builder = LayoutBuilder::new(known.entries().len() + samples.len(), body.len());
    let fresh: Vec<_> = samples
        .iter()
        .zip(&placed)
        .map(|(sample, place)| {
            let (action, row) = full::own_action(place);
            let family = family_of.get(&place.family).copied().unwrap_or(NONE);
            (sample.key.of(body), action, row, family)
        })
        .collect();
    // Two spellings of one new line would need an order among themselves.
    let own = |(idx, place): (usize, &super::rows::Placed)| place.owner == idx as u32;
    if !placed.iter().enumerate().all(own) || fresh.iter().any(|line| line.1 == Action::Meta) {
        return None;
    }
    let moved = walk.ordered(&mut builder, &fresh);
    debug_assert!(
        moved.iter().take(known.lines().len()).all(|idx| *idx != NONE),
        "no line is lost"
    );
    let fixes = known.fixes.iter().copied().chain(fixes).collect();
    let layout = builder.finish(known.format, fixes, false, known.ambiguous);
    Some(Grown { shape, layout, lines: samples.len() })
}
