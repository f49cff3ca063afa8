//! `inferometer check`: everything that is wrong with a configuration, at once.

use pipeline_component::telemetry::Telemetry;

use crate::agent;
use crate::cli::Global;
use crate::exit::Exit;
use crate::terminal::remark;

/// Parses, resolves and builds without starting anything.
pub(crate) fn check(global: &Global, deny_warnings: bool) -> Exit {
    let document = match agent::load(global) {
        Ok(document) => document,
        Err(exit) => return exit,
    };
    match agent::build(&document, &Telemetry::default()) {
        Ok(built) => {
            if global.json || !built.warnings.is_empty() {
                agent::tell(global, &built.warnings);
            }
            if !global.json {
                let (receivers, exporters) = built.graph.counts();
                remark(&format!("ok: {receivers} receivers, {exporters} exporters"));
            }
            if deny_warnings && !built.warnings.is_empty() { Exit::Warnings } else { Exit::Fine }
        }
        Err(found) => {
            agent::tell(global, &found);
            Exit::Config
        }
    }
}
