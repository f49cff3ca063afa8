//! `inferometer run`.

use pipeline_component::telemetry::Telemetry;

use crate::agent;
use crate::cli::Global;
use crate::exit::Exit;

/// Runs the configuration until it is told to stop.
pub(crate) fn run(global: &Global) -> Exit {
    let telemetry = Telemetry::default();
    crate::logging::start(global, &telemetry);
    let document = match agent::load(global) {
        Ok(document) => document,
        Err(exit) => return exit,
    };
    match agent::build(&document, &telemetry) {
        Ok(built) => {
            if !built.warnings.is_empty() {
                agent::tell(global, &built.warnings);
            }
            agent::run(built, telemetry, &agent::name(&global.config), std::future::pending())
        }
        Err(found) => {
            agent::tell(global, &found);
            Exit::Config
        }
    }
}
