//! TLS settings and the rustls configurations made from them. The crypto provider is ring, always named, so that
//! nothing depends on what the process installed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a client speaks TLS with an `https` address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// PEM file with the certificate authorities to trust, instead of those of the system. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// The same, as text.
    pub ca_pem: Option<String>,
    /// PEM file with the certificate (and its intermediates) shown to the server; needs `key_file`. Read again when it
    /// changes.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The name the server's certificate must carry, instead of the host in the address.
    pub server_name: Option<String>,
    /// Accepts every certificate. Anybody on the way can then read and change everything, credentials included.
    pub insecure_skip_verify: bool,
}

/// How a server speaks TLS. The files are read again when they change, for the connections that follow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the server's certificate, followed by its intermediates.
    pub cert_file: PathBuf,
    /// PEM file with the private key of `cert_file`.
    pub key_file: PathBuf,
    /// PEM file with the certificate authorities of clients. With it, a client without a certificate of theirs is refused.
    pub client_ca_file: Option<PathBuf>,
}

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or what is in it is not PEM.
    #[error("cannot read {} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        source: pem::Error,
    },
    /// A file (or `ca_pem`) is PEM but holds no certificate.
    #[error("expected at least one certificate in {place}, found none")]
    NoCertificate {
        /// The file, or `ca_pem`.
        place: String,
    },
    /// A certificate without its key, or the other way round.
    #[error("`cert_file` and `key_file` go together, found only `{found}`")]
    HalfAPair {
        /// The one that is there.
        found: &'static str,
    },
    /// No certificate authority to trust: the system has none, or none that parses.
    #[error("found no certificate authorities on this system; set `ca_file`")]
    NoRoots,
    /// rustls refuses the certificate, the key or their combination.
    #[error("cannot use {place}")]
    Refused {
        /// The files.
        place: String,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate authorities of clients cannot be used.
    #[error("cannot use the client authorities in {}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
}

/// The client side, ready to connect: with the client certificate, and without it for hosts it is not meant for.
pub(crate) struct ClientConfigs {
    pub(crate) trusted: Arc<ClientConfig>,
    pub(crate) stranger: Arc<ClientConfig>,
}

impl ClientTls {
    /// The files that the configuration is made from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten().cloned().collect()
    }

    /// Reads the files; blocks.
    pub(crate) fn load(&self) -> Result<ClientConfigs, TlsError> {
        let base = || {
            let builder = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(|source| refused("TLS versions", source))?;
            Ok(if self.insecure_skip_verify {
                let algorithms = provider().signature_verification_algorithms;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AcceptAny { algorithms }))
            } else {
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(self.roots()?, provider())
                        .build()
                        .map_err(|_| TlsError::NoRoots)?;
                builder.with_webpki_verifier(verifier)
            })
        };
        let mut stranger = base()?.with_no_client_auth();
        stranger.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stranger = Arc::new(stranger);
        let trusted = match (&self.cert_file, &self.key_file) {
            (None, None) => Arc::clone(&stranger),
            (Some(_), None) => return Err(TlsError::HalfAPair { found: "cert_file" }),
            (None, Some(_)) => return Err(TlsError::HalfAPair { found: "key_file" }),
            (Some(cert), Some(key)) => {
                let mut config = base()?
                    .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                    .map_err(|source| refused(pair(cert, key), source))?;
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Arc::new(config)
            }
        };
        Ok(ClientConfigs { trusted, stranger })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if self.ca_file.is_none() && self.ca_pem.is_none() {
            return system_roots();
        }
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            add_file(&mut roots, path)?;
        }
        if let Some(text) = &self.ca_pem {
            add_pem(&mut roots, text)?;
        }
        Ok(Arc::new(roots))
    }

    /// All that is wrong, each with its key; an empty key is all of it together. Reads the files; blocks.
    pub(crate) fn faults(&self) -> Vec<(&'static str, TlsError)> {
        let mut found = Vec::new();
        let mut roots = RootCertStore::empty();
        // Without verification nobody reads the authorities.
        if !self.insecure_skip_verify {
            let file = self.ca_file.as_ref().map(|path| add_file(&mut roots, path));
            found.extend(file.and_then(Result::err).map(|error| ("ca_file", error)));
            let pem = self.ca_pem.as_ref().map(|text| add_pem(&mut roots, text));
            found.extend(pem.and_then(Result::err).map(|error| ("ca_pem", error)));
        }
        match (&self.cert_file, &self.key_file) {
            (None, None) => {}
            (Some(_), None) => {
                found.push(("cert_file", TlsError::HalfAPair { found: "cert_file" }));
            }
            (None, Some(_)) => found.push(("key_file", TlsError::HalfAPair { found: "key_file" })),
            (Some(cert), Some(key)) => {
                found.extend(certificates(cert).err().map(|error| ("cert_file", error)));
                found.extend(private_key(key).err().map(|error| ("key_file", error)));
            }
        }
        if found.is_empty() && *self != Self::default() {
            found.extend(self.load().err().map(|error| ("", error)));
        }
        found
    }
}

impl ServerTls {
    /// The files that the configuration is made from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [Some(&self.cert_file), Some(&self.key_file), self.client_ca_file.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// All that is wrong with the files, each with the key that names it; an empty key is all of them together. Reads
    /// the files; blocks.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, TlsError)> {
        let mut found = Vec::new();
        found.extend(certificates(&self.cert_file).err().map(|error| ("cert_file", error)));
        found.extend(private_key(&self.key_file).err().map(|error| ("key_file", error)));
        let authorities = self.client_ca_file.as_deref().map(certificates);
        found.extend(authorities.and_then(Result::err).map(|error| ("client_ca_file", error)));
        if found.is_empty() {
            found.extend(self.load().err().map(|error| ("", error)));
        }
        found
    }

    /// Reads the files; blocks.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| refused("TLS versions", source))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                add_roots(&mut roots, certificates(path)?, &path.display().to_string())?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|source| TlsError::ClientCa { path: path.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates(&self.cert_file)?, private_key(&self.key_file)?)
            .map_err(|source| refused(pair(&self.cert_file, &self.key_file), source))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// The authorities of the system, read once per process.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some systems ship a few that webpki cannot parse; the others are enough.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(Arc::clone(roots)) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { place: path.display().to_string() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    add_roots(roots, certificates(path)?, &path.display().to_string())
}

fn add_pem(roots: &mut RootCertStore, text: &str) -> Result<(), TlsError> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { path: PathBuf::from("ca_pem"), source })?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { place: "`ca_pem`".to_owned() });
    }
    add_roots(roots, found, "`ca_pem`")
}

fn add_roots(
    roots: &mut RootCertStore,
    found: Vec<CertificateDer<'static>>,
    place: &str,
) -> Result<(), TlsError> {
    found.into_iter().try_for_each(|der| roots.add(der)).map_err(|source| refused(place, source))
}

fn pair(cert: &Path, key: &Path) -> String {
    format!("{} with {}", cert.display(), key.display())
}

fn refused(place: impl Into<String>, source: rustls::Error) -> TlsError {
    TlsError::Refused { place: place.into(), source }
}

/// `insecure_skip_verify`: any certificate will do, but the peer must still hold its key.
#[derive(Debug)]
struct AcceptAny {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
