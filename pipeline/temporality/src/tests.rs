//! Every rule by a table, and random series there and back.

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{Processor, Settings, TimeSource};
use pipeline_model::{
    Batch, Bounds, Compute, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Kind,
    Labels, Mark, Metric, Number, Shape, ShapeBuilder, Slot, SourceId, Temporality,
};
use proptest::prelude::*;

use crate::{Initial, Options, processor};

/// Nanoseconds of a second.
const S: i64 = 1_000_000_000;
/// When the process began to watch, seconds.
const WATCHING: i64 = 100;

#[derive(Debug)]
struct Fixed;

impl TimeSource for Fixed {
    fn now(&self) -> i64 {
        WATCHING * S
    }
}

fn settings() -> Settings {
    Settings { clock: Arc::new(Fixed), ..Settings::standalone("processor", "temporality") }
}

fn step(options: Options, settings: &Settings) -> Box<dyn Compute> {
    match processor(options, settings) {
        Processor::Compute(make) => make(),
        Processor::Reshape(_) => panic!("values are converted"),
    }
}

fn one(step: &mut Box<dyn Compute>, batch: Batch) -> Batch {
    let mut out = Vec::new();
    step.compute(batch, &mut out);
    assert_eq!(out.len(), 1);
    let batch = out.remove(0);
    assert_eq!(batch.values.len(), batch.shape.slots());
    assert_eq!(batch.marks.as_ref().map_or(batch.shape.len(), |m| m.len()), batch.shape.len());
    assert_eq!(batch.starts.as_ref().map_or(batch.shape.len(), |s| s.len()), batch.shape.len());
    batch
}

fn metric(name: &str, kind: Kind, number: Number) -> Arc<Metric> {
    Arc::new(Metric { number, ..Metric::new(name, "", "", kind) })
}

fn shape(settings: &Settings, metrics: &[Arc<Metric>]) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(&settings.interner);
    let group = builder.group(Group::default());
    for metric in metrics {
        builder.push(group, metric, &Labels::default()).unwrap();
    }
    builder.finish()
}

fn dropped(settings: &Settings, reason: &str) -> u64 {
    let text = settings.telemetry.text();
    let line = text.lines().find(|line| {
        line.starts_with("inferometer_temporality_dropped_points_total{")
            && line.contains(&format!("reason=\"{reason}\""))
    });
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

fn resets(settings: &Settings) -> u64 {
    let text = settings.telemetry.text();
    let line = text.lines().find(|line| line.starts_with("inferometer_temporality_resets_total{"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

const fn counter(temporality: Temporality) -> Kind {
    Kind::Sum { monotonic: true, temporality }
}

const CUMULATIVE: Temporality = Temporality::Cumulative;
const DELTA: Temporality = Temporality::Delta;

/// What a row says, given or got.
#[derive(Clone, Debug, PartialEq)]
enum P {
    /// Start and value.
    V(i64, f64),
    /// Start and integer.
    I(i64, i64),
    /// Start and slots.
    H(i64, Vec<f64>),
    Absent,
    Stale,
}
use P::{Absent, H, I, Stale, V};

fn batch(source: SourceId, shape: &Arc<Shape>, time: i64, points: &[P]) -> Batch {
    let (mut values, mut starts, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    for (series, point) in shape.iter().zip(points) {
        let (start, slots, mark) = match point {
            V(start, value) => (*start, vec![Slot::double(*value)], Mark::Present),
            I(start, value) => (*start, vec![Slot::int(*value)], Mark::Present),
            H(start, slots) => {
                (*start, slots.iter().map(|v| Slot::double(*v)).collect(), Mark::Present)
            }
            Absent => (0, vec![Slot::default(); series.slots().len()], Mark::Absent),
            Stale => (0, vec![Slot::default(); series.slots().len()], Mark::Stale),
        };
        starts.push(start * S);
        values.extend(slots);
        marks.push(mark);
    }
    let all = marks.iter().all(|mark| *mark == Mark::Present);
    Batch {
        starts: starts.iter().any(|start| *start != 0).then(|| Arc::new(starts)),
        marks: (!all).then(|| Arc::new(marks)),
        ..Batch::new(source, Arc::clone(shape), time * S, values)
    }
}

fn points(batch: &Batch) -> Vec<P> {
    let point = |series: pipeline_model::Series<'_>| {
        let (row, slots) = (series.row, batch.point(series.row));
        let start = batch.start(row) / S;
        match (batch.mark(row), slots) {
            (Mark::Absent, _) => Absent,
            (Mark::Stale, _) => Stale,
            (_, [slot]) if series.metric.number == Number::Int => I(start, slot.as_int()),
            (_, [slot]) => V(start, slot.as_double()),
            (_, slots) => H(start, slots.iter().map(|slot| slot.as_double()).collect()),
        }
    };
    batch.shape.iter().map(point).collect()
}

/// One series: (seconds, what it says) in, what comes out.
#[track_caller]
fn check(options: Options, kind: &Kind, rows: &[(i64, P, P)]) -> Settings {
    let number =
        if rows.iter().any(|(_, p, _)| matches!(p, I(..))) { Number::Int } else { Number::Double };
    let settings = settings();
    let shape = shape(&settings, &[metric("m", kind.clone(), number)]);
    let (mut step, source) = (step(options, &settings), SourceId::next());
    for (time, given, expected) in rows {
        let given = batch(source, &shape, *time, std::slice::from_ref(given));
        let got = one(&mut step, given);
        assert_eq!(points(&got), std::slice::from_ref(expected), "at {time} s");
        let kinds: Vec<_> = got.shape.iter().map(|series| series.metric.kind.clone()).collect();
        assert!(kinds.iter().all(|kind| !matches!(kind, Kind::Sum { temporality, .. }
            | Kind::Histogram { temporality, .. } if *temporality != options.to)));
    }
    settings
}

#[test]
fn a_delta_is_the_difference_to_the_point_before() {
    let rows = [
        (200, V(0, 10.0), Absent),
        (210, V(0, 12.5), V(200, 2.5)),
        (220, V(0, 12.5), V(210, 0.0)),
        (225, Absent, Absent),
        (230, V(0, 13.0), V(220, 0.5)),
    ];
    let settings = check(Options::delta(), &counter(CUMULATIVE), &rows);
    assert_eq!((dropped(&settings, "first"), resets(&settings)), (1, 0));
}

#[test]
fn the_first_point_is_kept_when_all_of_it_was_counted_since_we_watch() {
    let with = |initial| Options { initial, ..Options::delta() };
    let kind = counter(CUMULATIVE);
    for (initial, start, expected) in [
        (Initial::Auto, 150, V(150, 7.0)),
        (Initial::Auto, WATCHING, V(WATCHING, 7.0)),
        (Initial::Auto, WATCHING - 1, Absent),
        (Initial::Auto, 0, Absent),
        // "Begun now" is an unknown start.
        (Initial::Auto, 200, Absent),
        (Initial::Auto, 300, Absent),
        (Initial::Keep, 50, V(50, 7.0)),
        (Initial::Keep, 0, V(0, 7.0)),
        (Initial::Keep, 200, V(0, 7.0)),
        (Initial::Drop, 150, Absent),
    ] {
        let next = (210, V(start, 8.0), V(200, 1.0));
        // A start after the first point is known by the second.
        let next = if start == 300 { (210, V(0, 8.0), V(200, 1.0)) } else { next };
        check(with(initial), &kind, &[(200, V(start, 7.0), expected), next]);
    }
}

#[test]
fn a_reset_counts_from_the_new_start() {
    let rows = [
        (200, V(150, 10.0), V(150, 10.0)),
        (210, V(150, 20.0), V(200, 10.0)),
        // Fell, start unknown: since the last point.
        (220, V(0, 4.0), V(210, 4.0)),
        // Did not fall, but began after the last point.
        (230, V(225, 50.0), V(225, 50.0)),
        // The start moved within what was seen: nothing fell, nothing began.
        (240, V(228, 51.0), V(230, 1.0)),
        // Fell although the start did not move.
        (250, V(228, 3.0), V(240, 3.0)),
        // Fell and "began now": since when is unknown.
        (260, V(260, 2.0), Absent),
        (270, V(260, 5.0), V(260, 3.0)),
    ];
    let settings = check(Options::delta(), &counter(CUMULATIVE), &rows);
    assert_eq!((dropped(&settings, "first"), resets(&settings)), (1, 4));
}

#[test]
fn old_points_are_dropped_and_the_base_stays() {
    let rows = [
        (200, V(0, 10.0), Absent),
        (210, V(0, 11.0), V(200, 1.0)),
        (210, V(0, 12.0), Absent),
        (205, V(0, 10.5), Absent),
        (220, V(0, 13.0), V(210, 2.0)),
    ];
    let settings = check(Options::delta(), &counter(CUMULATIVE), &rows);
    assert_eq!((dropped(&settings, "duplicate"), dropped(&settings, "out_of_order")), (1, 1));
}

#[test]
fn after_a_gap_a_series_starts_anew() {
    let options = Options { max_gap: Duration::from_secs(60), ..Options::delta() };
    let rows = [
        (200, V(0, 10.0), Absent),
        (260, V(0, 11.0), V(200, 1.0)),
        (321, V(0, 20.0), Absent),
        (330, V(0, 21.0), V(321, 1.0)),
        // A start within the gap says what was counted since.
        (500, V(450, 30.0), V(450, 30.0)),
        // A clock that was set back does not silence the series.
        (300, V(0, 31.0), Absent),
        (310, V(0, 33.0), V(300, 2.0)),
    ];
    let settings = check(options, &counter(CUMULATIVE), &rows);
    assert_eq!(dropped(&settings, "gap"), 2);
    // After a gap the first-point rule is no reason to put a whole count out again.
    let keep = Options { initial: Initial::Keep, ..options };
    let rows = [(200, V(0, 10.0), V(0, 10.0)), (300, V(0, 11.0), Absent)];
    check(keep, &counter(CUMULATIVE), &rows);
}

#[test]
fn what_says_nothing_is_dropped_and_stale_passes_once() {
    let rows = [
        (200, V(0, f64::NAN), Absent),
        (210, V(0, 1.0), Absent),
        (220, V(0, f64::NAN), Absent),
        (230, V(0, f64::INFINITY), Absent),
        (240, V(0, 3.0), V(210, 2.0)),
        (250, Stale, Stale),
        (255, Absent, Absent),
        // What was counted while it was away is not lost.
        (260, V(0, 9.0), V(240, 6.0)),
        (270, V(0, 9.5), V(260, 0.5)),
        // A counter below zero is none, but something to go on from.
        (280, V(0, -4.0), Absent),
        (290, V(0, -1.0), V(280, 3.0)),
    ];
    let settings = check(Options::delta(), &counter(CUMULATIVE), &rows);
    assert_eq!((dropped(&settings, "invalid"), dropped(&settings, "first")), (4, 1));
    let again =
        [(200, V(150, 1.0), V(150, 1.0)), (210, Stale, Stale), (230, V(220, 2.0), V(220, 2.0))];
    check(Options::delta(), &counter(CUMULATIVE), &again);
}

#[test]
fn integers_are_exact_and_run_over() {
    let big = (1 << 60) + 1;
    let rows = [
        (200, I(0, big), Absent),
        (210, I(0, big + 3), I(200, 3)),
        (220, I(0, i64::MAX - 1), I(210, i64::MAX - 1 - big - 3)),
        (230, I(0, i64::MIN + 3), I(220, 5)),
        (240, I(0, i64::MIN + 4), I(230, 1)),
    ];
    check(Options::delta(), &counter(CUMULATIVE), &rows);
    check(
        Options::delta(),
        &counter(CUMULATIVE),
        &[(200, I(0, 100), Absent), (210, I(0, 6), I(200, 6)), (220, I(0, -5), Absent)],
    );
    let rows = [
        (200, I(190, i64::MAX - 1), I(190, i64::MAX - 1)),
        (210, I(200, 1), I(190, i64::MAX)),
        (220, I(210, 1), I(210, 1)),
        (230, I(220, 2), I(210, 3)),
    ];
    let settings = check(Options::cumulative(), &counter(DELTA), &rows);
    assert_eq!(resets(&settings), 1);
}

#[test]
fn sums_that_go_up_and_down() {
    let kind = |temporality| Kind::Sum { monotonic: false, temporality };
    // Untouched, unless asked for.
    let settings = settings();
    let shape = shape(&settings, &[metric("m", kind(CUMULATIVE), Number::Int)]);
    let given = batch(SourceId::next(), &shape, 200, &[I(0, 5)]);
    let got = one(&mut step(Options::delta(), &settings), given.clone());
    assert!(Arc::ptr_eq(&got.shape, &shape) && Arc::ptr_eq(&got.values, &given.values));
    let asked = Options { non_monotonic: true, ..Options::delta() };
    let rows = [
        (200, I(0, 5), Absent),
        (210, I(0, 2), I(200, -3)),
        (220, I(0, -2), I(210, -4)),
        (230, I(225, 1), I(225, 1)),
    ];
    check(asked, &kind(CUMULATIVE), &rows);
    let rows =
        [(200, I(190, 5), I(190, 5)), (210, I(200, -7), I(190, -2)), (220, I(0, 1), I(190, -1))];
    check(Options::cumulative(), &kind(DELTA), &rows);
}

#[test]
fn deltas_are_added_from_the_first_one_s_start() {
    let rows = [
        (200, V(190, 1.0), V(190, 1.0)),
        (210, V(200, 2.0), V(190, 3.0)),
        (220, V(0, 4.0), V(190, 7.0)),
        // A pause within the limit.
        (300, V(290, 1.0), V(190, 8.0)),
        (301, Absent, Absent),
        // Begins before the last ended: a second writer, or the same once more.
        (305, V(295, 9.0), Absent),
        (308, V(298, 9.0), Absent),
        (300, V(290, 9.0), Absent),
        (299, V(290, 9.0), Absent),
        // A tenth of what it covers is no overlap.
        (400, V(291, 0.5), V(190, 8.5)),
        // Longer than the limit.
        (800, V(790, 3.0), V(790, 3.0)),
        (1200, V(0, 4.0), V(800, 4.0)),
        (1210, Stale, Stale),
        (1220, V(1210, 1.0), V(1210, 1.0)),
        (1230, V(1220, -1.0), Absent),
        (1240, V(1220, f64::NAN), Absent),
        (1250, V(1220, 2.0), V(1210, 3.0)),
    ];
    let settings = check(Options::cumulative(), &counter(DELTA), &rows);
    assert_eq!((dropped(&settings, "overlap"), dropped(&settings, "duplicate")), (2, 1));
    assert_eq!((dropped(&settings, "invalid"), resets(&settings)), (2, 2));
    let unknown = [(200, V(0, 1.0), V(0, 1.0)), (210, V(0, 1.0), V(0, 2.0))];
    check(Options::cumulative(), &counter(DELTA), &unknown);
}

fn histogram(temporality: Temporality, min_max: bool) -> Kind {
    Kind::Histogram { temporality, bounds: Bounds::new(&[1.0, 2.0]), min_max }
}

#[test]
fn histograms_to_delta() {
    let h = |start, slots: &[f64]| H(start, slots.to_vec());
    let rows = [
        (200, h(0, &[10.0, 4.0, 1.0, 3.0]), Absent),
        (210, h(0, &[16.0, 7.0, 1.0, 5.0]), h(200, &[6.0, 3.0, 0.0, 2.0])),
        // Counts that do not rise with their bounds.
        (220, h(0, &[16.0, 7.0, 6.0, 5.0]), Absent),
        (230, h(0, &[16.0, f64::NAN, 1.0, 5.0]), Absent),
        // The bucket between 1 and 2 fell, although every count up to a bound rose.
        (240, h(0, &[20.0, 20.0, 9.0, 10.0]), h(210, &[20.0, 20.0, 9.0, 10.0])),
        (250, h(0, &[2.0, 1.0, 0.0, 1.0]), h(240, &[2.0, 1.0, 0.0, 1.0])),
    ];
    let settings = check(Options::delta(), &histogram(CUMULATIVE, false), &rows);
    assert_eq!((dropped(&settings, "invalid"), resets(&settings)), (2, 2));
    // Smallest and largest are those since the start: they go.
    let rows = [
        (200, h(150, &[10.0, 4.0, 0.5, 9.0, 1.0, 3.0]), h(150, &[10.0, 4.0, 1.0, 3.0])),
        (210, h(150, &[11.0, 5.0, 0.5, 9.0, 1.0, 4.0]), h(200, &[1.0, 1.0, 0.0, 1.0])),
    ];
    check(Options::delta(), &histogram(CUMULATIVE, true), &rows);
    // No bounds: sum and count alone.
    let kind = Kind::histogram(Bounds::new(&[]));
    let rows = [(200, h(0, &[1.0, 2.0]), Absent), (210, h(0, &[3.0, 3.0]), h(200, &[2.0, 1.0]))];
    check(Options::delta(), &kind, &rows);
}

#[test]
fn a_histogram_without_a_sum_stays_without() {
    let settings = settings();
    let shape = shape(&settings, &[metric("m", histogram(CUMULATIVE, false), Number::Double)]);
    let (mut step, source) = (step(Options::delta(), &settings), SourceId::next());
    let given = |time, n| batch(source, &shape, time, &[H(0, vec![f64::NAN, n, n, n])]);
    one(&mut step, given(200, 1.0));
    let got = one(&mut step, given(210, 3.0));
    let slots: Vec<f64> = got.values.iter().map(|slot| slot.as_double()).collect();
    assert!(slots[0].is_nan());
    assert_eq!(slots[1..], [2.0, 2.0, 2.0]);
}

#[test]
fn histograms_to_cumulative() {
    let h = |start, slots: &[f64]| H(start, slots.to_vec());
    let rows = [
        (200, h(190, &[3.0, 2.0, 0.5, 2.5, 1.0, 1.0]), h(190, &[3.0, 2.0, 0.5, 2.5, 1.0, 1.0])),
        (210, h(200, &[9.0, 1.0, 9.0, 9.0, 0.0, 0.0]), h(190, &[12.0, 3.0, 0.5, 9.0, 1.0, 1.0])),
        // The total would rise, the delta does not.
        (220, h(210, &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), Absent),
        (220, h(210, &[1.0, -1.0, 1.0, 1.0, 0.0, 0.0]), Absent),
        (230, h(210, &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), h(190, &[13.0, 4.0, 0.5, 9.0, 2.0, 2.0])),
    ];
    let settings = check(Options::cumulative(), &histogram(DELTA, true), &rows);
    assert_eq!(dropped(&settings, "invalid"), 2);
}

#[test]
fn what_needs_nothing_passes_beside_what_does() {
    let settings = settings();
    let metrics = [
        metric("gauge", Kind::Gauge, Number::Double),
        metric("sum", counter(CUMULATIVE), Number::Double),
        metric("delta", counter(DELTA), Number::Double),
        metric("summary", Kind::Summary { quantiles: Bounds::new(&[0.5]) }, Number::Double),
        metric("histogram", histogram(DELTA, true), Number::Double),
        metric("int", counter(CUMULATIVE), Number::Int),
    ];
    let shape = shape(&settings, &metrics);
    let (mut step, source) = (step(Options::delta(), &settings), SourceId::next());
    let rest = |sum, int| {
        vec![
            V(0, -3.0),
            sum,
            V(190, 4.0),
            H(0, vec![5.0, 6.0, 7.0]),
            H(190, vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
            int,
        ]
    };
    let got = one(&mut step, batch(source, &shape, 200, &rest(V(150, 1.0), I(0, 1))));
    assert_eq!(points(&got), rest(V(150, 1.0), Absent));
    let got = one(&mut step, batch(source, &shape, 210, &rest(V(150, 4.0), I(0, 3))));
    assert_eq!(points(&got), rest(V(200, 3.0), I(200, 2)));
    let kinds: Vec<Kind> = got.shape.iter().map(|series| series.metric.kind.clone()).collect();
    assert_eq!(kinds[1], counter(DELTA));
    assert_eq!(kinds[3..5], [metrics[3].kind.clone(), metrics[4].kind.clone()]);
}

#[test]
fn state_moves_on_when_the_shape_changes() {
    let settings = settings();
    let of = |name| metric(name, counter(CUMULATIVE), Number::Double);
    let first = shape(&settings, &[of("a"), of("b")]);
    let second = shape(&settings, &[of("c"), of("b")]);
    let (mut step, source) = (step(Options::delta(), &settings), SourceId::next());
    one(&mut step, batch(source, &first, 200, &[V(0, 1.0), V(0, 10.0)]));
    let got = one(&mut step, batch(source, &second, 210, &[V(0, 1.0), V(0, 15.0)]));
    assert_eq!(points(&got), [Absent, V(200, 5.0)]);
    let got = one(&mut step, batch(source, &first, 220, &[V(0, 4.0), V(0, 16.0)]));
    assert_eq!(points(&got), [Absent, V(210, 1.0)], "a was gone and begins anew");
    // Another source is another thing.
    let got = one(&mut step, batch(SourceId::next(), &first, 230, &[V(0, 5.0), V(0, 17.0)]));
    assert_eq!(points(&got), [Absent, Absent]);
    // At its end everything is stale, and a source of the same id begins anew.
    let end = one(&mut step, Batch::end(source, Arc::clone(&first), 240 * S));
    assert!(end.ended && end.shape.iter().all(|s| s.metric.kind == counter(DELTA)));
    assert_eq!(points(&end), [Stale, Stale]);
    let got = one(&mut step, batch(source, &first, 250, &[V(0, 5.0), V(0, 17.0)]));
    assert_eq!(points(&got), [Absent, Absent]);
}

#[test]
fn every_row_may_have_its_own_time() {
    let settings = settings();
    let of = |name| metric(name, counter(CUMULATIVE), Number::Double);
    let shape = shape(&settings, &[of("a"), of("b")]);
    let (mut step, source) = (step(Options::delta(), &settings), SourceId::next());
    let given = |time, own: [i64; 2], values: [f64; 2]| {
        let exemplars = vec![Exemplar { row: 1, value: 1.0, time: 0, labels: Labels::default() }];
        let extras =
            Extras { times: Some(own.map(|t| t * S).to_vec()), exemplars, ..Extras::default() };
        Batch {
            extras: Some(Arc::new(extras)),
            ..batch(source, &shape, time, &values.map(|value| V(0, value)))
        }
    };
    one(&mut step, given(200, [0, 195], [1.0, 1.0]));
    let given = given(210, [205, 195], [2.0, 2.0]);
    let got = one(&mut step, given.clone());
    assert_eq!(points(&got), [V(200, 1.0), Absent]);
    assert_eq!(got.extras, given.extras);
    assert_eq!(got.time_of(0), 205 * S);
}

#[test]
fn a_series_in_both_temporalities_is_put_out_once() {
    let settings = settings();
    let metrics =
        [DELTA, CUMULATIVE].map(|temporality| metric("m", counter(temporality), Number::Double));
    let last = metric("z", Kind::Gauge, Number::Double);
    let shape = shape(&settings, &[metrics[0].clone(), metrics[1].clone(), last]);
    let extras = Extras {
        times: Some(vec![1, 2, 3]),
        exemplars: (0..3)
            .map(|row| Exemplar { row, value: 0.0, time: 0, labels: Labels::default() })
            .collect(),
        ..Extras::default()
    };
    let given = Batch {
        extras: Some(Arc::new(extras)),
        ..batch(SourceId::next(), &shape, 200, &[V(190, 1.0), V(0, 2.0), V(0, 3.0)])
    };
    let got = one(&mut step(Options::delta(), &settings), given);
    assert_eq!(points(&got), [V(190, 1.0), V(0, 3.0)]);
    let extras = got.extras.unwrap();
    assert_eq!(extras.times, Some(vec![1, 3]));
    assert_eq!(extras.exemplars.iter().map(|e| e.row).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(dropped(&settings, "conflict"), 1);
}

#[test]
fn series_beyond_the_limit_wait_for_room() {
    let settings = settings();
    let of = |name| metric(name, counter(CUMULATIVE), Number::Double);
    let shape = shape(&settings, &[of("a"), of("b")]);
    let mut step = step(Options { series_max: 3, ..Options::delta() }, &settings);
    let (first, second) = (SourceId::next(), SourceId::next());
    let at = |source, time, n| batch(source, &shape, time, &[V(0, n), V(0, n)]);
    one(&mut step, at(first, 200, 1.0));
    assert_eq!(points(&one(&mut step, at(second, 200, 1.0))), [Absent]);
    assert_eq!(points(&one(&mut step, at(second, 210, 3.0))), [V(200, 2.0)]);
    assert_eq!(dropped(&settings, "limit"), 2);
    assert!(
        settings
            .telemetry
            .text()
            .contains("temporality_series{component=\"processors.temporality\"} 3")
    );
    one(&mut step, Batch { ended: true, ..at(first, 220, 2.0) });
    assert_eq!(points(&one(&mut step, at(second, 220, 4.0))), [V(210, 1.0), Absent]);
    assert_eq!(dropped(&settings, "limit"), 2);
}

#[test]
fn silent_sources_are_forgotten() {
    let settings = settings();
    let shape = shape(&settings, &[metric("m", counter(CUMULATIVE), Number::Double)]);
    let mut step = step(Options { max_gap: Duration::ZERO, ..Options::delta() }, &settings);
    one(&mut step, batch(SourceId::next(), &shape, 200, &[V(0, 1.0)]));
    let shown = |n| format!("temporality_series{{component=\"processors.temporality\"}} {n}");
    step.sweep(Duration::from_secs(3600));
    assert!(settings.telemetry.text().contains(&shown(1)));
    step.sweep(Duration::ZERO);
    assert!(settings.telemetry.text().contains(&shown(0)));
    // Within the gap it may come back and go on.
    let mut step = self::step(Options::delta(), &settings);
    one(&mut step, batch(SourceId::next(), &shape, 200, &[V(0, 1.0)]));
    step.sweep(Duration::ZERO);
    assert!(settings.telemetry.text().contains(&shown(1)));
}

#[test]
fn columns_are_used_again_and_start_times_shared() {
    let settings = settings();
    let shape = shape(&settings, &[metric("m", counter(DELTA), Number::Double)]);
    let (mut step, source) = (step(Options::cumulative(), &settings), SourceId::next());
    let mut got = Vec::new();
    for time in 200..206 {
        let batch = one(&mut step, batch(source, &shape, time, &[V(time - 1, 1.0)]));
        got.push((Arc::as_ptr(&batch.values), Arc::as_ptr(batch.starts.as_ref().unwrap())));
    }
    assert_eq!(got[3].0, got[5].0);
    assert_eq!(got[0].1, got[5].1);
}

fn buckets(offset: i32, counts: &[f64]) -> ExponentialBuckets {
    ExponentialBuckets { offset, counts: counts.to_vec() }
}

fn point(scale: i32, zero: f64, positive: ExponentialBuckets) -> ExponentialPoint {
    ExponentialPoint { scale, zero_count: zero, positive, ..ExponentialPoint::default() }
}

/// One exponential histogram: (seconds, start, point) in, what comes out.
#[track_caller]
fn exponential(
    options: Options,
    rows: &[(i64, i64, ExponentialPoint, Option<ExponentialPoint>)],
) -> Settings {
    let from = if options.to == DELTA { CUMULATIVE } else { DELTA };
    let settings = settings();
    let kind = Kind::ExponentialHistogram { temporality: from };
    let shape = shape(&settings, &[metric("m", kind, Number::Double)]);
    let (mut step, source) = (step(options, &settings), SourceId::next());
    for (time, start, given, expected) in rows {
        let counts = given.positive.counts.iter().chain(&given.negative.counts);
        let count = given.zero_count + counts.sum::<f64>();
        let extras = Extras { exponentials: vec![(0, given.clone())], ..Extras::default() };
        let given = Batch {
            extras: Some(Arc::new(extras)),
            ..batch(source, &shape, *time, &[H(*start, vec![2.0 * count, count])])
        };
        let got = one(&mut step, given);
        let extras = got.extras.as_ref().unwrap();
        assert_eq!(extras.exponential(0), expected.as_ref(), "at {time} s");
        assert_eq!(got.mark(0) == Mark::Present, expected.is_some());
        if let Some(point) = expected {
            let counts = point.positive.counts.iter().chain(&point.negative.counts);
            let count = point.zero_count + counts.sum::<f64>();
            assert_eq!(points(&got), [H(got.start(0) / S, vec![2.0 * count, count])]);
        }
    }
    settings
}

#[test]
fn exponential_histograms_to_delta() {
    let rows = [
        (200, 0, point(1, 1.0, buckets(2, &[1.0, 2.0])), None),
        (
            210,
            0,
            point(1, 2.0, buckets(1, &[4.0, 1.0, 5.0])),
            Some(point(1, 1.0, buckets(1, &[4.0, 0.0, 3.0]))),
        ),
        // Half the scale: pairs of buckets of the last point are one.
        (
            220,
            0,
            point(0, 2.0, buckets(0, &[5.0, 8.0])),
            Some(point(0, 0.0, buckets(0, &[1.0, 2.0]))),
        ),
        // A bucket fell: all of it was counted since.
        (
            230,
            0,
            point(0, 2.0, buckets(0, &[4.0, 9.0])),
            Some(point(0, 2.0, buckets(0, &[4.0, 9.0]))),
        ),
        (240, 0, point(0, f64::NAN, buckets(0, &[4.0, 9.0])), None),
        // Buckets (1, 2] and (2, 4] went into the zero bucket.
        (
            250,
            0,
            ExponentialPoint { zero_threshold: 4.0, ..point(0, 16.0, buckets(2, &[1.0])) },
            Some(ExponentialPoint { zero_threshold: 4.0, ..point(0, 1.0, buckets(2, &[1.0])) }),
        ),
    ];
    let settings = exponential(Options::delta(), &rows);
    assert_eq!((resets(&settings), dropped(&settings, "invalid")), (1, 1));
}

#[test]
fn exponential_histograms_to_cumulative() {
    let with = |point: ExponentialPoint, min, max| ExponentialPoint {
        min: Some(min),
        max: Some(max),
        ..point
    };
    let rows = [
        (
            200,
            190,
            with(point(1, 0.0, buckets(4, &[1.0, 0.0])), 4.5, 5.0),
            Some(with(point(1, 0.0, buckets(4, &[1.0])), 4.5, 5.0)),
        ),
        (
            210,
            200,
            with(point(0, 1.0, buckets(0, &[3.0])), 0.0, 2.0),
            Some(with(point(0, 1.0, buckets(0, &[3.0, 0.0, 1.0])), 0.0, 5.0)),
        ),
        // So far apart that all is merged until 160 buckets are enough.
        (
            220,
            210,
            point(0, 0.0, buckets(200, &[1.0])),
            Some(with(
                point(-1, 1.0, {
                    let mut counts = vec![0.0; 101];
                    (counts[0], counts[1], counts[100]) = (3.0, 1.0, 1.0);
                    buckets(0, &counts)
                }),
                0.0,
                5.0,
            )),
        ),
    ];
    exponential(Options::cumulative(), &rows);
}

/// Buckets that a hostile sender may name.
#[test]
fn extreme_exponential_buckets_are_bounded() {
    let ends = [i32::MIN, i32::MAX, 0, -1];
    for (a, b) in ends.into_iter().flat_map(|a| ends.map(|b| (a, b))) {
        for scale in [i32::MIN, -10, 0, 20, i32::MAX] {
            let first = point(scale, 0.0, buckets(a, &[1.0; 400]));
            let second = point(0, 0.0, buckets(b, &[1.0, 0.0, 2.0]));
            let first = crate::exponential::fit(first);
            let total = crate::exponential::sum(&first, &second).unwrap();
            assert!(total.positive.counts.len() <= 160);
            assert_eq!(total.positive.counts.iter().sum::<f64>(), 403.0);
            crate::exponential::difference(&first, &second);
            let wide = ExponentialPoint { zero_threshold: 1e300, ..second };
            crate::exponential::difference(&wide, &first);
        }
    }
}

/// What a random source does next.
#[derive(Clone, Debug)]
enum Turn {
    /// Counts so much in each series, and is seen after so many seconds.
    Count(Vec<i64>, i64),
    /// Its process begins anew.
    Restart,
    /// Counts, and is seen without the series of this index.
    Without(Vec<i64>, usize),
}

const SERIES: usize = 3;

fn turn() -> impl Strategy<Value = Turn> {
    let counts = || proptest::collection::vec(0i64..1000, SERIES);
    prop_oneof![
        8 => (counts(), 1i64..20).prop_map(|(counts, secs)| Turn::Count(counts, secs)),
        1 => Just(Turn::Restart),
        2 => (counts(), 0..SERIES).prop_map(|(counts, row)| Turn::Without(counts, row)),
        1 => (counts(), 100i64..200).prop_map(|(counts, secs)| Turn::Count(counts, secs)),
    ]
}

proptest! {
    /// To delta and back: whatever the turns, what is counted since the start comes out, in each of an integer, a double
    /// and a histogram. Restarts have a start time, so nothing is left out.
    #[test]
    fn there_and_back_nothing_is_lost(turns in proptest::collection::vec(turn(), 1..60)) {
        let settings = settings();
        let shape = shape(&settings, &[
            metric("int", counter(CUMULATIVE), Number::Int),
            metric("double", counter(CUMULATIVE), Number::Double),
            metric("histogram", histogram(CUMULATIVE, false), Number::Double),
        ]);
        let gap = Duration::from_secs(3600);
        let mut there = step(Options::delta(), &settings);
        let mut back = step(Options { max_gap: gap, ..Options::cumulative() }, &settings);
        let source = SourceId::next();
        // What the process has counted, what all of them have, and what of that was said when a series was last seen.
        let (mut now, mut start, mut all) = ([0i64; SERIES], WATCHING + 1, [0i64; SERIES]);
        let mut last_seen = [0i64; SERIES];
        let (mut time, mut got) = (WATCHING + 2, [0i64; SERIES]);
        for turn in turns {
            let (counts, secs, without) = match turn {
                Turn::Count(counts, secs) => (counts, secs, None),
                Turn::Without(counts, row) => (counts, 5, Some(row)),
                Turn::Restart => {
                    // What was counted since a series was last seen goes with the process.
                    for row in 0..SERIES {
                        all[row] += last_seen[row];
                    }
                    (now, last_seen, start) = ([0; SERIES], [0; SERIES], time + 1);
                    time += 2;
                    continue;
                }
            };
            time += secs;
            (0..SERIES).for_each(|row| now[row] += counts[row]);
            let h = now[2] as f64;
            let mut points_in = vec![
                I(start, now[0]),
                V(start, now[1] as f64),
                H(start, vec![h * 0.5, 3.0 * h, h, 2.0 * h]),
            ];
            (0..SERIES).filter(|row| Some(*row) != without).for_each(|row| last_seen[row] = now[row]);
            if let Some(row) = without {
                points_in[row] = Absent;
            }
            let delta = one(&mut there, batch(source, &shape, time, &points_in));
            let total = one(&mut back, delta);
            for (row, point) in points(&total).into_iter().enumerate() {
                prop_assert_eq!(point == Absent, Some(row) == without);
                got[row] = match point {
                    I(_, value) => value,
                    V(_, value) => value as i64,
                    H(_, slots) => {
                        let h = slots[2];
                        prop_assert_eq!(&slots, &vec![h * 0.5, 3.0 * h, h, 2.0 * h]);
                        h as i64
                    }
                    Absent | Stale => got[row],
                };
                if Some(row) != without {
                    prop_assert_eq!(got[row], all[row] + now[row]);
                }
            }
        }
    }

    /// Whatever the bits: no panic, and nothing but finite numbers comes of a counter; of a monotonic one, none below 0.
    #[test]
    fn any_bits_are_survived(
        rows in proptest::collection::vec((any::<i64>(), any::<i64>(), any::<[u64; 6]>(), 0u8..3), 1..40),
        to_delta in any::<bool>(),
        near in any::<bool>(),
        keep in any::<bool>(),
    ) {
        let (options, from) = if to_delta { (Options::delta(), CUMULATIVE) } else { (Options::cumulative(), DELTA) };
        let initial = if keep { Initial::Keep } else { Initial::Auto };
        let options = Options { initial, non_monotonic: true, ..options };
        let settings = settings();
        let shape = shape(&settings, &[
            metric("double", counter(from), Number::Double),
            metric("int", counter(from), Number::Int),
            metric("up_down", Kind::Sum { monotonic: false, temporality: from }, Number::Int),
            metric("histogram", Kind::Histogram { temporality: from, bounds: Bounds::new(&[1.0]), min_max: false }, Number::Double),
        ]);
        let (mut step, source) = (step(options, &settings), SourceId::next());
        for (time, start, bits, mark) in rows {
            // Half of the runs have times that follow each other, so that the arithmetic is reached.
            let (time, start) = if near { (time.rem_euclid(1 << 40), start.rem_euclid(1 << 40)) } else { (time, start) };
            let mark = [Mark::Present, Mark::Absent, Mark::Stale][usize::from(mark)];
            let values = bits.iter().map(|bits| Slot::int(bits.cast_signed())).collect();
            let given = Batch {
                starts: Some(Arc::new(vec![start; 4])),
                marks: Some(Arc::new(vec![mark; 4])),
                ..Batch::new(source, Arc::clone(&shape), time, values)
            };
            let got = one(&mut step, given);
            if got.mark(0) == Mark::Present {
                let value = got.point(0)[0].as_double();
                prop_assert!(value.is_finite() && value >= 0.0);
            }
            if got.mark(1) == Mark::Present {
                prop_assert!(got.point(1)[0].as_int() >= 0);
            }
            if got.mark(3) == Mark::Present {
                let (count, bucket) = (got.point(3)[1].as_double(), got.point(3)[2].as_double());
                prop_assert!(count.is_finite() && bucket >= 0.0 && (bucket <= count || !to_delta));
            }
        }
    }

    /// Exponential histograms: the deltas of a cumulative one add up to it again.
    #[test]
    fn exponential_deltas_add_up(
        deltas in proptest::collection::vec(
            (-3i32..4, -40i32..40, proptest::collection::vec(0u8..5, 0..12), 0u8..3), 1..20)
    ) {
        let mut total: Option<ExponentialPoint> = None;
        let mut seen: Option<ExponentialPoint> = None;
        for (scale, offset, counts, zero) in deltas {
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let delta = point(scale, f64::from(zero), buckets(offset, &counts));
            let next = match &total {
                Some(total) => crate::exponential::sum(total, &delta).unwrap(),
                None => crate::exponential::fit(delta),
            };
            let step = match &total {
                Some(total) => crate::exponential::difference(&next, total).unwrap(),
                None => next.clone(),
            };
            seen = Some(match &seen {
                Some(seen) => crate::exponential::sum(seen, &step).unwrap(),
                None => step,
            });
            total = Some(next);
            prop_assert_eq!(seen.clone(), total.clone().map(crate::exponential::fit));
        }
    }
}
