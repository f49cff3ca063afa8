//! Requests as stores see them, and what becomes of their answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline_component::{Delivered, ExportError, Part};
use pipeline_config::Section;
use pipeline_model::{
    Batch, Bounds, Group, Interner, Kind, Labels, MetadataStore, Metric, Plan as Steps,
    ShapeBuilder, Slot, SourceId,
};
use pipeline_wire::remote_write::Version;
use pipeline_wire::remote_write::decode::{Request, request, unsnappy};
use tokio::runtime::Runtime;

use super::rules::LeaveOut;
use super::{Config, DropLabels, Gauges, Sender, Translation};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.header("content-type").is_some_and(|value| value.contains("proto="))
    }

    pub(crate) fn request(&self) -> Request {
        let version = if self.is_v2() { Version::V2 } else { Version::V1 };
        request(version, &unsnappy(&self.body, 1 << 24).expect("a block")).expect("a request")
    }
}

/// A store that answers as told: request by request, the last answer again and again.
pub(crate) struct Store {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Store {
    pub(crate) fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let seen = Arc::clone(&got);
        std::thread::spawn(move || {
            let mut answers = answers.into_iter().peekable();
            let mut last = String::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                while let Some(got) = read(&mut stream) {
                    seen.lock().expect("unpoisoned").push(got);
                    last = answers.next().unwrap_or(last);
                    let (head, body) = last.split_once("\n\n").unwrap_or((&last, ""));
                    let head = head.replace('\n', "\r\n");
                    let length = if head.starts_with("204") {
                        String::new()
                    } else {
                        format!("content-length: {}\r\n", body.len())
                    };
                    let answer = format!("HTTP/1.1 {head}\r\n{length}\r\n{body}");
                    stream.write_all(answer.as_bytes()).expect("an answer");
                }
            }
        });
        Self { address, got }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().expect("unpoisoned").clone()
    }
}

fn read(stream: &mut TcpStream) -> Option<Got> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let mut got = Got { head, body: Vec::new() };
    let length = got.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    got.body = vec![0; length];
    stream.read_exact(&mut got.body).ok()?;
    Some(got)
}

/// A sender and what runs it.
pub(crate) struct Bench {
    runtime: Runtime,
    sender: Sender,
}

impl Bench {
    fn new(toml: &str) -> Self {
        let section = Section::from_toml("exporters.remote_write", toml).expect("toml");
        let config: Config = section.decode().expect("config");
        Self::of(config.plan(&section, &settings()).expect("a plan"))
    }

    pub(crate) fn of(plan: super::Plan) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, sender: Sender::new(&Arc::new(plan)) }
    }

    pub(crate) fn send(&mut self, parts: &[Part]) -> Result<Delivered, ExportError> {
        self.runtime.block_on(pipeline_component::Sender::send(&mut self.sender, parts))
    }
}

/// A counter, a gauge and a histogram of one target, at second `time` of some hour.
pub(crate) fn batch(source: SourceId, instance: &str, time: i64) -> Batch {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let labels = Labels::from_pairs([("instance", instance), ("job", "vllm")]);
    let group = builder.group(Group { labels, ..Group::default() });
    for (name, kind) in [
        ("hits_total", Kind::COUNTER),
        ("depth", Kind::Gauge),
        ("wait_seconds", Kind::histogram(Bounds::new(&[1.0, 2.0]))),
    ] {
        let metric = Arc::new(Metric::new(name, "", "Help.", kind));
        builder.push(group, &metric, &Labels::from_pairs([("k", "v")])).expect("new");
    }
    let values = [3.0, 0.5, 7.5, 4.0, 1.0, 3.0].map(Slot::double).to_vec();
    Batch::new(source, builder.finish(), (1_700_000_000 + time) * 1_000_000_000, values)
}

pub(crate) fn part(instance: &str, time: i64) -> Part {
    Part::whole(batch(SourceId::next(), instance, time))
}

pub(crate) fn samples(request: &Request) -> Vec<String> {
    let of = |series: &pipeline_wire::remote_write::decode::Series| {
        let text = series.text();
        series.samples.iter().map(move |s| format!("{text} {}", s.value())).collect::<Vec<_>>()
    };
    request.series.iter().flat_map(of).collect()
}

const DONE: Delivered = Delivered { rejected: 0, message: String::new() };
const TAKEN_2: &str = "204 No Content\nx-prometheus-remote-write-samples-written: 7\n\
    x-prometheus-remote-write-histograms-written: 0\nx-prometheus-remote-write-exemplars-written: 0";

fn of(store: &Store, more: &str) -> Bench {
    Bench::new(&format!("endpoint = \"{}\"\n{more}", store.url()))
}

#[test]
fn version_2_has_its_headers_and_what_was_given() {
    let store = Store::start(&[TAKEN_2]);
    let mut bench = of(
        &store,
        "bearer_token = \"secret\"\nheaders = { x-scope-orgid = \"t1\" }\nexternal_labels = { cluster = \"c\" }",
    );
    assert_eq!(bench.send(&[part("a", 1)]), Ok(DONE));
    let got = store.got();
    assert_eq!(got.len(), 1);
    for (name, value) in [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "2.0.0"),
        ("authorization", "Bearer secret"),
        ("x-scope-orgid", "t1"),
    ] {
        assert_eq!(got[0].header(name), Some(value));
    }
    assert!(got[0].head.starts_with("POST /api/v1/write HTTP/1.1"));
    assert!(got[0].header("user-agent").is_some_and(|agent| agent.starts_with("inferometer/")));
    assert_eq!(got[0].header("retry-attempt"), None);
    let labels = "cluster=\"c\",instance=\"a\",job=\"vllm\",k=\"v\"";
    let bucket = |le| {
        format!(
            "wait_seconds_bucket{{cluster=\"c\",instance=\"a\",job=\"vllm\",k=\"v\",le=\"{le}\"}}"
        )
    };
    assert_eq!(
        samples(&got[0].request()),
        [
            format!("hits_total{{{labels}}} 3"),
            format!("depth{{{labels}}} 0.5"),
            format!("{} 1", bucket("1.0")),
            format!("{} 3", bucket("2.0")),
            format!("{} 4", bucket("+Inf")),
            format!("wait_seconds_sum{{{labels}}} 7.5"),
            format!("wait_seconds_count{{{labels}}} 4"),
        ]
    );
}

#[test]
fn a_store_of_version_1_gets_that_in_the_same_attempt_and_from_then_on() {
    // What it says to 2.0: 415 as the specification has it, 400 because it cannot read it, or nothing at all.
    for refusal in
        ["415 Unsupported Media Type", "400 Bad Request\n\nbad wire type", "204 No Content"]
    {
        let store = Store::start(&[refusal, "204 No Content"]);
        let mut bench = of(&store, "metadata_interval = \"0s\"");
        let source = SourceId::next();
        for time in 1..3 {
            assert_eq!(bench.send(&[Part::whole(batch(source, "a", time))]), Ok(DONE), "{refusal}");
        }
        let got = store.got();
        let versions: Vec<bool> = got.iter().map(Got::is_v2).collect();
        assert_eq!(versions, [true, false, false], "{refusal}");
        assert_eq!(got[1].header("x-prometheus-remote-write-version"), Some("0.1.0"));
        assert_eq!(got[1].header("content-type"), Some("application/x-protobuf"));
        assert_eq!(samples(&got[1].request()).len(), 7);
        assert_eq!(samples(&got[0].request()), samples(&got[1].request()));
    }
}

#[test]
fn bad_data_in_both_versions_is_no_matter_of_versions() {
    let store = Store::start(&["400 Bad Request\n\nout of\norder sample"]);
    let mut bench = of(&store, "");
    for _ in 0..2 {
        let error = bench.send(&[part("a", 1)]).expect_err("400");
        assert_eq!(error, ExportError::TooLarge("HTTP status 400: out of order sample".into()));
    }
    let versions: Vec<bool> = store.got().iter().map(Got::is_v2).collect();
    assert_eq!(versions, [true, false, true, false], "2.0 is not given up for it");
}

#[test]
fn version_2_is_tried_again_after_an_hour() {
    let plan = || {
        let section = Section::from_toml("e", "endpoint = \"http://127.0.0.1:1/\"").expect("toml");
        section.decode::<Config>().expect("config").plan(&section, &settings()).expect("a plan")
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let plan = plan();
        assert_eq!(plan.dialect.version(), Version::V2);
        plan.dialect.fell_back("u");
        assert_eq!(plan.dialect.version(), Version::V1);
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert_eq!(plan.dialect.version(), Version::V2);
    });
}

/// A gauge and an exponential histogram.
fn with_native(time: i64) -> Part {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group::default());
    let kind = Kind::ExponentialHistogram { temporality: pipeline_model::Temporality::Cumulative };
    for (name, kind) in [("depth", Kind::Gauge), ("wait", kind)] {
        builder
            .push(group, &Arc::new(Metric::new(name, "", "", kind)), &Labels::empty())
            .expect("new");
    }
    let shape = builder.finish();
    let values = vec![Slot::double(1.0); shape.slots()];
    let mut batch =
        Batch::new(SourceId::next(), shape, (1_700_000_000 + time) * 1_000_000_000, values);
    let point = pipeline_model::ExponentialPoint { zero_count: 1.0, ..Default::default() };
    let extras = pipeline_model::Extras { exponentials: vec![(1, point)], ..Default::default() };
    batch.extras = Some(Arc::new(extras));
    Part::whole(batch)
}

#[test]
fn a_store_without_native_histograms_gets_the_rest_at_once_and_from_then_on() {
    for refusal in [
        "500 Internal Server Error\n\nnative histograms are disabled",
        "400 Bad Request\n\nerr-mimir-native-histograms-not-enabled",
    ] {
        let store = Store::start(&[refusal, "204 No Content"]);
        let mut bench = of(&store, "protocol = \"1.0\"\nmetadata_interval = \"0s\"");
        for time in 1..3 {
            let message = "1 points are native histograms, which the store takes none of";
            let expected = Delivered { rejected: 1, message: message.to_owned() };
            assert_eq!(bench.send(&[with_native(time)]), Ok(expected), "{refusal}");
        }
        let requests: Vec<Request> = store.got().iter().map(Got::request).collect();
        let series: Vec<usize> = requests.iter().map(|request| request.series.len()).collect();
        assert_eq!(series, [2, 1, 1], "{refusal}");
    }
    // Of single samples it is said too.
    let store = Store::start(&["400 No\n\nout-of-order native histograms are disabled"]);
    let mut bench = of(&store, "protocol = \"1.0\"\nmetadata_interval = \"0s\"");
    assert_eq!(show(&bench.send(&[with_native(1)])), "too large");
    assert_eq!(store.got().len(), 1);
}

#[test]
fn requests_with_bad_samples_are_halved_but_not_for_ever() {
    for said in [
        "out of bounds",
        "out of order sample",
        "duplicate sample for timestamp",
        "received a sample whose timestamp is too far in the future (err-mimir-too-far-in-future)",
        "err-mimir-label-value-too-long",
    ] {
        let store = Store::start(&[&format!("400 Bad Request\n\n{said}")]);
        let mut bench = of(&store, "protocol = \"1.0\"\nmetadata_interval = \"0s\"");
        assert_eq!(show(&bench.send(&[part("a", 1)])), "too large", "{said}");
        let one = Part { rows: 0..1, ..part("a", 1) };
        assert_eq!(show(&bench.send(&[one])), "in vain", "{said}");
    }
    let bad = "400 Bad Request\n\nout of bounds";
    let answers: Vec<&str> = std::iter::repeat_n(bad, 33).chain(["204 No Content", bad]).collect();
    let store = Store::start(&answers);
    let mut bench = of(&store, "protocol = \"1.0\"\nmetadata_interval = \"0s\"");
    for _ in 0..32 {
        assert_eq!(show(&bench.send(&[part("a", 1)])), "too large");
    }
    assert_eq!(show(&bench.send(&[part("a", 1)])), "in vain", "all are bad");
    assert_eq!(bench.send(&[part("a", 1)]), Ok(DONE));
    assert_eq!(show(&bench.send(&[part("a", 2)])), "too large", "not all are bad");
}

#[test]
fn what_version_2_took_of_a_bad_request_is_not_lost() {
    let answer = TAKEN_2.replace("204 No Content", "400 Bad Request").replace("7", "5");
    let store = Store::start(&[&format!("{answer}\n\nout of bounds")]);
    let mut bench = of(&store, "");
    let message = "2 samples were not written by the store, HTTP status 400: out of bounds";
    let expected = Delivered { rejected: 1, message: message.to_owned() };
    assert_eq!(bench.send(&[part("a", 1)]), Ok(expected));
}

fn show(result: &Result<Delivered, ExportError>) -> String {
    match result {
        Ok(Delivered { rejected, message }) => format!("{rejected} rejected {message}"),
        Err(ExportError::Retryable { after, .. }) => format!("again {after:?}"),
        Err(ExportError::TooLarge(_)) => "too large".to_owned(),
        Err(ExportError::Permanent(_)) => "in vain".to_owned(),
    }
}

#[test]
fn every_status_has_its_meaning() {
    let large = "400 Bad Request\n\nthe request has been rejected because its message size of 9 bytes is larger than the allowed limit";
    for (answer, expected) in [
        ("200 OK", "0 rejected "),
        ("202 Accepted", "0 rejected "),
        ("204 No Content", "0 rejected "),
        ("429 Too Many Requests\nretry-after: 7", "again Some(7s)"),
        ("500 Internal Server Error", "again None"),
        ("501 Not Implemented", "again None"),
        ("503 Service Unavailable\nretry-after: 96", "again Some(96s)"),
        ("400 Bad Request\n\nunknown", "in vain"),
        ("401 Unauthorized", "in vain"),
        ("404 Not Found", "in vain"),
        ("409 Conflict", "in vain"),
        ("413 Content Too Large", "too large"),
        ("415 Unsupported Media Type", "in vain"),
        ("307 Temporary Redirect\nlocation: /other", "in vain"),
        (large, "too large"),
    ] {
        let store = Store::start(&[answer]);
        let mut bench = of(&store, "protocol = \"1.0\"\nmetadata_interval = \"0s\"");
        assert_eq!(show(&bench.send(&[part("a", 1)])), expected, "{answer}");
        assert_eq!(store.got().len(), 1, "{answer}");
    }
}

#[test]
fn what_the_store_did_not_write_is_counted() {
    let partly = TAKEN_2.replace("samples-written: 7", "samples-written: 5");
    let store = Store::start(&[&partly]);
    let mut bench = of(&store, "protocol = \"2.0\"");
    // 2 of 7 samples of 3 points: one point.
    assert_eq!(
        bench.send(&[part("a", 1)]),
        Ok(Delivered {
            rejected: 1,
            message: "2 samples were not written by the store".to_owned()
        })
    );
    let error = of(&Store::start(&["415 No"]), "protocol = \"2.0\"").send(&[part("a", 1)]);
    assert_eq!(show(&error), "in vain", "told to speak 2.0 and nothing else");
}

#[test]
fn attempts_are_counted_and_say_the_same() {
    let store = Store::start(&["503 No", "429 No", "503 No", TAKEN_2, TAKEN_2]);
    let mut bench = of(&store, "");
    let source = SourceId::next();
    let parts = [Part::whole(batch(source, "a", 1))];
    for _ in 0..3 {
        assert_eq!(show(&bench.send(&parts)), "again None");
    }
    assert_eq!(bench.send(&parts), Ok(DONE));
    assert_eq!(bench.send(&[Part::whole(batch(source, "a", 2))]), Ok(DONE));
    let got = store.got();
    let attempts: Vec<Option<&str>> = got.iter().map(|got| got.header("retry-attempt")).collect();
    assert_eq!(attempts, [None, Some("1"), Some("2"), Some("3"), None]);
    assert!(got[..4].iter().all(|one| samples(&one.request()) == samples(&got[0].request())));
    // What was taken already is not sent again.
    let late = bench.send(&parts).expect("taken");
    let message = "3 points are not newer than what was sent of their series";
    assert_eq!(late, Delivered { rejected: 3, message: message.to_owned() });
    assert_eq!(store.got().len(), 5, "there was nothing to send");
}

#[test]
fn version_1_tells_of_metrics_in_a_request_of_its_own() {
    let store = Store::start(&["204 No Content"]);
    let mut bench = of(&store, "protocol = \"1.0\"");
    assert_eq!(bench.send(&[part("a", 1)]), Ok(DONE));
    assert_eq!(bench.send(&[part("b", 1)]), Ok(DONE));
    let got: Vec<Request> = store.got().iter().map(Got::request).collect();
    let sizes: Vec<_> = got.iter().map(|got| (got.series.len(), got.metadata.len())).collect();
    assert_eq!(sizes, [(7, 0), (0, 3), (7, 0)], "once a minute");
    let told: Vec<_> = got[1].metadata.iter().map(|one| (one.name.as_str(), one.ty)).collect();
    assert_eq!(told, [("hits_total", 1), ("depth", 2), ("wait_seconds", 3)]);
    assert_eq!(got[1].metadata[0].help, "Help.");
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let group = builder.group(Group::default());
    let metric = Arc::new(Metric::new("new", "", "", Kind::Gauge));
    builder.push(group, &metric, &Labels::empty()).expect("new");
    let values = vec![Slot::double(1.0)];
    let new = Batch::new(SourceId::next(), builder.finish(), 1_700_000_000_000_000_000, values);
    assert_eq!(bench.send(&[Part::whole(new)]), Ok(DONE));
    let last = store.got().pop().expect("a request").request();
    assert_eq!(last.metadata.len(), 1, "what is new is told at once");
}

#[test]
fn victoriametrics_gets_zstd() {
    let store = Store::start(&["204 No Content"]);
    let mut bench = of(&store, "compression = \"zstd\"\nmetadata_interval = \"0s\"");
    assert_eq!(bench.send(&[part("a", 1)]), Ok(DONE));
    let got = store.got();
    assert_eq!(got[0].header("content-encoding"), Some("zstd"));
    assert_eq!(got[0].header("x-victoriametrics-remote-write-version"), Some("1"));
    let mut plain = Vec::new();
    let coding = pipeline_net::Coding::Zstd;
    pipeline_net::compress::decode(coding, &got[0].body, &mut plain, 1 << 20).expect("zstd");
    assert_eq!(samples(&request(Version::V1, &plain).expect("a request")).len(), 7);
}

#[test]
fn a_store_that_is_not_there_is_asked_again() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let mut bench = Bench::new(&format!("endpoint = \"http://{nobody}/write\""));
    assert_eq!(show(&bench.send(&[part("a", 1)])), "again None");
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (toml, expected) in [
        ("", "expected an `endpoint`, found none"),
        ("endpoint = \"prometheus:9090\"", "expected an address such as"),
        (
            "endpoint = \"http://h/\"\nprotocol = \"2.0\"\ncompression = \"zstd\"",
            "version 2.0 has no other compression",
        ),
        ("endpoint = \"http://h/\"\nconcurrency = 0", "expected at least one request"),
        (
            "endpoint = \"http://h/\"\nbatch.points_max = 0",
            "expected requests of at least one point",
        ),
        ("endpoint = \"http://h/\"\ndrop_labels = [{ labels = [\"a\"] }]", "expected the names"),
        ("endpoint = \"http://h/\"\nkeep_buckets = [{ le = [1.0] }]", "expected the names"),
        (
            "endpoint = \"http://h/\"\nbearer_token = \"a\"\nbasic_auth = { username = \"u\", password = \"p\" }",
            "bearer_token",
        ),
    ] {
        let section = Section::from_toml("exporters.out", toml).expect("toml");
        let wrong =
            section.decode::<Config>().and_then(|config| config.plan(&section, &settings())).err();
        let told = format!("{:?}", wrong.expect("a mistake"));
        assert!(told.contains(expected), "{toml}: {told}");
    }
}

#[test]
fn an_endpoint_without_a_path_is_a_warning() {
    use pipeline_component::Component;
    for (endpoint, warned) in [
        ("http://prometheus:9090", true),
        ("http://prometheus:9090/", true),
        ("http://prometheus:9090?a=b", true),
        ("http://prometheus:9090/api/v1/write", false),
        ("", false),
    ] {
        let toml = format!("endpoint = \"{endpoint}\"");
        let section = Section::from_toml("exporters.out", &toml).expect("toml");
        let config: Config = section.decode().expect("config");
        let found = super::RemoteWrite::warnings(&config, &section);
        assert_eq!(format!("{found:?}").contains("has no path"), warned, "{endpoint}");
        assert!(!found.has_errors());
    }
}

/// Name, labels and value of all that `batch` becomes.
pub(crate) fn left(step: LeaveOut, batch: Batch) -> Vec<String> {
    let interner = Arc::new(Interner::new());
    let steps = Steps::new(vec![Arc::new(step)], interner, Arc::new(MetadataStore::new()));
    let out = steps.apply(batch, &mut None);
    let show = |series: pipeline_model::Series<'_>| {
        let values: Vec<f64> = out.point(series.row).iter().map(|slot| slot.as_double()).collect();
        let labels: Vec<String> =
            series.labels_merged().map(|label| format!("{}={}", label.name, label.value)).collect();
        format!("{} {} {values:?}", series.metric.name, labels.join(","))
    };
    out.shape.iter().map(show).collect()
}

#[test]
fn metrics_and_labels_are_left_out_and_what_becomes_one_is_added_up() {
    let interner = Interner::new();
    let mut builder = ShapeBuilder::new(&interner);
    let labels = Labels::from_pairs([("instance", "i"), ("rack", "r")]);
    let group = builder.group(Group { labels, ..Group::default() });
    let mut values = Vec::new();
    for (name, kind, of) in [
        ("hits_total", Kind::COUNTER, [3.0, 4.0]),
        ("depth", Kind::Gauge, [1.0, 2.0]),
        ("debug_x", Kind::Gauge, [9.0, 9.0]),
    ] {
        let metric = Arc::new(Metric::new(name, "", "", kind));
        for (rank, value) in ["0", "1"].iter().zip(of) {
            builder.push(group, &metric, &Labels::from_pairs([("rank", *rank)])).expect("new");
            values.push(Slot::double(value));
        }
    }
    let batch = Batch::new(SourceId::next(), builder.finish(), 1, values);
    let rule = |metrics: &str, labels: &[&str], gauges| DropLabels {
        metrics: metrics.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        gauges,
    };
    let rules = [
        rule("depth", &["rank"], Gauges::Max),
        rule("hits*", &["rank", "rack"], Gauges::Sum),
        rule("depth", &["instance"], Gauges::Sum),
    ];
    let step =
        LeaveOut::new(&["debug_*".to_owned()], &rules, Translation::default(), Arc::default());
    assert_eq!(
        left(step.expect("something is left out"), batch),
        ["hits_total instance=i [7.0]", "depth instance=i,rack=r [2.0]"]
    );
    assert!(LeaveOut::new(&[], &[], Translation::default(), Arc::default()).is_none());
}

fn settings() -> pipeline_component::Settings {
    pipeline_component::Settings::standalone("exporter", "remote_write")
}
