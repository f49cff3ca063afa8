//! From configuration to a graph of nodes, ready to run. No IO: everything that is wrong is found before anything
//! starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline_component::telemetry::Telemetry;
use pipeline_component::{
    ComponentId, Exporter, Factories, Factory, Local, Outlet, Processor, Receiver, Settings,
    SystemTimeSource,
};
use pipeline_config::{Diagnostic, Diagnostics, Document, Section, codes, similar};
use pipeline_model::{Contract, Interner, MetadataStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::{DeliveryNode, DeliveryQueue, folder};
use crate::health::{Health, Status};
use crate::pipeline::{Outflow, PipelineInput, Queue, ReceiverEdge, Worker, pipeline};
use crate::queue::{ExporterQueue, QUEUE_BYTES_MAX};
use crate::service::Service;
use crate::steps::segments;

/// Which receivers feed which processors and exporters.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// Names of receivers.
    pub receivers: Vec<String>,
    /// Names of processors, in order.
    pub processors: Vec<String>,
    /// Names of exporters; each gets every batch.
    pub exporters: Vec<String>,
}

pub(crate) struct ReceiverNode {
    pub(crate) name: String,
    pub(crate) receiver: Box<dyn Receiver>,
    pub(crate) edge: ReceiverEdge,
}

pub(crate) struct ExporterNode {
    pub(crate) name: String,
    pub(crate) outflow: Outflow,
    pub(crate) ends: Ends,
}

/// What is behind an exporter's queue.
pub(crate) enum Ends {
    Local { exporter: Arc<dyn Exporter>, queue: Arc<ExporterQueue> },
    Push(DeliveryNode),
}

/// Everything that will run, made but not started.
pub struct Graph {
    pub(crate) receivers: Vec<ReceiverNode>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) exporters: Vec<ExporterNode>,
    pub(crate) health: Arc<Health>,
    pub(crate) interner: Arc<Interner>,
    pub(crate) telemetry: Telemetry,
    pub(crate) drain_timeout: Duration,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (receivers, exporters) = self.counts();
        f.debug_struct("Graph")
            .field("receivers", &receivers)
            .field("exporters", &exporters)
            .finish_non_exhaustive()
    }
}

impl Graph {
    /// Who is well; shared with the admin server.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// How many receivers and exporters will run.
    pub fn counts(&self) -> (usize, usize) {
        (self.receivers.len(), self.exporters.len())
    }
}

/// A component as configured: its section and the factory of its type.
struct Configured<'a, B> {
    section: Section,
    factory: &'a Factory<B>,
    used: bool,
}

/// Collects everything that is wrong while going on with what is right.
struct Builder<'a> {
    document: &'a Document,
    found: Diagnostics,
    settings: Settings,
}

/// Makes the graph that `document` describes.
///
/// # Errors
/// Everything that is wrong with it, at once and located; warnings alone do not fail it and are returned with it.
pub fn build(
    document: &Document,
    factories: &Factories,
    telemetry: &Telemetry,
) -> Result<(Graph, Diagnostics), Diagnostics> {
    let mut found = document.check_tables(
        &["receivers", "processors", "exporters", "pipelines"],
        &["service", "admin"],
    );
    let service = match document.section(&["service"]) {
        None => Service::default(),
        Some(section) => {
            let service = found.keep(section.decode::<Service>()).unwrap_or_default();
            found.extend(service.check(&section));
            service
        }
    };
    let interner = Arc::new(Interner::new());
    let settings = Settings {
        id: ComponentId { kind: "service", type_name: "service", name: "service".to_owned() },
        interner: Arc::clone(&interner),
        metadata: Arc::new(MetadataStore::new()),
        contract: Arc::new(Contract::new(&service.metric_prefix)),
        telemetry: telemetry.clone(),
        clock: Arc::new(SystemTimeSource),
        data_dir: service.data_dir(),
    };
    let mut builder = Builder { document, found, settings };
    let nodes = builder.nodes(factories, &service);
    let Builder { found, .. } = builder;
    if found.has_errors() {
        return Err(found);
    }
    let (receivers, workers, exporters) = nodes;
    let health = Arc::new(Health::new(telemetry));
    receivers.iter().for_each(|node| health.set(&node.name, Status::Starting));
    exporters.iter().for_each(|node| health.set(&node.name, Status::Starting));
    let drain_timeout = service.shutdown_timeout.get();
    let telemetry = telemetry.clone();
    Ok((Graph { receivers, workers, exporters, health, interner, telemetry, drain_timeout }, found))
}

type Nodes = (Vec<ReceiverNode>, Vec<Worker>, Vec<ExporterNode>);

impl Builder<'_> {
    fn nodes(&mut self, factories: &Factories, service: &Service) -> Nodes {
        let mut receivers = self.configured("receivers", &factories.receivers);
        let mut processors = self.configured("processors", &factories.processors);
        let mut exporters = self.configured("exporters", &factories.exporters);
        let pipelines = self.pipelines();
        let exporter_nodes = self.exporters(&pipelines, &mut exporters);
        let mut inputs: BTreeMap<String, Vec<PipelineInput>> = BTreeMap::new();
        let mut workers = Vec::new();
        for (tag, (name, section, config)) in pipelines.iter().enumerate() {
            let steps = self.steps(section, config, &mut processors);
            self.check_holding_up(section, config, &exporter_nodes);
            let nodes = config.exporters.iter().filter_map(|name| exporter_nodes.get(name));
            let outflows: Vec<Outflow> = nodes.map(|node| node.outflow.clone()).collect();
            let segments = segments(steps, &self.settings.interner, &self.settings.metadata);
            let count = service.workers.get();
            let telemetry = &self.settings.telemetry;
            let (input, mut own) =
                pipeline(name, tag as u64, &segments, &outflows, count, telemetry);
            workers.append(&mut own);
            for receiver in &config.receivers {
                inputs.entry(receiver.clone()).or_default().push(input.clone());
            }
        }
        let receiver_nodes = self.receivers(&pipelines, &mut receivers, inputs);
        self.warn_unused("receivers", &receivers);
        self.warn_unused("processors", &processors);
        self.warn_unused("exporters", &exporters);
        (receiver_nodes, workers, exporter_nodes.into_values().collect())
    }

    /// Every component of one kind, with its type found.
    fn configured<'f, B>(
        &mut self,
        kind: &'static str,
        factories: &'f [Factory<B>],
    ) -> BTreeMap<String, Configured<'f, B>> {
        let mut all = BTreeMap::new();
        for (name, section) in self.document.table(&[kind]) {
            if section.has(&["type"]) && section.text(&["type"]).is_none() {
                self.found.push(section.bad_value(
                    &["type"],
                    "`type` must be a string",
                    "write type = \"…\"",
                ));
                continue;
            }
            let type_name = section.text(&["type"]).map_or_else(|| name.clone(), |(text, _)| text);
            match factories.iter().find(|factory| factory.type_name == type_name) {
                Some(factory) => {
                    for warning in (factory.warnings)(&section).iter() {
                        self.found.push(warning.clone());
                    }
                    all.insert(name, Configured { section, factory, used: false });
                }
                None => self.found.push(unknown_type(&section, kind, &type_name, factories)),
            }
        }
        all
    }

    fn pipelines(&mut self) -> Vec<(String, Section, PipelineConfig)> {
        let mut pipelines = Vec::new();
        for (name, section) in self.document.table(&["pipelines"]) {
            if let Some(config) = self.found.keep(section.decode::<PipelineConfig>()) {
                for (key, list) in
                    [("receivers", &config.receivers), ("exporters", &config.exporters)]
                {
                    if list.is_empty() {
                        self.found.push(section.error(
                            &[key],
                            codes::INCOMPLETE,
                            format!("pipeline `{name}` has no {key}"),
                            format!("name at least one of the [{key}.*] tables: {key} = [\"…\"]"),
                        ));
                    }
                }
                pipelines.push((name, section, config));
            }
        }
        if pipelines.is_empty() && !self.found.has_errors() {
            self.found.push(
                Diagnostic::error(
                    codes::INCOMPLETE,
                    "no pipeline is configured, so nothing would run",
                )
                .help("add a table [pipelines.metrics] with receivers, processors and exporters"),
            );
        }
        pipelines
    }

    fn settings(&self, kind: &'static str, type_name: &'static str, name: &str) -> Settings {
        let id = ComponentId { kind, type_name, name: name.to_owned() };
        let telemetry = self.settings.telemetry.scoped(&[("component", &id.to_string())]);
        Settings { id, telemetry, ..self.settings.clone() }
    }

    /// Reports the names of `wanted` that are not configured; gives the others once each.
    fn resolve<B>(
        &mut self,
        section: &Section,
        key: &'static str,
        wanted: &[String],
        known: &mut BTreeMap<String, Configured<'_, B>>,
    ) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (idx, name) in wanted.iter().enumerate() {
            let index = idx.to_string();
            let path = [key, index.as_str()];
            if let Some(component) = known.get_mut(name) {
                component.used = true;
                if seen.insert(name) {
                    found.push(name.clone());
                } else {
                    let message = format!("`{name}` is named twice");
                    self.found.push(section.error(&path, codes::CONFLICT, message, "name it once"));
                }
            } else if self.document.section(&[key, name]).is_none() {
                self.found.push(self.document.dangling(key, name, section.at(&path)));
            }
        }
        found
    }

    fn exporters(
        &mut self,
        pipelines: &[(String, Section, PipelineConfig)],
        configured: &mut BTreeMap<String, Configured<'_, Outlet>>,
    ) -> BTreeMap<String, ExporterNode> {
        let (mut nodes, mut dirs) = (BTreeMap::new(), BTreeMap::new());
        for (_, section, config) in pipelines {
            for name in self.resolve(section, "exporters", &config.exporters, configured) {
                let Some(component) = configured.get(&name).filter(|_| !nodes.contains_key(&name))
                else {
                    continue;
                };
                let settings = self.settings("exporter", component.factory.type_name, &name);
                let made_with = settings.clone();
                let built = (component.factory.build)(&component.section, settings);
                let section = component.section.clone();
                if let Some(outlet) = self.found.keep(built) {
                    if let Some(dir) = disk_dir(&outlet, &made_with)
                        && let Some(other) = dirs.insert(dir, name.clone())
                    {
                        self.found.push(section.error(
                            &["queue", "disk", "path"],
                            codes::CONFLICT,
                            format!("`{name}` and `{other}` keep their queues in one folder"),
                            "give each its own folder, or leave `path` out",
                        ));
                    }
                    nodes.insert(name, exporter_node(outlet, &made_with));
                }
            }
        }
        nodes
    }

    /// The steps of one pipeline. A processor named in two pipelines is made for each: their state is apart.
    fn steps(
        &mut self,
        section: &Section,
        config: &PipelineConfig,
        configured: &mut BTreeMap<String, Configured<'_, Vec<Processor>>>,
    ) -> Vec<Processor> {
        let mut steps = Vec::new();
        let names = self.resolve(section, "processors", &config.processors, configured);
        self.check_order(section, config, &names, configured);
        for name in names {
            let Some(component) = configured.get(&name) else { continue };
            let settings = self.settings("processor", component.factory.type_name, &name);
            let built = (component.factory.build)(&component.section, settings);
            steps.extend(self.found.keep(built).unwrap_or_default());
        }
        steps
    }

    /// Tells of processors that come after one that takes away what they go by.
    fn check_order(
        &mut self,
        section: &Section,
        config: &PipelineConfig,
        names: &[String],
        configured: &BTreeMap<String, Configured<'_, Vec<Processor>>>,
    ) {
        // What is meant: each one before the first that it must come before.
        let mut meant: Vec<&String> = Vec::with_capacity(names.len());
        let mut losses = Vec::new();
        for name in names {
            let Some(late) = configured.get(name) else { continue };
            let loss = meant.iter().enumerate().find_map(|(place, first)| {
                let type_name = configured.get(*first)?.factory.type_name;
                let (_, why) = late.factory.before.iter().find(|(other, _)| *other == type_name)?;
                Some((place, *first, *why))
            });
            meant.insert(loss.map_or(meant.len(), |(place, ..)| place), name);
            losses.extend(loss.map(|(_, first, why)| (name, first, why)));
        }
        for (name, first, why) in losses {
            let at = config.processors.iter().position(|given| given == name).unwrap_or_default();
            let (at, help) = (at.to_string(), format!("write processors = {meant:?}"));
            let message = format!("`{name}` comes after `{first}`: {why}");
            let is_wrong = configured.get(name).is_some_and(|late| late.factory.order_matters);
            let tell = if is_wrong { Section::error } else { Section::warning };
            self.found.push(tell(section, &["processors", &at], codes::ORDER, message, help));
        }
    }

    /// Tells of exporters that hold up the others of their pipeline.
    fn check_holding_up(
        &mut self,
        section: &Section,
        config: &PipelineConfig,
        nodes: &BTreeMap<String, ExporterNode>,
    ) {
        let names: BTreeSet<&String> = config.exporters.iter().collect();
        for name in names.iter().filter(|_| names.len() > 1) {
            let Some(Queue::Push(queue)) = nodes.get(*name).map(|node| &node.outflow.queue) else {
                continue;
            };
            if queue.holds_back() {
                let at = config.exporters.iter().position(|given| given == *name);
                self.found.push(section.warning(
                    &["exporters", &at.unwrap_or_default().to_string()],
                    codes::HOLDS_UP,
                    format!("`{name}` holds up the other exporters of this pipeline when its queue is full"),
                    format!("set exporters.{name}.queue.when_full = \"drop_oldest\", or give `{name}` a pipeline and receivers of its own"),
                ));
            }
        }
    }

    fn receivers(
        &mut self,
        pipelines: &[(String, Section, PipelineConfig)],
        configured: &mut BTreeMap<String, Configured<'_, Box<dyn Receiver>>>,
        mut inputs: BTreeMap<String, Vec<PipelineInput>>,
    ) -> Vec<ReceiverNode> {
        let mut nodes = Vec::new();
        for (_, section, config) in pipelines {
            for name in self.resolve(section, "receivers", &config.receivers, configured) {
                let (Some(component), Some(inputs)) = (configured.get(&name), inputs.remove(&name))
                else {
                    continue;
                };
                let settings = self.settings("receiver", component.factory.type_name, &name);
                let edge = ReceiverEdge::new(inputs, &settings.telemetry);
                let id = settings.id.to_string();
                let built = (component.factory.build)(&component.section, settings);
                if let Some(receiver) = self.found.keep(built) {
                    nodes.push(ReceiverNode { name: id, receiver, edge });
                }
            }
        }
        nodes
    }

    fn warn_unused<B>(
        &mut self,
        kind: &'static str,
        configured: &BTreeMap<String, Configured<'_, B>>,
    ) {
        for (name, component) in configured.iter().filter(|(_, component)| !component.used) {
            // Its own mistakes are told too: it was written to be used. What is made here is dropped again, and counts
            // with a registry of its own.
            let telemetry = Telemetry::default();
            let settings =
                Settings { telemetry, ..self.settings(kind, component.factory.type_name, name) };
            let built = (component.factory.build)(&component.section, settings);
            self.found.keep(built.map(drop));
            self.found.push(component.section.warning(
                &[],
                codes::UNUSED,
                format!("no pipeline uses {kind}.{name}"),
                format!("name it in a pipeline ({kind} = [\"{name}\"]), or remove the table"),
            ));
        }
    }
}

fn unknown_type<B>(
    section: &Section,
    kind: &str,
    type_name: &str,
    factories: &[Factory<B>],
) -> Diagnostic {
    let one = kind.trim_end_matches('s');
    let known: Vec<&str> = factories.iter().map(|factory| factory.type_name).collect();
    let help = match similar(type_name, known.iter().copied()) {
        Some(near) => format!("did you mean type = \"{near}\"?"),
        None => format!("this build has: {}; say which with type = \"…\"", known.join(", ")),
    };
    let message = format!("there is no {one} of type `{type_name}`");
    section.error(&["type"], codes::UNKNOWN_TYPE, message, help)
}

/// Where the queue of `outlet` is kept, if it is kept in files.
fn disk_dir(outlet: &Outlet, settings: &Settings) -> Option<PathBuf> {
    let Outlet::Push(push) = outlet else { return None };
    let disk = push.delivery.queue.disk.as_ref()?;
    Some(disk.path.clone().unwrap_or_else(|| folder(&settings.data_dir, &settings.id.name)))
}

fn exporter_node(outlet: Outlet, settings: &Settings) -> ExporterNode {
    let name = settings.id.to_string();
    let dir = disk_dir(&outlet, settings).unwrap_or_default();
    match outlet {
        Outlet::Local(Local { steps, exporter }) => {
            let queue = ExporterQueue::new(&name, QUEUE_BYTES_MAX, &settings.telemetry);
            let segments = segments(steps, &settings.interner, &settings.metadata);
            let outflow = Outflow { segments, queue: Queue::Local(Arc::clone(&queue)) };
            ExporterNode { name, outflow, ends: Ends::Local { exporter: exporter.into(), queue } }
        }
        Outlet::Push(push) => {
            let queue = Arc::new(DeliveryQueue::new(&name, push.delivery, &settings.telemetry));
            let segments = segments(push.steps, &settings.interner, &settings.metadata);
            let outflow = Outflow { segments, queue: Queue::Push(Arc::clone(&queue)) };
            let node = DeliveryNode::new(queue, push.sender, dir);
            ExporterNode { name, outflow, ends: Ends::Push(node) }
        }
    }
}
