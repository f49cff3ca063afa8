//! An exporter with `when_full = "backpressure"` beside others is warned of.

use pipeline_component::telemetry::Telemetry;
use pipeline_component::{
    BoxFuture, BuildExporter, Component, Delivered, Delivery, ExportError, ExporterFactory,
    Factories, Outlet, Part, Push, QueueSettings, Sender, Settings, Stability,
};
use pipeline_config::{Diagnostics, Document, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::factories;
use crate::build;

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    queue: QueueSettings,
}

struct Pusher;

impl Sender for Pusher {
    fn send<'a>(&'a mut self, _: &'a [Part]) -> BoxFuture<'a, Result<Delivered, ExportError>> {
        Box::pin(async { Ok(Delivered::default()) })
    }
}

impl Component for Pusher {
    type Config = Config;
    const TYPE: &'static str = "pusher";
    const STABILITY: Stability = Stability::Alpha;
    const SUMMARY: &'static str = "Delivers.";
}

impl BuildExporter for Pusher {
    fn build(config: Config, _: &Section, _: Settings) -> Result<Outlet, Diagnostics> {
        let (batch, retry) = Default::default();
        let delivery = Delivery { queue: config.queue, batch, retry, concurrency: 1 };
        let sender = Box::new(|| -> Box<dyn Sender> { Box::new(Pusher) });
        Ok(Outlet::Push(Push { steps: Vec::new(), delivery, sender }))
    }
}

fn warnings(exporters: &str) -> Diagnostics {
    let text = format!(
        "
[receivers.source]
[exporters.waits]
type = 'pusher'
queue = {{ when_full = 'backpressure' }}
[exporters.drops]
type = 'pusher'
[exporters.sink]
[pipelines.one]
receivers = ['source']
exporters = [{exporters}]
[pipelines.other]
receivers = ['source']
exporters = ['drops', 'sink']
[pipelines.alone]
receivers = ['source']
exporters = ['waits']
"
    );
    let mut factories: Factories = factories();
    factories.exporters.push(ExporterFactory::exporter::<Pusher>());
    let document = Document::parse("test.toml", &text).unwrap();
    build(&document, &factories, &Telemetry::default()).unwrap().1
}

#[test]
fn an_exporter_that_holds_up_the_others_is_warned_of() {
    let warnings = warnings("'drops',\n'sink',\n'waits'");
    let told: Vec<_> = warnings.iter().collect();
    let [one] = told[..] else { panic!("one warning: {told:?}") };
    assert_eq!(one.code, "config::holds-up");
    assert!(one.message.starts_with("`waits` holds up the other exporters"), "{}", one.message);
    assert_eq!(one.primary.as_ref().unwrap().line_column().0, 13);
}

#[test]
fn alone_it_holds_up_nobody_and_those_that_drop_never_do() {
    for exporters in ["'waits'", "'drops', 'sink'"] {
        let warnings = warnings(exporters);
        assert_eq!(warnings.iter().count(), 0, "{warnings}");
    }
}
