//! Factories: how the binary lists components, and how the engine makes them from configuration.

use std::fmt;

use pipeline_config::{Diagnostics, Section};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Outlet, Processor, Receiver, Settings};

/// How far a component can be relied on, in the OpenTelemetry Collector's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Works; settings may still change.
    Beta,
    /// Settings keep their meaning.
    Stable,
    /// Works in part.
    Alpha,
}

impl fmt::Display for Stability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
            Self::Stable => "stable",
        })
    }
}

/// What is said about every component, whatever its kind.
pub trait Component {
    /// What users write. Its `Default` is the one place where defaults live; its doc comments are the reference.
    /// Deserialisation refuses unknown keys.
    type Config: DeserializeOwned + Serialize + JsonSchema + Default;
    /// The type's name in configuration: `prometheus`.
    const TYPE: &'static str;
    /// How far it can be relied on.
    const STABILITY: Stability;
    /// One line: what it is for.
    const SUMMARY: &'static str;
    /// Of processors: the types that it must come before in a pipeline, and what is lost where it does not, as the end
    /// of a sentence: "`pod_id` comes after `labels`: …".
    const BEFORE: &'static [(&'static str, &'static str)] = &[];
    /// Of processors: another order than [`Component::BEFORE`] says is a mistake and not merely a loss.
    const ORDER_MATTERS: bool = false;

    /// What works and is yet unlikely to be meant: warnings, located by `section`. Errors are found by building.
    fn warnings(_config: &Self::Config, _section: &Section) -> Diagnostics {
        Diagnostics::new()
    }
}

/// A receiver that can be made from configuration.
pub trait BuildReceiver: Component {
    /// Makes it, without IO but for files that the configuration names. `section` locates semantic errors.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, located.
    fn build(
        config: Self::Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Box<dyn Receiver>, Diagnostics>;
}

/// A processor that can be made from configuration.
pub trait BuildProcessor: Component {
    /// Makes its steps, in order, without IO.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, located.
    fn build(
        config: Self::Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics>;
}

/// An exporter that can be made from configuration.
pub trait BuildExporter: Component {
    /// Makes it, without IO but for files that the configuration names.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, located.
    fn build(
        config: Self::Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Outlet, Diagnostics>;
}

/// One component type of this build.
pub struct Factory<B> {
    /// Its name in configuration.
    pub type_name: &'static str,
    /// How far it can be relied on.
    pub stability: Stability,
    /// One line: what it is for.
    pub summary: &'static str,
    /// The types that it must come before in a pipeline, and what is lost where it does not.
    pub before: &'static [(&'static str, &'static str)],
    /// Another order is a mistake.
    pub order_matters: bool,
    /// JSON Schema of its configuration.
    pub schema: fn() -> Schema,
    /// Its configuration with every default spelled out.
    pub defaults: fn() -> toml::Value,
    /// Its configuration as given in the section, with defaults filled in; secrets are redacted.
    pub effective: fn(&Section) -> Result<toml::Value, Diagnostics>,
    /// What works and is yet unlikely to be meant; nothing for a section that cannot be decoded.
    pub warnings: fn(&Section) -> Diagnostics,
    /// Makes it.
    pub build: fn(&Section, Settings) -> Result<B, Diagnostics>,
}

impl<B> fmt::Debug for Factory<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Factory").field("type_name", &self.type_name).finish_non_exhaustive()
    }
}

/// Makes receivers.
pub type ReceiverFactory = Factory<Box<dyn Receiver>>;
/// Makes the steps of processors.
pub type ProcessorFactory = Factory<Vec<Processor>>;
/// Makes exporters.
pub type ExporterFactory = Factory<Outlet>;

/// All that a build contains.
#[derive(Debug, Default)]
pub struct Factories {
    /// Receivers.
    pub receivers: Vec<ReceiverFactory>,
    /// Processors.
    pub processors: Vec<ProcessorFactory>,
    /// Exporters.
    pub exporters: Vec<ExporterFactory>,
}

fn value_of<T: Serialize>(config: &T) -> toml::Value {
    // A config that TOML cannot say (a map with odd keys) shows as nothing rather than failing `config show`.
    toml::Value::try_from(config).unwrap_or_else(|_| toml::Value::Table(toml::Table::new()))
}

impl<B> Factory<B> {
    fn of<T: Component>(build: fn(&Section, Settings) -> Result<B, Diagnostics>) -> Self {
        Self {
            type_name: T::TYPE,
            stability: T::STABILITY,
            summary: T::SUMMARY,
            before: T::BEFORE,
            order_matters: T::ORDER_MATTERS,
            schema: || schemars::schema_for!(T::Config),
            defaults: || value_of(&T::Config::default()),
            effective: |section| Ok(value_of(&section.decode::<T::Config>()?)),
            warnings: |section| {
                let config = section.decode::<T::Config>();
                config.map_or_else(|_| Diagnostics::new(), |config| T::warnings(&config, section))
            },
            build,
        }
    }
}

impl ReceiverFactory {
    /// The factory of `T`.
    pub fn receiver<T: BuildReceiver>() -> Self {
        Self::of::<T>(|section, settings| T::build(section.decode()?, section, settings))
    }
}

impl ProcessorFactory {
    /// The factory of `T`.
    pub fn processor<T: BuildProcessor>() -> Self {
        Self::of::<T>(|section, settings| T::build(section.decode()?, section, settings))
    }
}

impl ExporterFactory {
    /// The factory of `T`.
    pub fn exporter<T: BuildExporter>() -> Self {
        Self::of::<T>(|section, settings| T::build(section.decode()?, section, settings))
    }
}
