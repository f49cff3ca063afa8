//! What the log says of lost points.

use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::WhenFull;
use pipeline_journal::faulty::FaultyDisk;
use pipeline_model::SourceId;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::rig::{Reply, Rig, settings};
use super::small;

/// Lines of the log, as `message field=value …`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == tracing::Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Log {
    fn having(&self, text: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// The sum of a field over the lines that have `text`.
    fn sum(&self, text: &str, field: &str) -> u64 {
        let start = format!("{field}=");
        let lines = self.having(text);
        let values = lines.iter().flat_map(|line| line.split(' '));
        values.filter_map(|word| word.strip_prefix(&start)?.parse::<u64>().ok()).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn every_status_has_lines_of_its_own_and_no_point_is_left_out() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    let refusals = [
        "HTTP status 500: oh",
        "HTTP status 400: bad",
        "HTTP status 404",
        "HTTP status 302",
        "HTTP status 501",
        "gRPC status INTERNAL: oh",
    ];
    for time in 0..60 {
        rig.script([Reply::RefuseFor(refusals[time as usize % refusals.len()])]);
        rig.push(source, time, 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for refusal in refusals {
        assert!(!log.having(refusal).is_empty(), "{refusal}");
    }
    assert!(log.having("lost").len() <= 2 * refusals.len(), "a line a minute for each");
    // No further loss, and what was swallowed is told all the same.
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(log.sum("reason=\"permanent\"", "since_last_line"), 600);
    assert!(!log.having("points lost since the last line").is_empty());
    rig.stop(Duration::from_secs(1)).await;
    let totals = log.having("points lost in all");
    assert_eq!(totals.len(), 1, "{totals:?}");
    assert!(totals[0].contains("reason=\"permanent\" points=600"), "{totals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_refusal_are_told_apart_and_summed_up_at_exit() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut rig, source) = (Rig::new(small(10, WhenFull::DropOldest)).await, SourceId::next());
    rig.script([Reply::Refuse, Reply::Reject(3), Reply::Hang]);
    for time in 0..200 {
        rig.push(source, time, 10);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let full = rig.dropped("queue_full");
    assert!(full > 1000);
    let told = log.sum("reason=\"queue_full\"", "since_last_line");
    assert!(
        told <= full && told >= full - 610,
        "all but those of the last minute: {told} of {full}"
    );
    assert!(log.having("reason=\"queue_full\"").len() <= 5);
    rig.stop(Duration::from_secs(1)).await;
    for reason in ["queue_full", "permanent", "rejected", "shutdown"] {
        let all = log.having("points lost in all");
        let one: Vec<_> =
            all.iter().filter(|line| line.contains(&format!("reason={reason:?}"))).collect();
        assert_eq!(one.len(), 1, "{reason}: {all:?}");
        assert!(one[0].contains(&format!("points={}", rig.dropped(reason))), "{one:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_where_nothing_is_lost() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (mut rig, source) = (Rig::new(settings()).await, SourceId::next());
    rig.script([Reply::Fail, Reply::TooLarge]);
    (0..20).for_each(|time| rig.push(source, time, 10));
    rig.settle().await;
    rig.stop(Duration::from_secs(1)).await;
    assert_eq!(log.having("lost"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_full_disk_gives_up_is_told_too() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let files = Arc::new(FaultyDisk::new());
    let delivery = small(20, WhenFull::DropOldest);
    let mut rig = Rig::on_disk(delivery, Path::new("/queue"), 200_000, files).await;
    rig.always(Reply::Hang);
    let source = SourceId::next();
    for time in 0..5000 {
        rig.push(source, time, 10);
        if time % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(70)).await;
    let lost = rig.dropped("disk_full");
    assert!(lost > 10_000, "{lost}");
    assert_eq!(log.sum("reason=\"disk_full\"", "since_last_line"), lost);
    assert!(log.having("reason=\"disk_full\"").len() <= 4);
}
