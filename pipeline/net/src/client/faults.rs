//! Everything that is wrong with [`ClientSettings`] at once and each at its key, for whoever checks a configuration.

use std::error::Error;

use rustls::pki_types::ServerName;

use super::{ClientError, ClientSettings, credentials, extra_header};

/// One thing that is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The keys from the settings down to it: `["tls", "ca_file"]`.
    pub path: Vec<String>,
    /// What was expected and what was found, with all causes. Never a secret.
    pub message: String,
    /// What to do; empty where the message says it.
    pub help: &'static str,
}

impl ClientSettings {
    /// Everything for which [`super::Client::new`] refuses the settings. Reads the files that they name and blocks on
    /// them; does nothing over the network.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut found = Vec::new();
        for header in &self.headers {
            if let Err(error) = extra_header(header) {
                let help = match error {
                    ClientError::HeaderName { .. } => {
                        "letters, digits and - make a name, such as X-Scope-OrgID"
                    }
                    ClientError::HeaderReserved { .. } => "remove it",
                    _ => "",
                };
                found.push(fault(&["headers", header.0], &error, help));
            }
        }
        for (path, error) in credentials::faults(self) {
            found.push(fault(&path, &error, ""));
        }
        for (key, error) in self.tls.faults() {
            let path = if key.is_empty() { vec!["tls"] } else { vec!["tls", key] };
            found.push(fault(&path, &error, ""));
        }
        if let Some(name) = &self.tls.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            found.push(Fault {
                path: vec!["tls".to_owned(), "server_name".to_owned()],
                message: format!("expected a host name or an ip address, found `{name}`"),
                help: "",
            });
        }
        found
    }
}

fn fault(path: &[&str], error: &dyn Error, help: &'static str) -> Fault {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Fault { path: path.iter().map(|&key| key.to_owned()).collect(), message, help }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, ClientPlan};
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &[&str]) {
        let settings: ClientSettings = serde_json::from_str(json).unwrap();
        let found: Vec<String> = settings
            .faults()
            .into_iter()
            .map(|fault| format!("{}: {}", fault.path.join("."), fault.message))
            .collect();
        assert_eq!(found, expected);
        let made = Client::new(ClientPlan { settings, ..ClientPlan::default() });
        assert_eq!(made.is_err(), !expected.is_empty(), "a client is made from what has no fault");
    }

    #[test]
    fn each_at_its_key() {
        check("{}", &[]);
        check(
            r#"{"headers": {"a b": "1", "Host": "h", "ok": "1", "x": "a\nb", "authorization": "k"}}"#,
            &[
                "headers.Host: header `Host` cannot be set, it follows from the request",
                "headers.a b: expected a header name in `headers`, found `a b`",
                "headers.authorization: header `authorization` cannot be set in `headers`; use `authorization`, `basic_auth` or `bearer_token`",
                "headers.x: expected a value without control characters for header `x`",
            ],
        );
        check(
            r#"{"basic_auth": {"username": "a:b", "password": "p", "password_file": "f"}}"#,
            &[
                "basic_auth.username: expected a name without a colon in `basic_auth.username`, found something else",
                "basic_auth.password_file: expected either `password` or `password_file`, found both",
            ],
        );
        check(
            r#"{"authorization": {"type": ""}, "bearer_token": "", "bearer_token_file": "/no/such"}"#,
            &[
                "bearer_token: expected one of `authorization`, `basic_auth`, `bearer_token` and `bearer_token_file`, found 3",
                "authorization.type: expected a scheme in `authorization.type`, found something else",
                "authorization: expected either `credentials` or `credentials_file`, found neither",
                "bearer_token: expected one line of text in `bearer_token`, found none or more",
                "bearer_token_file: cannot read /no/such: No such file or directory (os error 2)",
            ],
        );
        check(
            r#"{"tls": {"ca_file": "/no/such", "ca_pem": "none", "cert_file": "/no/cert"}}"#,
            &[
                "tls.ca_file: cannot read /no/such as PEM: I/O error: No such file or directory (os error 2)",
                "tls.ca_pem: expected at least one certificate in `ca_pem`, found none",
                "tls.cert_file: `cert_file` and `key_file` go together, found only `cert_file`",
            ],
        );
        check(
            r#"{"tls": {"cert_file": "/no/cert", "key_file": "/no/key", "insecure_skip_verify": true, "ca_file": "/no/such"}}"#,
            &[
                "tls.cert_file: cannot read /no/cert as PEM: I/O error: No such file or directory (os error 2)",
                "tls.key_file: cannot read /no/key as PEM: I/O error: No such file or directory (os error 2)",
            ],
        );
    }

    #[test]
    fn a_server_name_is_checked() {
        let mut settings = ClientSettings::default();
        settings.tls.insecure_skip_verify = true;
        settings.tls.server_name = Some("a b".to_owned());
        let found = settings.faults();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, ["tls", "server_name"]);
        assert_eq!(found[0].message, "expected a host name or an ip address, found `a b`");
    }
}
