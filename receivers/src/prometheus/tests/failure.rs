//! What is logged when targets fail, one by one and all at once.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::super::failure::{Budget, Health, ScrapeError};

/// Keeps log lines as `message field=value …`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What `doing` logs.
fn logged(doing: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), doing);
    std::mem::take(&mut *lines.0.lock().unwrap())
}

fn not_metrics(found: &str) -> ScrapeError {
    ScrapeError::NotMetrics(found.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_reminder_says_what_it_stands_for_and_a_first_line_does_not() {
    let (mut health, budget, error) = (Health::new(), Budget::default(), not_metrics("html"));
    let url = "http://h:1/metrics?key=secret";
    let first = logged(|| health.failed(url, &error, &budget));
    assert_eq!(
        first,
        [
            "scrape failed target=http://h:1/metrics cause=\"not_metrics\" error=expected a page of metrics, found html help=\"is this the address of the metrics? set `metrics_path`\""
        ]
    );
    assert!(logged(|| health.failed(url, &error, &budget)).is_empty());
    tokio::time::advance(Duration::from_secs(600)).await;
    let reminder = logged(|| health.failed(url, &error, &budget));
    assert!(reminder[0].ends_with(" swallowed=1"), "{reminder:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mass_failure_is_summed_up_by_cause() {
    let budget = Budget::default();
    let mut fleet: Vec<(String, Health)> =
        (0..60).map(|n| (format!("http://h{n}:1/m"), Health::new())).collect();
    let began = logged(|| {
        for (n, (url, health)) in fleet.iter_mut().enumerate() {
            health.failed(url, &not_metrics(if n < 50 { "html" } else { "json" }), &budget);
        }
    });
    assert_eq!(began.len(), 21);
    assert_eq!(began[20], "many targets change state; a summary follows within a minute");
    let summary = logged(|| budget.sum_up());
    assert_eq!(
        summary,
        [
            "scrapes of more targets failed cause=\"not_metrics\" targets=40 example=http://h20:1/m error=expected a page of metrics, found html help=\"is this the address of the metrics? set `metrics_path`\""
        ]
    );
    assert!(logged(|| budget.sum_up()).is_empty(), "told once");
    let ended = logged(|| {
        for (url, health) in &mut fleet {
            health.succeeded(url, &budget);
        }
        budget.sum_up();
    });
    assert_eq!(ended.len(), 22);
    assert_eq!(ended[0], "target answers again target=http://h0:1/m");
    assert_eq!(ended[21], "more targets answer again targets=40");
}
