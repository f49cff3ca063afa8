//! From what was found to what is scraped: [`Candidate`] (an address and labels, `__` ones included) to [`Target`] (an
//! address to get and the labels its series carry), by Prometheus' rules for `job`, `instance` and meta labels.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use pipeline_model::{Label, Labels};

/// Labels as they are written down.
pub(super) type LabelMap = BTreeMap<String, String>;

/// A thing that may be a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidate {
    /// `host:port`, or the whole address with scheme, path and query.
    pub(super) address: String,
    /// Labels for its series; those that begin with `__` say how it is scraped.
    pub(super) labels: LabelMap,
    /// Scrapes that failed in a row, told to whoever found it.
    pub(super) failures: Arc<AtomicU32>,
    /// Tells one life of a found engine from the next one on the same port; 0 elsewhere.
    pub(super) epoch: u64,
}

impl Candidate {
    /// One that is known by its address alone.
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), ..Self::default() }
    }
}

/// How candidates are scraped that say nothing else.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    /// The label `job`.
    pub(super) job: String,
    /// `http` or `https`.
    pub(super) scheme: String,
    /// Path, from `/`.
    pub(super) path: String,
    /// Query parameters.
    pub(super) params: BTreeMap<String, Vec<String>>,
    /// Labels for every target.
    pub(super) labels: LabelMap,
    /// Time from scrape to scrape.
    pub(super) interval: Duration,
    /// How long a scrape may take; not above its interval.
    pub(super) timeout: Duration,
}

/// What makes two targets one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// What is asked, query included.
    pub(super) url: String,
    /// What its series carry; sorted.
    pub(super) labels: Labels,
    /// Time from scrape to scrape.
    pub(super) interval: Duration,
    /// How long a scrape may take.
    pub(super) timeout: Duration,
    /// See [`Candidate::epoch`].
    pub(super) epoch: u64,
}

impl Key {
    /// Places the target within the interval; the same in every process.
    pub(super) fn spread(&self) -> u64 {
        foldhash::quality::FixedState::with_seed(1).hash_one((&self.url, &self.labels))
    }
}

/// Something to scrape.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its identity.
    pub(super) key: Key,
    /// Scrapes that failed in a row.
    pub(super) failures: Arc<AtomicU32>,
}

/// Why a candidate cannot be scraped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    /// The address is none.
    #[error("expected an address such as host:8000 or http://host:8000/metrics, found `{0}`")]
    Address(String),
    /// The address holds a user name.
    #[error("credentials in an address end up in labels and logs; use `basic_auth`")]
    Credentials,
    /// The scheme is unknown.
    #[error("expected scheme http or https, found `{0}`")]
    Scheme(String),
    /// A label without a name.
    #[error("expected a label name, found an empty one")]
    LabelName,
    /// A meta label that should be a duration.
    #[error("expected a duration above zero such as 15s in {name}, found `{found}`")]
    Duration {
        /// Which.
        name: &'static str,
        /// What was there.
        found: String,
    },
}

impl Defaults {
    /// What `candidate` means.
    ///
    /// # Errors
    /// When it cannot be scraped.
    pub(super) fn resolve(&self, candidate: &Candidate) -> Result<Target, TargetError> {
        let mut labels = self.labels.clone();
        labels.extend(candidate.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
        if labels.contains_key("") {
            return Err(TargetError::LabelName);
        }
        let address =
            labels.get("__address__").filter(|text| !text.is_empty()).unwrap_or(&candidate.address);
        let place = Place::parse(address)?;
        let (url, instance) = self.url(&place, &labels)?;
        let interval = duration(&labels, "__scrape_interval__")?.unwrap_or(self.interval);
        let timeout =
            duration(&labels, "__scrape_timeout__")?.unwrap_or(self.timeout).min(interval);
        labels.entry("job".to_owned()).or_insert_with(|| self.job.clone());
        labels.entry("instance".to_owned()).or_insert(instance);
        // An empty value is no label, in Prometheus' data model.
        labels.retain(|name, value| !name.starts_with("__") && !value.is_empty());
        let labels = labels
            .into_iter()
            .map(|(name, value)| Label { name: name.into(), value: value.as_str().into() })
            .collect();
        let key =
            Key { url, labels: Labels::new(labels), interval, timeout, epoch: candidate.epoch };
        Ok(Target { key, failures: Arc::clone(&candidate.failures) })
    }

    /// The address to get, and the label `instance`.
    fn url(&self, place: &Place<'_>, labels: &LabelMap) -> Result<(String, String), TargetError> {
        let meta =
            |name: &str| labels.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let scheme = place.scheme.or(meta("__scheme__")).unwrap_or(&self.scheme);
        if scheme != "http" && scheme != "https" {
            return Err(TargetError::Scheme(scheme.to_owned()));
        }
        let path = place.path.or(meta("__metrics_path__")).unwrap_or(&self.path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut url = format!("{scheme}://{}{slash}{path}", place.authority);
        let mut params = self.params.clone();
        for (name, value) in labels {
            if let Some(param) = name.strip_prefix("__param_") {
                let values = params.entry(param.to_owned()).or_default();
                values.splice(..values.len().min(1), [value.clone()]);
            }
        }
        let mut separator = if path.contains('?') { '&' } else { '?' };
        for (name, value) in
            params.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v)))
        {
            url.push(separator);
            separator = '&';
            encode(name, &mut url);
            url.push('=');
            encode(value, &mut url);
        }
        let valid = url
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        if !valid {
            return Err(TargetError::Address(place.authority.to_owned()));
        }
        Ok((url, place.authority.to_owned()))
    }
}

/// An address as people write it.
struct Place<'a> {
    scheme: Option<&'a str>,
    authority: &'a str,
    path: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn parse(address: &'a str) -> Result<Self, TargetError> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, address),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(TargetError::Credentials);
        }
        let wrong =
            || TargetError::Address(address.split('?').next().unwrap_or_default().to_owned());
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        let has_bad_port = parsed.port_u16().is_none() && parsed.host().len() != authority.len();
        // A path belongs to a whole address only: `host:8000/metrics` is more often a slip than meant.
        if parsed.host().is_empty() || has_bad_port || (scheme.is_none() && !path.is_empty()) {
            return Err(wrong());
        }
        Ok(Self {
            scheme,
            authority,
            path: Some(path).filter(|path| !path.is_empty() && *path != "/"),
        })
    }
}

fn duration(labels: &LabelMap, name: &'static str) -> Result<Option<Duration>, TargetError> {
    let Some(text) = labels.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<pipeline_config::Duration>() {
        Ok(value) if !value.is_zero() => Ok(Some(value.get())),
        _ => Err(TargetError::Duration { name, found: text.clone() }),
    }
}

/// Percent-encodes everything that is not unreserved (RFC 3986).
fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            job: "engines".to_owned(),
            scheme: "http".to_owned(),
            path: "/metrics".to_owned(),
            params: BTreeMap::new(),
            labels: LabelMap::from([("environment".to_owned(), "prod".to_owned())]),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
        }
    }

    #[track_caller]
    fn check(address: &str, labels: &[(&str, &str)], expected: &str) {
        let labels =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let candidate = Candidate { labels, ..Candidate::at(address) };
        let got = match defaults().resolve(&candidate) {
            Ok(Target { key, .. }) => {
                format!("{} {} {:?}/{:?}", key.url, key.labels, key.timeout, key.interval)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{address}");
    }

    #[test]
    fn addresses_and_labels_by_prometheus_rules() {
        let plain = r#"{environment="prod",instance="h:8000",job="engines"} 10s/15s"#;
        check("h:8000", &[], &format!("http://h:8000/metrics {plain}"));
        check(
            "https://h:8000/m?a=b",
            &[("__scheme__", "http")],
            &format!("https://h:8000/m?a=b {plain}"),
        );
        check("http://h:8000/", &[], &format!("http://h:8000/metrics {plain}"));
        check(
            "x",
            &[
                ("__address__", "h:8000"),
                ("__metrics_path__", "p"),
                ("__param_match[]", "{a=\"b c\"}"),
                ("__meta_z", "z"),
            ],
            &format!("http://h:8000/p?match%5B%5D=%7Ba%3D%22b%20c%22%7D {plain}"),
        );
        check(
            "[::1]:9000",
            &[
                ("job", "mine"),
                ("instance", "i"),
                ("environment", ""),
                ("model_id", "m"),
                ("__scrape_interval__", "5s"),
            ],
            r#"http://[::1]:9000/metrics {instance="i",job="mine",model_id="m"} 5s/5s"#,
        );
    }

    #[test]
    fn what_cannot_be_scraped_says_so() {
        let wrong = |found| {
            format!(
                "expected an address such as host:8000 or http://host:8000/metrics, found `{found}`"
            )
        };
        check("", &[], &wrong(""));
        check("h:8000/metrics?key=secret", &[], &wrong("h:8000/metrics"));
        check("h:99999", &[], &wrong("h:99999"));
        check("a b:1", &[], &wrong("a b:1"));
        check(
            "http://u:p@h:1/",
            &[],
            "credentials in an address end up in labels and logs; use `basic_auth`",
        );
        check("ftp://h:1/", &[], "expected scheme http or https, found `ftp`");
        check("h:1", &[("", "x")], "expected a label name, found an empty one");
        check(
            "h:1",
            &[("__scrape_timeout__", "0s")],
            "expected a duration above zero such as 15s in __scrape_timeout__, found `0s`",
        );
    }
}
