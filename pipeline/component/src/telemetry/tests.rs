//! Self telemetry through its public door.

use std::time::Duration;

use super::{Definition, Telemetry, table};

#[test]
fn one_definition_and_labels_is_one_counter() {
    let telemetry = Telemetry::default();
    let scoped = telemetry.scoped(&[("component", "receivers.a")]);
    scoped.counter(&table::SCRAPES, &[("outcome", "success")]).add(2);
    telemetry
        .counter(&table::SCRAPES, &[("outcome", "success"), ("component", "receivers.a")])
        .inc();
    let text = telemetry.text();
    let line = "inferometer_scrapes_total{component=\"receivers.a\",outcome=\"success\"} 3\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("# TYPE inferometer_scrapes_total counter\n"), "{text}");
}

#[test]
fn values_over_the_cap_are_counted_together() {
    let telemetry = Telemetry::default();
    for n in 0..5000 {
        telemetry
            .counter(&table::NORMALIZE_UNKNOWN, &[("component", "p"), ("name", &format!("n{n}"))])
            .inc();
    }
    let families = telemetry.snapshot();
    let samples = &families[0].samples;
    assert!(samples.len() <= 2001, "{}", samples.len());
    let total: f64 = samples.iter().map(|sample| sample.value).sum();
    assert_eq!(total, 5000.0, "nothing is lost");
    assert!(samples.iter().any(|sample| sample.labels.contains(&("name", "other".to_owned()))));
}

#[test]
fn a_gauge_goes_with_its_last_handle_and_a_counter_stays() {
    let telemetry = Telemetry::default();
    let gauge = telemetry.gauge(&table::TARGET_UP, &[("target", "a")]);
    telemetry.counter(&table::SCRAPES, &[]).inc();
    gauge.set(1.0);
    assert!(telemetry.text().contains("inferometer_target_up{target=\"a\"} 1\n"));
    drop(gauge);
    let text = telemetry.text();
    assert!(!text.contains("target_up") && text.contains("scrapes_total 1\n"), "{text}");
}

#[test]
fn durations_fall_into_cumulative_buckets() {
    let telemetry = Telemetry::default();
    let seconds = telemetry.seconds(&table::SCRAPE_SECONDS, &[]);
    [1, 20, 20, 60_000].iter().for_each(|millis| seconds.observe(Duration::from_millis(*millis)));
    let text = telemetry.text();
    for line in [
        "_bucket{le=\"0.001\"} 1\n",
        "_bucket{le=\"0.025\"} 3\n",
        "_bucket{le=\"+Inf\"} 4\n",
        "_sum 60.041\n",
        "_count 4\n",
    ] {
        assert!(
            text.contains(&format!("inferometer_scrape_duration_seconds{line}")),
            "{line}: {text}"
        );
    }
}

#[test]
fn names_follow_the_conventions() {
    for Definition { name, kind, help, .. } in table::ALL {
        let is_total = name.ends_with("_total");
        assert_eq!(is_total, *kind == super::Type::Counter, "{name}");
        assert!(help.ends_with('.') && name.starts_with("inferometer_"), "{name}");
    }
}
