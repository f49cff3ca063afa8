//! The command line: what can be typed, and nothing of what it does.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Tells the people who run LLM inference what their fleet is doing.
#[derive(Debug, Parser)]
#[command(
    name = "inferometer",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Examples:
  inferometer demo                      a simulated fleet, nothing needed
  inferometer run                       find engines on this host, serve 127.0.0.1:9464/metrics
  inferometer run -c inferometer.toml   run a configuration
  inferometer check -c inferometer.toml say everything that is wrong with it

Exit codes: 0 fine, 1 failed, 2 usage, 3 warnings with --deny-warnings, 4 configuration invalid,
5 cannot reach, 6 could not bind, 7 permission, 130/143 stopped before a clean end."
)]
pub(crate) struct Cli {
    /// What everything accepts.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file or folder of *.toml; repeat to merge, later wins.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "INFEROMETER_CONFIG",
        value_delimiter = ','
    )]
    pub(crate) config: Vec<PathBuf>,
    /// One setting on top of the files: receivers.engines.interval=5s. The variable takes one, the option any number.
    #[arg(long, global = true, value_name = "KEY=VALUE", env = "INFEROMETER_SET")]
    pub(crate) set: Vec<String>,
    /// What is logged: error, warn, info, debug, trace.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "INFEROMETER_LOG_LEVEL",
        default_value = "info"
    )]
    pub(crate) log_level: tracing::level_filters::LevelFilter,
    /// How it is logged.
    #[arg(long, global = true, value_enum, env = "INFEROMETER_LOG_FORMAT", default_value_t = LogFormat::Auto)]
    pub(crate) log_format: LogFormat,
    /// Colours on the terminal.
    #[arg(long, global = true, value_enum, env = "INFEROMETER_COLOR", default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Answer in JSON.
    #[arg(long, global = true, env = "INFEROMETER_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, logfmt elsewhere.
    Auto,
    /// For eyes.
    Pretty,
    /// key=value.
    Logfmt,
    /// One object a line.
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR says otherwise.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the pipeline; without a configuration: engines found on this host.
    Run,
    /// Say everything that is wrong with a configuration.
    Check {
        /// Treat warnings as a failure (exit code 3).
        #[arg(long, env = "INFEROMETER_DENY_WARNINGS", value_parser = BoolishValueParser::new())]
        deny_warnings: bool,
    },
    /// Look at the configuration and its meaning.
    Config {
        /// What to look at.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// List the receivers, processors and exporters of this build.
    Components,
    /// The metric contract.
    Metrics {
        /// What to look at.
        #[command(subcommand)]
        command: MetricsCommand,
    },
    /// Run a simulated fleet and the normal pipeline on it: no account, cluster or GPU.
    Demo(DemoArgs),
    /// Print the version.
    Version,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The merged configuration with every default, secrets as ***.
    Show {
        /// Only this part: exporters.prometheus.
        key: Option<String>,
        /// Only what the files say, without defaults.
        #[arg(long)]
        given: bool,
    },
    /// One setting (receivers.prometheus.interval), a component type (receivers.prometheus) or one error code
    /// (config::unknown-key).
    Explain {
        /// Setting, type or code.
        what: String,
    },
    /// JSON Schema of the whole file, for editors.
    Schema,
}

/// Commands about the contract.
#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Every metric of the contract.
    List,
    /// One metric: type, unit, labels, meaning, source.
    Explain {
        /// Its name, with or without prefix.
        name: String,
    },
}

/// Options of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Address of the exposition.
    #[arg(long, default_value = "127.0.0.1:9464", env = "INFEROMETER_LISTEN")]
    pub(crate) listen: String,
    /// Simulated seconds per second.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) speed: f64,
    /// Stop by itself after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
}
