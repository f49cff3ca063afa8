//! What the scenarios of delivery share: an agent that takes OTLP and delivers it, and its books.

use std::collections::{BTreeMap, HashSet};

use testkit::{Backend, Binary, NUMBERED_SERIES, Source, Verdict, get, samples, value, wait_until};

use crate::agent::{BINARY, PATIENCE};

/// Settings that let a test see many attempts in a second.
pub(crate) const QUICK: &str =
    "batch = { timeout = \"10ms\" }\nretry = { pause_min = \"10ms\", pause_max = \"100ms\" }\n";

/// A receiver `otlp` on free ports, a pipeline of `processors` to every exporter in `exporters` (tables of TOML).
pub(crate) fn config(processors: &[&str], exporters: &str) -> String {
    let names = |kind: &str| -> Vec<String> {
        let start = format!("[{kind}.");
        let tables =
            exporters.lines().filter_map(|line| line.strip_prefix(&start)?.strip_suffix(']'));
        tables.filter(|name| !name.contains('.')).map(str::to_owned).collect()
    };
    format!(
        "[receivers.otlp]\n[receivers.otlp.grpc]\nlisten = \"127.0.0.1:0\"\n[receivers.otlp.http]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{exporters}\n[pipelines.metrics]\nreceivers = [\"otlp\"]\n\
         processors = {processors:?}\nexporters = {:?}\n[service]\ndata_dir = \"data\"\n",
        names("exporters")
    )
}

/// An agent that takes OTLP.
pub(crate) struct Flow {
    pub(crate) binary: Binary,
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) admin: String,
}

impl Flow {
    /// Runs [`config`].
    pub(crate) fn start(exporters: &str) -> Self {
        Self::run(&config(&[], exporters))
    }

    /// Runs a configuration of a receiver `otlp` with both protocols and an admin server.
    pub(crate) fn run(config: &str) -> Self {
        let mut binary = Binary::start(BINARY, &["run"], Some(config));
        let admin = binary.address_of("component=admin");
        let grpc = binary.address_with(&["receivers.otlp", "grpc"]);
        let http = binary.address_with(&["receivers.otlp", "http"]);
        binary.line_with(&["msg=ready"]);
        Self { binary, grpc, http, admin }
    }

    /// A source of `series` series that sends here.
    pub(crate) fn source(&self, name: &str, series: usize) -> Source {
        Source::new(&self.http, name, series)
    }

    /// What the agent says about itself.
    pub(crate) fn telemetry(&self) -> String {
        get(&self.admin, "/metrics").expect("the admin server answers").body
    }

    /// The books of an exporter.
    pub(crate) fn books(&self, exporter: &str) -> Books {
        Books::of(&self.telemetry(), exporter)
    }

    /// Waits until an exporter has nothing left to deliver, and gives its books, which must balance.
    pub(crate) fn settled(&self, exporter: &str) -> Books {
        let books = wait_until("the exporter has delivered all", PATIENCE, || {
            let books = self.books(exporter);
            (books.waiting == 0.0 && books.taken > 0.0).then_some(books)
        });
        assert_eq!(books.taken, books.delivered + books.dropped, "{books:?}");
        books
    }
}

/// What an exporter says it did with its points.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Books {
    pub(crate) taken: f64,
    pub(crate) delivered: f64,
    pub(crate) dropped: f64,
    /// In the queue, on disk alone too, and in flight.
    pub(crate) waiting: f64,
    /// Dropped points by reason.
    pub(crate) reasons: BTreeMap<String, f64>,
}

impl Books {
    pub(crate) fn of(telemetry: &str, exporter: &str) -> Self {
        let component = format!("exporters.{exporter}");
        let own = [("component", component.as_str())];
        let one = |name: &str| value(telemetry, &format!("inferometer_exporter_{name}"), &own);
        let some = |name: &str| one(name).unwrap_or_default();
        let delivered = value(
            telemetry,
            "inferometer_exporter_points_total",
            &[("component", &component), ("outcome", "delivered")],
        );
        let reasons: BTreeMap<String, f64> = samples(telemetry)
            .into_iter()
            .filter(|sample| {
                sample.name == "inferometer_exporter_dropped_points_total"
                    && sample.labels.get("component") == Some(&component)
                    && sample.value > 0.0
            })
            .map(|sample| (sample.labels["reason"].clone(), sample.value))
            .collect();
        Self {
            taken: one("taken_points_total").expect("an exporter that delivers"),
            delivered: delivered.unwrap_or_default(),
            dropped: reasons.values().sum(),
            waiting: some("queue_points") + some("in_flight_points"),
            reasons,
        }
    }
}

/// What several sources were told had been taken.
pub(crate) fn sent(sources: &[&Source]) -> BTreeMap<String, HashSet<i64>> {
    let mut sent = BTreeMap::new();
    sources.iter().for_each(|source| source.add_to(&mut sent));
    sent
}

/// Waits until everything that `sources` sent has come, and judges it.
pub(crate) fn judged(backend: &Backend, sources: &[&Source]) -> Verdict {
    let sent = sent(sources);
    let verdict = wait_until("everything that was sent", PATIENCE, || {
        let verdict = backend.with_ledger(|ledger| ledger.judge(NUMBERED_SERIES, &sent));
        (verdict.missing == 0).then_some(verdict)
    });
    assert_eq!(backend.violations(), Vec::<String>::new());
    verdict
}
