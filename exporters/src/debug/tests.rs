//! What is printed, and when it is not.

use std::sync::Arc;

use expect_test::expect;
use pipeline_component::telemetry::table;
use pipeline_component::{Exporter, Settings, Shutdown};
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, Mark, Metric, Resource, Scope, ShapeBuilder,
    Slot, SourceId,
};
use tokio::io::AsyncReadExt;
use tokio::time::{Duration, advance};

use super::{Config, Debug, Verbosity, print};

fn sample() -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group {
        resource: Arc::new(Resource {
            attributes: Labels::from_pairs([("service.name", "llm")]),
            ..Resource::default()
        }),
        scope: Arc::new(Scope { name: "scraper".into(), ..Scope::default() }),
        labels: Labels::from_pairs([("replica", "r1"), ("instance", "h:1"), ("job", "llm")]),
    });
    let mut push = |name: &str, unit: &str, kind: Kind, labels: &[(&str, &str)]| {
        let labels = Labels::from_pairs(labels.iter().copied());
        builder.push(group, &Arc::new(Metric::new(name, unit, "", kind)), &labels).expect("new");
    };
    push("requests_total", "{request}", Kind::COUNTER, &[("status", "2\"00")]);
    push("wait_seconds", "s", Kind::histogram(Bounds::new(&[0.5, 1.0])), &[]);
    push("took", "s", Kind::Summary { quantiles: Bounds::new(&[0.5]) }, &[]);
    push("gone", "", Kind::Gauge, &[]);
    push("silent", "", Kind::Gauge, &[]);
    let slots = [3.0, 1.5, 4.0, 1.0, 3.0, 2.0, 1.0, 2.0, 0.0, 0.0].map(Slot::double).to_vec();
    let mut batch =
        Batch::new(SourceId::next().derive(0), builder.finish(), 1_700_000_000_250_000_000, slots);
    batch.marks = Some(Arc::new(vec![
        Mark::Present,
        Mark::Present,
        Mark::Present,
        Mark::Stale,
        Mark::Absent,
    ]));
    batch.starts = Some(Arc::new(vec![1_600_000_000_000_000_000, 0, 0, 0, 0]));
    batch
}

fn printed(verbosity: Verbosity) -> String {
    let batch = sample();
    print::batch(&batch, verbosity).replace(&batch.source.get().to_string(), "N")
}

#[test]
fn basic() {
    expect![[r##"
        # source N {instance="h:1",job="llm"} at 2023-11-14T22:13:20.250Z: 3 points of 5 series
        requests_total{instance="h:1",job="llm",replica="r1",status="2\"00"} 3
        wait_seconds{instance="h:1",job="llm",replica="r1"} count=4 sum=1.5
        took{instance="h:1",job="llm",replica="r1"} count=1 sum=2 0.5:2
        gone{instance="h:1",job="llm",replica="r1"} stale
    "##]]
    .assert_eq(&printed(Verbosity::Basic));
}

#[test]
fn detailed() {
    expect![[r##"
        # source N {instance="h:1",job="llm"} at 2023-11-14T22:13:20.250Z: 3 points of 5 series
        # resource {service.name="llm"} scope "scraper" ""
        requests_total{instance="h:1",job="llm",replica="r1",status="2\"00"} 3 (counter, unit {request}, since 2020-09-13T12:26:40.000Z)
        wait_seconds{instance="h:1",job="llm",replica="r1"} count=4 sum=1.5 0.5:1 1:3 (histogram, unit s)
        took{instance="h:1",job="llm",replica="r1"} count=1 sum=2 0.5:2 (summary, unit s)
        gone{instance="h:1",job="llm",replica="r1"} stale
    "##]].assert_eq(&printed(Verbosity::Detailed));
}

#[test]
fn sources_without_a_name_and_times_before_1970() {
    let shape = ShapeBuilder::new(&Interner::new()).finish();
    let batch = Batch::new(SourceId::next(), shape, -1_500_000_000, Vec::new());
    let expected = format!("# source {} at -1.500: 0 points of 0 series\n", batch.source.get());
    assert_eq!(print::batch(&batch, Verbosity::Basic), expected);
}

fn exporter(settings: &Settings) -> Debug {
    Debug::new(Config::default(), settings)
}

#[tokio::test(start_paused = true)]
async fn a_source_is_printed_once_in_a_while_and_at_its_end() {
    let exporter = exporter(&Settings::standalone("exporter", "debug"));
    let batch = sample();
    let mut due = Vec::new();
    for _ in 0..3 {
        due.push(exporter.is_due(&batch));
        advance(Duration::from_secs(6)).await;
    }
    due.push(exporter.is_due(&sample()));
    due.push(exporter.is_due(&Batch::end(batch.source, batch.shape, 0)));
    assert_eq!(due, [true, false, true, true, true]);
}

#[tokio::test]
async fn what_does_not_fit_is_counted_and_the_rest_is_printed() {
    let settings = Settings::standalone("exporter", "debug");
    let exporter = exporter(&settings);
    for _ in 0..20 {
        exporter.export(&sample()).await.expect("never fails");
    }
    let dropped =
        settings.telemetry.counter(&table::EXPORTER_DROPPED, &[("reason", "output_full")]);
    assert_eq!(dropped.get(), 4 * 3);
    let (writer, mut reader) = tokio::io::duplex(1 << 20);
    let stop = Shutdown::new();
    stop.trigger();
    exporter.run(stop, writer).await.expect("stops");
    let mut text = String::new();
    reader.read_to_string(&mut text).await.expect("text");
    assert_eq!(text.matches("requests_total").count(), 16);
}
