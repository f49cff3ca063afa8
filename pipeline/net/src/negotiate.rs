//! Which exposition format and which content coding a scrape is answered with.
//!
//! The rules are those of Prometheus' content negotiation: <https://prometheus.io/docs/instrumenting/content_negotiation/>.
//! Nothing here fails: a client that asks for what nobody has gets text 0.0.4.

use crate::compress::Coding;

/// An exposition format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpositionFormat {
    /// `text/plain; version=0.0.4`: what everybody reads.
    Text004,
    /// `text/plain; version=1.0.0`: the same with quoted UTF-8 names.
    Text100,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics100,
    /// `application/openmetrics-text; version=0.0.1`.
    OpenMetrics001,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// What to do with names outside `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapingScheme {
    /// Leave them, quoted.
    AllowUtf8,
    /// Each other character becomes `_`.
    #[default]
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`.
    Dots,
    /// Reversible: `U__` in front, other characters as `_HEX_`.
    Values,
}

/// The outcome: what to write and which `Content-Type` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposition {
    /// The format.
    pub format: ExpositionFormat,
    /// The escaping of names.
    pub escaping: EscapingScheme,
}

impl Exposition {
    /// Text 0.0.4 with underscores: for whoever asks for nothing in particular.
    pub const FALLBACK: Self =
        Self { format: ExpositionFormat::Text004, escaping: EscapingScheme::Underscores };

    /// The value of `Content-Type`. Prometheus 3 fails a scrape whose type it does not know, so it is always complete.
    /// `escaping` is a parameter of versions from 1.0.0; before, it is said only where it differs from the default.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        macro_rules! with_escaping {
            ($base:literal, $default:literal, $escaping:expr) => {
                match $escaping {
                    EscapingScheme::AllowUtf8 => concat!($base, "; escaping=allow-utf-8"),
                    EscapingScheme::Underscores => concat!($base, $default),
                    EscapingScheme::Dots => concat!($base, "; escaping=dots"),
                    EscapingScheme::Values => concat!($base, "; escaping=values"),
                }
            };
        }
        let escaping = self.escaping;
        match self.format {
            ExpositionFormat::Text004 => {
                with_escaping!("text/plain; version=0.0.4; charset=utf-8", "", escaping)
            }
            ExpositionFormat::Text100 => {
                with_escaping!(
                    "text/plain; version=1.0.0; charset=utf-8",
                    "; escaping=underscores",
                    escaping
                )
            }
            ExpositionFormat::OpenMetrics100 => with_escaping!(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "; escaping=underscores",
                escaping
            ),
            ExpositionFormat::OpenMetrics001 => {
                with_escaping!(
                    "application/openmetrics-text; version=0.0.1; charset=utf-8",
                    "",
                    escaping
                )
            }
            ExpositionFormat::Protobuf => with_escaping!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                "; escaping=underscores",
                escaping
            ),
        }
    }
}

/// Picks the exposition for an `Accept` header out of the formats on offer.
///
/// The media range with the highest `q` that names an offered format wins, the earlier one on a tie. Without a header,
/// or when nothing fits, it is [`Exposition::FALLBACK`], offered or not.
#[must_use]
pub fn exposition(accept: Option<&str>, offered: &[ExpositionFormat]) -> Exposition {
    let mut best: Option<(u16, Exposition)> = None;
    for range in split_outside_quotes(accept.unwrap_or_default(), b',') {
        let (q, found) = media_range(range);
        let Some(found) = found else { continue };
        if q > best.map_or(0, |(best, _)| best) && offered.contains(&found.format) {
            best = Some((q, found));
        }
    }
    best.map_or(Exposition::FALLBACK, |(_, found)| found)
}

/// Picks the content coding for an `Accept-Encoding` header out of those on offer.
///
/// The highest `q` wins; on a tie `offered` says who is preferred, and identity comes last. Without a header it is
/// identity. `None`: the client accepts nothing that is there, not even identity (`identity;q=0`, `*;q=0`).
#[must_use]
pub fn coding(accept_encoding: Option<&str>, offered: &[Coding]) -> Option<Coding> {
    let header = accept_encoding.unwrap_or_default();
    let quality = |coding: Coding| {
        let mut any = None;
        for item in header.split(',') {
            let (name, q) = coding_range(item);
            if name == "*" {
                any = Some(q);
            } else if !name.is_empty() && Coding::parse(name) == Some(coding) {
                return q;
            }
        }
        // Identity is fine as long as nobody rules it out, but is never preferred to what was asked for by name.
        any.unwrap_or(if coding == Coding::Identity { 1 } else { 0 })
    };
    let mut best = None;
    for &coding in
        offered.iter().filter(|&&coding| coding != Coding::Identity).chain([&Coding::Identity])
    {
        let q = quality(coding);
        if q > best.map_or(0, |(q, _)| q) {
            best = Some((q, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// Reads one media range: its `q` in thousandths, and the exposition it names, if any.
fn media_range(range: &str) -> (u16, Option<Exposition>) {
    let mut parts = split_outside_quotes(range, b';');
    let media_type = parts.next().unwrap_or_default().trim();
    let (mut q, mut version, mut escaping) = (1000, "", EscapingScheme::default());
    let (mut proto, mut encoding) = ("", "");
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        match name.to_ascii_lowercase().as_str() {
            "q" => q = thousandths(value),
            "version" => version = value,
            "proto" => proto = value,
            "encoding" => encoding = value,
            "escaping" => {
                escaping = match value {
                    "allow-utf-8" => EscapingScheme::AllowUtf8,
                    "dots" => EscapingScheme::Dots,
                    "values" => EscapingScheme::Values,
                    // Also what is unknown: the default is what every reader understands.
                    _ => EscapingScheme::Underscores,
                }
            }
            _ => {}
        }
    }
    let is = |name: &str| media_type.eq_ignore_ascii_case(name);
    let format = match version {
        _ if is("*/*") || is("text/*") => Some(ExpositionFormat::Text004),
        "" | "0.0.4" if is("text/plain") => Some(ExpositionFormat::Text004),
        "1.0.0" if is("text/plain") => Some(ExpositionFormat::Text100),
        "" | "0.0.1" if is("application/openmetrics-text") => {
            Some(ExpositionFormat::OpenMetrics001)
        }
        "1.0.0" if is("application/openmetrics-text") => Some(ExpositionFormat::OpenMetrics100),
        _ if is("application/vnd.google.protobuf")
            && proto == "io.prometheus.client.MetricFamily"
            && encoding == "delimited" =>
        {
            Some(ExpositionFormat::Protobuf)
        }
        _ => None,
    };
    (q, format.map(|format| Exposition { format, escaping }))
}

fn coding_range(item: &str) -> (&str, u16) {
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let q = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let mut q = q.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    (name.trim(), q.next().map_or(1000, |(_, value)| thousandths(value.trim())))
}

/// Reads a quality value. What is not one counts as 0: better the next range than a guess.
fn thousandths(value: &str) -> u16 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    let digits = fraction.bytes().chain(*b"000").take(3);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" => fraction,
        "1" => 1000,
        _ => 0,
    }
}

/// Splits at a separator, except inside of double quotes.
fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character: char| {
        quoted ^= character == '"';
        !quoted && character == char::from(separator)
    })
}

#[cfg(test)]
mod tests {
    use ExpositionFormat::{OpenMetrics001, OpenMetrics100, Protobuf, Text004, Text100};

    use super::*;

    const PROMETHEUS_3_14: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const PROMETHEUS_3_14_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
        encoding=delimited;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=1.0.0;\
        escaping=allow-utf-8;q=0.6,*/*;q=0.2";
    const PROMETHEUS_2_42: &str = "application/openmetrics-text;version=1.0.0,\
        application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const FIREFOX: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    const ALL: &[ExpositionFormat] = &[Text004, Text100, OpenMetrics100, OpenMetrics001, Protobuf];
    const TEXTS: &[ExpositionFormat] = &[Text004, OpenMetrics100];

    #[track_caller]
    fn check(accept: &str, offered: &[ExpositionFormat], content_type: &str) {
        assert_eq!(exposition(Some(accept), offered).content_type(), content_type, "{accept}");
    }

    #[test]
    fn prometheus_gets_its_first_choice_that_is_on_offer() {
        let open =
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8";
        check(PROMETHEUS_3_14, ALL, open);
        check(PROMETHEUS_3_14, TEXTS, open);
        check(PROMETHEUS_3_14, &[Text004], "text/plain; version=0.0.4; charset=utf-8");
        check(
            PROMETHEUS_3_14,
            &[Text004, Text100],
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        );
        check(
            PROMETHEUS_3_14,
            &[Text004, OpenMetrics001],
            "application/openmetrics-text; version=0.0.1; charset=utf-8",
        );
        check(PROMETHEUS_3_14_NATIVE, TEXTS, open);
        check(
            PROMETHEUS_3_14_NATIVE,
            ALL,
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
             escaping=allow-utf-8",
        );
        check(
            PROMETHEUS_2_42,
            ALL,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        );
    }

    #[test]
    fn curl_browsers_and_strangers_get_text_0_0_4() {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        for accept in [
            "*/*",
            FIREFOX,
            "",
            "application/json",
            "text/*",
            "text/plain",
            "text/plain;version=9",
            ",;=,\"",
            "*/*;q=0",
        ] {
            check(accept, ALL, text);
        }
        assert_eq!(exposition(None, ALL), Exposition::FALLBACK);
    }

    #[test]
    fn order_and_odd_spelling() {
        check(
            "text/plain;q=0.3, application/openmetrics-text; version=\"1.0.0\" ; q=0.9",
            ALL,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        );
        check(
            "application/openmetrics-text;version=1.0.0;q=0,text/plain;q=0.001",
            ALL,
            "text/plain; version=0.0.4; charset=utf-8",
        );
        check(
            "text/plain;version=0.0.4;escaping=values",
            ALL,
            "text/plain; version=0.0.4; charset=utf-8; escaping=values",
        );
        check(
            "text/plain;version=1.0.0;escaping=martian",
            ALL,
            "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
        );
        check(
            "TEXT/PLAIN;x=\"a,b;q=0\";version=1.0.0;escaping=dots",
            ALL,
            "text/plain; version=1.0.0; charset=utf-8; escaping=dots",
        );
        check(
            "APPLICATION/OPENMETRICS-TEXT; Version=1.0.0; ESCAPING=allow-utf-8, text/plain; Q=0.5",
            ALL,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        );
        check(
            "application/vnd.google.protobuf;proto=other;encoding=delimited",
            ALL,
            "text/plain; version=0.0.4; charset=utf-8",
        );
        check(
            "application/openmetrics-text;version=1.0.0;q=nan,*/*;q=1.0",
            ALL,
            "text/plain; version=0.0.4; charset=utf-8",
        );
    }

    #[test]
    fn codings() {
        let both = &[Coding::Zstd, Coding::Gzip];
        let pick = |header: &str| coding(Some(header), both);
        assert_eq!(coding(None, both), Some(Coding::Identity));
        assert_eq!(pick(""), Some(Coding::Identity));
        assert_eq!(pick("gzip"), Some(Coding::Gzip));
        assert_eq!(
            pick("gzip, deflate, br, zstd"),
            Some(Coding::Zstd),
            "a tie: what is offered first"
        );
        assert_eq!(pick("gzip;q=1.0, zstd;q=0.5"), Some(Coding::Gzip));
        assert_eq!(
            pick("gzip;q=0.2"),
            Some(Coding::Gzip),
            "identity is not preferred unless it says so"
        );
        assert_eq!(pick("gzip;q=0.2, identity;q=0.5"), Some(Coding::Identity));
        assert_eq!(pick("*"), Some(Coding::Zstd));
        assert_eq!(pick("zstd;q=0, *;q=0.5"), Some(Coding::Gzip));
        assert_eq!(pick("br, identity;q=0"), None);
        assert_eq!(pick("identity;q=0, *;q=0"), None);
        assert_eq!(pick("X-GZIP ; Q=0.5"), Some(Coding::Gzip));
        assert_eq!(coding(Some("gzip"), &[]), Some(Coding::Identity));
    }
}
