//! From a configuration to a running agent and its end: what `run` and `demo` share.

use std::path::PathBuf;
use std::time::Instant;

use pipeline_admin::AdminSettings;
use pipeline_component::telemetry::{Telemetry, table};
use pipeline_component::{Shutdown, StartError};
use pipeline_config::{Color, Diagnostics, Document};
use pipeline_engine::Graph;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::cli::Global;
use crate::exit::Exit;
use crate::terminal::{answer, colour, remark};

/// What runs without a file.
pub(crate) const DEFAULT_CONFIG: &str = include_str!("../configs/default.toml");

/// Threads that carry tasks: a pipeline has at most a few workers, and more threads only cost memory.
const THREADS_MAX: usize = 4;

/// The configuration that the options name; the embedded default when they name none.
///
/// # Errors
/// What is wrong with the files, told on standard error already.
pub(crate) fn load(global: &Global) -> Result<Document, Exit> {
    let loaded = if global.config.is_empty() {
        Document::parse("default.toml", DEFAULT_CONFIG)
            .and_then(|document| document.with_sets(&global.set))
    } else {
        Document::load(&global.config, &global.set)
    };
    loaded.map_err(|wrong| {
        tell(global, &wrong);
        Exit::Config
    })
}

/// Tells diagnostics: rendered for people on standard error, or as JSON on standard output.
pub(crate) fn tell(global: &Global, found: &Diagnostics) {
    if global.json {
        // The exit code says that something is wrong already.
        _ = answer(&found.to_json().to_string());
        return;
    }
    let coloured = colour(global.color, std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let rendered = found.render(if coloured { Color::Always } else { Color::Never });
    remark(&format!("{rendered}\n{}", found.summary()));
}

/// A configuration that holds: the graph, the admin settings, and what is worth a warning.
pub(crate) struct Built {
    pub(crate) graph: Graph,
    pub(crate) admin: AdminSettings,
    pub(crate) warnings: Diagnostics,
}

/// Makes everything that `document` says, without IO.
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn build(document: &Document, telemetry: &Telemetry) -> Result<Built, Diagnostics> {
    let mut found = Diagnostics::new();
    let admin = match document.section(&["admin"]) {
        None => AdminSettings::default(),
        Some(section) => {
            let admin: AdminSettings = found.keep(section.decode()).unwrap_or_default();
            found.keep(admin.check(&section));
            admin
        }
    };
    match found.keep(pipeline_engine::build(document, &crate::components::factories(), telemetry)) {
        Some((graph, warnings)) if !found.has_errors() => Ok(Built { graph, admin, warnings }),
        _ => Err(found),
    }
}

/// What the log calls the configuration.
pub(crate) fn name(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if shown.is_empty() { "embedded default".to_owned() } else { shown.join(", ") }
}

/// Runs `built` until a signal, or until `until` resolves, and drains it.
pub(crate) fn run(
    built: Built,
    telemetry: Telemetry,
    config: &str,
    until: impl Future<Output = ()> + Send,
) -> Exit {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("inferometer")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(denied) => {
            remark(&format!("error: cannot start threads: {denied}"));
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(serve(built, telemetry, config, until, began));
    // A blocked write to a closed pipe must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    exit
}

async fn serve(
    built: Built,
    telemetry: Telemetry,
    config: &str,
    until: impl Future<Output = ()> + Send,
    began: Instant,
) -> Exit {
    let Built { graph, admin, .. } = built;
    let version = env!("CARGO_PKG_VERSION");
    let build_info = telemetry.gauge(&table::BUILD_INFO, &[("version", version)]);
    build_info.set(1.0);
    info!(version, config, "inferometer starts");
    let (receivers, exporters) = graph.counts();
    let (stop, stop_admin) = (Shutdown::new(), Shutdown::new());
    let mut admin_task = tokio::task::JoinSet::new();
    if admin.enabled {
        match pipeline_admin::start(admin, graph.health(), telemetry.clone(), stop_admin.clone())
            .await
        {
            Ok((_, running)) => drop(admin_task.spawn(running)),
            Err(wrong) => return start_failed(&wrong),
        }
    }
    let ready = move || {
        let millis = began.elapsed().as_millis() as u64;
        info!(receivers, exporters, millis, "ready");
    };
    let running = pipeline_engine::run(graph, stop.clone(), ready);
    let ended = tokio::select! {
        ended = running => ended,
        number = second_signal(&stop, until) => return Exit::Signal(number),
    };
    stop_admin.trigger();
    while admin_task.join_next().await.is_some() {}
    match ended {
        Ok(()) => {
            info!("stopped");
            Exit::Fine
        }
        Err(wrong) => start_failed(&wrong),
    }
}

fn start_failed(wrong: &StartError) -> Exit {
    remark(&format!("error: {wrong}"));
    match wrong {
        StartError::Bind(_) => Exit::Bind,
        StartError::Permission(_) => Exit::Permission,
        StartError::Other(_) => Exit::Failed,
    }
}

/// Triggers `stop` at the first signal or when `until` resolves; resolves with the number of a second signal.
async fn second_signal(stop: &Shutdown, until: impl Future<Output = ()> + Send) -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        error!("cannot listen to signals: stop the process by force");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => info!("interrupted; once more stops at once"),
        _ = terminate.recv() => info!("terminated"),
        () = until => {}
    }
    stop.trigger();
    tokio::select! {
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
