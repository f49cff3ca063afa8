//! What users write, and what they are told.

use pipeline_config::{Diagnostics, Section};

use super::super::config::{PortRange, ScrapeProtocol};
use super::super::{Config, Discover};

fn errors(toml: &str) -> Vec<String> {
    let section = Section::from_toml("receivers.engines", toml).unwrap();
    lines(&match section.decode::<Config>() {
        Ok(config) => config.check(&section),
        Err(errors) => errors,
    })
}

fn warnings(toml: &str) -> Vec<String> {
    let section = Section::from_toml("receivers.engines", toml).unwrap();
    let config: Config = section.decode().unwrap();
    assert!(config.check(&section).is_empty());
    let found = config.warnings(&section);
    assert!(!found.has_errors());
    lines(&found)
}

fn lines(found: &Diagnostics) -> Vec<String> {
    found
        .iter()
        .map(|one| {
            let line = one.primary.as_ref().map_or(0, |at| at.line_column().0);
            format!("{line}: {}", one.message)
        })
        .collect()
}

#[test]
fn all_of_it_in_one_file() {
    let text = r#"
        interval = "30s"
        targets = ["host:8000", "http://host:9000/other"]
        static = [{ targets = ["h:1"], labels = { model_id = "m", __metrics_path__ = "/x" } }]
        file_sd = { files = ["/etc/inferometer/*.json"], refresh = "1m" }
        discover = "local"
        local = { ports = [8000, "30000-30010"], deny_ports = [], lost_after = 5 }
        scrape_protocols = ["PrometheusProto", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"]
        basic_auth = { username = "u", password = "p" }
        tls = { insecure_skip_verify = true }
        sample_limit = 10000
    "#;
    let section = Section::from_toml("receivers.engines", text).unwrap();
    let config: Config = section.decode().unwrap();
    assert!(config.check(&section).is_empty());
    assert_eq!(config.discover, Some(Discover::Local));
    assert_eq!(config.local.ports, [PortRange::new(8000, 8000), PortRange::new(30_000, 30_010)]);
    assert_eq!(config.candidates().len(), 3);
    assert!(config.accept().ends_with("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"));
    let shown = toml_of(&config);
    assert!(shown.contains("***") && !shown.contains("\"p\""), "{shown}");
}

fn toml_of(config: &Config) -> String {
    serde_json::to_string(config).unwrap()
}

#[test]
fn the_accept_header_of_prometheus() {
    use ScrapeProtocol::{
        OpenMetricsText0_0_1, OpenMetricsText1_0_0, PrometheusText0_0_4, PrometheusText1_0_0,
    };
    let config = Config {
        scrape_protocols: vec![
            OpenMetricsText1_0_0,
            OpenMetricsText0_0_1,
            PrometheusText1_0_0,
            PrometheusText0_0_4,
        ],
        ..Config::default()
    };
    assert_eq!(
        config.accept(),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(Config::default().accept(), "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
}

#[test]
fn every_fault_at_its_place() {
    assert_eq!(errors("interval = \"1s\""), ["1: nothing to scrape"]);
    assert_eq!(
        errors("targets = [\"h\"]\nmetrics_path = \"m\"\nbody_size_limit = \"0B\""),
        ["3: `body_size_limit` is zero", "2: `metrics_path` does not begin with `/`"]
    );
    assert_eq!(
        errors(
            "interval = \"0s\"\ntargets = [\n  \"h:1\",\n  \"h:1/metrics\",\n]\nfile_sd = { files = [\n  \"t.yml\",\n] }\n\
             bearer_token = \"a\"\nbearer_token_file = \"b\"\nscrape_protocols = [\"text\", \"text\"]"
        ),
        [
            "1: `interval` is zero",
            "10: expected one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`, found 2",
            "10: cannot read b: No such file or directory (os error 2)",
            "11: this format is in the list already",
            "4: expected an address such as host:8000 or http://host:8000/metrics, found `h:1/metrics`",
            "7: expected the name of a JSON file, such as `/etc/inferometer/targets/*.json`",
        ]
    );
    for (text, word) in [
        ("discover = \"lokal\"", "lokal"),
        ("discover = \"local\"\nlocal = { ports = [70000] }", "70000"),
        ("discover = \"local\"\nlocal = { ports = [\"9-1\"] }", "9-1"),
        ("tragets = []", "tragets"),
    ] {
        let errors = errors(text);
        assert!(errors.iter().any(|error| error.contains(word)), "{errors:?}");
    }
}

#[test]
fn every_setting_of_the_client_at_its_place() {
    assert_eq!(
        errors(
            "interval = \"0s\"\ntargets = [\"h:1/x\"]\nbasic_auth.username = \"a:b\"\nbasic_auth.password = \"p\"\n\
             basic_auth.password_file = \"f\"\nbearer_token = \"\"\ntls.cert_file = \"c\"\ntls.ca_file = \"/no/ca\"\n\
             [headers]\n\"a b\" = \"x\"\nfine = \"x\"\nbroken = \"a\\nb\"\n"
        ),
        [
            "1: `interval` is zero",
            "10: expected a header name in `headers`, found `a b`",
            "12: expected a value without control characters for header `broken`",
            "6: expected one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`, found 2",
            "3: expected a name without a colon in `basic_auth.username`, found something else",
            "5: expected either `password` or `password_file`, found both",
            "6: expected one line of text in `bearer_token`, found none or more",
            "8: cannot read /no/ca as PEM: I/O error: No such file or directory (os error 2)",
            "7: `cert_file` and `key_file` go together, found only `cert_file`",
            "2: expected an address such as host:8000 or http://host:8000/metrics, found `h:1/x`",
        ]
    );
}

#[test]
fn names_of_labels() {
    assert_eq!(
        errors(
            "[labels]\n9bad = \"x\"\nfine_1 = \"x\"\n[[static]]\ntargets = [\"h:1\"]\n[static.labels]\n\
             __name__ = \"x\"\n\"a b\" = \"x\"\n\"__param_match[]\" = \"x\"\n__scheme__ = \"https\"\n"
        ),
        [
            "2: expected the name of a label, found `9bad`",
            "7: expected the name of a label, found `__name__`",
            "8: expected the name of a label, found `a b`",
        ]
    );
}

#[test]
fn what_is_unlikely_to_be_meant() {
    let none: [&str; 0] = [];
    assert_eq!(warnings("targets = [\"h:1\", \"h:2\"]\ninterval = \"5s\""), none);
    assert_eq!(
        warnings(
            "interval = \"5s\"\ntimeout = \"6s\"\ntargets = [\n  \"h:1\",\n  \"http://h:1/metrics\",\n]\n\
             [[static]]\ntargets = [\n  \"h:1\",\n]\n[[static]]\ntargets = [\"h:1\"]\nlabels = { a = \"b\" }\n"
        ),
        [
            "2: `timeout` is above `interval`; scrapes end after 5s",
            "5: target `http://h:1/metrics` is in the list already, with equal labels",
            "9: target `h:1` is in the list already, with equal labels",
        ]
    );
}
