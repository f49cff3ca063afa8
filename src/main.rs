//! `inferometer`: tells the people who run LLM inference what their fleet is doing.
//!
//! Wiring only: the command line is in [`cli`], what the commands do in [`commands`], the list of components in
//! [`components`]; everything else is a crate of the workspace.

mod agent;
mod cli;
mod commands;
mod components;
mod exit;
mod logging;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, ConfigCommand, MetricsCommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) => {
            // Help and version go to standard output with code 0, usage errors to standard error with code 2.
            drop(wrong.print());
            return ExitCode::from(u8::try_from(wrong.exit_code()).unwrap_or(2));
        }
    };
    let exit = match command {
        Command::Run => commands::run::run(&global),
        Command::Check { deny_warnings } => commands::check::check(&global, deny_warnings),
        Command::Config { command } => match command {
            ConfigCommand::Show { key, given } => {
                commands::config::show(&global, key.as_deref(), given)
            }
            ConfigCommand::Explain { what } => commands::config::explain(&global, &what),
            ConfigCommand::Schema => commands::config::schema(),
        },
        Command::Components => commands::components::components(global.json),
        Command::Metrics { command } => match command {
            MetricsCommand::List => commands::metrics::list(&global),
            MetricsCommand::Explain { name } => commands::metrics::explain(&global, &name),
        },
        Command::Demo(args) => commands::demo::demo(&global, &args),
        Command::Version => commands::version::version(global.json),
        Command::Completions { shell } => commands::completions::completions(shell),
    };
    exit.into()
}
