//! gRPC against the official service on tonic's server: TLS, client certificates, codings, details of statuses.

use std::path::PathBuf;
use std::sync::Mutex;

use ::tonic::codec::CompressionEncoding;
use ::tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use ::tonic::{Code, Request, Response, Status};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

type Seen = Arc<Mutex<Vec<ExportMetricsServiceRequest>>>;

#[derive(Clone, Default)]
struct Service {
    seen: Seen,
    next: Arc<Mutex<Vec<Result<ExportMetricsServiceResponse, Status>>>>,
}

#[::tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let next = self.next.lock().unwrap().pop();
        match next {
            Some(Err(status)) => Err(status),
            next => {
                self.seen.lock().unwrap().push(request.into_inner());
                Ok(Response::new(next.and_then(Result::ok).unwrap_or_default()))
            }
        }
    }
}

/// An authority, and files with what it signed.
struct Certificates {
    dir: TempDir,
    ca: String,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.is_ca = IsCa::ExplicitNoCa;
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { ca: issuer.pem(), dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn server(&self) -> ServerTlsConfig {
        let read = |file| std::fs::read(self.path(file)).unwrap();
        ServerTlsConfig::new().identity(Identity::from_pem(read("server.pem"), read("server.key")))
    }
}

/// Serves in the background; gives the port.
fn serve(
    runtime: &Runtime,
    tasks: &mut JoinSet<()>,
    service: &Service,
    tls: Option<ServerTlsConfig>,
) -> u16 {
    let official = MetricsServiceServer::new(service.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(20_000);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut builder = Server::builder();
        if let Some(tls) = tls {
            builder = builder.tls_config(tls).unwrap();
        }
        let incoming = ::tonic::transport::server::TcpIncoming::from(listener);
        let serving = builder.add_service(official).serve_with_incoming(incoming);
        tasks.spawn(async move { serving.await.unwrap() });
        port
    })
}

#[test]
fn the_official_service_understands_every_coding_and_its_answers_are_understood() {
    for coding in ["none", "gzip", "zstd"] {
        let service = Service::default();
        let mut bench = Bench::new("endpoint = \"http://later\"");
        let mut tasks = JoinSet::new();
        let port = serve(&bench.runtime, &mut tasks, &service, None);
        let toml = format!("endpoint = \"http://127.0.0.1:{port}\"\ncompression = \"{coding}\"");
        bench.sender = Bench::new(&toml).sender;
        assert_eq!(bench.send(&[part("a", 1, &[1.0, 2.0])]), Ok(DONE), "{coding}");
        assert_eq!(points(&service.seen.lock().unwrap()), ["a/m0@1", "a/m1@1"]);
        // The answer is long enough to be compressed.
        let message = "too old ".repeat(40);
        let partial_success = Some(ExportMetricsPartialSuccess {
            rejected_data_points: 2,
            error_message: message.clone(),
        });
        let said = |next| service.next.lock().unwrap().push(next);
        said(Ok(ExportMetricsServiceResponse { partial_success }));
        let Ok(delivered) = bench.send(&[part("a", 2, &[1.0, 2.0])]) else { panic!("{coding}") };
        assert_eq!(delivered.rejected, 2);
        assert!(message.starts_with(&delivered.message) && delivered.message.len() > 200);
        // google.rpc.Status with RetryInfo of 5 s.
        let details =
            b"\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x05";
        let busy = |code| Status::with_details(code, "later, please", details.to_vec().into());
        said(Err(busy(Code::ResourceExhausted)));
        assert_eq!(show(&bench.send(&[part("a", 3, &[1.0])])), "again Some(5s)");
        said(Err(busy(Code::Unavailable)));
        let busy = bench.send(&[part("a", 3, &[1.0])]);
        assert_eq!(show(&busy), "again Some(5s)");
        assert_eq!(busy.unwrap_err().to_string(), "gRPC status UNAVAILABLE: later, please");
        said(Err(Status::resource_exhausted("quota")));
        assert_eq!(show(&bench.send(&[part("a", 3, &[1.0])])), "never");
        said(Err(Status::unauthenticated("who?")));
        let refused = bench.send(&[part("a", 3, &[1.0])]).unwrap_err().to_string();
        assert!(refused.contains("UNAUTHENTICATED: who?: the endpoint refuses"), "{refused}");
        // More than the server takes, in its own words.
        assert_eq!(show(&bench.send(&[part("a", 4, &[1.0; 1000])])), "halves", "{coding}");
        assert_eq!(bench.send(&[part("a", 5, &[1.0])]), Ok(DONE), "{coding}");
    }
}

#[test]
fn tls_and_client_certificates() {
    let certificates = Certificates::new();
    let service = Service::default();
    let runtime = Bench::new("endpoint = \"http://later\"").runtime;
    let mut tasks = JoinSet::new();
    let plain = serve(&runtime, &mut tasks, &service, Some(certificates.server()));
    let strict = certificates.server().client_ca_root(Certificate::from_pem(&certificates.ca));
    let strict = serve(&runtime, &mut tasks, &service, Some(strict));
    let ca = format!("ca_file = {:?}", certificates.path("ca.pem"));
    let own = format!(
        "{ca}, cert_file = {:?}, key_file = {:?}",
        certificates.path("client.pem"),
        certificates.path("client.key")
    );
    let send = |port: u16, tls: &str| {
        let toml =
            format!("endpoint = \"https://localhost:{port}\"\ntls = {{ {tls} }}\ntimeout = \"5s\"");
        let mut sender = Bench::new(&toml).sender;
        let parts = [part("a", 1, &[1.0])];
        show(&runtime.block_on(pipeline_component::Sender::send(&mut sender, &parts)))
    };
    assert_eq!(send(plain, &ca), "0 rejected ");
    assert_eq!(send(plain, "insecure_skip_verify = true"), "0 rejected ");
    assert_eq!(send(strict, &own), "0 rejected ");
    assert_eq!(service.seen.lock().unwrap().len(), 3);
    assert_eq!(send(strict, &ca), "again None", "without a certificate of its own");
    assert_eq!(send(plain, ""), "again None", "an authority that nobody trusts");
    assert_eq!(service.seen.lock().unwrap().len(), 3);
}
