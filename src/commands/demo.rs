//! `inferometer demo`: a simulated fleet over real HTTP on loopback, and the normal pipeline on it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use pipeline_component::telemetry::Telemetry;
use pipeline_config::Document;
use serde_json::json;
use simulator::{Fleet, demo_fleet};
use tokio::runtime::Runtime;

use crate::agent;
use crate::cli::{DemoArgs, Global};
use crate::exit::Exit;
use crate::terminal::remark;

/// The pipeline of the demo. Its targets come from a file that the demo writes once the engines' ports are known.
const DEMO_CONFIG: &str = include_str!("../../configs/demo.toml");

/// Starts the fleet, then runs the demo configuration on it.
pub(crate) fn demo(global: &Global, args: &DemoArgs) -> Exit {
    let telemetry = Telemetry::default();
    crate::logging::start(global, &telemetry);
    if !(0.0..=1000.0).contains(&args.speed) {
        remark(&format!("error: --speed is {}, expected a number from 0 to 1000", args.speed));
        return Exit::Usage;
    }
    let (runtime, fleet, targets) = match start_fleet(args.speed) {
        Ok(started) => started,
        Err(wrong) => {
            remark(&format!("error: cannot start the simulated fleet: {wrong}"));
            return Exit::Failed;
        }
    };
    remark(&introduction(&fleet, args));
    let sets = [
        format!("receivers.engines.file_sd.files=[{:?}]", targets.path().join("targets.json")),
        format!("exporters.prometheus.listen={:?}", args.listen),
        format!("service.data_dir={:?}", targets.path()),
    ];
    let sets: Vec<String> = sets.into_iter().chain(global.set.iter().cloned()).collect();
    let built = Document::parse("demo.toml", DEMO_CONFIG)
        .and_then(|document| document.with_sets(&sets))
        .and_then(|document| agent::build(&document, &telemetry));
    let exit = match built {
        Ok(built) => {
            let limit = args.seconds.map(Duration::from_secs);
            let until = async move {
                match limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            agent::run(built, telemetry, "demo", until)
        }
        Err(found) => {
            agent::tell(global, &found);
            Exit::Config
        }
    };
    runtime.block_on(fleet.shutdown());
    exit
}

/// The fleet on a thread of its own (as engines have processes of their own), and a folder with its targets in
/// Prometheus' file format.
fn start_fleet(speed: f64) -> std::io::Result<(Runtime, Fleet, tempfile::TempDir)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("simulator")
        .enable_all()
        .build()?;
    let mut fleet = runtime.block_on(Fleet::start(demo_fleet()))?;
    let folder = tempfile::tempdir()?;
    write_targets(&fleet, folder.path())?;
    // A minute of history, so that the first look shows engines at work.
    fleet.advance(Duration::from_secs(60));
    runtime.block_on(async { fleet.run_clock(speed) });
    Ok((runtime, fleet, folder))
}

fn write_targets(fleet: &Fleet, folder: &Path) -> std::io::Result<()> {
    let targets: Vec<_> = (0..fleet.len())
        .map(|engine| {
            let identity = fleet.spec(engine).identity;
            let labels: serde_json::Map<String, serde_json::Value> = identity
                .pairs()
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| {
                    let name = if name == "pod_name" { "pod" } else { name };
                    (name.to_owned(), value.into())
                })
                .collect();
            json!({ "targets": [fleet.address(engine).to_string()], "labels": labels })
        })
        .collect();
    std::fs::write(folder.join("targets.json"), serde_json::Value::Array(targets).to_string())
}

fn introduction(fleet: &Fleet, args: &DemoArgs) -> String {
    let mut text =
        "A simulated fleet (no GPU, no real model), scraped over HTTP by the normal pipeline:\n"
            .to_owned();
    for engine in 0..fleet.len() {
        let spec = fleet.spec(engine);
        // Writing to a String cannot fail.
        _ = writeln!(
            text,
            "  {:<9} {:<7} {:<12} {:<20} http://{}/metrics",
            spec.name,
            spec.release.engine(),
            spec.release.version(),
            spec.identity.model_name,
            fleet.address(engine)
        );
    }
    _ = writeln!(
        text,
        "Load rises and falls within four minutes; the old engine restarts now and then."
    );
    _ = writeln!(text, "\n  curl http://{}/metrics      what Prometheus would scrape", args.listen);
    _ = writeln!(
        text,
        "  curl http://127.0.0.1:9465/metrics      what inferometer says about itself"
    );
    _ = writeln!(text, "\nCtrl-C stops it.");
    text
}
