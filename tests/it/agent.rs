//! What the scenarios share: a fleet, an agent on it, and its exposition.

use std::time::Duration;

use simulator::{Fleet, FleetSpec};
use testkit::{Answer, Binary, get, get_with, wait_until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_inferometer");

/// How long a scenario waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs simulated engines; simulated time passes only when a test says so.
pub(crate) struct Engines {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) fleet: Fleet,
}

impl Engines {
    pub(crate) fn start(spec: FleetSpec) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let fleet = runtime.block_on(Fleet::start(spec)).unwrap();
        Self { runtime, fleet }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.fleet.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn address(&self, engine: usize) -> String {
        self.fleet.address(engine).to_string()
    }
}

/// A running agent with its exposition and admin addresses.
pub(crate) struct Agent {
    pub(crate) binary: Binary,
    pub(crate) exposition: String,
    pub(crate) admin: String,
}

/// The tables of the usual pipeline with free ports; `receiver` is the body of the receiver's table.
pub(crate) fn config(receiver: &str) -> String {
    format!(
        "[receivers.engines]\ntype = \"prometheus\"\ninterval = \"200ms\"\ntimeout = \"200ms\"\n{receiver}\n\
         [service]\ndata_dir = \"data\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [processors.llm]\n[processors.normalize]\n[processors.pod_id]\n[processors.labels]\n\
         [exporters.prometheus]\nlisten = \"127.0.0.1:0\"\n\
         [pipelines.metrics]\nreceivers = [\"engines\"]\nprocessors = [\"llm\", \"normalize\", \"pod_id\", \"labels\"]\n\
         exporters = [\"prometheus\"]\n"
    )
}

impl Agent {
    /// Runs `config`, which has an admin server and an exporter `prometheus` on free ports.
    pub(crate) fn start(config: &str) -> Self {
        let mut binary = Binary::start(BINARY, &["run"], Some(config));
        let admin = binary.address_of("component=admin");
        let exposition = binary.address_of("exporters.prometheus");
        binary.line_with(&["msg=ready"]);
        Self { binary, exposition, admin }
    }

    /// The exposition as text.
    pub(crate) fn page(&self) -> String {
        get(&self.exposition, "/metrics").expect("the exposition answers").body
    }

    /// The exposition in the format that `accept` asks for.
    pub(crate) fn page_as(&self, accept: &str) -> Answer {
        get_with(&self.exposition, "/metrics", &[("Accept", accept)])
            .expect("the exposition answers")
    }

    /// What the agent says about itself.
    pub(crate) fn telemetry(&self) -> String {
        get(&self.admin, "/metrics").expect("the admin server answers").body
    }

    /// Waits until the exposition fits, and gives it.
    pub(crate) fn page_when(&self, what: &str, mut fits: impl FnMut(&str) -> bool) -> String {
        wait_until(what, PATIENCE, || {
            let page = self.page();
            fits(&page).then_some(page)
        })
    }
}
