//! Which engine a page comes from, and from which releases: by names, labels and bounds alone.
//!
//! Every family that a table knows narrows the range to the releases that have it. A sign that every page of some
//! releases shows, and this one does not, excludes those. What contradicts the evidence found so far (a backport, a
//! patched build, custom buckets) is left out and counted.

use super::page::{Page, Spelling, look_up};
use super::tables::{Engine, What, sglang, vllm};
use super::version::{Range, Version};

/// What a page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// vLLM.
    Vllm,
    /// vLLM behind Ray's exporter (`ray_vllm_*`).
    RayVllm,
    /// SGLang.
    Sglang,
    /// SGLang's router or model gateway.
    SglangRouter,
    /// A router or gateway that reuses an engine's prefix.
    Router,
    /// None of these.
    Unknown,
}

impl Source {
    /// As in self telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::RayVllm => "ray_vllm",
            Self::Sglang => "sglang",
            Self::SglangRouter => "sglang_router",
            Self::Router => "router",
            Self::Unknown => "unknown",
        }
    }
}

/// vLLM's generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The first engine, to 0.11.0.
    V0,
    /// The second engine with a Python API server.
    V1,
    /// The second engine with the Rust frontend.
    V1Rust,
}

impl Generation {
    /// As in self telemetry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0 => "v0",
            Self::V1 => "v1",
            Self::V1Rust => "v1_rust",
        }
    }

    fn releases(self) -> Range {
        match self {
            Self::V0 => Range::new("0.2.6", "0.11.0"),
            Self::V1 => Range::new("0.7.1", ""),
            Self::V1Rust => Range::new("0.22.0", ""),
        }
    }

    fn context(self) -> u8 {
        match self {
            Self::V0 => vllm::V0,
            Self::V1 => vllm::V1,
            Self::V1Rust => vllm::RUST,
        }
    }
}

/// What was recognised, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What the page comes from.
    pub source: Source,
    /// vLLM only.
    pub generation: Option<Generation>,
    /// Releases that fit; everything where there is no engine.
    pub releases: Range,
    /// What set the lower end.
    pub since_by: String,
    /// What set the upper end.
    pub until_by: String,
    /// Pieces of evidence that contradict the rest. More than none: a patched or unusual build.
    pub contradictions: usize,
}

impl Verdict {
    fn of(source: Source) -> Self {
        Self {
            source,
            generation: None,
            releases: Range::ALL,
            since_by: String::new(),
            until_by: String::new(),
            contradictions: 0,
        }
    }

    /// One word for self telemetry: vLLM's generation, or what else it is.
    pub fn word(&self) -> &'static str {
        match (self.source, self.generation) {
            (_, Some(generation)) => generation.as_str(),
            (Source::Vllm | Source::RayVllm | Source::Sglang, None) => "engine",
            (Source::SglangRouter | Source::Router, None) => "router",
            (Source::Unknown, None) => "unknown",
        }
    }

    /// The table of the engine, if it is one.
    pub(crate) fn engine(&self) -> Option<&'static Engine> {
        match self.source {
            Source::Vllm | Source::RayVllm => Some(&vllm::ENGINE),
            Source::Sglang => Some(&sglang::ENGINE),
            Source::SglangRouter | Source::Router | Source::Unknown => None,
        }
    }

    /// Takes `range` into account; false when nothing would be left.
    fn narrow(&mut self, narrowed: Option<Range>, why: impl Fn() -> String) -> bool {
        let Some(range) = narrowed else { return false };
        if range.since != self.releases.since {
            self.since_by = why();
        }
        if range.until != self.releases.until {
            self.until_by = why();
        }
        self.releases = range;
        true
    }
}

/// Names of SGLang's routers, by prefix.
const SGLANG_ROUTER: [&str; 5] =
    ["sgl_router_", "sgl_tokenizer_", "smg_", "router_mesh_", "sglang_router_"];

/// Recognises the source of `page`.
pub(crate) fn detect(page: &Page<'_>) -> Verdict {
    let core = |engine: &Engine| engine.core.iter().filter(|name| page.has(engine, name)).count();
    let (of_vllm, of_sglang) = (core(&vllm::ENGINE), core(&sglang::ENGINE));
    let engine = if of_vllm >= of_sglang { &vllm::ENGINE } else { &sglang::ENGINE };
    let claims = page.names.iter().flatten().count();
    let named = |prefixes: &[&str]| {
        page.series.iter().any(|id| prefixes.iter().any(|prefix| id.name.starts_with(prefix)))
    };
    if of_vllm + of_sglang == 0 || is_router(page, engine) {
        let source = if named(&SGLANG_ROUTER) {
            Source::SglangRouter
        } else if claims > 0 || named(&["vllm:router_", "vllm_router_", "sglang:router_"]) {
            Source::Router
        } else {
            Source::Unknown
        };
        return Verdict::of(source);
    }
    let ray = page.names.iter().flatten().any(|(_, spelling, _)| *spelling == Spelling::Ray);
    let mut verdict = Verdict::of(match (engine.prefix, ray) {
        ("vllm:", false) => Source::Vllm,
        ("vllm:", true) => Source::RayVllm,
        _ => Source::Sglang,
    });
    let context = match verdict.source {
        Source::Sglang => sglang_context(page),
        _ => vllm_context(page, &mut verdict),
    };
    by_presence(page, engine, &mut verdict);
    by_absence(page, engine, context, &mut verdict);
    verdict
}

/// A router's page: one of its own names, or gauges that it keeps per `server`.
fn is_router(page: &Page<'_>, engine: &Engine) -> bool {
    let own = engine.router_only.iter().any(|name| page.has(engine, name));
    // The second where the target has a label of that name.
    let per_server = ["server", "exported_server"]
        .iter()
        .any(|label| page.shows(engine, What::Label("num_requests_running", label)) == Some(true));
    own || per_server
}

/// SGLang: what of its two halves has reported.
fn sglang_context(page: &Page<'_>) -> u8 {
    let has = |name| page.has(&sglang::ENGINE, name);
    let scheduler = if has("num_running_reqs") { sglang::SCHEDULER } else { 0 };
    let frontend = has("prompt_tokens_total") && has("e2e_request_latency_seconds");
    scheduler | if frontend { sglang::FRONTEND } else { 0 }
}

/// vLLM: which generation. Behind Ray counters are missing until they count, so absence says nothing there.
fn vllm_context(page: &Page<'_>, verdict: &mut Verdict) -> u8 {
    let engine = &vllm::ENGINE;
    let has = |name| page.has(engine, name);
    let labelled = page.shows(engine, What::Label("num_requests_running", "engine")) == Some(true);
    let v1 = labelled
        || has("prefix_cache_queries_total")
        || has("gpu_prefix_cache_queries_total")
        || has("engine_sleep_state");
    let ray = verdict.source == Source::RayVllm;
    let python = has("cache_config_info") || has("engine_sleep_state") || ray;
    let generation = match (v1, python || !has("prompt_tokens_cached_total")) {
        (false, _) => Generation::V0,
        (true, true) => Generation::V1,
        (true, false) => Generation::V1Rust,
    };
    verdict.generation = Some(generation);
    verdict.narrow(Some(generation.releases()), || generation.as_str().to_owned());
    if ray { 0 } else { generation.context() }
}

fn by_presence(page: &Page<'_>, engine: &Engine, verdict: &mut Verdict) {
    let mut ranges: Vec<(String, Range)> = Vec::new();
    for (base, rows) in page.families(engine) {
        let known = rows.iter().find_map(|idx| look_up(engine, base, &page.series[*idx]));
        let range = known.map(|known| known.range());
        ranges.extend(range.map(|range| (base.to_owned(), range)));
    }
    for sign in engine.signs {
        let own_range = !matches!(sign.what, What::Family(_));
        if own_range && page.shows(engine, sign.what) == Some(true) {
            ranges.push((describe(sign.what), sign.range));
        }
    }
    // Lower ends first and upwards, so that the verdict does not depend on the page's order.
    ranges.sort_by(|(a, x), (b, y)| (x.since, a).cmp(&(y.since, b)));
    for (why, range) in ranges {
        let narrowed = verdict.releases.and(range);
        if !verdict.narrow(narrowed, || why.clone()) {
            verdict.contradictions += 1;
        }
    }
}

fn by_absence(page: &Page<'_>, engine: &Engine, context: u8, verdict: &mut Verdict) {
    let missing: Vec<_> = engine
        .signs
        .iter()
        .filter(|sign| sign.always & context != 0 && page.shows(engine, sign.what) == Some(false))
        .collect();
    // Each exclusion can make room for another one at the other end.
    for _ in 0..2 {
        for sign in &missing {
            let narrowed = verdict.releases.minus(sign.range);
            verdict.narrow(narrowed, || format!("no {}", describe(sign.what)));
        }
    }
    verdict.contradictions +=
        missing.iter().filter(|sign| verdict.releases.minus(sign.range).is_none()).count();
}

fn describe(what: What) -> String {
    match what {
        What::Family(name) => name.to_owned(),
        What::Label(name, label) => format!("{name}{{{label}}}"),
        What::Value(name, label, value) => format!("{name}{{{label}={value}}}"),
        What::Bound(name, bound) => format!("{name}{{le={bound}}}"),
    }
}

/// True when the page's prefix cache counters may count blocks: before 0.9.0 they do.
pub(crate) fn counts_blocks(verdict: &Verdict) -> bool {
    verdict.releases.is_before(Version::new("0.9.0"))
}
