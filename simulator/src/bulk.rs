//! Many large pages for benchmarks: a page of some release as a template in which only digits change.
//!
//! Every scrape of a target moves all its counters and gauges. The numbers are plausible, not true: histograms are
//! cumulative, counters rise, and all of them start over every 20 000 scrapes. One series is exact: the number of
//! times the target was scraped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::load::Load;
use crate::server::{Answer, TEXT, accept, plain, response};
use crate::spec::{EngineSpec, Release};

/// The exact series of every bulk page: how often this target has been scraped, this time included.
pub const SEQUENCE: &str = "simulator_sequence_total";

/// Scrapes after which all moving numbers start over.
const ROUND: u64 = 20_000;
/// Moving numbers have this many digits before the point, the first of them not zero.
const DIGITS: usize = 6;
const LOWEST: u64 = 100_000;
/// Largest growth per scrape; the highest value of a round still has six digits.
const STEP_MAX: u64 = 45;
const _: () = assert!(LOWEST + (ROUND - 1) * STEP_MAX < 1_000_000);

/// A place in a template whose digits change.
struct Moving {
    at: usize,
    /// Growth per scrape; 0 jumps about, as gauges do.
    step: u64,
}

/// A page of a release with moving numbers.
pub struct BulkTemplate {
    body: Vec<u8>,
    moving: Vec<Moving>,
    series: usize,
}

/// One family of a page: its comment lines, and its series line by line.
struct Block<'p> {
    header: Vec<&'p str>,
    kind: &'p str,
    lines: Vec<String>,
}

impl BulkTemplate {
    /// A page of `release` with `series` series, the sequence among them: cut short where the release has more, and
    /// with further models where it has fewer. A histogram is never cut, so there may be some forty fewer.
    pub fn new(release: Release, series: usize) -> Self {
        let mut engine = Engine::new(
            EngineSpec { load: Load::steady(6.0), ..EngineSpec::new("bulk", release) },
            1.7e9,
        );
        engine.advance(Duration::from_secs(200));
        let model = engine.spec().served_model.clone();
        let page = engine.page();
        let mut blocks = blocks(&page);
        let mut left = series.saturating_sub(1);
        for block in &mut blocks {
            left -= keep_whole(block.kind, &mut block.lines, left);
        }
        let firsts: Vec<Vec<String>> = blocks.iter().map(|block| block.lines.clone()).collect();
        for copy in 2.. {
            let before = left;
            for (block, first) in blocks.iter_mut().zip(&firsts) {
                let of_model = first.iter().filter(|line| line.contains(&model));
                let mut more =
                    of_model.map(|line| line.replace(&model, &format!("{model}-{copy}"))).collect();
                left -= keep_whole(block.kind, &mut more, left);
                block.lines.append(&mut more);
            }
            if left == before {
                break;
            }
        }
        let mut template = BulkTemplate { body: Vec::new(), moving: Vec::new(), series: 1 };
        for block in blocks.iter().filter(|block| !block.lines.is_empty()) {
            template.append(block);
        }
        let header = format!(
            "# HELP {SEQUENCE} Scrapes of this target.\n# TYPE {SEQUENCE} counter\n{SEQUENCE} "
        );
        template.body.extend_from_slice(header.as_bytes());
        template
    }

    /// Series on the page.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Appends the page of the `sequence`th scrape to `page`.
    pub fn render(&self, sequence: u64, page: &mut Vec<u8>) {
        let start = page.len();
        page.reserve(self.body.len() + 24);
        page.extend_from_slice(&self.body);
        let round = sequence % ROUND;
        let text = &mut page[start..];
        for moving in &self.moving {
            let value = if moving.step > 0 {
                LOWEST + round * moving.step
            } else {
                jump(sequence, moving.at)
            };
            if let Some(slot) = text.get_mut(moving.at..moving.at + DIGITS) {
                write_digits(slot, value);
            }
        }
        page.extend_from_slice(sequence.to_string().as_bytes());
        page.extend_from_slice(b".0\n");
    }

    fn append(&mut self, block: &Block<'_>) {
        for line in &block.header {
            self.body.extend_from_slice(line.as_bytes());
            self.body.push(b'\n');
        }
        // Within a histogram: the last bucket's text and growth, so that equal buckets stay equal and others rise.
        let (mut last, mut step) = ("", 0);
        for (index, line) in block.lines.iter().enumerate() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            self.series += 1;
            self.body.extend_from_slice(name.as_bytes());
            self.body.push(b' ');
            let bare = name.split('{').next().unwrap_or(name);
            let still = bare.ends_with("_created")
                || bare.ends_with("_info")
                || bare.contains("start_time");
            let gauge = block.kind == "gauge";
            if still || value == "0.0" || (gauge && value == "1.0") {
                self.body.extend_from_slice(value.as_bytes());
            } else if gauge {
                let ratio = value.starts_with("0.");
                self.moving(if ratio { "0." } else { "" }, 0, if ratio { "" } else { ".0" });
            } else if bare.ends_with("_bucket") {
                if last.is_empty() {
                    step = 0;
                }
                if value != last {
                    step = (step + 1).min(STEP_MAX);
                }
                last = value;
                self.moving("", step, ".0");
            } else {
                last = "";
                let own = if block.kind == "counter" { 1 + index as u64 % 7 } else { step.max(1) };
                self.moving("", own, if bare.ends_with("_sum") { ".5" } else { ".0" });
            }
            self.body.push(b'\n');
        }
    }

    fn moving(&mut self, before: &str, step: u64, after: &str) {
        self.body.extend_from_slice(before.as_bytes());
        self.moving.push(Moving { at: self.body.len(), step });
        self.body.extend_from_slice(b"100000");
        self.body.extend_from_slice(after.as_bytes());
    }
}

/// The page of the `sequence`th scrape of a bulk target. Builds the template anew; keep a [`BulkTemplate`] for more
/// than a few.
pub fn bulk_page(release: Release, series: usize, sequence: u64) -> Vec<u8> {
    let mut page = Vec::new();
    BulkTemplate::new(release, series).render(sequence, &mut page);
    page
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for line in page.lines() {
        if line.starts_with("# HELP ") {
            blocks.push(Block { header: vec![line], kind: "", lines: Vec::new() });
        } else if let Some(block) = blocks.last_mut() {
            if line.starts_with("# TYPE ") {
                block.header.push(line);
                block.kind = line.rsplit(' ').next().unwrap_or_default();
            } else {
                block.lines.push(line.to_owned());
            }
        }
    }
    blocks
}

/// Cuts `lines` to at most `most`, never within a histogram's or summary's series set. Returns what is left of them.
fn keep_whole(kind: &str, lines: &mut Vec<String>, most: usize) -> usize {
    let mut keep = lines.len().min(most);
    if keep < lines.len() && matches!(kind, "histogram" | "summary") {
        // A set of lines ends where the label sets without `le` change; sets of one family are equally long.
        let own = |line: &String| line.split('{').next().map(str::to_owned);
        let sets =
            lines.iter().filter(|line| own(line) == lines.last().and_then(own)).count().max(1);
        let length = lines.len() / sets;
        keep = keep / length * length;
    }
    lines.truncate(keep);
    keep
}

/// A number of six digits that looks random.
fn jump(sequence: u64, at: usize) -> u64 {
    LOWEST + ((sequence ^ (at as u64) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 900_000
}

fn write_digits(slot: &mut [u8], mut value: u64) {
    for digit in slot.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// How many bulk targets there are, and what they look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkSpec {
    /// Number of targets.
    pub targets: usize,
    /// Series per target, see [`BulkTemplate::new`].
    pub series: usize,
    /// Target `i` is of release `releases[i % releases.len()]`; empty means vLLM 0.33.0.
    pub releases: Vec<Release>,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
}

/// Bulk targets on one port: `GET /t/<i>/metrics`. Dropping it ends the server.
pub struct BulkFleet {
    address: SocketAddr,
    targets: Arc<Targets>,
    _server: JoinSet<()>,
}

struct Targets {
    templates: Vec<BulkTemplate>,
    scrapes: Vec<AtomicU64>,
}

impl BulkFleet {
    /// Binds the port and serves all targets.
    ///
    /// # Errors
    ///
    /// The port cannot be bound.
    pub async fn start(spec: &BulkSpec) -> io::Result<BulkFleet> {
        let newest = [Release::Vllm0_33_0];
        let releases = if spec.releases.is_empty() { &newest[..] } else { &spec.releases };
        let targets = Arc::new(Targets {
            templates: releases
                .iter()
                .map(|release| BulkTemplate::new(*release, spec.series))
                .collect(),
            scrapes: (0..spec.targets).map(|_| AtomicU64::new(0)).collect(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, spec.port)).await?;
        let address = listener.local_addr()?;
        let mut server = JoinSet::new();
        let shared = Arc::clone(&targets);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            let handler = move |request: Request<Incoming>| {
                let answer = shared.answer(request.uri().path());
                async move { answer }
            };
            accept(&listener, &mut connections, handler).await;
        });
        Ok(BulkFleet { address, targets, _server: server })
    }

    /// Where all targets answer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The path of `target`'s page.
    pub fn path(target: usize) -> String {
        format!("/t/{target}/metrics")
    }

    /// How often each target has been scraped: the highest value of its [`SEQUENCE`] that anybody got.
    pub fn scrapes(&self) -> Vec<u64> {
        self.targets.scrapes.iter().map(|scrapes| scrapes.load(Ordering::Relaxed)).collect()
    }

    /// Series on the page of `target`.
    pub fn series(&self, target: usize) -> usize {
        self.targets.template(target).series
    }
}

impl Targets {
    fn template(&self, target: usize) -> &BulkTemplate {
        &self.templates[target % self.templates.len()]
    }

    fn answer(&self, path: &str) -> Response<Answer> {
        let target = path.strip_prefix("/t/").and_then(|rest| rest.strip_suffix("/metrics"));
        let target = target.and_then(|target| target.parse::<usize>().ok());
        let Some((target, scrapes)) =
            target.and_then(|target| Some((target, self.scrapes.get(target)?)))
        else {
            return plain(StatusCode::NOT_FOUND, "no such target\n");
        };
        let sequence = scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut page = Vec::new();
        self.template(target).render(sequence, &mut page);
        response(StatusCode::OK, TEXT, Answer::whole(page))
    }
}
