//! What is encoded, read back by the official types.

use std::sync::Arc;

use expect_test::{Expect, expect};
use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Hint, Interner,
    Kind, Label, Labels, Mark, Metric, Number, Resource, RowId, Scope, Shape, ShapeBuilder, Slot,
    SourceId, Temporality, Value,
};
use proptest::prelude::*;

use super::*;

mod flat;

use flat::{Flat, decoded, expected};

/// What a series is made from.
type Seed = (u8, u8, u8, Vec<u32>, u8, bool);

fn kind(seed: u8) -> (Kind, Number) {
    let temporality = if seed & 8 == 0 { Temporality::Cumulative } else { Temporality::Delta };
    let bounds: Vec<f64> = (0..usize::from(seed >> 5)).map(|n| n as f64 * 2.5).collect();
    match seed & 7 {
        0 => (Kind::Gauge, Number::Double),
        1 => (Kind::Gauge, Number::Int),
        2 => (Kind::Sum { monotonic: seed & 16 == 0, temporality }, Number::Double),
        3 => (Kind::Sum { monotonic: seed & 16 == 0, temporality }, Number::Int),
        4 | 5 => {
            let (bounds, min_max) = (Bounds::new(&bounds), seed & 16 == 0);
            (Kind::Histogram { temporality, bounds, min_max }, Number::Double)
        }
        6 => (Kind::ExponentialHistogram { temporality }, Number::Double),
        _ => (Kind::Summary { quantiles: Bounds::new(&bounds) }, Number::Double),
    }
}

fn values() -> Vec<Value> {
    vec![
        Value::from("x"),
        Value::from(""),
        Value::Bool(false),
        Value::Int(-7),
        Value::Double(0.5),
        Value::Bytes(Arc::from([0u8, 255])),
        Value::List(Arc::from([Value::Int(0), Value::from("é")])),
        Value::Map(Arc::from([("k".into(), Value::Bool(true))])),
        Value::Empty,
        Value::Str("long".repeat(80).into()),
    ]
}

fn shape(interner: &Interner, seeds: &[Seed]) -> Arc<Shape> {
    let mut builder = ShapeBuilder::new(interner);
    let groups: Vec<u32> = (0..4)
        .map(|n: i64| {
            let name = |name: &str, n: i64| Label { name: name.into(), value: Value::Int(n) };
            builder.group(Group {
                resource: Arc::new(Resource {
                    attributes: Labels::new(vec![name("host", n % 2)]),
                    schema_url: if n == 0 { "https://r".into() } else { "".into() },
                }),
                scope: Arc::new(Scope {
                    name: format!("scope{n}").as_str().into(),
                    attributes: Labels::new(vec![name("a", n)]),
                    ..Scope::default()
                }),
                labels: if n < 2 {
                    Labels::empty()
                } else {
                    Labels::from_pairs([("l0", "group"), ("z", "9")])
                },
            })
        })
        .collect();
    for (idx, (group, kind_seed, own, ..)) in seeds.iter().enumerate() {
        let (kind, number) = kind(*kind_seed);
        let name = format!("m{}", idx % 5);
        let hint = if kind_seed % 11 == 0 { Hint::Info } else { Hint::None };
        let metric = Metric { number, hint, ..Metric::new(&name, "s", "text", kind) };
        let label = |n: usize| Label {
            name: format!("l{n}").as_str().into(),
            value: values()[(usize::from(*own) + n) % 10].clone(),
        };
        let own = Labels::new((0..usize::from(*own) % 4).map(label).collect());
        // A second series of one identity is refused, which is as good.
        let _known = builder.push(groups[usize::from(*group) % 4], &Arc::new(metric), &own).ok();
    }
    builder.finish()
}

fn batch(shape: &Arc<Shape>, seeds: &[Seed]) -> Batch {
    let mut slots = vec![Slot::default(); shape.slots()];
    let seed = |row: RowId| &seeds[row as usize % seeds.len()];
    let mut extras = Extras { times: Some(Vec::new()), ..Extras::default() };
    let (mut marks, mut starts) = (Vec::new(), Vec::new());
    for series in shape.iter() {
        let (_, _, _, numbers, mark, more) = seed(series.row);
        let mut total = 0;
        let slots = &mut slots[series.slots()];
        for (nth, slot) in slots.iter_mut().enumerate() {
            let number = numbers.get(nth % numbers.len().max(1)).copied().unwrap_or(0);
            total += number;
            *slot = match series.metric.number {
                Number::Int => Slot::int(i64::from(number) - 1000),
                Number::Double
                    if nth == 0
                        && number % 7 == 0
                        && series.metric.kind.slots() > 1
                        && !matches!(series.metric.kind, Kind::Summary { .. }) =>
                {
                    Slot::double(f64::NAN)
                }
                Number::Double => {
                    Slot::double(f64::from(total) + if nth == 0 { 0.25 } else { 0.0 })
                }
            };
        }
        if let Kind::Histogram { .. } = series.metric.kind {
            slots[1] = Slot::double(f64::from(total));
        }
        marks
            .push([Mark::Present, Mark::Present, Mark::Absent, Mark::Stale][usize::from(mark % 4)]);
        starts.push(i64::from(mark / 4));
        extras.times.as_mut().unwrap().push(if *more { 77 } else { 0 });
        if let Kind::ExponentialHistogram { .. } = series.metric.kind {
            let counts = numbers.iter().map(|n| f64::from(*n)).collect();
            extras.exponentials.push((
                series.row,
                ExponentialPoint {
                    scale: i32::from(*mark) - 100,
                    zero_count: 3.0,
                    positive: ExponentialBuckets { offset: -5, counts },
                    max: more.then_some(9.5),
                    ..ExponentialPoint::default()
                },
            ));
        }
        if *more {
            extras.exemplars.extend((1..3).map(|n| Exemplar {
                row: series.row,
                value: f64::from(n),
                time: i64::from(n),
                labels: Labels::from_pairs([
                    ("k", "v"),
                    ("span_id", "0101010101010101"),
                    ("trace_id", "abababababababababababababABABAB"),
                ]),
            }));
        }
    }
    Batch {
        marks: Some(Arc::new(marks)),
        starts: Some(Arc::new(starts)),
        extras: Some(Arc::new(extras)),
        ..Batch::new(SourceId::next(), Arc::clone(shape), 1_700_000_000_000_000_000, slots)
    }
}

fn sorted(mut list: Vec<Flat>) -> Vec<Flat> {
    list.sort();
    list
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    let seed = (
        any_of::<u8>(),
        any_of::<u8>(),
        any_of::<u8>(),
        prop::collection::vec(0u32..5000, 1..9),
        any_of::<u8>(),
        any_of::<bool>(),
    );
    prop::collection::vec(seed, 1..40)
}

fn any_of<T: Arbitrary>() -> T::Strategy {
    any::<T>()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is lost, invented or attributed to another, with and without extras, again and in two halves.
    #[test]
    fn the_official_types_read_what_was_meant(seeds in seeds(), at in any_of::<u16>()) {
        let shape = shape(&Interner::new(), &seeds);
        let full = batch(&shape, &seeds);
        let plain = Batch { extras: None, ..full.clone() };
        let bare = Batch { marks: None, starts: None, ..plain.clone() };
        let mut encoder = Encoder::new(Options::default());
        for batch in [&full, &plain, &bare, &full] {
            let all = 0..shape.len() as RowId;
            let encoded = encoder.encode([(batch, all.clone())]);
            let whole = decoded(encoded.bytes);
            prop_assert_eq!(encoded.points, whole.len());
            let whole = sorted(whole);
            prop_assert_eq!(&whole, &sorted(expected(batch)));
            let cut = RowId::from(at) % (all.end + 1);
            let mut parts = decoded(encoder.encode([(batch, 0..cut)]).bytes);
            parts.extend(decoded(encoder.encode([(batch, cut..all.end)]).bytes));
            prop_assert_eq!(sorted(parts), whole.clone());
            let mut parts = Vec::new();
            for odd in [0, 1] {
                let some = encoder.encode_some([(batch, all.clone())], |_, group| group % 2 == odd);
                parts.extend(decoded(some.bytes));
            }
            prop_assert_eq!(sorted(parts), whole);
        }
    }
}

#[track_caller]
fn check(options: Options, batches: &[Batch], expect: &Expect) {
    let mut encoder = Encoder::new(options);
    let items = batches.iter().map(|batch| (batch, 0..batch.shape.len() as RowId));
    let encoded = encoder.encode(items);
    let mut text: String = decoded(encoded.bytes).iter().map(|line| format!("{line}\n")).collect();
    let left_out = encoded.left_out;
    if left_out != LeftOut::default() {
        text.push_str(&format!("{left_out:?}\n"));
    }
    expect.assert_eq(&text);
}

/// Name, labels, value.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

fn gauges(group: Group, rows: &[Row<'_>]) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(group);
    for (name, own, _) in rows {
        let metric = Arc::new(Metric::new(name, "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::from_pairs(own.iter().copied())).unwrap();
    }
    let slots = rows.iter().map(|(_, _, value)| Slot::double(*value)).collect();
    Batch::new(SourceId::next(), builder.finish(), 5, slots)
}

fn target() -> Group {
    let pairs = [("job", "vllm"), ("instance", "h:8000"), ("replica", "r1"), ("zone", "a")];
    Group { labels: Labels::from_pairs(pairs), ..Group::default() }
}

#[test]
fn labels_of_a_target_become_resource_and_attributes() {
    let rows: &[Row<'_>] = &[("up", &[("engine", "0")], 1.0)];
    check(
        Options::default(),
        &[gauges(target(), rows)],
        &expect![[r#"
        service.instance.id="h:8000",service.name="vllm"  |     | up    gauge | engine="0",replica="r1",zone="a" | 0..5 f0 3ff0000000000000d x[]
    "#]],
    );
    let options = Options { resource_labels: vec!["zone".to_owned()], ..Options::default() };
    check(
        options,
        &[gauges(target(), rows)],
        &expect![[r#"
        service.instance.id="h:8000",service.name="vllm",zone="a"  |     | up    gauge | engine="0",replica="r1" | 0..5 f0 3ff0000000000000d x[]
    "#]],
    );
}

/// A scraped `job` or `zone` is the series' own; a resource that says who it is keeps its words.
#[test]
fn own_labels_and_resources_win() {
    let rows: &[Row<'_>] = &[("a", &[("job", "own"), ("zone", "own")], 1.0), ("b", &[], 2.0)];
    check(
        Options::default(),
        &[gauges(target(), rows)],
        &expect![[r#"
        service.instance.id="h:8000",service.name="vllm"  |     | a    gauge | job="own",replica="r1",zone="own" | 0..5 f0 3ff0000000000000d x[]
        service.instance.id="h:8000",service.name="vllm"  |     | b    gauge | replica="r1",zone="a" | 0..5 f0 4000000000000000d x[]
    "#]],
    );
    let resource = Resource {
        attributes: Labels::from_pairs([("service.name", "sdk")]),
        ..Resource::default()
    };
    let group = Group { resource: Arc::new(resource), ..target() };
    check(
        Options::default(),
        &[gauges(group, &rows[1..])],
        &expect![[r#"
        service.name="sdk"  |     | b    gauge | instance="h:8000",job="vllm",replica="r1",zone="a" | 0..5 f0 4000000000000000d x[]
    "#]],
    );
}

#[test]
fn what_a_backend_does_not_take_is_left_out_and_counted() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(target());
    let up_down = Kind::Sum { monotonic: false, temporality: Temporality::Delta };
    let long = "é".repeat(10);
    let own = Labels::from_pairs([("key_of_length", long.as_str()), ("metricName", "x")]);
    for (name, kind) in
        [("nan", Kind::Gauge), ("delta", up_down), ("end", Kind::Gauge), ("ok", Kind::Gauge)]
    {
        builder.push(group, &Arc::new(Metric::new(name, "", "", kind)), &own).unwrap();
    }
    let slots =
        vec![Slot::double(f64::INFINITY), Slot::double(1.0), Slot::default(), Slot::default()];
    let marks = vec![Mark::Present, Mark::Present, Mark::Stale, Mark::Present];
    let batch = Batch::new(SourceId::next(), builder.finish(), 5, slots);
    let batch = Batch { marks: Some(Arc::new(marks)), ..batch };
    let limits = Limits {
        key_bytes_max: 5,
        text_bytes_max: 7,
        resource_max: 1,
        point_max: 3,
        reserved: &["metri"],
        ..Limits::NONE
    };
    let options = Options {
        ends: false,
        only_finite: true,
        no_up_down_deltas: true,
        limits,
        ..Options::default()
    };
    check(
        options,
        &[batch],
        &expect![[r#"
        servi="h:8000"  |     | ok    gauge | key_o="ééé",metri_="x",repli="r1" | 0..5 f0 0d x[]
        LeftOut { not_finite: 1, up_down_deltas: 1, ends: 1 }
    "#]],
    );
}

#[test]
fn batches_stay_in_order() {
    let rows: &[Row<'_>] = &[("a", &[], 1.0), ("b", &[], 2.0)];
    let resource = Resource { attributes: Labels::from_pairs([("k", "v")]), ..Resource::default() };
    let first = gauges(Group { resource: Arc::new(resource), ..Group::default() }, rows);
    let second = Batch { time: 6, ..first.clone() };
    check(
        Options::default(),
        &[first, second],
        &expect![[r#"
            k="v"  |     | a    gauge |  | 0..5 f0 3ff0000000000000d x[]
            k="v"  |     | b    gauge |  | 0..5 f0 4000000000000000d x[]
            k="v"  |     | a    gauge |  | 0..6 f0 3ff0000000000000d x[]
            k="v"  |     | b    gauge |  | 0..6 f0 4000000000000000d x[]
        "#]],
    );
}

#[test]
fn nothing_to_say_is_no_bytes() {
    let batch = gauges(target(), &[("a", &[], 1.0)]);
    let absent = Batch { marks: Some(Arc::new(vec![Mark::Absent])), ..batch };
    check(Options::default(), &[absent], &expect![""]);
}

/// Shapes that are gone are forgotten, and living ones when there are too many.
#[test]
fn memory_is_bounded() {
    let rows: &[Row<'_>] = &[("a", &[("k", "v")], 1.0)];
    let mut encoder = Encoder::new(Options::default());
    for _ in 0..1000 {
        let batch = gauges(target(), rows);
        encoder.encode([(&batch, 0..1)]);
    }
    assert!(encoder.memos.shapes.len() <= 129, "{}", encoder.memos.shapes.len());
    let mut encoder = Encoder::new(Options { memory_max: 20_000, ..Options::default() });
    let all: Vec<Batch> = (0..1000).map(|_| gauges(target(), rows)).collect();
    for batch in &all {
        let encoded = encoder.encode([(batch, 0..1)]);
        assert_eq!(decoded(encoded.bytes).len(), 1);
        assert!(encoder.memory() < 30_000, "{}", encoder.memory());
    }
}

/// Pages of equal rows are remembered once.
#[test]
fn equal_tables_are_shared() {
    let interner = Interner::new();
    let mut encoder = Encoder::new(Options::default());
    let mut batches = Vec::new();
    for replica in 0..10 {
        let mut builder = ShapeBuilder::new(&interner);
        let replica = format!("r{replica}");
        let labels = Labels::from_pairs([("replica", replica.as_str())]);
        let group = builder.group(Group { labels, ..Group::default() });
        let metric = Arc::new(Metric::new("a", "", "", Kind::Gauge));
        builder.push(group, &metric, &Labels::from_pairs([("k", "v")])).unwrap();
        batches.push(Batch::new(SourceId::next(), builder.finish(), 5, vec![Slot::default()]));
    }
    let encoded = encoder.encode(batches.iter().map(|batch| (batch, 0..1)));
    assert!(decoded(encoded.bytes)[9].contains("k=\"v\",replica=\"r9\""));
    assert_eq!((encoder.memos.shapes.len(), encoder.memos.tables.len()), (10, 1));
}
