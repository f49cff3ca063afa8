//! Which format an answer is in: by `Content-Type`, and where that says nothing usable by the configured fallback.

use pipeline_wire::scrape::PageFormat;

use super::config::ScrapeProtocol;

impl From<ScrapeProtocol> for PageFormat {
    fn from(protocol: ScrapeProtocol) -> Self {
        match protocol {
            ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Self::Text,
            ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => {
                Self::OpenMetrics
            }
            ScrapeProtocol::PrometheusProto => Self::Protobuf,
        }
    }
}

/// The format of `body`. Prometheus 3 fails a scrape without a known `Content-Type`; here such a page is taken for
/// `fallback`, unless it is plainly something else.
///
/// # Errors
/// What the answer is instead of a page of metrics.
pub(super) fn format_of(
    content_type: Option<&str>,
    body: &[u8],
    fallback: PageFormat,
) -> Result<PageFormat, String> {
    let content_type = content_type.unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    match media.as_str() {
        "text/plain" if !is_markup(body) => Ok(PageFormat::Text),
        "application/openmetrics-text" => Ok(PageFormat::OpenMetrics),
        "application/vnd.google.protobuf" => {
            let param = |wanted: &str| {
                let value = |part: &str| {
                    part.split_once('=')
                        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
                };
                parts
                    .clone()
                    .filter_map(value)
                    .find(|(name, _)| name == wanted)
                    .map(|(_, value)| value)
            };
            let message = param("proto")
                .is_none_or(|proto| proto.trim_matches('"') == "io.prometheus.client.MetricFamily");
            let delimited =
                param("encoding").is_none_or(|encoding| encoding.trim_matches('"') == "delimited");
            if message && delimited {
                Ok(PageFormat::Protobuf)
            } else {
                Err(format!("`{content_type}`"))
            }
        }
        "text/html" | "application/json" | "application/xml" | "text/xml" => {
            Err(format!("`{media}`"))
        }
        _ if is_markup(body) => Err("a page of HTML or JSON".to_owned()),
        _ => Ok(fallback),
    }
}

/// Whether `body` begins as HTML or JSON does and a page of metrics does not. (`{` begins a quoted name only before `"`.)
fn is_markup(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    body.starts_with(b"<")
        || body.starts_with(b"[")
        || (body.starts_with(b"{") && body.trim_ascii_end().ends_with(b"}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content_type: &str, body: &str, expected: Result<PageFormat, &str>) {
        let got = format_of(Some(content_type), body.as_bytes(), PageFormat::Text);
        assert_eq!(got, expected.map_err(str::to_owned), "{content_type}");
    }

    #[test]
    fn content_types() {
        check("text/plain; version=0.0.4; charset=utf-8", "a 1\n", Ok(PageFormat::Text));
        check("TEXT/PLAIN;version=1.0.0", "{\"a.b\",c=\"}\"} 1\n", Ok(PageFormat::Text));
        check(
            "application/openmetrics-text; version=1.0.0",
            "# EOF\n",
            Ok(PageFormat::OpenMetrics),
        );
        let proto = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
        check(proto, "\u{1}", Ok(PageFormat::Protobuf));
        let compact = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text";
        check(compact, "", Err(&format!("`{compact}`")));
        check("text/html; charset=utf-8", "<html>", Err("`text/html`"));
        check("text/plain", "<!doctype html>", Err("a page of HTML or JSON"));
        check("", "a 1\n", Ok(PageFormat::Text));
        check("application/octet-stream", "a 1\n", Ok(PageFormat::Text));
        check("application/octet-stream", "{\"error\": 1}\n", Err("a page of HTML or JSON"));
    }
}
