//! What Grafana Cloud would get, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{BuildExporter, Outlet, Part, Settings};
use pipeline_config::Section;
use pipeline_model::{Batch, Compute, Extras, Mark, Slot, SourceId};

use super::thin::Thin;
use super::{Config, GrafanaCloud};
use crate::remote_write::tests::{Bench, Store, batch, part, samples};

const TAKEN: &str = "200 OK\nx-prometheus-remote-write-samples-written: 7";

fn section(toml: &str) -> Section {
    Section::from_toml("exporters.grafana_cloud", toml).expect("toml")
}

fn build(toml: &str, settings: Settings) -> Result<Outlet, String> {
    let section = section(toml);
    let config = section.decode().map_err(|wrong| format!("{wrong:?}"))?;
    GrafanaCloud::build(config, &section, settings).map_err(|wrong| format!("{wrong:?}"))
}

const KEYS: &str = "instance_id = \"123\"\ntoken = \"glc_x\"\n";

#[test]
fn requests_carry_the_instance_and_the_token_and_fewer_buckets() {
    let store = Store::start(&[TAKEN]);
    let toml = format!(
        "{KEYS}endpoint = \"{}\"\nkeep_buckets = [{{ metrics = \"wait_*\", le = [2.0] }}]",
        store.url()
    );
    let (section, settings) = (section(&toml), Settings::standalone("exporter", "grafana_cloud"));
    let config: Config = section.decode().expect("config");
    let mut bench = Bench::of(config.plan(&section, &settings).expect("a plan"));
    bench.send(&[part("a", 1)]).expect("taken");
    let got = store.got();
    // 123:glc_x
    assert_eq!(got[0].header("authorization"), Some("Basic MTIzOmdsY194"));
    let samples = samples(&got[0].request());
    assert_eq!(samples.len(), 6, "{samples:?}");
    assert!(!samples.iter().any(|sample| sample.contains("le=\"1.0\"")), "{samples:?}");

    // 2 numbers, and a histogram of two buckets, sum and count.
    let page = settings.telemetry.text();
    for line in [
        "inferometer_exporter_active_series{component=\"exporters.grafana_cloud\"} 6",
        "inferometer_exporter_metric_active_series{component=\"exporters.grafana_cloud\",metric=\"wait_seconds\"} 4",
        "inferometer_exporter_metric_active_series{component=\"exporters.grafana_cloud\",metric=\"depth\"} 1",
        "inferometer_exporter_samples_per_minute{component=\"exporters.grafana_cloud\"} 6",
        "inferometer_exporter_billed_series{component=\"exporters.grafana_cloud\"} 6",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    drop(bench);
    assert!(!settings.telemetry.text().contains("active_series{"), "nobody sends any more");
}

#[test]
fn the_report_names_no_more_metrics_than_it_may() {
    let store = Store::start(&[TAKEN]);
    let toml = format!("{KEYS}endpoint = \"{}\"\nreport_metrics = 1", store.url());
    let (section, settings) = (section(&toml), Settings::standalone("exporter", "grafana_cloud"));
    let config: Config = section.decode().expect("config");
    let mut bench = Bench::of(config.plan(&section, &settings).expect("a plan"));
    bench.send(&[part("a", 1)]).expect("taken");
    let page = settings.telemetry.text();
    let named: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("inferometer_exporter_metric_active"))
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].contains("wait_seconds"), "{named:?}");
}

#[test]
fn mistakes_are_told() {
    let at = "endpoint = \"https://h.grafana.net/\"\n";
    let otlp = format!("{KEYS}{at}protocol = \"otlp\"\n");
    for (toml, expected) in [
        (KEYS.to_owned(), "expected the `endpoint` that Grafana Cloud's portal shows"),
        (format!("{at}token = \"x\""), "expected `instance_id`, found none"),
        (format!("{at}instance_id = \"1\""), "expected `token`, found none"),
        (format!("{at}token = \"x\"\ninstance_id = \"me\""), "expected the number of an instance"),
        (
            format!("{KEYS}endpoint = \"https://otlp-gateway-prod-eu-west-0.grafana.net/otlp\""),
            "expected an address for remote write, found one for OTLP",
        ),
        (
            format!("{otlp}keep_buckets = [{{ metrics = \"*\", le = [1.0] }}]"),
            "expected no `keep_buckets` with",
        ),
        (format!("{otlp}external_labels = {{ a = \"b\" }}"), "expected no `external_labels` with"),
    ] {
        let settings = Settings::standalone("exporter", "grafana_cloud");
        let told = build(&toml, settings).err().expect("a mistake");
        assert!(told.contains(expected), "{toml}: {told}");
    }
    let gateway = "endpoint = \"https://otlp-gateway-prod-eu-west-0.grafana.net/otlp\"\n";
    let gateway = format!("{KEYS}{gateway}protocol = \"otlp\"\n");
    for toml in [format!("{KEYS}{at}"), otlp, gateway] {
        let outlet = build(&toml, Settings::standalone("exporter", "grafana_cloud"));
        let Ok(Outlet::Push(push)) = outlet else {
            panic!("{toml}: {outlet:?}", outlet = outlet.err())
        };
        assert_eq!(push.steps.len(), 2, "deltas are added up, then thinned");
    }
}

fn run(thin: &mut Thin, batch: Batch) -> Option<Vec<Mark>> {
    let mut out = Vec::new();
    thin.compute(batch, &mut out);
    assert!(out.len() <= 1);
    let out = out.pop()?;
    Some((0..out.shape.len() as u32).map(|row| out.mark(row)).collect())
}

#[test]
fn a_series_has_one_sample_an_interval() {
    let mut thin = Thin::new(Duration::from_secs(60));
    let (source, first) = (SourceId::next(), batch(SourceId::next(), "a", 0));
    let at = |time: i64| Batch { source, time: first.time + time * 1_000_000_000, ..first.clone() };
    let passed: Vec<i64> =
        (0..40).map(|n| n * 15).filter(|time| run(&mut thin, at(*time)).is_some()).collect();
    assert!((10..=11).contains(&passed.len()), "{passed:?}");
    assert!(passed.windows(2).skip(1).all(|two| two[1] - two[0] == 60), "{passed:?}");
    assert_eq!(passed[0], 0, "the first comes at once");

    // The end comes whenever it comes, and what comes after it is new.
    let end = Batch::end(source, Arc::clone(&first.shape), at(601).time);
    assert_eq!(run(&mut thin, end), Some(vec![Mark::Stale; 3]));
    assert!(run(&mut thin, at(602)).is_some());
}

#[test]
fn rows_have_intervals_of_their_own() {
    use Mark::{Absent, Present, Stale};
    let mut thin = Thin::new(Duration::from_secs(60));
    let (source, first) = (SourceId::next(), batch(SourceId::next(), "a", 0));
    let with = |time: i64, marks: [Mark; 3]| Batch {
        source,
        time: first.time + time * 1_000_000_000,
        marks: Some(Arc::new(marks.to_vec())),
        ..first.clone()
    };
    assert_eq!(
        run(&mut thin, with(0, [Present, Absent, Absent])),
        Some(vec![Present, Absent, Absent])
    );
    assert_eq!(
        run(&mut thin, with(0, [Present, Present, Absent])),
        Some(vec![Absent, Present, Absent]),
        "another part of the same moment"
    );
    assert_eq!(
        run(&mut thin, with(0, [Present, Stale, Absent])),
        Some(vec![Absent, Stale, Absent]),
        "an end passes"
    );
    assert_eq!(run(&mut thin, with(0, [Present, Absent, Absent])), None);
    // All present and without marks: the third row alone has had no sample yet.
    let mut whole = with(0, [Present; 3]);
    whole.marks = None;
    assert_eq!(run(&mut thin, whole.clone()), Some(vec![Absent, Absent, Present]));
    // Of times of their own it is these that count.
    let later = first.time + 60_000_000_000;
    whole.extras = Some(Arc::new(Extras { times: Some(vec![later, 0, 0]), ..Extras::default() }));
    assert_eq!(run(&mut thin, whole), Some(vec![Present, Absent, Absent]));
}

#[test]
fn another_shape_is_no_new_sample() {
    let mut thin = Thin::new(Duration::from_secs(60));
    let (source, first) = (SourceId::next(), batch(SourceId::next(), "a", 0));
    let again = Batch { source, ..batch(source, "a", 0) };
    let mut other = Batch { source, ..batch(source, "b", 0) };
    assert!(run(&mut thin, Batch { source, ..first }).is_some());
    assert_eq!(run(&mut thin, again), None, "the same series under another shape's id");
    assert_eq!(run(&mut thin, other.clone()), Some(vec![Mark::Present; 3]));
    other.values = Arc::new(vec![Slot::double(1.0); other.shape.slots()]);
    assert_eq!(run(&mut thin, other), None);
}

#[test]
fn parts_without_samples_are_no_request() {
    let store = Store::start(&[TAKEN]);
    let (section, settings) = (
        section(&format!("{KEYS}endpoint = \"{}\"", store.url())),
        Settings::standalone("exporter", "grafana_cloud"),
    );
    let config: Config = section.decode().expect("config");
    let mut bench = Bench::of(config.plan(&section, &settings).expect("a plan"));
    let mut batch = batch(SourceId::next(), "a", 1);
    batch.marks = Some(Arc::new(vec![Mark::Absent; 3]));
    assert_eq!(bench.send(&[Part::whole(batch)]), Ok(pipeline_component::Delivered::default()));
    assert!(store.got().is_empty());
}
