//! What is wrong with a configuration is said where it is.

use super::made;

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    let found = made(text).err().unwrap_or_default();
    for part in expected {
        assert!(found.contains(part), "`{part}` is not in:\n{found}");
    }
}

#[test]
fn the_defaults_are_fine() {
    assert!(made("").is_ok());
    assert!(made("http = { enabled = false, listen = \"nonsense\" }").is_ok(), "off is off");
    assert!(made("grpc = { listen = \"unix:/run/otlp.sock\" }").is_ok());
}

#[test]
fn mistakes_are_located() {
    wrong("grpc = { enabled = false }\nhttp = { enabled = false }", &["neither gRPC nor HTTP"]);
    wrong("[grpc]\nlisten = \"4317\"", &["toml:2:10", "host:port", "found `4317`"]);
    wrong("[http]\nlisten = \"unix:x\"", &["toml:2:10", "absolute path"]);
    wrong("expiry = \"0s\"\nrequest_timeout = \"0s\"", &["`expiry` is", "`request_timeout` is"]);
    wrong("max_request_bytes = \"0B\"", &["toml:1:21", "from 1 B to 4 GiB"]);
    wrong("max_request_bytes = \"5GiB\"", &["toml:1:21", "from 1 B to 4 GiB"]);
    wrong("max_memory = \"1MB\"", &["toml:1:14", "at least 1 MiB, found 1MB"]);
    wrong("tokens = [{ token = \"a\" },\n{ token = \"a\" }]", &["toml:2:11", "each token once"]);
    wrong("tokens = [{ token = \"a\", model_ids = [\"m\"] }]", &["unknown-key", "model_ids"]);
    wrong(
        "[http.cors]\norigins = [\"example.com\",\n\"https://*.*.x\"]\nheaders = [\"a b\"]",
        &["toml:2:12", "toml:3:1", "toml:4:12", "name of a header"],
    );
    wrong("[http.cors]\nheaders = []", &["`cors` without origins"]);
    let tls = "tls = { cert_file = \"/none.pem\", key_file = \"/none.key\" }";
    wrong(&format!("[grpc]\n{tls}"), &["/none.pem", "/none.key", "toml:2:"]);
    wrong(&format!("[grpc]\nlisten = \"unix:/x\"\n{tls}"), &["protects nothing"]);
    wrong("[grpc]\nkeepalive_interval = \"0s\"", &["`keepalive_interval` is zero"]);
    wrong("port = 3", &["unknown-key", "port"]);
}
