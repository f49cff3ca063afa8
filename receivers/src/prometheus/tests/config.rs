//! What users write, and what they are told.

use pipeline_config::Section;

use super::super::config::{PortRange, ScrapeProtocol};
use super::super::{Config, Discover};

fn errors(toml: &str) -> Vec<String> {
    let section = Section::from_toml("receivers.engines", toml).unwrap();
    let found = match section.decode::<Config>() {
        Ok(config) => config.check(&section),
        Err(errors) => errors,
    };
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
            "1: more than one kind of credentials",
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
