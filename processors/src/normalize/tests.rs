//! Goldens over the identities of genuine pages (`testdata/*.manifest`), properties of the tables, and values through
//! real plans.
//!
//! A manifest is a page without its values: `name kind bounds`, then the labels that all series of the family share
//! (`&`) and those of each series (`-`). Pages were printed by each release's own metric code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{expect, expect_file};
use pipeline_component::telemetry::Telemetry;
use pipeline_model::{
    Batch, Bounds, Fold, Group, Hint, Interner, Kind, Label, Labels, MetadataStore, Metric, Plan,
    Shape, ShapeBuilder, Slot, SourceId, SourcePlan,
};

use super::config::{Config, PassOrDrop, Semantics};
use super::detect::Source;
use super::map::{Normalised, Output, Why, normalise};
use super::page::SeriesId;
use super::reshape::Normalize;
use super::tables::{self, Engine, Scale, sglang, vllm};
use super::version::{Range, Version};
use crate::testing;

const PAGES: &[&str] = &[
    "sglang_0.3.6",
    "sglang_0.4.3.post4",
    "sglang_0.4.10.post2",
    "sglang_0.5.2",
    "sglang_0.5.3",
    "sglang_0.5.9",
    "sglang_0.5.12",
    "sglang_0.5.15",
    "sglang_0.5.18",
    "sglang_0.5.20",
    "sglang_0.5.23",
    "sglang_0.5.23_dp4",
    "sglang_0.5.23_spec_lora",
    "sglang_0.5.23_tp4",
    "vllm_0.3.3_v0",
    "vllm_0.3.3_v0-openmetrics",
    "vllm_0.4.3_v0",
    "vllm_0.5.5_v0_mp",
    "vllm_0.6.3.post1_v0_mp",
    "vllm_0.7.3_v0_mp",
    "vllm_0.8.0_v1",
    "vllm_0.8.0_v1-openmetrics",
    "vllm_0.8.5.post1_v1",
    "vllm_0.9.2_v1",
    "vllm_0.9.2_v1_mp_pidlabel",
    "vllm_0.10.2_v1",
    "vllm_0.10.2_v1_mp_dp2",
    "vllm_0.11.2_v1",
    "vllm_0.11.2_v1_hidden",
    "vllm_0.12.0_v1",
    "vllm_0.18.1_v1",
    "vllm_0.22.1_v1",
    "vllm_0.30.0_v1",
    "vllm_0.33.0_v1",
    "vllm_0.33.0_v1_dp4",
    "vllm_0.33.0_v1_full",
    "vllm_0.33.0_v1_mp_dp2",
    "vllm_0.33.0_v1_mp_dp4",
    "vllm_0.33.0_rust_frontend",
    "vllm_0.33.0_rust_frontend_dp2_spec",
];

/// A series of a manifest.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    kind: tables::Kind,
    labels: Labels,
    bounds: Vec<f64>,
}

fn read(page: &str) -> Vec<Line> {
    let path = format!("{}/src/normalize/testdata/{page}.manifest", env!("CARGO_MANIFEST_DIR"));
    parse(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
}

fn parse(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut head: Option<Line> = None;
    let mut listed = true;
    for line in text.lines().chain(["end"]) {
        let labels = |rest: &str| {
            let pair = |text: &str| {
                let (name, value) = text.split_once("=\"").expect("label");
                Label { name: name.trim().into(), value: value.into() }
            };
            Labels::new(
                rest.trim()
                    .split_terminator('"')
                    .collect::<Vec<_>>()
                    .chunks(2)
                    .map(|c| pair(&c.join("\"")))
                    .collect(),
            )
        };
        match (line.strip_prefix("  & "), line.strip_prefix("  -"), head.as_mut()) {
            (Some(shared), _, Some(head)) => head.labels = labels(shared),
            (_, Some(own), Some(head)) => {
                let labels = head.labels.merged(&labels(own));
                lines.push(Line { labels, ..head.clone() });
                listed = true;
            }
            _ => {
                lines.extend(head.take().filter(|_| !listed));
                let mut words = line.split(' ');
                let name = words.next().expect("name").to_owned();
                let kind = match words.next() {
                    Some("counter") => tables::Kind::Counter,
                    Some("gauge" | "info") => tables::Kind::Gauge,
                    Some("histogram") => tables::Kind::Histogram,
                    Some("summary") => tables::Kind::Summary,
                    _ => tables::Kind::Unknown,
                };
                let bounds = words.next().into_iter().flat_map(|list| list.split(','));
                let bounds = bounds.map(|bound| bound.parse().expect("bound")).collect();
                head = Some(Line { name, kind, labels: Labels::empty(), bounds });
                listed = false;
            }
        }
    }
    lines
}

fn ids(lines: &[Line]) -> Vec<SeriesId<'_>> {
    lines
        .iter()
        .map(|line| SeriesId {
            name: &line.name,
            kind: line.kind,
            labels: &line.labels,
            bounds: &line.bounds,
        })
        .collect()
}

/// A few series without values, each as `name kind [label=value]...`.
fn series(text: &[&str]) -> Vec<Line> {
    let mut manifest = String::new();
    for line in text {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let labels = words.map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            format!(" {name}=\"{value}\"")
        });
        writeln!(manifest, "{name} {kind}\n  -{}", labels.collect::<String>()).unwrap();
    }
    parse(&manifest)
}

/// Verdict, then one line per output family: kind, fold, number of series and of their inputs, labels with their
/// values; then what was dropped and what was not known.
fn summary(lines: &[Line], normalised: &Normalised<'_>) -> String {
    let v = &normalised.verdict;
    let mut text = format!(
        "{} {} {}\n  since: {}\n  until: {}\n  contradictions: {}\n",
        v.source.as_str(),
        v.word(),
        v.releases,
        v.since_by,
        v.until_by,
        v.contradictions
    );
    let mut families: Vec<(&str, Vec<&Output<'_>>)> = Vec::new();
    for output in &normalised.outputs {
        match families.iter_mut().find(|(name, _)| *name == output.name) {
            Some((_, members)) => members.push(output),
            None => families.push((&output.name, vec![output])),
        }
    }
    for (name, outputs) in families {
        let inputs: usize = outputs.iter().map(|output| output.feeds.len()).sum();
        let sources: BTreeSet<&str> = outputs
            .iter()
            .flat_map(|output| &output.feeds)
            .map(|(idx, _)| lines[*idx].name.as_str())
            .filter(|source| *source != name)
            .collect();
        let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for label in outputs.iter().flat_map(|output| &output.labels) {
            values.entry(&label.name).or_default().insert(label.value.to_string());
        }
        let labels: Vec<String> = values
            .iter()
            .map(|(name, values)| {
                format!("{name}={}", values.iter().cloned().collect::<Vec<_>>().join("|"))
            })
            .collect();
        let (kind, fold, scale) = (outputs[0].kind, outputs[0].fold, outputs[0].feeds[0].1);
        write!(text, "{name} {kind:?} {fold:?} {inputs}->{}", outputs.len()).unwrap();
        if scale != 1.0 {
            write!(text, " x{scale}").unwrap();
        }
        if !labels.is_empty() {
            write!(text, " {{{}}}", labels.join(" ")).unwrap();
        }
        if !sources.is_empty() {
            write!(text, " <- {}", sources.into_iter().collect::<Vec<_>>().join(" ")).unwrap();
        }
        text.push('\n');
    }
    let mut dropped: BTreeMap<Why, BTreeMap<&str, usize>> = BTreeMap::new();
    for (idx, why) in &normalised.dropped {
        *dropped.entry(*why).or_default().entry(&lines[*idx].name).or_default() += 1;
    }
    for (why, names) in dropped {
        for (name, count) in names {
            writeln!(text, "- {} {name} {count}", why.as_str()).unwrap();
        }
    }
    for name in &normalised.unknown {
        writeln!(text, "? {name}").unwrap();
    }
    text
}

#[test]
fn genuine_pages() {
    for page in PAGES {
        let lines = read(page);
        let ids = ids(&lines);
        let golden = format!("{}/src/normalize/testdata/{page}.golden", env!("CARGO_MANIFEST_DIR"));
        expect_file![golden].assert_eq(&summary(&lines, &normalise(&ids, &Config::default())));
    }
}

/// Every series of a page goes on or is dropped for a reason, and no two outputs are the same series.
#[test]
fn every_series_is_accounted_for() {
    for page in PAGES {
        let lines = read(page);
        let ids = ids(&lines);
        let normalised = normalise(&ids, &Config::default());
        let mut seen: Vec<usize> = normalised.dropped.iter().map(|(idx, _)| *idx).collect();
        seen.extend(normalised.outputs.iter().flat_map(|o| o.feeds.iter().map(|(idx, _)| *idx)));
        seen.sort_unstable();
        assert_eq!(seen, (0..lines.len()).collect::<Vec<_>>(), "{page}");
        let identities: BTreeSet<String> =
            normalised.outputs.iter().map(|o| format!("{}{}", o.name, o.labels)).collect();
        assert_eq!(identities.len(), normalised.outputs.len(), "{page}");
        assert!(normalised.unknown.is_empty(), "{page}: {:?}", normalised.unknown);
        assert_eq!(normalised.verdict.contradictions, 0, "{page}");
    }
}

/// The release in a page's file name is in the range that the page gives away.
#[test]
fn the_release_is_in_the_range() {
    for page in PAGES {
        let lines = read(page);
        let ids = ids(&lines);
        let verdict = normalise(&ids, &Config::default()).verdict;
        let mut parts = page.split(['_', '-']);
        let (engine, release) = (parts.next().unwrap(), Version::new(parts.next().unwrap()));
        assert_eq!(verdict.source.as_str(), engine, "{page}");
        assert!(verdict.releases.contains(release), "{page}: {}", verdict.releases);
    }
}

/// One family's series have one kind in all releases, so that a rolling upgrade shows unbroken series.
#[test]
fn one_name_has_one_kind_over_all_releases() {
    let mut kinds: BTreeMap<String, (tables::Kind, &str)> = BTreeMap::new();
    for page in PAGES {
        let lines = read(page);
        let ids = ids(&lines);
        for output in normalise(&ids, &Config::default()).outputs {
            let known = *kinds.entry(output.name.to_string()).or_insert((output.kind, page));
            assert_eq!(known.0, output.kind, "{} in {page} and {}", output.name, known.1);
        }
    }
}

/// From the oldest to the newest page of an engine these are there, under one identity.
#[test]
fn unbroken_from_the_oldest_to_the_newest() {
    let vllm = [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds",
        "vllm:inter_token_latency_seconds",
        "vllm:e2e_request_latency_seconds",
    ];
    let sglang = [
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "sglang:token_usage",
        "sglang:num_used_tokens",
        "sglang:gen_throughput",
        "sglang:prompt_tokens_total",
        "sglang:generation_tokens_total",
        "sglang:time_to_first_token_seconds",
        "sglang:inter_token_latency_seconds",
        "sglang:e2e_request_latency_seconds",
    ];
    for page in PAGES {
        let lines = read(page);
        let ids = ids(&lines);
        let normalised = normalise(&ids, &Config::default());
        let names: &[&str] = if page.starts_with("vllm") { &vllm } else { &sglang };
        for name in names {
            let found: Vec<_> = normalised.outputs.iter().filter(|o| o.name == *name).collect();
            assert_eq!(found.len(), 1, "{name} in {page}");
            assert!(found[0].labels.is_empty(), "{name}{} in {page}", found[0].labels);
        }
    }
}

const ENGINES: [&Engine; 2] = [&vllm::ENGINE, &sglang::ENGINE];

#[test]
fn tables_are_sound() {
    for engine in ENGINES {
        let names: Vec<_> = engine.metrics.iter().map(|metric| metric.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{}: sorted, unique", engine.prefix);
        for metric in engine.metrics {
            let total = metric.name.ends_with("_total");
            assert!(metric.kind != tables::Kind::Counter || total, "{}", metric.name);
            assert!(metric.range.contains(metric.range.since), "{}", metric.name);
        }
        for rename in engine.renames {
            assert!(engine.metric(rename.new).is_some(), "{} -> {}", rename.old, rename.new);
            let same_kind = engine.metric(rename.old).is_some_and(|old| old.kind == rename.kind);
            assert!(!same_kind, "{} is both old and current", rename.old);
            assert!(rename.range.contains(rename.range.since), "{}", rename.old);
        }
        for sign in engine.signs {
            let (tables::What::Family(name)
            | tables::What::Label(name, _)
            | tables::What::Value(name, _, _)
            | tables::What::Bound(name, _)) = sign.what;
            let old = engine.renames.iter().any(|rename| rename.old == name);
            assert!(old || engine.metric(name).is_some(), "{name}");
        }
        for name in engine.core {
            let old = engine.renames.iter().any(|rename| rename.old == *name);
            assert!(old || engine.metric(name).is_some(), "{name}");
        }
    }
}

/// A page with just enough to be recognised, and `line`.
fn beside_core(engine: &Engine, line: Line) -> Vec<Line> {
    let core = if engine.prefix == "vllm:" {
        [
            "vllm:num_requests_running gauge engine=0 model_name=m",
            "vllm:request_success_total counter engine=0",
        ]
    } else {
        ["sglang:num_running_reqs gauge tp_rank=0", "sglang:token_usage gauge tp_rank=0"]
    };
    let mut lines = series(&core);
    lines.push(line);
    lines
}

fn line(name: String, kind: tables::Kind, labels: &[(&str, &str)]) -> Line {
    Line { name, kind, labels: Labels::from_pairs(labels.iter().copied()), bounds: vec![1.0] }
}

/// Every current name maps to itself, with the colon or without.
#[test]
fn current_names_map_to_themselves() {
    for engine in ENGINES {
        for metric in engine.metrics {
            let full = format!("{}{}", engine.prefix, metric.name);
            for spelling in [full.clone(), full.replace(':', "_")] {
                let lines = beside_core(engine, line(spelling, metric.kind, &[("x", "1")]));
                let ids = ids(&lines);
                let normalised = normalise(&ids, &Config::default());
                assert!(normalised.unknown.is_empty(), "{full}");
                let found =
                    normalised.outputs.iter().find(|o| o.labels.get("x").is_some()).unwrap();
                assert_eq!(found.name, full);
                assert_eq!(found.kind, metric.kind, "{full}");
            }
        }
    }
}

/// Every older name maps to its current one, and is dropped where that is on the page.
#[test]
fn old_names_map_to_current_ones() {
    for engine in ENGINES {
        for rename in engine.renames {
            let old = format!("{}{}", engine.prefix, rename.old);
            let new = format!("{}{}", engine.prefix, rename.new);
            let labels: Vec<_> = rename.when.into_iter().chain([("x", "1")]).collect();
            let mut lines = beside_core(engine, line(old, rename.kind, &labels));
            let normalised_ids = ids(&lines);
            let normalised = normalise(&normalised_ids, &Config::default());
            let found = normalised.outputs.iter().find(|o| o.labels.get("x").is_some()).unwrap();
            let metric = engine.metric(rename.new).unwrap();
            assert_eq!((&*found.name, found.kind), (&*new, metric.kind));
            assert_eq!(found.labels, Labels::from_pairs([("x", "1")]));
            if let Scale::By(factor) = rename.scale {
                assert_eq!(found.feeds[0].1, factor);
            }
            lines.push(line(new, metric.kind, &[]));
            let ids = ids(&lines);
            let normalised = normalise(&ids, &Config::default());
            assert_eq!(normalised.dropped, [(2, Why::Superseded)], "{}", rename.old);
        }
    }
}

fn check_outputs(text: &[&str], config: &Config, expected: &[&str]) {
    let lines = series(text);
    let ids = ids(&lines);
    let normalised = normalise(&ids, config);
    let found: Vec<String> = normalised
        .outputs
        .iter()
        .map(|o| format!("{}{} {:?} {:?}", o.name, o.labels, o.fold, o.feeds))
        .chain(normalised.dropped.iter().map(|(idx, why)| format!("- {idx} {}", why.as_str())))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_router_that_reuses_the_prefix_passes_untouched() {
    let page = [
        "vllm:num_requests_running gauge server=http://a:8000",
        "vllm:num_requests_waiting gauge server=http://a:8000",
        "vllm:gpu_prefix_cache_hit_rate gauge server=http://a:8000",
        "vllm:gpu_prefix_cache_queries_total gauge server=http://a:8000",
        "vllm:healthy_pods_total gauge server=http://a:8000",
        "python_info gauge version=3.11",
    ];
    let lines = series(&page);
    let ids = ids(&lines);
    let normalised = normalise(&ids, &Config::default());
    assert_eq!(normalised.verdict.source, Source::Router);
    assert_eq!(normalised.outputs.len(), page.len());
    assert!(normalised.outputs.iter().zip(&lines).all(|(o, line)| {
        o.name == line.name && o.labels == line.labels && o.fold == Fold::Only
    }));
}

#[test]
fn sources_are_told_apart() {
    let source = |text: &[&str]| {
        let lines = series(text);
        let ids = ids(&lines);
        normalise(&ids, &Config::default()).verdict.source
    };
    assert_eq!(source(&["smg_http_requests_total counter"]), Source::SglangRouter);
    assert_eq!(source(&["sgl_router_requests_total counter"]), Source::SglangRouter);
    assert_eq!(source(&["vllm_router_requests_total counter"]), Source::Router);
    assert_eq!(source(&["vllm:num_requests_running gauge server=a"]), Source::Router);
    assert_eq!(source(&["http_requests_total counter", "process_open_fds gauge"]), Source::Unknown);
    assert_eq!(source(&[]), Source::Unknown);
    assert_eq!(
        source(&["ray_vllm_num_requests_running gauge", "ray_vllm_kv_cache_usage_perc gauge"]),
        Source::RayVllm
    );
}

#[test]
fn behind_ray() {
    check_outputs(
        &[
            "ray_vllm_num_requests_running gauge engine=0 model_name=m ReplicaId=r WorkerId=w",
            "ray_vllm_kv_cache_usage_perc gauge engine=0 model_name=m ReplicaId=r WorkerId=w",
            "ray_vllm_prompt_tokens gauge engine=0 model_name=m ReplicaId=r WorkerId=w",
            "ray_serve_num_http_requests counter",
        ],
        &Config::default(),
        &[
            "vllm:num_requests_running{} Only [(0, 1.0)]",
            "vllm:kv_cache_usage_perc{} Only [(1, 1.0)]",
            "vllm:prompt_tokens_total{} Only [(2, 1.0)]",
            "ray_serve_num_http_requests{} Only [(3, 1.0)]",
        ],
    );
}

#[test]
fn several_models_stay_apart() {
    check_outputs(
        &[
            "vllm:num_requests_running gauge engine=0 model_name=a",
            "vllm:num_requests_running gauge engine=0 model_name=b",
            "vllm:kv_cache_usage_perc gauge engine=0 model_name=a",
        ],
        &Config::default(),
        &[
            "vllm:num_requests_running{model_name=\"a\"} Only [(0, 1.0)]",
            "vllm:num_requests_running{model_name=\"b\"} Only [(1, 1.0)]",
            "vllm:kv_cache_usage_perc{model_name=\"a\"} Only [(2, 1.0)]",
        ],
    );
}

/// Data-parallel attention pairs the ranks, so no part has rank 0 but the first.
#[test]
fn the_lowest_rank_of_each_part_speaks() {
    check_outputs(
        &[
            "sglang:num_running_reqs gauge dp_rank=0 tp_rank=0",
            "sglang:num_running_reqs gauge dp_rank=0 tp_rank=1",
            "sglang:num_running_reqs gauge dp_rank=1 tp_rank=3",
            "sglang:num_running_reqs gauge dp_rank=1 tp_rank=2",
            "sglang:token_usage gauge dp_rank=0 tp_rank=10",
            "sglang:token_usage gauge dp_rank=0 tp_rank=9",
        ],
        &Config::default(),
        &[
            "sglang:num_running_reqs{} Sum [(0, 1.0), (3, 1.0)]",
            "sglang:token_usage{} Only [(5, 1.0)]",
            "- 1 copy",
            "- 2 copy",
            "- 4 copy",
        ],
    );
}

/// Some exporters print a family twice, with the colon and without.
#[test]
fn two_spellings_of_one_series_are_not_added() {
    check_outputs(
        &[
            "vllm:num_requests_running gauge engine=0",
            "vllm_num_requests_running gauge engine=0",
            "vllm:num_requests_running gauge engine=1",
            "vllm:kv_cache_usage_perc gauge engine=0",
        ],
        &Config::default(),
        &[
            "vllm:num_requests_running{} Sum [(0, 1.0), (2, 1.0)]",
            "vllm:kv_cache_usage_perc{} Only [(3, 1.0)]",
            "- 1 copy",
        ],
    );
}

/// Without a series for the total, the priorities are its parts.
#[test]
fn priorities_without_a_total_are_added() {
    check_outputs(
        &[
            "sglang:num_queue_reqs gauge tp_rank=0 priority=1",
            "sglang:num_queue_reqs gauge tp_rank=0 priority=2",
            "sglang:num_queue_reqs gauge tp_rank=1 priority=2",
        ],
        &Config::default(),
        &["sglang:num_queue_reqs{} Sum [(0, 1.0), (1, 1.0)]", "- 2 copy"],
    );
}

#[test]
fn the_total_over_priorities_is_taken() {
    let page = [
        "sglang:num_queue_reqs gauge tp_rank=0 priority=",
        "sglang:num_queue_reqs gauge tp_rank=0 priority=1",
        "sglang:num_queue_reqs gauge tp_rank=0 priority=2",
    ];
    check_outputs(
        &page,
        &Config::default(),
        &["sglang:num_queue_reqs{} Only [(0, 1.0)]", "- 1 part", "- 2 part"],
    );
    check_outputs(
        &page,
        &Config { keep_labels: vec!["priority".to_owned()], ..Config::default() },
        &[
            "sglang:num_queue_reqs{priority=\"\"} Only [(0, 1.0)]",
            "sglang:num_queue_reqs{priority=\"1\"} Only [(1, 1.0)]",
            "sglang:num_queue_reqs{priority=\"2\"} Only [(2, 1.0)]",
        ],
    );
}

#[test]
fn kept_labels_are_not_folded() {
    check_outputs(
        &[
            "vllm:num_requests_running gauge engine=0 model_name=m",
            "vllm:num_requests_running gauge engine=1 model_name=m",
            "vllm:kv_cache_usage_perc gauge engine=0 model_name=m pid=7",
            "vllm:kv_cache_usage_perc gauge engine=0 model_name=m pid=8",
        ],
        &Config { keep_labels: vec!["engine".to_owned()], ..Config::default() },
        &[
            "vllm:num_requests_running{engine=\"0\"} Only [(0, 1.0)]",
            "vllm:num_requests_running{engine=\"1\"} Only [(1, 1.0)]",
            "vllm:kv_cache_usage_perc{engine=\"0\"} Max [(2, 1.0), (3, 1.0)]",
        ],
    );
}

#[test]
fn storage_tiers_lose_their_backend() {
    check_outputs(
        &[
            "sglang:token_usage gauge",
            "sglang:cached_tokens_total counter cache_source=device",
            "sglang:cached_tokens_total counter cache_source=storage_mooncake",
        ],
        &Config::default(),
        &[
            "sglang:token_usage{} Only [(0, 1.0)]",
            "sglang:cached_tokens_total{cache_source=\"device\"} Only [(1, 1.0)]",
            "sglang:cached_tokens_total{cache_source=\"storage\"} Only [(2, 1.0)]",
        ],
    );
}

/// Blocks become tokens where the page tells the block size, and keep their name where it does not.
#[test]
fn blocks_and_tokens_never_meet() {
    let old = [
        "vllm:num_requests_running gauge model_name=m",
        "vllm:gpu_cache_usage_perc gauge model_name=m",
        "vllm:gpu_prefix_cache_queries_total counter model_name=m",
    ];
    let running = "vllm:num_requests_running{} Only [(0, 1.0)]";
    let usage = "vllm:kv_cache_usage_perc{} Only [(1, 1.0)]";
    let queries = "vllm:gpu_prefix_cache_queries_total{} Only [(2, 1.0)]";
    check_outputs(&old, &Config::default(), &[running, usage, queries]);
    let mut told = old.to_vec();
    told.push("vllm:cache_config_info gauge block_size=16");
    check_outputs(
        &told,
        &Config::default(),
        &[
            running,
            usage,
            "vllm:prefix_cache_queries_total{} Only [(2, 16.0)]",
            "vllm:cache_config_info{block_size=\"16\"} Only [(3, 1.0)]",
        ],
    );
}

#[test]
fn the_broken_counters_of_v0_are_dropped() {
    check_outputs(
        &[
            "vllm:num_requests_running gauge model_name=m",
            "vllm:gpu_cache_usage_perc gauge model_name=m",
            "vllm:spec_decode_num_draft_tokens_total counter model_name=m",
            "vllm:spec_decode_draft_acceptance_rate gauge model_name=m",
        ],
        &Config::default(),
        &[
            "vllm:num_requests_running{} Only [(0, 1.0)]",
            "vllm:kv_cache_usage_perc{} Only [(1, 1.0)]",
            "vllm:spec_decode_draft_acceptance_rate{} Only [(3, 1.0)]",
            "- 2 broken",
        ],
    );
}

#[test]
fn unknown_metrics_pass_or_are_dropped() {
    let page = ["vllm:kv_cache_usage_perc gauge engine=0", "vllm_brand_new gauge engine=0 x=1"];
    let known = "vllm:kv_cache_usage_perc{} Only [(0, 1.0)]";
    check_outputs(
        &page,
        &Config::default(),
        &[known, "vllm:brand_new{engine=\"0\",x=\"1\"} Only [(1, 1.0)]"],
    );
    let config = Config { unknown: PassOrDrop::Drop, ..Config::default() };
    check_outputs(&page, &config, &[known, "- 1 unknown"]);
}

#[test]
fn runtime_metrics_pass_when_asked() {
    let page = [
        "sglang:token_usage gauge",
        "python_info gauge version=3",
        "process_open_fds gauge",
        "http_requests_total counter",
        "http_requests_created gauge",
    ];
    let config = Config { runtime_metrics: PassOrDrop::Pass, ..Config::default() };
    check_outputs(
        &page,
        &config,
        &[
            "sglang:token_usage{} Only [(0, 1.0)]",
            "python_info{version=\"3\"} Only [(1, 1.0)]",
            "process_open_fds{} Only [(2, 1.0)]",
            "http_requests_total{} Only [(3, 1.0)]",
            "- 4 created",
        ],
    );
}

#[test]
fn opentelemetry_names_beside_the_native_ones() {
    let config = Config { semantics: Semantics::Otel, ..Config::default() };
    let lines = read("vllm_0.33.0_v1_dp4");
    let ids = ids(&lines);
    let with = normalise(&ids, &config).outputs;
    let without = normalise(&ids, &Config::default()).outputs;
    assert_eq!(with[..without.len()], without[..]);
    let added: Vec<String> = with[without.len()..]
        .iter()
        .map(|o| format!("{}{} {:?} {} {:?}", o.name, o.labels, o.fold, o.feeds.len(), o.unit))
        .collect();
    let attributes = "{gen_ai.operation.name=\"chat\",gen_ai.provider.name=\"vllm\",\
                      gen_ai.request.model=\"meta-llama/Llama-3.1-8B-Instruct\"}";
    assert_eq!(
        added,
        [
            "gen_ai.server.request.duration",
            "gen_ai.server.time_to_first_token",
            "gen_ai.server.time_per_output_token",
        ]
        .map(|name| format!("{name}{attributes} SumCounter 4 Some(\"s\")"))
    );
}

#[test]
fn ranges() {
    let range = |since, last| Range::new(since, last);
    assert_eq!(range("0.9.2", "0.10.2").to_string(), "0.9.2..=0.10.2");
    assert_eq!(range("0.9.0.1", "<0.4.6.post4").to_string(), "0.9.0.1..0.4.6.post4");
    assert_eq!(Range::ALL.to_string(), "..");
    assert_eq!(range("1.0.0", "").and(range("0.5.0", "0.9.9")), None);
    assert_eq!(
        range("1.0.0", "2.0.0").and(range("1.5.0", "<2.0.0")),
        Some(range("1.5.0", "<2.0.0"))
    );
    assert_eq!(range("1.0.0", "3.0.0").minus(range("2.0.0", "")), Some(range("1.0.0", "<2.0.0")));
    assert_eq!(
        range("1.0.0", "3.0.0").minus(range("0.1.0", "<2.0.0")),
        Some(range("2.0.0", "3.0.0"))
    );
    assert_eq!(
        range("1.0.0", "3.0.0").minus(range("1.5.0", "2.0.0")),
        Some(range("1.0.0", "3.0.0"))
    );
    assert_eq!(range("1.0.0", "3.0.0").minus(range("0.5.0", "")), None);
    assert!(Version::new("0.4.9.post3") > Version::new("0.4.9"));
    assert!(Version::new("0.4.9.post3") < Version::new("0.4.10"));
    assert!(Version::new("0.9.0.1") < Version::new("0.9.1"));
}

// ---- Values through real plans ----

/// A source whose page can change.
struct Pipeline {
    plan: Plan,
    bound: Option<SourcePlan>,
    interner: Arc<Interner>,
    source: SourceId,
    telemetry: Telemetry,
}

impl Pipeline {
    fn new(config: Config) -> Self {
        let interner = Arc::new(Interner::new());
        let telemetry = Telemetry::default();
        let step = Arc::new(Normalize::new(config, telemetry.clone()));
        let plan = Plan::new(vec![step], Arc::clone(&interner), Arc::new(MetadataStore::new()));
        Self { plan, bound: None, interner, source: SourceId::next(), telemetry }
    }

    fn shape(&self, lines: &[Line]) -> Arc<Shape> {
        let mut builder = ShapeBuilder::new(&self.interner);
        let labels = Labels::from_pairs([("instance", "host:8000")]);
        let group = builder.group(Group { labels, ..Group::default() });
        for line in lines {
            let kind = match line.kind {
                tables::Kind::Counter => Kind::COUNTER,
                tables::Kind::Gauge | tables::Kind::Unknown => Kind::Gauge,
                tables::Kind::Histogram => Kind::histogram(Bounds::new(&line.bounds)),
                tables::Kind::Summary => Kind::Summary { quantiles: Bounds::new(&[]) },
            };
            let hint = if line.kind == tables::Kind::Unknown { Hint::Unknown } else { Hint::None };
            let metric = Arc::new(Metric { hint, ..Metric::new(&line.name, "", "help", kind) });
            builder.push(group, &metric, &line.labels).unwrap();
        }
        builder.finish()
    }

    /// Scrapes a page: each line with the slots of its point. The output's points by identity.
    fn scrape(&mut self, page: &[(&str, &[f64])]) -> BTreeMap<String, Vec<f64>> {
        let mut lines = series(&page.iter().map(|(line, _)| *line).collect::<Vec<_>>());
        for (line, (_, slots)) in lines.iter_mut().zip(page) {
            if line.kind == tables::Kind::Histogram {
                line.bounds = (1..slots.len() - 1).map(|n| 10.0 * n as f64).collect();
            }
        }
        let shape = self.shape(&lines);
        let slots = page.iter().flat_map(|(_, slots)| *slots).map(|v| Slot::double(*v)).collect();
        let batch = Batch::new(self.source, shape, 1, slots);
        let out = self.plan.apply(batch, &mut self.bound);
        out.shape
            .iter()
            .map(|s| {
                let point = out.point(s.row).iter().map(|slot| slot.as_double()).collect();
                (format!("{}{}", s.metric.name, s.labels), point)
            })
            .collect()
    }
}

fn expect_points(found: &BTreeMap<String, Vec<f64>>, expected: &[(&str, &[f64])]) {
    let expected: BTreeMap<String, Vec<f64>> =
        expected.iter().map(|(name, slots)| ((*name).to_owned(), slots.to_vec())).collect();
    assert_eq!(*found, expected);
}

#[test]
fn data_parallel_engines_become_one() {
    let mut pipeline = Pipeline::new(Config::default());
    let found = pipeline.scrape(&[
        ("vllm:num_requests_running gauge engine=0 model_name=m", &[3.0]),
        ("vllm:num_requests_running gauge engine=1 model_name=m", &[4.0]),
        ("vllm:kv_cache_usage_perc gauge engine=0 model_name=m", &[0.25]),
        ("vllm:kv_cache_usage_perc gauge engine=1 model_name=m", &[0.75]),
        ("vllm:prompt_tokens_total counter engine=0 model_name=m", &[100.0]),
        ("vllm:prompt_tokens_total counter engine=1 model_name=m", &[50.0]),
        ("vllm:time_to_first_token_seconds histogram engine=0 model_name=m", &[5.0, 4.0, 1.0, 2.0]),
        ("vllm:time_to_first_token_seconds histogram engine=1 model_name=m", &[7.0, 6.0, 3.0, 3.0]),
    ]);
    expect_points(
        &found,
        &[
            ("vllm:num_requests_running{}", &[7.0]),
            ("vllm:kv_cache_usage_perc{}", &[0.75]),
            ("vllm:prompt_tokens_total{}", &[150.0]),
            ("vllm:time_to_first_token_seconds{}", &[12.0, 10.0, 4.0, 5.0]),
        ],
    );
}

#[test]
fn the_restart_of_one_rank_is_no_fall_of_the_whole() {
    let mut pipeline = Pipeline::new(Config::default());
    let mut tokens = |a: f64, b: f64| {
        let found = pipeline.scrape(&[
            ("vllm:kv_cache_usage_perc gauge engine=0 model_name=m", &[0.0]),
            ("vllm:generation_tokens_total counter engine=0 model_name=m", &[a]),
            ("vllm:generation_tokens_total counter engine=1 model_name=m", &[b]),
        ]);
        found["vllm:generation_tokens_total{}"][0]
    };
    assert_eq!(tokens(100.0, 200.0), 300.0);
    assert_eq!(tokens(110.0, 205.0), 315.0);
    // Engine 1 restarts and has counted 7 since.
    assert_eq!(tokens(120.0, 7.0), 332.0);
    assert_eq!(tokens(125.0, 9.0), 339.0);
}

#[test]
fn milliseconds_become_seconds() {
    let mut pipeline = Pipeline::new(Config::default());
    let found = pipeline.scrape(&[
        ("vllm:gpu_cache_usage_perc gauge model_name=m", &[0.5]),
        ("vllm:model_forward_time_milliseconds histogram model_name=m", &[1500.0, 3.0, 1.0, 2.0]),
    ]);
    expect_points(
        &found,
        &[
            ("vllm:kv_cache_usage_perc{}", &[0.5]),
            ("vllm:model_forward_time_seconds{}", &[1.5, 3.0, 1.0, 2.0]),
        ],
    );
    let bound = pipeline.bound.as_ref().unwrap();
    let forward =
        bound.output().unwrap().iter().find(|s| s.metric.name.contains("forward")).unwrap();
    assert_eq!(forward.metric.kind, Kind::histogram(Bounds::new(&[0.01, 0.02])));
}

#[test]
fn a_gauge_that_only_grows_is_a_counter() {
    let mut pipeline = Pipeline::new(Config::default());
    let found = pipeline.scrape(&[
        ("sglang:num_running_reqs gauge tp_rank=0", &[1.0]),
        ("sglang:total_retracted_reqs gauge tp_rank=0", &[5.0]),
    ]);
    expect_points(
        &found,
        &[("sglang:num_running_reqs{}", &[1.0]), ("sglang:num_retracted_requests_total{}", &[5.0])],
    );
    let bound = pipeline.bound.as_ref().unwrap();
    let retracted =
        bound.output().unwrap().iter().find(|s| s.metric.name.contains("retracted")).unwrap();
    assert_eq!(retracted.metric.kind, Kind::COUNTER);
}

#[test]
fn a_number_without_a_type_gets_the_tables() {
    let mut pipeline = Pipeline::new(Config::default());
    pipeline.scrape(&[
        ("sglang_num_running_reqs unknown tp_rank=0", &[1.0]),
        ("sglang_prompt_tokens_total unknown", &[5.0]),
        ("something_else unknown", &[2.0]),
    ]);
    let bound = pipeline.bound.as_ref().unwrap();
    let found: Vec<_> = bound
        .output()
        .unwrap()
        .iter()
        .map(|s| (s.metric.name.to_string(), s.metric.kind.clone(), s.metric.hint))
        .collect();
    assert_eq!(
        found,
        [
            ("sglang:num_running_reqs".to_owned(), Kind::Gauge, Hint::None),
            ("sglang:prompt_tokens_total".to_owned(), Kind::COUNTER, Hint::None),
            ("something_else".to_owned(), Kind::Gauge, Hint::Unknown),
        ]
    );
}

/// SGLang splits by `is_streaming` from 0.5.17 on, and a new child appears with the first such request.
#[test]
fn a_new_part_joins_the_sum() {
    let mut pipeline = Pipeline::new(Config::default());
    let usage: (&str, &[f64]) = ("sglang:token_usage gauge", &[0.5]);
    let streaming = "sglang:prompt_tokens_total counter is_streaming=true";
    let found = pipeline.scrape(&[usage, (streaming, &[40.0])]);
    assert_eq!(found["sglang:prompt_tokens_total{}"], [40.0]);
    let other = "sglang:prompt_tokens_total counter is_streaming=false";
    let found = pipeline.scrape(&[usage, (streaming, &[50.0]), (other, &[3.0])]);
    assert_eq!(found["sglang:prompt_tokens_total{}"], [53.0]);
}

#[test]
fn the_verdict_and_unknown_names_are_told() {
    let mut pipeline = Pipeline::new(Config::default());
    let page: [(&str, &[f64]); 2] = [
        ("vllm:kv_cache_usage_perc gauge engine=0", &[0.5]),
        ("vllm:brand_new gauge engine=0", &[1.0]),
    ];
    pipeline.scrape(&page);
    let text = pipeline.telemetry.text();
    assert!(text.contains("target=\"host:8000\""), "{text}");
    assert!(text.contains("engine=\"vllm\""), "{text}");
    let line = "inferometer_normalize_unknown_series_total{name=\"vllm:brand_new\"} 1";
    assert!(text.contains(line), "{text}");
    // The same page in another shape counts nothing twice.
    pipeline.scrape(&page[..]);
    pipeline.scrape(&[page[0]]);
    pipeline.scrape(&page[..]);
    assert!(pipeline.telemetry.text().contains(line), "{}", pipeline.telemetry.text());
}

fn verdicts(telemetry: &Telemetry) -> Vec<String> {
    let text = telemetry.text();
    text.lines().filter(|l| l.starts_with("inferometer_engine_info{")).map(str::to_owned).collect()
}

/// A verdict is on show for as long as its source has a plan, and only the newest one.
#[test]
fn the_verdict_goes_with_its_source() {
    let mut pipeline = Pipeline::new(Config::default());
    pipeline.scrape(&[("vllm:kv_cache_usage_perc gauge engine=0", &[0.5])]);
    assert!(verdicts(&pipeline.telemetry)[0].contains("engine=\"vllm\""));
    pipeline.scrape(&[("sglang:token_usage gauge", &[0.5])]);
    let shown = verdicts(&pipeline.telemetry);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].contains("engine=\"sglang\""), "{shown:?}");
    pipeline.bound = None;
    assert_eq!(verdicts(&pipeline.telemetry), [""; 0]);
}

#[test]
fn nothing_is_said_of_a_target_that_was_not_reached() {
    let mut pipeline = Pipeline::new(Config::default());
    pipeline.scrape(&[("up gauge", &[0.0]), ("scrape_duration_seconds gauge", &[0.1])]);
    assert_eq!(verdicts(&pipeline.telemetry), [""; 0]);
    pipeline.scrape(&[("up gauge", &[1.0]), ("http_requests_total counter", &[1.0])]);
    assert!(verdicts(&pipeline.telemetry)[0].contains("engine=\"unknown\""));
}

/// Read with `honor_labels = false` from a target that has labels of the engine's names.
#[test]
fn bookkeeping_is_folded_under_the_name_that_the_receiver_gave_it() {
    let settings = testing::settings();
    let target = [("engine", "e"), ("model_name", "M"), ("tp_rank", "t"), ("region", "eu")];
    let ranks = [
        [("exported_engine", "0"), ("exported_model_name", "m"), ("exported_region", "x")],
        [("exported_engine", "1"), ("exported_model_name", "m"), ("exported_region", "x")],
    ];
    let rows = [
        ("vllm:num_requests_running", Kind::Gauge, &ranks[0][..]),
        ("vllm:num_requests_running", Kind::Gauge, &ranks[1][..]),
        ("vllm:kv_cache_usage_perc", Kind::Gauge, &[("exported_tp_rank", "0")]),
        ("vllm:brand_new", Kind::Gauge, &ranks[0][..2]),
        ("http_requests_total", Kind::COUNTER, &[("exported_engine", "0"), ("exported_x", "1")]),
    ];
    let shape = testing::page(&settings, &target, &[], &rows);
    let lines = |toml: &str| {
        let steps = testing::build::<Normalize>(toml, &settings).unwrap();
        testing::Pipeline::new(steps, &settings).lines(&shape)
    };
    expect![[r#"
        vllm:num_requests_running{engine="e",exported_region="x",model_name="M",region="eu",tp_rank="t"} 3
        vllm:kv_cache_usage_perc{engine="e",exported_tp_rank="0",model_name="M",region="eu",tp_rank="t"} 3
        vllm:brand_new{engine="e",exported_engine="0",exported_model_name="m",model_name="M",region="eu",tp_rank="t"} 4
        http_requests_total{engine="e",exported_engine="0",exported_x="1",model_name="M",region="eu",tp_rank="t"} 5
    "#]].assert_eq(&lines(""));
    expect![[r#"
        vllm:num_requests_running{engine="e",exported_engine="0",exported_region="x",model_name="M",region="eu",tp_rank="t"} 1
        vllm:num_requests_running{engine="e",exported_engine="1",exported_region="x",model_name="M",region="eu",tp_rank="t"} 2
        vllm:kv_cache_usage_perc{engine="e",exported_tp_rank="0",model_name="M",region="eu",tp_rank="t"} 3
        vllm:brand_new{engine="e",exported_engine="0",exported_model_name="m",model_name="M",region="eu",tp_rank="t"} 4
        http_requests_total{engine="e",exported_engine="0",exported_x="1",model_name="M",region="eu",tp_rank="t"} 5
    "#]].assert_eq(&lines("keep_labels = ['engine']"));
}
