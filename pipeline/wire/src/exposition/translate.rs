//! OpenTelemetry names for readers of the old character set: `http.server.duration` in `s` becomes
//! `http_server_duration_seconds`.
//!
//! Only names with dots are OpenTelemetry's: Prometheus' own are left as they are. Rules:
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus>.

use std::borrow::Cow;

use pipeline_model::Metric;

use super::Escaping;
use super::escape::metric_name;
use super::family::Type;
use crate::scrape::unit::ucum;

/// Unit words that have a UCUM symbol, which [`ucum`] knows. A ratio (`1`) has none in names.
const WORDS: &[&str] = &[
    "days",
    "hours",
    "minutes",
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "bytes",
    "kibibytes",
    "mebibytes",
    "gibibytes",
    "tibibytes",
    "kilobytes",
    "megabytes",
    "gigabytes",
    "terabytes",
    "meters",
    "volts",
    "amperes",
    "joules",
    "watts",
    "grams",
    "celsius",
    "hertz",
    "percent",
];

/// Words behind `per`. There `m` is a minute.
const PER: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("min", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The full name of `metric`, whose family is of type `ty`, on a page.
pub(super) fn full_name(metric: &Metric, ty: Type, escaping: Escaping) -> Cow<'_, str> {
    if escaping == Escaping::Underscores && metric.name.contains('.') {
        Cow::Owned(translated(&metric.name, &metric.unit, ty == Type::Counter))
    } else {
        metric_name(&metric.name, escaping)
    }
}

fn translated(name: &str, unit: &str, counter: bool) -> String {
    let mut words: Vec<&str> = split(name).collect();
    words.retain(|word| !(counter && *word == "total"));
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = main.trim();
    let main = WORDS.iter().find(|word| ucum(word) == main).copied().unwrap_or(main);
    if main != "1" {
        append(&mut words, &[], main);
    }
    let per = per.trim();
    let per = PER.iter().find(|(symbol, _)| *symbol == per).map_or(per, |(_, word)| word);
    append(&mut words, &["per"], per);
    if counter {
        words.push("total");
    }
    let mut out = words.join("_");
    if out.is_empty() || out.starts_with(|first: char| first.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// Appends the words of a unit that are not there already. Annotations (`{request}`) are none.
fn append<'a>(words: &mut Vec<&'a str>, before: &[&'a str], unit: &'a str) {
    if unit.contains(['{', '}']) {
        return;
    }
    let new: Vec<&str> = split(unit).filter(|word| !words.contains(word)).collect();
    if !new.is_empty() {
        words.extend(before);
        words.extend(new);
    }
}

/// The runs of characters that may stand in a name.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use pipeline_model::Kind;

    use super::*;

    #[test]
    fn units_and_total_are_appended_once() {
        for (name, unit, counter, expected) in [
            (
                "gen_ai.server.time_to_first_token",
                "s",
                false,
                "gen_ai_server_time_to_first_token_seconds",
            ),
            ("wait.seconds", "s", false, "wait_seconds"),
            ("sent.bytes_total", "By", true, "sent_bytes_total"),
            ("sent.total", "By", true, "sent_bytes_total"),
            ("sent", "By", true, "sent"),
            ("a.requests", "{request}", true, "a_requests_total"),
            ("a.total", "", false, "a_total"),
            ("rate.of", "By/s", false, "rate_of_bytes_per_second"),
            ("rate.of", "{token}/s", false, "rate_of_per_second"),
            ("used.part", "1", false, "used_part"),
            ("used.part", "%", false, "used_part_percent"),
            ("odd..name_.", "tokens", false, "odd_name_tokens"),
            ("9.lives", "", false, "_9_lives"),
            ("..", "", false, "_"),
        ] {
            let (kind, ty) =
                if counter { (Kind::COUNTER, Type::Counter) } else { (Kind::Gauge, Type::Gauge) };
            let metric = Metric::new(name, unit, "", kind);
            assert_eq!(full_name(&metric, ty, Escaping::Underscores), expected, "{name} in {unit}");
            assert_eq!(full_name(&metric, ty, Escaping::AllowUtf8), name);
        }
    }
}
