//! The command line: answers on standard output, remarks on standard error, exit codes as documented.

use std::path::Path;

use testkit::Binary;

use crate::agent::BINARY;

fn run(args: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    Binary::output(BINARY, args, dir.path())
}

fn run_with(config: &str, args: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("agent.toml"), config).unwrap();
    let args: Vec<&str> = args.iter().copied().chain(["-c", "agent.toml"]).collect();
    Binary::output(BINARY, &args, dir.path())
}

#[test]
fn answers_go_to_standard_output() {
    for args in [
        &["version"][..],
        &["components"],
        &["metrics", "list"],
        &["metrics", "explain", "concurrent_requests"],
        &["config", "schema"],
        &["config", "show"],
        &["config", "explain", "config::unknown-key"],
        &["config", "explain", "receivers.prometheus.interval"],
        &["config", "explain", "receivers.prometheus"],
        &["config", "explain", "service"],
        &["metrics", "explain", "acme_replicas_active", "--set", "service.metric_prefix=acme"],
        &["completions", "bash"],
        &["--help"],
        &["-h"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.ends_with('\n') && out.len() > 10, "{args:?}: {out}");
    }
}

#[test]
fn answers_in_json_parse() {
    for args in [
        &["version", "--json"][..],
        &["components", "--json"],
        &["metrics", "list", "--json"],
        &["config", "explain", "receivers.prometheus", "--json"],
        &["config", "explain", "receivers.prometheus.interval", "--json"],
        &["config", "schema"],
        &["config", "show", "--json"],
    ] {
        let (code, out, _) = run(args);
        assert_eq!(code, 0, "{args:?}");
        serde_json::from_str::<serde_json::Value>(&out)
            .unwrap_or_else(|wrong| panic!("{args:?}: {wrong}\n{out}"));
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status =
        std::process::Command::new(BINARY).args(["metrics", "list"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn wrong_usage_is_code_2_and_says_what_was_meant() {
    let (code, out, err) = run(&["runn"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("'run'"), "{err}");
    let (code, _, err) = run(&["metrics", "explain", "concurent_requests"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `baseten_concurrent_requests`?"), "{err}");
    let (code, _, err) = run(&["config", "explain", "receivers.prometheus.intervall"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `receivers.prometheus.interval`?"), "{err}");
    assert_eq!(run(&[]).0, 2, "no command is a question, not a start");
}

#[test]
fn a_wrong_configuration_is_code_4_with_every_error_located() {
    let config = "[receivers.engines]\ntype = \"prometheus\"\nintervall = \"5s\"\ntimeout = 5\n\
        [exporters.prometheus]\n[pipelines.metrics]\nreceivers = [\"engine\"]\nexporters = [\"prometheus\"]\n";
    for command in ["run", "check"] {
        let (code, out, err) = run_with(config, &[command]);
        assert_eq!((code, out.as_str()), (4, ""), "{err}");
        for expected in [
            "agent.toml:3:1",
            "did you mean `interval`?",
            "agent.toml:4:11",
            "agent.toml:7:14",
            "did you mean `engines`?",
            "3 errors",
        ] {
            assert!(err.contains(expected), "{command} lacks {expected:?}:\n{err}");
        }
    }
    let (code, out, err) = run_with(config, &["check", "--json"]);
    assert_eq!((code, err.as_str()), (4, ""));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        found.as_array().unwrap().iter().filter(|one| one["severity"] == 1).count(),
        3,
        "{found:#}"
    );
}

#[test]
fn addresses_that_are_none_are_found_before_anything_starts() {
    let config = crate::agent::config("targets = [\"127.0.0.1:1\"]")
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"nonsense\"")
        .replace(
            "[exporters.prometheus]\nlisten = \"127.0.0.1:0\"",
            "[exporters.prometheus]\nlisten = \"1.2.3.4\"",
        );
    for command in ["check", "run"] {
        let (code, _, err) = run_with(&config, &[command]);
        assert_eq!(code, 4, "{err}");
        assert!(
            err.contains("nonsense") && err.contains("1.2.3.4") && err.contains("2 errors"),
            "{err}"
        );
    }
}

#[test]
fn a_component_that_nobody_uses_is_checked_as_well() {
    let config = "[receivers.engines]\ntype = \"prometheus\"\ntargets = [\"127.0.0.1:1\"]\n[exporters.debug]\n\
        [exporters.prometheus]\nlisten = \"127.0.0.1:94640\"\n[pipelines.metrics]\nreceivers = [\"engines\"]\nexporters = [\"debug\"]\n";
    let (code, _, err) = run_with(config, &["check"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("94640") && err.contains("1 error, 1 warning"), "{err}");
}

#[test]
fn warnings_fail_only_when_denied() {
    let config = "[receivers.engines]\ntype = \"prometheus\"\ntargets = [\"127.0.0.1:1\"]\n[exporters.prometheus]\n\
        [exporters.debug]\n[pipelines.metrics]\nreceivers = [\"engines\"]\nexporters = [\"prometheus\"]\n";
    let (code, _, err) = run_with(config, &["check"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("no pipeline uses exporters.debug"), "{err}");
    assert_eq!(run_with(config, &["check", "--deny-warnings"]).0, 3);
}

#[test]
fn processors_in_an_order_that_loses_something_are_told_of() {
    let config = "[receivers.engines]\ntype = \"prometheus\"\ntargets = [\"127.0.0.1:1\"]\n[exporters.prometheus]\n\
        [processors.llm]\n[processors.normalize]\n[processors.pod_id]\n[processors.labels]\n[pipelines.metrics]\n\
        receivers = [\"engines\"]\nprocessors = [\"normalize\", \"labels\", \"pod_id\", \"llm\"]\nexporters = [\"prometheus\"]\n";
    let (code, _, err) = run_with(config, &["check"]);
    assert_eq!(code, 4, "{err}");
    for told in [
        "`pod_id` comes after `labels`",
        "agent.toml:11:38",
        "`llm` comes after `normalize`",
        "agent.toml:11:48",
        r#"processors = ["llm", "normalize", "pod_id", "labels"]"#,
        "1 error, 1 warning",
    ] {
        assert!(err.contains(told), "{told}:\n{err}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let config = "[receivers.engines]\ntype = \"prometheus\"\ntargets = [\"127.0.0.1:1\"]\nbearer_token = \"hunter2-of-the-engine\"\n\
        [processors.pod_id]\nkey = \"hunter2-of-the-pods-and-more\"\n[exporters.prometheus]\n[[exporters.prometheus.tokens]]\n\
        token = \"hunter2-of-the-reader\"\n[pipelines.metrics]\nreceivers = [\"engines\"]\nprocessors = [\"pod_id\"]\n\
        exporters = [\"prometheus\"]\n";
    for args in [&["config", "show"][..], &["config", "show", "--json"], &["check"]] {
        let (code, out, err) = run_with(config, args);
        assert_eq!(code, 0, "{err}");
        assert!(!out.contains("hunter2") && !err.contains("hunter2"), "{args:?}:\n{out}{err}");
    }
}

#[test]
fn a_taken_port_is_code_6_and_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = crate::agent::config("targets = [\"127.0.0.1:1\"]").replace(
        "[exporters.prometheus]\nlisten = \"127.0.0.1:0\"",
        &format!("[exporters.prometheus]\nlisten = \"{address}\""),
    );
    let (code, _, err) = run_with(&config, &["run"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains(&format!("another process listens on {address}")), "{err}");
}

#[test]
fn every_file_to_start_from_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut checked = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.display().to_string();
        let mut command = std::process::Command::new(BINARY);
        for name in [
            "INFEROMETER_TOKEN",
            "INFEROMETER_POD_ID_KEY",
            "POD_NAME",
            "POD_NAMESPACE",
            "MODEL_ID",
            "MODEL_NAME",
            "DEPLOYMENT_ID",
            "NODE_NAME",
            "NEW_RELIC_LICENSE_KEY",
            "GRAFANA_CLOUD_TOKEN",
        ] {
            command.env(name, "a-value-of-the-test-long-enough");
        }
        let out = command.args(["check", "--deny-warnings", "-c", &shown]).output().unwrap();
        assert!(out.status.success(), "{shown}:\n{}", String::from_utf8_lossy(&out.stderr));
        checked += 1;
    }
    assert!(checked >= 9);
}
