//! The words that OpenMetrics uses for units, from UCUM: a `# UNIT` line stands only where the name ends in the word.

/// UCUM unit and its word. Source: OpenTelemetry's Prometheus compatibility page, and OpenMetrics' base units.
const WORDS: &[(&str, &str)] = &[
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("min", "minutes"),
    ("h", "hours"),
    ("d", "days"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("kBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("1", "ratio"),
    ("%", "percent"),
    ("W", "watts"),
    ("J", "joules"),
    ("V", "volts"),
    ("A", "amperes"),
    ("Hz", "hertz"),
    ("Cel", "celsius"),
    ("m", "meters"),
    ("g", "grams"),
];

/// The word for `unit` if `family` ends in it.
pub(super) fn word<'a>(family: &str, unit: &'a str) -> Option<&'a str> {
    let word = WORDS.iter().find(|(ucum, _)| *ucum == unit).map_or(unit, |(_, word)| *word);
    let rest = family.strip_suffix(word)?;
    (!word.is_empty() && rest.len() > 1 && rest.ends_with('_')).then_some(word)
}
