//! Plans through their public door: folds, composition, state over resets and shape changes, sharing.
#![expect(clippy::unwrap_used, reason = "a test stops where it stands")]

use std::sync::Arc;

use pipeline_model::{
    Batch, Bounds, Context, Entity, Feed, Fold, Group, Interner, Kind, Label, Labels, Mark,
    MetadataStore, Metric, Plan, Reshape, Reshaped, Shape, ShapeBuilder, Slot, SourceId,
    SourcePlan,
};
use proptest::prelude::*;

fn counter(name: &str) -> Arc<Metric> {
    Arc::new(Metric::new(name, "", "", Kind::COUNTER))
}

fn gauge(name: &str) -> Arc<Metric> {
    Arc::new(Metric::new(name, "", "", Kind::Gauge))
}

fn group(instance: &str) -> Group {
    Group { labels: Labels::from_pairs([("instance", instance)]), ..Group::default() }
}

/// A metric and the labels of one of its series.
type Row<'a> = (&'a Arc<Metric>, &'a [(&'a str, &'a str)]);

/// A shape of rows in one group.
fn shape(interner: &Interner, instance: &str, rows: &[Row<'_>]) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let group = builder.group(group(instance));
    for (metric, labels) in rows {
        builder.push(group, metric, &Labels::from_pairs(labels.iter().copied())).unwrap();
    }
    builder.finish()
}

fn batch(source: SourceId, shape: &Arc<Shape>, values: &[f64]) -> Batch {
    Batch::new(source, Arc::clone(shape), 1, values.iter().map(|v| Slot::double(*v)).collect())
}

fn values(batch: &Batch) -> Vec<f64> {
    batch.values.iter().map(|slot| slot.as_double()).collect()
}

/// Drops one label and folds what becomes equal.
struct Without(&'static str, Fold, f64);

impl Reshape for Without {
    fn reshape(&self, input: &Shape, _: &Context<'_>, out: &mut Reshaped<'_>) {
        for series in input.iter() {
            let group = out.same_group(series.group_idx).unwrap();
            let labels = series.labels.without(|name| name == self.0);
            out.push(
                group,
                series.metric,
                &labels,
                self.1,
                Feed { row: series.row, scale: self.2 },
            )
            .unwrap();
        }
    }
}

/// Attaches what metadata knows about the address.
struct Attach;

impl Reshape for Attach {
    fn reshape(&self, input: &Shape, context: &Context<'_>, out: &mut Reshaped<'_>) {
        for series in input.iter() {
            let address = Entity::Address(series.label_text("instance").unwrap().into());
            let known = context.metadata.get(&address).cloned().unwrap_or_default();
            let labels = series.group.labels.merged(&known);
            let group = out.group(Group { labels, ..series.group.clone() });
            out.push(group, series.metric, series.labels, Fold::Only, Feed::of(series.row))
                .unwrap();
        }
    }
}

fn plan(steps: Vec<Arc<dyn Reshape>>) -> (Plan, Arc<Interner>, Arc<MetadataStore>) {
    let (interner, metadata) = (Arc::new(Interner::new()), Arc::new(MetadataStore::new()));
    (Plan::new(steps, Arc::clone(&interner), Arc::clone(&metadata)), interner, metadata)
}

fn two_engines(interner: &Interner, metric: &Arc<Metric>) -> Arc<Shape> {
    shape(interner, "a:1", &[(metric, &[("engine", "0")]), (metric, &[("engine", "1")])])
}

#[test]
fn folds_combine_what_is_present() {
    for (fold, expected) in [
        (Fold::Sum, 5.0),
        (Fold::Mean, 2.5),
        (Fold::Max, 4.0),
        (Fold::Min, 1.0),
        (Fold::First, 1.0),
    ] {
        let (plan, interner, _) = plan(vec![Arc::new(Without("engine", fold, 1.0))]);
        let input = two_engines(&interner, &gauge("g"));
        let mut bound = None;
        let out = plan.apply(batch(SourceId::next(), &input, &[1.0, 4.0]), &mut bound);
        assert_eq!(values(&out), [expected], "{fold:?}");
        let mut one_away = batch(SourceId::next(), &input, &[1.0, 4.0]);
        one_away.marks = Some(Arc::new(vec![Mark::Absent, Mark::Present]));
        let out = plan.apply(one_away, &mut bound);
        assert_eq!((values(&out), out.mark(0)), (vec![4.0], Mark::Present), "{fold:?}");
        let mut all_stale = batch(SourceId::next(), &input, &[1.0, 4.0]);
        all_stale.marks = Some(Arc::new(vec![Mark::Stale, Mark::Absent]));
        assert_eq!(plan.apply(all_stale, &mut bound).mark(0), Mark::Stale, "{fold:?}");
    }
}

#[test]
fn summed_counters_never_fall() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let input = two_engines(&interner, &counter("c_total"));
    let source = SourceId::next();
    let mut bound = None;
    let mut total = |values_in: [f64; 2], marks: Option<[Mark; 2]>| {
        let mut batch = batch(source, &input, &values_in);
        batch.marks = marks.map(|marks| Arc::new(marks.to_vec()));
        values(&plan.apply(batch, &mut bound))[0]
    };
    assert_eq!(total([10.0, 100.0], None), 110.0);
    assert_eq!(total([12.0, 100.0], None), 112.0);
    assert_eq!(total([12.0, 3.0], None), 115.0, "engine 1 began again at 0 and counted 3");
    assert_eq!(
        total([0.0, 5.0], Some([Mark::Absent, Mark::Present])),
        117.0,
        "one that is away keeps its share"
    );
    assert_eq!(total([f64::NAN, 5.0], None), 117.0, "NaN counts for nothing");
    assert_eq!(total([14.0, 6.0], None), 120.0);
}

#[test]
fn a_total_that_outlives_its_parts_keeps_its_start() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let metric = counter("c_total");
    let input = two_engines(&interner, &metric);
    let source = SourceId::next();
    let mut bound = None;
    let mut run = |shape: &Arc<Shape>, starts: Vec<i64>, values_in: &[f64]| {
        let mut batch = batch(source, shape, values_in);
        batch.starts = Some(Arc::new(starts));
        let out = plan.apply(batch, &mut bound);
        (values(&out)[out.shape.len() - 1], out.start(out.shape.len() as u32 - 1))
    };
    assert_eq!(
        run(&input, vec![0, 70], &[10.0, 10.0]),
        (20.0, 0),
        "unknown while a part's start is"
    );
    assert_eq!(run(&input, vec![50, 70], &[11.0, 10.0]), (21.0, 50));
    assert_eq!(
        run(&input, vec![90, 70], &[1.0, 10.0]),
        (22.0, 50),
        "what the first had counted is still in it"
    );
    let grown = shape(
        &interner,
        "a:1",
        &[(&gauge("new"), &[]), (&metric, &[("engine", "0")]), (&metric, &[("engine", "1")])],
    );
    assert_eq!(run(&grown, vec![0, 95, 95], &[7.0, 2.0, 11.0]), (24.0, 50));
    assert_eq!(
        run(&grown, vec![0, 99, 98], &[7.0, 1.0, 4.0]),
        (5.0, 98),
        "all fell: it was their process that restarted"
    );
}

#[test]
fn a_summed_histogram_resets_as_a_whole() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let metric = Arc::new(Metric::new("h", "s", "", Kind::histogram(Bounds::new(&[1.0]))));
    let input = two_engines(&interner, &metric);
    let source = SourceId::next();
    let mut bound = None;
    plan.apply(batch(source, &input, &[5.0, 4.0, 3.0, 1.0, 1.0, 1.0]), &mut bound);
    // Engine 0 restarted: one observation of 9 s. Its sum is higher than before, its count is not.
    let out = plan.apply(batch(source, &input, &[9.0, 1.0, 0.0, 1.0, 1.0, 1.0]), &mut bound);
    assert_eq!(values(&out), [15.0, 6.0, 4.0]);
}

#[test]
fn what_counters_had_counted_survives_a_new_shape() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let metric = counter("c_total");
    let input = two_engines(&interner, &metric);
    let source = SourceId::next();
    let mut bound = None;
    plan.apply(batch(source, &input, &[10.0, 10.0]), &mut bound);
    plan.apply(batch(source, &input, &[1.0, 10.0]), &mut bound);
    let grown = shape(
        &interner,
        "a:1",
        &[(&gauge("new"), &[]), (&metric, &[("engine", "0")]), (&metric, &[("engine", "1")])],
    );
    let out = plan.apply(batch(source, &grown, &[7.0, 2.0, 10.0]), &mut bound);
    assert_eq!(values(&out), [7.0, 22.0]);
    assert_eq!(bound.unwrap().rebuilds(), 1);
}

/// A rank that leaves takes nothing with it, whatever the shape does afterwards.
#[test]
fn what_a_part_counted_stays_when_it_goes() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let metric = counter("c_total");
    let input = two_engines(&interner, &metric);
    let source = SourceId::next();
    let mut bound = None;
    plan.apply(batch(source, &input, &[10.0, 100.0]), &mut bound);
    let one = shape(&interner, "a:1", &[(&metric, &[("engine", "1")])]);
    assert_eq!(values(&plan.apply(batch(source, &one, &[101.0]), &mut bound)), [111.0]);
    let grown = shape(&interner, "a:1", &[(&gauge("g"), &[]), (&metric, &[("engine", "1")])]);
    assert_eq!(values(&plan.apply(batch(source, &grown, &[5.0, 102.0]), &mut bound)), [5.0, 112.0]);
    // One comes back: it counts from where it begins.
    assert_eq!(values(&plan.apply(batch(source, &input, &[1.0, 102.0]), &mut bound)), [113.0]);
    // The process restarts, and with it the total.
    assert_eq!(values(&plan.apply(batch(source, &input, &[0.0, 3.0]), &mut bound)), [3.0]);
    let again = shape(&interner, "a:1", &[(&metric, &[("engine", "1")])]);
    assert_eq!(values(&plan.apply(batch(source, &again, &[4.0]), &mut bound)), [4.0]);
}

/// A process that comes back without some of its parts is no less a new one; and one that counts faster than the page is
/// read is told by its start.
#[test]
fn a_process_that_restarts_restarts_its_totals() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let input = two_engines(&interner, &counter("c_total"));
    let source = SourceId::next();
    let mut bound = None;
    let mut total = |values_in: [f64; 2], starts: [i64; 2], marks: Option<[Mark; 2]>| {
        let mut batch = batch(source, &input, &values_in);
        batch.marks = marks.map(|marks| Arc::new(marks.to_vec()));
        batch.starts = Some(Arc::new(starts.to_vec()));
        values(&plan.apply(batch, &mut bound))[0]
    };
    assert_eq!(total([10.0, 100.0], [5, 5], None), 110.0);
    assert_eq!(total([0.0, 7.0], [5, 5], Some([Mark::Absent, Mark::Present])), 7.0);
    assert_eq!(total([1.0, 8.0], [5, 5], None), 9.0);
    assert_eq!(total([2.0, 9.0], [20, 20], None), 11.0);
    assert_eq!(total([3.0, 9.0], [20, 20], None), 12.0);
}

#[test]
fn a_plan_is_made_again_only_when_something_changed() {
    let (plan, interner, metadata) = plan(vec![Arc::new(Attach)]);
    let input = shape(&interner, "a:1", &[(&gauge("g"), &[])]);
    let source = SourceId::next();
    let mut bound = None;
    let first = plan.apply(batch(source, &input, &[1.0]), &mut bound);
    metadata.update(|facts| {
        facts.set(Entity::Address("b:1".into()), Labels::from_pairs([("model_id", "x")]))
    });
    let other = plan.apply(batch(source, &input, &[1.0]), &mut bound);
    assert_eq!(bound.as_ref().map(SourcePlan::rebuilds), Some(1));
    assert!(Arc::ptr_eq(&first.shape, &other.shape), "an equal output stays the same shape");
    metadata.update(|facts| {
        facts.set(Entity::Address("a:1".into()), Labels::from_pairs([("model_id", "m")]))
    });
    let changed = plan.apply(batch(source, &input, &[1.0]), &mut bound);
    assert_eq!(
        changed.shape.groups()[0].labels,
        Labels::from_pairs([("instance", "a:1"), ("model_id", "m")])
    );
    assert_eq!(first.shape.vanished(&changed.shape), [0]);
    let generation = metadata.generation();
    metadata.update(|facts| {
        facts.set(Entity::Address("a:1".into()), Labels::from_pairs([("model_id", "m")]))
    });
    assert_eq!(metadata.generation(), generation, "saying the same again changes nothing");
}

#[test]
fn equal_pages_of_many_targets_are_stored_once() {
    let (plan, interner, _) =
        plan(vec![Arc::new(Attach), Arc::new(Without("engine", Fold::SumCounter, 1.0))]);
    let metric = counter("c_total");
    let outputs: Vec<Arc<Shape>> = (0..50)
        .map(|target| {
            let rows: [Row<'_>; 2] = [(&metric, &[("engine", "0")]), (&metric, &[("engine", "1")])];
            let input = shape(&interner, &format!("a:{target}"), &rows);
            plan.apply(batch(SourceId::next(), &input, &[1.0, 2.0]), &mut None).shape
        })
        .collect();
    assert!(outputs.windows(2).all(|pair| Arc::ptr_eq(pair[0].table(), pair[1].table())));
    interner.sweep();
    let stats = interner.stats();
    assert_eq!((stats.tables, stats.metrics), (1, 1), "inputs are gone, one output table is left");
    drop(outputs);
    interner.sweep();
    interner.sweep();
    assert_eq!(interner.stats().tables, 0);
}

#[test]
fn own_labels_win_over_the_groups_and_all_are_sorted() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let labels = Labels::from_pairs([("instance", "a"), ("z", "group")]);
    let group = builder.group(Group { labels, ..Group::default() });
    builder.push(group, &gauge("g"), &Labels::from_pairs([("b", "1"), ("z", "own")])).unwrap();
    let shape = builder.finish();
    let merged: Vec<Label> = shape.get(0).unwrap().labels_merged().cloned().collect();
    assert_eq!(
        Labels::new(merged.clone()),
        Labels::from_pairs([("b", "1"), ("instance", "a"), ("z", "own")])
    );
    assert!(merged.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn many_groups_are_found_again() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let first: Vec<u32> = (0..200).map(|n| builder.group(group(&n.to_string()))).collect();
    let again: Vec<u32> = (0..200).map(|n| builder.group(group(&n.to_string()))).collect();
    assert_eq!(first, (0..200).collect::<Vec<u32>>());
    assert_eq!(first, again);
}

#[test]
fn a_target_that_ends_ends_its_series() {
    let (plan, interner, _) = plan(vec![Arc::new(Attach)]);
    let input = shape(&interner, "a:1", &[(&gauge("g"), &[])]);
    let out = plan.apply(Batch::end(SourceId::next(), input, 5), &mut None);
    assert!(out.ended);
    assert_eq!((out.mark(0), out.points()), (Mark::Stale, 0));
}

#[test]
fn integers_are_copied_exactly_and_never_averaged() {
    let (plan, interner, _) = plan(vec![Arc::new(Attach)]);
    let metric = Arc::new(Metric {
        number: pipeline_model::Number::Int,
        ..Metric::new("i", "", "", Kind::COUNTER)
    });
    let input = shape(&interner, "a:1", &[(&metric, &[])]);
    let exact = i64::MAX - 1;
    let out = plan.apply(Batch::new(SourceId::next(), input, 1, vec![Slot::int(exact)]), &mut None);
    assert_eq!(out.point(0)[0].as_int(), exact);
}

proptest! {
    /// Two steps folded into one program do what the steps do one after the other.
    #[test]
    fn composed_plans_equal_their_steps(
        rows in prop::collection::btree_set((0u8..3, 0u8..3, 0u8..2), 1..16),
        numbers in prop::collection::vec(prop::collection::vec(0u32..1000, 16), 1..6),
        folds in (0usize..3, 0usize..3),
    ) {
        let all = [Fold::Sum, Fold::Max, Fold::SumCounter];
        let inner = Arc::new(Without("a", all[folds.0], 2.0));
        let outer = Arc::new(Without("b", all[folds.1], 0.5));
        let (both, interner, metadata) = plan(vec![inner.clone(), outer.clone()]);
        let first = Plan::new(vec![inner], Arc::clone(&interner), Arc::clone(&metadata));
        let second = Plan::new(vec![outer], Arc::clone(&interner), metadata);
        let metric = counter("c_total");
        let labels: Vec<[(&str, String); 3]> = rows
            .iter()
            .map(|(a, b, c)| [("a", a.to_string()), ("b", b.to_string()), ("c", c.to_string())])
            .collect();
        let mut builder = ShapeBuilder::new(&interner);
        let idx = builder.group(group("a:1"));
        for set in &labels {
            builder.push(idx, &metric, &Labels::from_pairs(set.iter().map(|(n, v)| (*n, v.as_str())))).unwrap();
        }
        let input = builder.finish();
        let source = SourceId::next();
        let (mut bound, mut bound_first, mut bound_second) = (None, None, None);
        for column in &numbers {
            let column: Vec<f64> = column.iter().take(input.len()).map(|v| f64::from(*v)).collect();
            let batch = batch(source, &input, &column);
            let once = both.apply(batch.clone(), &mut bound);
            let twice = second.apply(first.apply(batch, &mut bound_first), &mut bound_second);
            prop_assert_eq!(values(&once), values(&twice));
        }
    }
}

/// Keeps a new thing in each plan.
struct Holds(Arc<std::sync::Mutex<Vec<std::sync::Weak<u32>>>>);

impl Reshape for Holds {
    fn reshape(&self, _: &Shape, _: &Context<'_>, out: &mut Reshaped<'_>) {
        let mut made = self.0.lock().unwrap();
        let thing = Arc::new(made.len() as u32);
        made.push(Arc::downgrade(&thing));
        out.hold(thing);
    }
}

#[test]
fn what_a_step_holds_lives_as_long_as_the_plan() {
    let interner = Arc::new(Interner::new());
    let made = Arc::default();
    let steps: Vec<Arc<dyn Reshape>> =
        vec![Arc::new(Holds(Arc::clone(&made))), Arc::new(Holds(Arc::clone(&made)))];
    let plan = Plan::new(steps, Arc::clone(&interner), Arc::new(MetadataStore::new()));
    let alive = || -> Vec<u32> {
        made.lock().unwrap().iter().filter_map(|thing| thing.upgrade().map(|n| *n)).collect()
    };
    let (a, b) = (counter("a_total"), counter("b_total"));
    let shapes = [&a, &b].map(|metric| shape(&interner, "i:1", &[(metric, &[])]));
    let source = SourceId::next();
    let mut bound = None;
    for (shape, expected) in [(&shapes[0], [0, 1]), (&shapes[0], [0, 1]), (&shapes[1], [2, 3])] {
        plan.apply(batch(source, shape, &[1.0]), &mut bound);
        assert_eq!(alive(), expected);
    }
    drop(bound);
    assert_eq!(alive(), [0; 0]);
}

#[test]
fn a_column_that_nobody_holds_is_filled_again() {
    // A copy, a sum that adds to what is there, and a fold that leaves what is there when all its parts are away.
    let rates: Arc<dyn Reshape> = Arc::new(Without("engine", Fold::SumCounter, 1.0));
    let (plan, interner, _) = plan(vec![rates]);
    let (summed, alone) = (counter("c_total"), counter("d_total"));
    let input = shape(
        &interner,
        "a:1",
        &[(&summed, &[("engine", "0")]), (&summed, &[("engine", "1")]), (&alone, &[])],
    );
    let (source, mut bound) = (SourceId::next(), None);
    let mut apply = |column: [f64; 3]| plan.apply(batch(source, &input, &column), &mut bound);
    let first = apply([1.0, 2.0, 3.0]);
    let place = first.values.as_ptr();
    assert_eq!(values(&first), [3.0, 3.0]);
    drop(first);
    // Were it given back, the allocator would give its place to the next of its size.
    let taken = vec![Slot::default(); 2];
    let second = apply([2.0, 2.0, 4.0]);
    assert_eq!(values(&second), [4.0, 4.0], "sums begin at nothing");
    assert_eq!(second.values.as_ptr(), place, "no new column");
    drop(taken);
    let third = apply([3.0, 3.0, 5.0]);
    assert_ne!(third.values.as_ptr(), place, "the second is held");
    assert_eq!((values(&second), values(&third)), (vec![4.0, 4.0], vec![6.0, 5.0]));
}

#[test]
fn a_column_that_is_filled_again_keeps_nothing_of_what_is_away() {
    let (plan, interner, _) = plan(vec![Arc::new(Without("engine", Fold::Max, 1.0))]);
    let input = two_engines(&interner, &gauge("g"));
    let (source, mut bound) = (SourceId::next(), None);
    let first = plan.apply(batch(source, &input, &[1.0, 4.0]), &mut bound);
    let place = first.values.as_ptr();
    drop(first);
    let mut away = batch(source, &input, &[9.0, 9.0]);
    away.marks = Some(Arc::new(vec![Mark::Absent, Mark::Absent]));
    let out = plan.apply(away, &mut bound);
    assert_eq!((out.values.as_ptr(), out.mark(0), values(&out)), (place, Mark::Absent, vec![0.0]));
}
