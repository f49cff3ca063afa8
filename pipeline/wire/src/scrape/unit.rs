//! Units: the words that Prometheus puts into names, and the UCUM symbols that the model keeps.

/// Words with a UCUM symbol. Base units and those that OpenTelemetry's Prometheus compatibility page maps the other
/// way round.
const WORDS: &[(&str, &str)] = &[
    ("days", "d"),
    ("hours", "h"),
    ("minutes", "min"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("nanoseconds", "ns"),
    ("bytes", "By"),
    ("kibibytes", "KiBy"),
    ("mebibytes", "MiBy"),
    ("gibibytes", "GiBy"),
    ("tibibytes", "TiBy"),
    ("kilobytes", "KBy"),
    ("megabytes", "MBy"),
    ("gigabytes", "GBy"),
    ("terabytes", "TBy"),
    ("meters", "m"),
    ("volts", "V"),
    ("amperes", "A"),
    ("joules", "J"),
    ("watts", "W"),
    ("grams", "g"),
    ("celsius", "Cel"),
    ("hertz", "Hz"),
    ("ratio", "1"),
    ("percent", "%"),
];

/// The UCUM symbol of a unit word; a word without one (`tokens`, `requests`) is kept as it is.
pub(crate) fn ucum(word: &str) -> &str {
    WORDS.iter().find(|(known, _)| *known == word).map_or(word, |(_, symbol)| symbol)
}
