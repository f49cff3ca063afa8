//! Batches of any kind, encoded to both versions of remote write and read back by a strict decoder.
//!
//! Held: what is written can be read and keeps the specifications' rules; the samples of a series are in order over all
//! requests that were taken; Snappy's block is the plain message; a request that was not taken is made again alike; both
//! versions say the same.

use std::collections::HashMap;
use std::sync::Arc;

use pipeline_model::{
    Batch, Bounds, Exemplar, ExponentialBuckets, ExponentialPoint, Extras, Group, Interner, Kind,
    Label, Labels, Mark, Metric, Number, Resource, Scope, Shape, ShapeBuilder, Slot, SourceId,
    Temporality, Value,
};
use pipeline_wire::prometheus::Naming;
use pipeline_wire::remote_write::decode::{Request, request, unsnappy};
use pipeline_wire::remote_write::{
    BucketRule, Encoder, Form, Glob, Options, TargetInfos, Version, Written,
};

const NAMES: [&str; 8] =
    ["up", "http.requests", "a_total", "9lives", "é", "", "x:y_seconds", "odd__name."];
const LABELS: [&str; 10] =
    ["le", "quantile", "a.b", "a_b", "__name__", "job", "Zone", "instance", "", "ü"];
const VALUES: [&str; 5] = ["", "x", "y\"\n", "a;b", "a longer value than the others have"];
const UNITS: [&str; 4] = ["", "s", "By/s", "{request}"];
const BOUNDS: [&[f64]; 3] = [&[], &[0.5, 1.0], &[-1.0, 0.0, 2.5, 1e6]];
const START_MS: i64 = 1_700_000_000_000;

/// Bytes as choices; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn double(&mut self) -> f64 {
        match self.byte() {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -0.0,
            3 => f64::from_bits(0x7ff0_0000_0000_0002),
            4 => 1e300,
            other => f64::from(other) - 4.5,
        }
    }

    fn labels(&mut self, most: usize) -> Labels {
        let count = self.below(most + 1);
        let label = |_| {
            let name = self.one(&LABELS).into();
            let value = match self.byte() {
                0 => Value::Int(7),
                1 => Value::Bool(true),
                2 => Value::Empty,
                _ => self.one(&VALUES).into(),
            };
            Label { name, value }
        };
        Labels::new((0..count).map(label).collect())
    }

    fn metric(&mut self) -> Metric {
        let temporality =
            if self.byte() == 0 { Temporality::Delta } else { Temporality::Cumulative };
        let kind = match self.below(7) {
            0 => Kind::Gauge,
            1 => Kind::Sum { monotonic: true, temporality },
            2 => Kind::Sum { monotonic: false, temporality },
            3 => {
                let (bounds, min_max) = (Bounds::new(self.one(&BOUNDS)), self.byte() > 127);
                Kind::Histogram { temporality, bounds, min_max }
            }
            4 => Kind::ExponentialHistogram { temporality },
            5 => Kind::Summary { quantiles: Bounds::new(&[0.5, 0.99]) },
            _ => Kind::COUNTER,
        };
        let mut metric = Metric::new(self.one(&NAMES), self.one(&UNITS), "Help.", kind);
        if metric.kind.slots() == 1 && self.byte() > 200 {
            metric.number = Number::Int;
        }
        metric
    }

    fn group(&mut self, source: usize) -> Group {
        let mut attributes = vec![];
        for name in ["service.name", "service.namespace", "service.instance.id", "host.name"] {
            if self.byte() > 127 {
                attributes.push(Label { name: name.into(), value: self.one(&VALUES).into() });
            }
        }
        let name = self.one(&["", "lib"]).into();
        let labels =
            self.labels(1).merged(&Labels::from_pairs([("source", ["one", "two"][source])]));
        Group {
            resource: Arc::new(Resource {
                attributes: Labels::new(attributes),
                ..Resource::default()
            }),
            scope: Arc::new(Scope { name, attributes: self.labels(1), ..Scope::default() }),
            labels,
        }
    }

    fn shape(&mut self, interner: &Interner, source: usize, before: Option<&Shape>) -> Arc<Shape> {
        let mut builder = match before {
            Some(before) if self.byte() > 100 => ShapeBuilder::grow(interner, before),
            _ => ShapeBuilder::new(interner),
        };
        for _ in 0..=self.below(2) {
            let group = builder.group(self.group(source));
            for _ in 0..self.below(4) {
                let (metric, labels) = (Arc::new(self.metric()), self.labels(3));
                // A duplicate is not added.
                _ = builder.push(group, &metric, &labels);
            }
        }
        builder.finish()
    }

    fn point(&mut self) -> ExponentialPoint {
        let mut buckets = || {
            let offset = i32::from(self.byte()) - 100;
            let counts = (0..self.below(6)).map(|_| f64::from(self.byte() / 64)).collect();
            ExponentialBuckets { offset, counts }
        };
        let (positive, negative) = (buckets(), buckets());
        let scale = i32::from(self.byte() % 32) - 10;
        ExponentialPoint { scale, positive, negative, ..ExponentialPoint::default() }
    }

    fn batch(&mut self, source: SourceId, shape: &Arc<Shape>, ms: i64) -> Batch {
        let time = ms * 1_000_000;
        if self.byte() > 240 {
            return Batch::end(source, Arc::clone(shape), time);
        }
        let mut values = vec![Slot::default(); shape.slots()];
        let mut extras = Extras::default();
        for series in shape.iter() {
            let slots = &mut values[series.slots()];
            slots.fill_with(|| Slot::double(self.double()));
            match series.metric.kind {
                Kind::ExponentialHistogram { .. } if self.byte() > 20 => {
                    extras.exponentials.push((series.row, self.point()));
                }
                _ if self.byte() > 200 => extras.exemplars.push(Exemplar {
                    row: series.row,
                    value: self.double(),
                    time: time * i64::from(self.byte() > 20),
                    labels: self.labels(2),
                }),
                _ => {}
            }
        }
        if self.byte() > 200 {
            let own = |_| time + i64::from(self.byte() % 8) * 1_000_000 - 4_000_000;
            extras.times = Some((0..shape.len()).map(own).collect());
        }
        let mut batch = Batch::new(source, Arc::clone(shape), time, values);
        if self.byte() > 150 {
            let mark = |_| self.one(&[Mark::Present, Mark::Present, Mark::Absent, Mark::Stale]);
            batch.marks = Some(Arc::new((0..shape.len()).map(mark).collect()));
        }
        if self.byte() > 100 {
            batch.starts = Some(Arc::new(vec![time - 5_000_000_000; shape.len()]));
        }
        batch.extras = Some(Arc::new(extras)).filter(|extras| **extras != Extras::default());
        batch
    }
}

/// One encoder in each form, all given the same.
struct Encoders([(Form, Encoder); 4]);

impl Encoders {
    fn new(options: &Options) -> Self {
        let of = |version, snappy| {
            let encoder = Encoder::new(options.clone(), Arc::new(TargetInfos::default()));
            (Form { version, snappy }, encoder)
        };
        let (v1, v2) = (Version::V1, Version::V2);
        Self([of(v1, false), of(v1, true), of(v2, false), of(v2, true)])
    }

    /// What each of the versions says.
    fn encode(&mut self, batches: &[Batch]) -> [(Request, Written); 2] {
        let mut plain = Vec::new();
        let mut out = Vec::new();
        for (form, encoder) in &mut self.0 {
            let mut bytes = Vec::new();
            let mut encode = |bytes: &mut Vec<u8>| {
                let parts = batches.iter().map(|batch| (batch, 0..batch.shape.len() as u32));
                encoder.encode(parts, *form, bytes)
            };
            let written = encode(&mut bytes);
            let mut again = Vec::new();
            assert_eq!(written, encode(&mut again), "a second attempt");
            if form.snappy {
                let unpacked = unsnappy(&bytes, 1 << 30).expect("a block");
                assert!(unpacked == plain, "the block is another message");
                assert!(unsnappy(&again, 1 << 30).is_ok());
                continue;
            }
            let read = |bytes| {
                request(form.version, bytes).unwrap_or_else(|error| panic!("{form:?}: {error}"))
            };
            let found = read(&bytes);
            // In text, because NaN is not itself; a text that became known is referred to by another number.
            let said = format!("{:?}", found.series);
            assert!(
                said == format!("{:?}", read(&again).series),
                "a second attempt says other things"
            );
            let count = |of: fn(&pipeline_wire::remote_write::decode::Series) -> usize| {
                found.series.iter().map(of).sum::<usize>() as u64
            };
            assert_eq!(written.samples, count(|series| series.samples.len()));
            assert_eq!(written.histograms, count(|series| series.histograms.len()));
            assert_eq!(written.exemplars, count(|series| series.exemplars.len()));
            plain = bytes;
            out.push((found, written));
        }
        out.try_into().expect("two versions")
    }

    fn commit(&mut self) {
        self.0.iter_mut().for_each(|(_, encoder)| encoder.commit());
    }
}

fn options(choices: &mut Choices<'_>) -> Options {
    let byte = choices.byte();
    Options {
        naming: choices.one(&[
            Naming::UnderscoreEscapingWithSuffixes,
            Naming::UnderscoreEscapingWithoutSuffixes,
            Naming::NoUtf8EscapingWithSuffixes,
            Naming::NoTranslation,
        ]),
        scope_labels: byte & 1 == 0,
        target_info: byte & 2 == 0,
        promote: if byte & 4 == 0 { vec![] } else { vec!["host.name".to_owned()] },
        external_labels: if byte & 8 == 0 { vec![] } else { vec![("job".into(), "ext".into())] },
        buckets: if byte & 16 == 0 {
            vec![]
        } else {
            vec![BucketRule { metrics: Glob::new("*"), keep: vec![1.0] }]
        },
        native_histograms: byte & 32 == 0,
        ..Options::default()
    }
}

/// Checks all that the module promises, for the batches that `data` stands for.
pub fn check(data: &[u8]) {
    let choices = &mut Choices(data);
    let (interner, options) = (Interner::new(), options(choices));
    let mut encoders = Encoders::new(&options);
    let mut shapes: [Option<Arc<Shape>>; 2] = [None, None];
    let ids = [SourceId::next(), SourceId::next()];
    let mut last: HashMap<(u8, Vec<(String, String)>), i64> = HashMap::new();
    let mut ms = START_MS;
    for _ in 0..8 {
        let mut batches = Vec::new();
        for _ in 0..choices.below(4) {
            let which = choices.below(2);
            let before = shapes[which].take();
            let shape = match before {
                Some(shape) if choices.byte() > 80 => shape,
                before => choices.shape(&interner, which, before.as_deref()),
            };
            ms += i64::from(choices.byte() % 40) * 500 - 2_000;
            batches.push(choices.batch(ids[which], &shape, ms));
            if batches.last().is_some_and(|batch| batch.ended) {
                // Nothing of an ended source is remembered; it comes back later if at all.
                ms += 1_000_000;
            }
            shapes[which] = Some(shape);
        }
        let [(v1, written), (v2, written2)] = encoders.encode(&batches);
        if !options.naming.keeps_utf8() {
            assert_eq!(written, written2);
            assert_eq!(v1.series.len(), v2.series.len());
            for (a, b) in v1.series.iter().zip(&v2.series) {
                assert_eq!(a.labels, b.labels);
                let of = |samples: &[pipeline_wire::remote_write::decode::Sample]| {
                    samples.iter().map(|sample| (sample.bits, sample.ms)).collect::<Vec<_>>()
                };
                assert_eq!(of(&a.samples), of(&b.samples));
            }
        }
        if choices.byte() > 200 {
            // Not taken, and not sent again.
            continue;
        }
        encoders.commit();
        let of = |version, request: Request| request.series.into_iter().map(move |s| (version, s));
        for (version, series) in of(1, v1).chain(of(2, v2)) {
            let times = series.samples.iter().map(|sample| sample.ms);
            for ms in times.chain(series.histograms.iter().map(|histogram| histogram.ms)) {
                let before = last.insert((version, series.labels.clone()), ms);
                assert!(
                    before.is_none_or(|before| before < ms),
                    "{} at {ms} in {version}",
                    series.text()
                );
            }
        }
    }
}
