//! OpenTelemetry names for readers of the old character set: `http.server.duration` in `s` becomes
//! `http_server_duration_seconds`.
//!
//! Only names with dots are OpenTelemetry's: Prometheus' own are left as they are. Rules:
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus>.

use std::borrow::Cow;

use pipeline_model::{Kind, Metric};

use super::Escaping;
use super::escape::metric_name;
use super::family::Type;
use crate::scrape::unit::ucum;

/// Unit words that have a UCUM symbol, which [`ucum`] knows. `1` is none: gauges in it are ratios.
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

/// The full name of `metric`, whose family is of type `ty`, on a page; `naming` is what becomes of OpenTelemetry's.
pub(crate) fn full_name(
    metric: &Metric,
    ty: Type,
    escaping: Escaping,
    naming: Naming,
) -> Cow<'_, str> {
    if escaping == Escaping::Underscores && naming.suffixes() && metric.name.contains('.') {
        Cow::Owned(translated(metric, ty))
    } else {
        metric_name(&metric.name, escaping)
    }
}

/// What becomes of OpenTelemetry's metric names; Prometheus' own are left as they are. The words are those of
/// `otlp.translation_strategy` in Prometheus' configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Naming {
    /// Characters outside of the old set become `_`; unit and `_total` are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Characters outside of the old set become `_`.
    UnderscoreEscapingWithoutSuffixes,
    /// Unit and `_total` are appended.
    NoUtf8EscapingWithSuffixes,
    /// As they are.
    NoTranslation,
}

impl Naming {
    /// True when names may keep all their characters, where the reader allows it.
    pub fn keeps_utf8(self) -> bool {
        matches!(self, Self::NoUtf8EscapingWithSuffixes | Self::NoTranslation)
    }

    fn suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes)
    }
}

/// The name of `metric`, whose family is of type `ty`, for a store. `otel`: it is OpenTelemetry's; `utf8`: the store
/// takes any name.
pub(crate) fn stored_name(
    metric: &Metric,
    ty: Type,
    naming: Naming,
    otel: bool,
    utf8: bool,
) -> Cow<'_, str> {
    let name = metric.name.as_str();
    let utf8 = utf8 && naming.keeps_utf8();
    let counter = ty == Type::Counter;
    match (otel, utf8) {
        (false, true) => Cow::Borrowed(name),
        (false, false) => metric_name(name, Escaping::Underscores),
        (true, false) if naming.suffixes() => Cow::Owned(translated(metric, ty)),
        (true, false) => Cow::Owned(legal(&split(name).collect::<Vec<_>>())),
        (true, true) if naming.suffixes() => {
            let stem = if counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
            let mut out = stem.to_owned();
            let mut words = Vec::new();
            unit_words(&mut words, &metric.unit);
            let suffix = words.join("_");
            if !suffix.is_empty() && !out.ends_with(&suffix) {
                out.push('_');
                out.push_str(&suffix);
            }
            if is_ratio(metric) && !out.ends_with("ratio") {
                out.push_str("_ratio");
            }
            if counter {
                out.push_str("_total");
            }
            Cow::Owned(out)
        }
        (true, true) => Cow::Borrowed(name),
    }
}

/// True for gauges in `1`, which end in `_ratio`; a sum in `1`, whether it only grows or not, counts something.
fn is_ratio(metric: &Metric) -> bool {
    matches!(metric.kind, Kind::Gauge) && metric.unit.trim() == "1"
}

fn translated(metric: &Metric, ty: Type) -> String {
    let mut words: Vec<&str> = split(&metric.name).collect();
    let last = match ty {
        Type::Counter => "total",
        _ if is_ratio(metric) => "ratio",
        _ => "",
    };
    words.retain(|word| *word != last);
    unit_words(&mut words, &metric.unit);
    if !last.is_empty() {
        words.push(last);
    }
    legal(&words)
}

/// The words as a name, which does not begin with a digit.
fn legal(words: &[&str]) -> String {
    let mut out = words.join("_");
    if out.is_empty() || out.starts_with(|first: char| first.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// A unit in Prometheus' words: `seconds` for `s`; nothing for one that names have none for.
pub(crate) fn unit_name(unit: &str) -> String {
    let mut words = Vec::new();
    unit_words(&mut words, unit);
    words.join("_")
}

/// Appends the words for `unit` that are not there already.
fn unit_words<'a>(words: &mut Vec<&'a str>, unit: &'a str) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = main.trim();
    let main = WORDS.iter().find(|word| ucum(word) == main).copied().unwrap_or(main);
    if main != "1" {
        append(words, &[], main);
    }
    let per = per.trim();
    let per = PER.iter().find(|(symbol, _)| *symbol == per).map_or(per, |(_, word)| word);
    append(words, &["per"], per);
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
    use pipeline_model::Temporality;

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
            ("used.part", "1", false, "used_part_ratio"),
            ("hit.ratio", "1", false, "hit_ratio"),
            ("used.part", "1", true, "used_part_total"),
            ("used.part", "%", false, "used_part_percent"),
            ("odd..name_.", "tokens", false, "odd_name_tokens"),
            ("9.lives", "", false, "_9_lives"),
            ("..", "", false, "_"),
        ] {
            let (kind, ty) =
                if counter { (Kind::COUNTER, Type::Counter) } else { (Kind::Gauge, Type::Gauge) };
            let metric = Metric::new(name, unit, "", kind);
            let full = |escaping, naming| full_name(&metric, ty, escaping, naming).into_owned();
            let naming = Naming::default();
            assert_eq!(full(Escaping::Underscores, naming), expected, "{name} in {unit}");
            assert_eq!(full(Escaping::AllowUtf8, naming), name);
            let as_it_is = metric_name(name, Escaping::Underscores);
            assert_eq!(full(Escaping::Underscores, Naming::NoTranslation), as_it_is);
        }
    }

    #[test]
    fn a_gauge_in_1_is_a_ratio_where_suffixes_are_appended() {
        use Naming::*;
        let gauge = Metric::new("cache.usage", "1", "", Kind::Gauge);
        for (naming, utf8, expected) in [
            (UnderscoreEscapingWithSuffixes, false, "cache_usage_ratio"),
            (UnderscoreEscapingWithoutSuffixes, false, "cache_usage"),
            (NoUtf8EscapingWithSuffixes, true, "cache.usage_ratio"),
            (NoTranslation, true, "cache.usage"),
        ] {
            assert_eq!(stored_name(&gauge, Type::Gauge, naming, true, utf8), expected);
        }
        let up_down = Kind::Sum { monotonic: false, temporality: Temporality::Cumulative };
        let queue = Metric::new("queue.length", "1", "", up_down);
        let name = stored_name(&queue, Type::Gauge, UnderscoreEscapingWithSuffixes, true, false);
        assert_eq!(name, "queue_length", "it counts");
        let own = stored_name(&gauge, Type::Gauge, NoUtf8EscapingWithSuffixes, false, true);
        assert_eq!(own, "cache.usage", "not OpenTelemetry's");
    }

    #[test]
    fn each_naming_does_what_its_name_says() {
        use Naming::*;
        let counter = Metric::new("http.server.bytes__sent", "By", "", Kind::COUNTER);
        let gauge = Metric::new("used", "s", "", Kind::Gauge);
        for (naming, of_counter, of_gauge) in [
            (UnderscoreEscapingWithSuffixes, "http_server_bytes_sent_total", "used_seconds"),
            (UnderscoreEscapingWithoutSuffixes, "http_server_bytes_sent", "used"),
            (NoUtf8EscapingWithSuffixes, "http.server.bytes__sent_bytes_total", "used_seconds"),
            (NoTranslation, "http.server.bytes__sent", "used"),
        ] {
            let name =
                |metric, ty, otel, utf8| stored_name(metric, ty, naming, otel, utf8).into_owned();
            assert_eq!(name(&counter, Type::Counter, true, true), of_counter);
            assert_eq!(name(&gauge, Type::Gauge, true, true), of_gauge);
            assert_eq!(name(&gauge, Type::Gauge, false, true), "used", "Prometheus' own");
            let old = name(&counter, Type::Counter, true, false);
            assert!(old.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{old}");
            assert_eq!(old.ends_with("_total"), naming.suffixes(), "{old}");
        }
    }
}
