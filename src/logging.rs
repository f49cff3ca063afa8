//! Log lines on standard error: pretty, logfmt or JSON; warnings and errors are counted.

use std::fmt;
use std::io::IsTerminal as _;

use pipeline_component::telemetry::{Counter, Telemetry, table};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt as layer};

use crate::cli::{Global, LogFormat};

/// Starts logging. Later calls have no effect.
pub(crate) fn start(global: &Global, telemetry: &Telemetry) {
    let terminal = std::io::stderr().is_terminal();
    let format = match global.log_format {
        LogFormat::Auto if terminal => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Logfmt,
        chosen => chosen,
    };
    let colour = crate::terminal::colour(global.color, terminal) && format == LogFormat::Pretty;
    let lines = layer::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .event_format(Lines(format))
        .with_filter(global.log_level);
    let counts = Counts {
        warn: telemetry.counter(&table::LOG_EVENTS, &[("level", "warn")]),
        error: telemetry.counter(&table::LOG_EVENTS, &[("level", "error")]),
    };
    let layers = tracing_subscriber::registry().with(wanted(global.log_level));
    // Fails only when logging runs already.
    drop(layers.with(lines).with(counts).try_init());
}

/// What anybody here wants of all that is said. Without it, every span of HTTP/2's inner life would be kept for nobody:
/// a sixth of what a small OTLP request costs.
fn wanted(shown: LevelFilter) -> LevelFilter {
    shown.max(LevelFilter::WARN)
}

struct Counts {
    warn: Counter,
    error: Counter,
}

impl<S: Subscriber> Layer<S> for Counts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        match *event.metadata().level() {
            Level::WARN => self.warn.inc(),
            Level::ERROR => self.error.inc(),
            _ => {}
        }
    }
}

struct Lines(LogFormat);

/// Message and other fields of one event, as text.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.rest.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        match self.0 {
            LogFormat::Json => json(&mut out, &time, level, &fields),
            LogFormat::Pretty => pretty(&mut out, &time, level, &fields),
            LogFormat::Logfmt | LogFormat::Auto => logfmt(&mut out, &time, level, &fields),
        }
    }
}

fn json(out: &mut Writer<'_>, time: &str, level: Level, fields: &Fields) -> fmt::Result {
    let mut object = serde_json::Map::new();
    object.insert("ts".to_owned(), time.into());
    object.insert("level".to_owned(), level.as_str().to_lowercase().into());
    object.insert("msg".to_owned(), fields.message.as_str().into());
    for (name, value) in &fields.rest {
        object.insert((*name).to_owned(), value.as_str().into());
    }
    writeln!(out, "{}", serde_json::Value::Object(object))
}

fn logfmt(out: &mut Writer<'_>, time: &str, level: Level, fields: &Fields) -> fmt::Result {
    write!(out, "ts={time} level={} msg=", level.as_str().to_lowercase())?;
    quoted(out, &fields.message)?;
    for (name, value) in &fields.rest {
        write!(out, " {name}=")?;
        quoted(out, value)?;
    }
    writeln!(out)
}

fn pretty(out: &mut Writer<'_>, time: &str, level: Level, fields: &Fields) -> fmt::Result {
    let (on, off) = match (out.has_ansi_escapes(), level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[1;31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    let clock = time.get(11..19).unwrap_or(time);
    write!(out, "{clock} {on}{:>5}{off} {}", level.as_str().to_lowercase(), fields.message)?;
    for (name, value) in &fields.rest {
        write!(out, " {name}=")?;
        quoted(out, value)?;
    }
    writeln!(out)
}

fn quoted(out: &mut Writer<'_>, text: &str) -> fmt::Result {
    let plain =
        !text.is_empty() && !text.contains(|c: char| c <= ' ' || c == '"' || c == '=' || c == '\\');
    if plain { out.write_str(text) } else { write!(out, "{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_is_not_made() {
        for (shown, most) in [
            (LevelFilter::OFF, LevelFilter::WARN),
            (LevelFilter::INFO, LevelFilter::INFO),
            (LevelFilter::TRACE, LevelFilter::TRACE),
        ] {
            let counts = Counts { warn: Counter::default(), error: Counter::default() };
            let subscriber = tracing_subscriber::registry().with(wanted(shown)).with(counts);
            assert_eq!(subscriber.max_level_hint(), Some(most), "{shown}");
        }
    }
}
