//! What users write for the receiver `prometheus`, and the checks beyond types. Keys are Prometheus' words.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use pipeline_config::{ByteSize, Diagnostic, Diagnostics, Duration, Section, codes};
use pipeline_net::Secret;
use pipeline_net::client::{AuthorizationSettings, BasicAuthSettings, ClientSettings};
use pipeline_net::tls::ClientTls;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::discovery::file_sd::Pattern;
use super::target::{Candidate, Defaults, LabelMap};

/// Scrapes Prometheus metrics from targets that are listed here, listed in files, or found on this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Time from scrape to scrape. Scrapes of different targets are spread over it.
    pub interval: Duration,
    /// How long a scrape may take, connecting included; at most `interval`.
    pub timeout: Duration,
    /// What to scrape: `host:port`, or a whole address such as `http://host:8000/metrics`.
    pub targets: Vec<String>,
    /// Targets with labels of their own.
    pub r#static: Vec<StaticTargets>,
    /// Targets in files, in Prometheus' JSON format.
    pub file_sd: Option<FileSdConfig>,
    /// Finds engines by itself: `local` looks at the listening ports of this host.
    pub discover: Option<Discover>,
    /// Which ports `discover = "local"` looks at.
    pub local: LocalConfig,
    /// Labels for every target. Labels of the target itself win.
    pub labels: LabelMap,
    /// Path of the page, where the target does not say.
    pub metrics_path: String,
    /// `http` or `https`, where the target does not say.
    pub scheme: Scheme,
    /// Query parameters, each with one or more values.
    pub params: BTreeMap<String, Vec<String>>,
    /// More headers for every request; never sent to another host.
    pub headers: BTreeMap<String, Secret>,
    /// An `Authorization` header of any scheme. At most one of this, `basic_auth` and the bearer tokens.
    pub authorization: Option<AuthorizationSettings>,
    /// User name and password.
    pub basic_auth: Option<BasicAuthSettings>,
    /// A bearer token.
    pub bearer_token: Option<Secret>,
    /// File with a bearer token; read again when it changes.
    pub bearer_token_file: Option<PathBuf>,
    /// TLS, for `https`.
    pub tls: ClientTls,
    /// Follows redirects; to another host without credentials and `headers`.
    pub follow_redirects: bool,
    /// Where a scraped label and a label of the target have one name: `true` keeps the scraped one, `false` renames it
    /// to `exported_<name>`.
    pub honor_labels: bool,
    /// Keeps timestamps that the page states.
    pub honor_timestamps: bool,
    /// Asks for compressed pages. They cost the engine more time than a local network; compressed pages are understood
    /// in any case.
    pub enable_compression: bool,
    /// Formats to ask for, the preferred one first; what a target answers is read whatever it is. Engines answer text
    /// best, so that is all that is asked for; add `OpenMetricsText1.0.0` for exemplars.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// What a page is taken for whose `Content-Type` is missing or unknown.
    pub fallback_scrape_protocol: ScrapeProtocol,
    /// Takes native histograms: puts protobuf first among the formats to ask for.
    pub native_histograms: bool,
    /// Largest page, after decompression. A larger one fails the scrape, as every limit here does.
    pub body_size_limit: ByteSize,
    /// Most samples of a page. Absent: no limit.
    pub sample_limit: Option<NonZeroUsize>,
    /// Most labels of a sample, labels of the target included. Absent: no limit.
    pub label_limit: Option<NonZeroUsize>,
    /// Longest label name, in bytes. Absent: no limit.
    pub label_name_length_limit: Option<NonZeroUsize>,
    /// Longest label value, in bytes. Absent: no limit.
    pub label_value_length_limit: Option<NonZeroUsize>,
    /// Most targets. Those beyond it are not scraped, which is logged and counted. Absent: no limit.
    pub target_limit: Option<NonZeroUsize>,
}

impl Default for Config {
    /// Prometheus' own defaults where they are bearable in a fleet: 15 s instead of a minute, and a page limit.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            targets: Vec::new(),
            r#static: Vec::new(),
            file_sd: None,
            discover: None,
            local: LocalConfig::default(),
            labels: LabelMap::new(),
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            params: BTreeMap::new(),
            headers: BTreeMap::new(),
            authorization: None,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            tls: ClientTls::default(),
            follow_redirects: true,
            honor_labels: false,
            honor_timestamps: true,
            enable_compression: false,
            scrape_protocols: vec![ScrapeProtocol::PrometheusText0_0_4],
            fallback_scrape_protocol: ScrapeProtocol::PrometheusText0_0_4,
            native_histograms: false,
            body_size_limit: ByteSize::from_mib(32),
            sample_limit: None,
            label_limit: None,
            label_name_length_limit: None,
            label_value_length_limit: None,
            target_limit: None,
        }
    }
}

/// Targets that share labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaticTargets {
    /// What to scrape, as in `targets` of the receiver.
    pub targets: Vec<String>,
    /// Labels for their series, such as `deployment_id`. Those that begin with `__` say how a target is scraped:
    /// `__scheme__`, `__metrics_path__`, `__param_<name>`, `__scrape_interval__`, `__scrape_timeout__`.
    pub labels: LabelMap,
}

/// Files with targets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileSdConfig {
    /// JSON files; `*` and `?` work in the name of the file.
    pub files: Vec<String>,
    /// How often they are read although they do not seem to have changed. Changes are seen within 3 s.
    pub refresh: Duration,
}

impl Default for FileSdConfig {
    fn default() -> Self {
        Self { files: Vec::new(), refresh: Duration::from_secs(30) }
    }
}

/// How targets are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discover {
    /// Engines that listen on a port of this host.
    Local,
}

/// Which ports of this host are looked at. Only sockets bound to loopback or to any address are, and never those of this
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalConfig {
    /// The only ports to look at, such as `8000` or `"8000-8100"`. Empty: every listening port from 1024.
    pub ports: Vec<PortRange>,
    /// Ports that are never looked at.
    pub deny_ports: Vec<PortRange>,
    /// Failed scrapes in a row after which an engine counts as gone.
    pub lost_after: NonZeroU32,
}

impl Default for LocalConfig {
    /// 9464 is where Inferometer itself serves: another one on this host is no engine.
    fn default() -> Self {
        let lost_after = NonZeroU32::MIN.saturating_add(2);
        Self { ports: Vec::new(), deny_ports: vec![PortRange::new(9464, 9464)], lost_after }
    }
}

/// How pages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// A format, by Prometheus' name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ScrapeProtocol {
    /// Text, any of our days. Also `text`.
    #[serde(rename = "PrometheusText0.0.4", alias = "text")]
    PrometheusText0_0_4,
    /// Text that may have UTF-8 in names.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
    /// OpenMetrics before its first version.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    /// OpenMetrics. Also `openmetrics`.
    #[serde(rename = "OpenMetricsText1.0.0", alias = "openmetrics")]
    OpenMetricsText1_0_0,
    /// Length-delimited protobuf, the only format with native histograms. Also `protobuf`.
    #[serde(rename = "PrometheusProto", alias = "protobuf")]
    PrometheusProto,
}

impl ScrapeProtocol {
    /// The media range of an `Accept` header, as Prometheus writes it.
    fn media_range(self) -> &'static str {
        match self {
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText1_0_0 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }
}

/// The `Accept` header for `protocols`: Prometheus' own, which falls from q=0.6 and ends with anything.
fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut header = String::new();
    for (idx, protocol) in protocols.iter().enumerate() {
        header.push_str(&format!("{};q=0.{},", protocol.media_range(), 6 - idx.min(4)));
    }
    header.push_str(&format!("*/*;q=0.{}", 6 - protocols.len().min(5)));
    header
}

/// A port, or the ports from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    from: u16,
    to: u16,
}

impl PortRange {
    /// The ports from `from` to `to`, both included.
    #[must_use]
    pub const fn new(from: u16, to: u16) -> Self {
        Self { from, to }
    }

    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.from..=self.to).contains(&port)
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let range = Self { from: from.trim().parse().ok()?, to: to.trim().parse().ok()? };
        (range.from <= range.to).then_some(range)
    }
}

impl Serialize for PortRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to {
            serializer.serialize_u16(self.from)
        } else {
            serializer.collect_str(&format_args!("{}-{}", self.from, self.to))
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ports;
        impl serde::de::Visitor<'_> for Ports {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as 8000, or ports such as \"8000-8100\"")
            }

            fn visit_i64<E: serde::de::Error>(self, port: i64) -> Result<PortRange, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(port), &self);
                u16::try_from(port).map(|port| PortRange::new(port, port)).map_err(wrong)
            }

            fn visit_u64<E: serde::de::Error>(self, port: u64) -> Result<PortRange, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(port), &self);
                u16::try_from(port).map(|port| PortRange::new(port, port)).map_err(wrong)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PortRange, E> {
                PortRange::parse(text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Ports)
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" },
            ],
        })
    }
}

impl Config {
    /// How targets are scraped that say nothing else; `job` is the name of the receiver.
    pub(super) fn target_defaults(&self, job: &str) -> Defaults {
        Defaults {
            job: job.to_owned(),
            scheme: match self.scheme {
                Scheme::Http => "http".to_owned(),
                Scheme::Https => "https".to_owned(),
            },
            path: self.metrics_path.clone(),
            params: self.params.clone(),
            labels: self.labels.clone(),
            interval: self.interval.get(),
            timeout: self.timeout.get().min(self.interval.get()),
        }
    }

    /// The targets that are listed here.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let of_group = |group: &StaticTargets| -> Vec<Candidate> {
            let one = |address: &String| Candidate {
                labels: group.labels.clone(),
                ..Candidate::at(address)
            };
            group.targets.iter().map(one).collect()
        };
        let plain = self.targets.iter().map(|address| Candidate::at(address));
        plain.chain(self.r#static.iter().flat_map(of_group)).collect()
    }

    /// The patterns of target files; those that are wrong have been reported by [`Self::check`].
    pub(super) fn patterns(&self) -> Vec<Pattern> {
        let files = self.file_sd.iter().flat_map(|file_sd| &file_sd.files);
        files.filter_map(|text| Pattern::parse(text).ok()).collect()
    }

    /// What the client needs to know.
    pub(super) fn client_settings(&self) -> ClientSettings {
        ClientSettings {
            authorization: self.authorization.clone(),
            basic_auth: self.basic_auth.clone(),
            bearer_token: self.bearer_token.clone(),
            bearer_token_file: self.bearer_token_file.clone(),
            headers: self.headers.clone(),
            tls: self.tls.clone(),
            follow_redirects: self.follow_redirects,
        }
    }

    /// The `Accept` header.
    pub(super) fn accept(&self) -> String {
        let mut protocols = self.scrape_protocols.clone();
        if self.native_histograms {
            protocols.retain(|protocol| *protocol != ScrapeProtocol::PrometheusProto);
            protocols.insert(0, ScrapeProtocol::PrometheusProto);
        }
        accept(&protocols)
    }

    /// Everything that is wrong beyond types.
    pub(super) fn check(&self, section: &Section) -> Diagnostics {
        let mut found = Diagnostics::new();
        let has_targets =
            !self.candidates().is_empty() || self.file_sd.is_some() || self.discover.is_some();
        if !has_targets {
            found.push(section.bad_value(
                &[],
                "nothing to scrape",
                "list `targets`, name files in `file_sd`, or write `discover = \"local\"`",
            ));
        }
        for (key, value) in [("interval", self.interval), ("timeout", self.timeout)] {
            if value.is_zero() {
                found.push(section.bad_value(
                    &[key],
                    format!("`{key}` is zero"),
                    "write a duration such as \"15s\"",
                ));
            }
        }
        if self.body_size_limit.get() == 0 {
            let help = "write a size such as \"32MiB\"";
            found.push(section.bad_value(&["body_size_limit"], "`body_size_limit` is zero", help));
        }
        if !self.metrics_path.starts_with('/') {
            let help = "write a path such as \"/metrics\"";
            found.push(section.bad_value(
                &["metrics_path"],
                "`metrics_path` does not begin with `/`",
                help,
            ));
        }
        for fault in self.client_settings().faults() {
            let path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
            found.push(section.bad_value(&path, fault.message, fault.help));
        }
        let mut seen = Vec::new();
        for (idx, protocol) in self.scrape_protocols.iter().enumerate() {
            if seen.contains(protocol) {
                let path = ["scrape_protocols", &idx.to_string()];
                found.push(section.bad_value(
                    &path,
                    "this format is in the list already",
                    "remove it",
                ));
            }
            seen.push(*protocol);
        }
        check_labels(&self.labels, &["labels"], section, &mut found);
        self.check_targets(section, &mut found);
        self.check_files(section, &mut found);
        found
    }

    fn check_targets(&self, section: &Section, found: &mut Diagnostics) {
        let defaults = self.target_defaults("job");
        for (idx, address) in self.targets.iter().enumerate() {
            if let Err(error) = defaults.resolve(&Candidate::at(address)) {
                found.push(section.bad_value(
                    &["targets", &idx.to_string()],
                    error.to_string(),
                    "",
                ));
            }
        }
        for (group_idx, group) in self.r#static.iter().enumerate() {
            let path = ["static", &group_idx.to_string(), "labels"];
            check_labels(&group.labels, &path, section, found);
            for (idx, address) in group.targets.iter().enumerate() {
                let candidate =
                    Candidate { labels: group.labels.clone(), ..Candidate::at(address) };
                if let Err(error) = defaults.resolve(&candidate) {
                    let path = ["static", &group_idx.to_string(), "targets", &idx.to_string()];
                    found.push(section.bad_value(&path, error.to_string(), ""));
                }
            }
        }
    }

    fn check_files(&self, section: &Section, found: &mut Diagnostics) {
        let Some(file_sd) = &self.file_sd else { return };
        if file_sd.files.is_empty() {
            let help = "write `files = [\"/etc/inferometer/targets/*.json\"]`";
            found.push(section.bad_value(&["file_sd"], "`file_sd` without files", help));
        }
        if file_sd.refresh.is_zero() {
            let help = "write a duration such as \"30s\"";
            found.push(section.bad_value(&["file_sd", "refresh"], "`refresh` is zero", help));
        }
        for (idx, pattern) in file_sd.files.iter().enumerate() {
            if let Err(error) = Pattern::parse(pattern) {
                found.push(section.bad_value(&["file_sd", "files", &idx.to_string()], error, ""));
            }
        }
    }
    /// What works and is yet unlikely to be meant.
    pub(super) fn warnings(&self, section: &Section) -> Diagnostics {
        let mut found = Diagnostics::new();
        let (interval, timeout) = (self.interval, self.timeout);
        // The default gives way to a short interval silently: nobody asked for it.
        if section.has(&["timeout"]) && timeout.get() > interval.get() {
            found.push(section.warning(
                &["timeout"],
                codes::CONFLICT,
                format!("`timeout` is above `interval`; scrapes end after {interval}"),
                format!("write at most \"{interval}\", or raise `interval`"),
            ));
        }
        let defaults = self.target_defaults("job");
        let places = self.places();
        let mut keys = HashSet::new();
        for (candidate, path) in self.candidates().iter().zip(&places) {
            let Ok(target) = defaults.resolve(candidate) else { continue };
            if !keys.insert(target.key) {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let message = format!(
                    "target `{}` is in the list already, with equal labels",
                    candidate.address
                );
                found.push(section.warning(
                    &path,
                    codes::CONFLICT,
                    message,
                    "it is scraped once; remove it",
                ));
            }
        }
        found
    }

    /// Where each of [`Self::candidates`] is written down.
    fn places(&self) -> Vec<Vec<String>> {
        let plain = (0..self.targets.len()).map(|idx| vec!["targets".to_owned(), idx.to_string()]);
        let of_group = |(group, targets): (usize, &StaticTargets)| {
            let path = move |idx: usize| {
                ["static", &group.to_string(), "targets", &idx.to_string()]
                    .map(str::to_owned)
                    .to_vec()
            };
            (0..targets.targets.len()).map(path).collect::<Vec<_>>()
        };
        plain.chain(self.r#static.iter().enumerate().flat_map(of_group)).collect()
    }
}

/// Labels that no series can carry. Those that begin with `__` say how a target is scraped.
fn check_labels(labels: &LabelMap, path: &[&str], section: &Section, found: &mut Diagnostics) {
    for name in labels.keys() {
        let help = if name == "__name__" {
            "`__name__` is the name of the metric; choose another one"
        } else if !is_label_name(name) {
            "letters, digits and `_` make a name, and no digit begins it"
        } else {
            continue;
        };
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        let message = format!("expected the name of a label, found `{name}`");
        let place = section.key_at(&path);
        found.push(Diagnostic::error(codes::BAD_VALUE, message).at(place, "").help(help));
    }
}

/// Whether everything that reads Prometheus metrics takes `name` for a label. The name of a parameter may be anything.
fn is_label_name(name: &str) -> bool {
    name.starts_with("__param_")
        || (name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}
