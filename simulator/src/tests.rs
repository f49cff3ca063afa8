//! Tests of the simulated fleet: the model, its pages, the servers, the bulk pages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const START: f64 = 1_760_000_000.25;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn engine(release: Release) -> Engine {
    Engine::new(EngineSpec::new("test", release), START)
}

/// A page as (family, its type, its samples), each sample as (name, labels, value).
type Sample = (String, BTreeMap<String, String>, f64);
struct Parsed(Vec<(String, String, Vec<Sample>)>);

impl Parsed {
    fn new(page: &str) -> Self {
        let mut families: Vec<(String, String, Vec<Sample>)> = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                families.push((name.to_owned(), kind.to_owned(), Vec::new()));
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let labels = labels.strip_suffix('}').unwrap();
                let pairs = labels.split("\",").filter(|pair| !pair.is_empty()).map(|pair| {
                    let (key, text) = pair.split_once("=\"").unwrap();
                    (key.to_owned(), text.trim_end_matches('"').to_owned())
                });
                let value = value.replace("+Inf", "inf").parse().unwrap();
                families.last_mut().unwrap().2.push((name.to_owned(), pairs.collect(), value));
            }
        }
        Parsed(families)
    }

    /// The sum of all samples of that name whose labels contain `having`; panics without any.
    fn sum(&self, name: &str, having: &[(&str, &str)]) -> f64 {
        let of_name =
            self.0.iter().flat_map(|(_, _, samples)| samples).filter(|(own, _, _)| own == name);
        let values: Vec<f64> = of_name
            .filter(|(_, labels, _)| {
                having.iter().all(|(key, text)| labels.get(*key).is_some_and(|own| own == text))
            })
            .map(|(_, _, value)| *value)
            .collect();
        assert!(!values.is_empty(), "no {name} with {having:?}");
        values.iter().sum()
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _, _)| own == name)
    }
}

/// One line per family: name, type, labels without `le`, bounds. The form of `tests/manifest.txt`.
fn manifest_of(page: &str) -> BTreeSet<String> {
    let join = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let families = Parsed::new(page).0;
    let names: BTreeSet<&String> = families.iter().map(|(name, _, _)| name).collect();
    assert_eq!(names.len(), families.len(), "each family once");
    let line = |(name, kind, samples): &(String, String, Vec<Sample>)| {
        let labels: BTreeSet<String> =
            samples.iter().flat_map(|(_, labels, _)| labels.keys().cloned()).collect();
        let mut bounds: Vec<String> = Vec::new();
        for bound in samples.iter().filter_map(|(_, labels, _)| labels.get("le")) {
            if !bounds.contains(bound) {
                bounds.push(bound.clone());
            }
        }
        let labels = labels.into_iter().filter(|label| label != "le").collect();
        format!("{name} {kind} {} {}", join(labels), join(bounds))
    };
    families.iter().map(line).collect()
}

/// The sections of the manifest, `like` and `created` resolved.
fn manifest() -> Vec<(String, BTreeSet<String>)> {
    let mut sections: Vec<(String, bool, BTreeMap<String, String>)> = Vec::new();
    for line in include_str!("../tests/manifest.txt").lines().filter(|line| !line.starts_with('#'))
    {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (title, base) = title.split_once(" like ").unwrap_or((title, ""));
            let created = title.ends_with(" created");
            let title = title.trim_end_matches(" created").to_owned();
            let base = sections.iter().find(|(own, _, _)| own == base);
            sections.push((
                title,
                created,
                base.map(|(_, _, families)| families.clone()).unwrap_or_default(),
            ));
        } else {
            let (name, rest) = line.split_once(' ').unwrap();
            let families = &mut sections.last_mut().unwrap().2;
            match rest {
                "gone" => families.remove(name),
                rest => families.insert(name.to_owned(), rest.to_owned()),
            };
        }
    }
    let resolve = |(title, created, families): (String, bool, BTreeMap<String, String>)| {
        let mut lines: BTreeSet<String> =
            families.iter().map(|(name, rest)| format!("{name} {rest}")).collect();
        for (name, rest) in families.iter().filter(|_| created) {
            let (kind, rest) = rest.split_once(' ').unwrap();
            let labels = rest.split(' ').next().unwrap();
            if kind != "gauge" && !name.starts_with("python_") && !name.starts_with("process_") {
                let base = if kind == "counter" { name.trim_end_matches("_total") } else { name };
                lines.insert(format!("{base}_created gauge {labels} -"));
            }
        }
        (title, lines)
    };
    sections.into_iter().map(resolve).collect()
}

#[test]
fn pages_have_the_families_of_their_releases() {
    let sections = manifest();
    assert_eq!(sections.len(), 12);
    for (title, expected) in sections {
        let mut words = title.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        let known = |release: &Release| release.engine() == name && release.version() == version;
        let release = Release::ALL.into_iter().find(known).unwrap();
        let mut spec = EngineSpec { load: Load::steady(5.0), ..EngineSpec::new("test", release) };
        for word in words {
            let (key, number) = word.split_once('=').unwrap_or((word, "0"));
            let number: u32 = number.parse().unwrap();
            match key {
                "speculative" => {
                    spec.speculation = Some(Speculation { draft_tokens: 3, acceptance: 0.7 });
                }
                "data_parallel" => spec.data_parallel = number,
                "tensor_parallel" => spec.tensor_parallel = number,
                "api_servers" => spec.api_servers = number,
                "preempting" => (spec.kv_capacity_tokens, spec.load) = (5000, Load::steady(20.0)),
                other => panic!("unknown word {other}"),
            }
        }
        let mut engine = Engine::new(spec, START);
        engine.advance(seconds(120.0));
        let printed = manifest_of(&engine.page());
        let missing: Vec<_> = expected.difference(&printed).collect();
        let extra: Vec<_> = printed.difference(&expected).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{title}\nmissing {missing:#?}\nextra {extra:#?}"
        );
    }
}

#[test]
fn numbers_look_as_the_python_client_prints_them() {
    for (value, printed) in [
        (0.0, "0.0"),
        (12.0, "12.0"),
        (-1.0, "-1.0"),
        (0.5479166666666667, "0.5479166666666667"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.0016200000000000001, "0.0016200000000000001"),
        (1191.064887146242, "1191.064887146242"),
        (999_999.5, "999999.5"),
        (1_000_000.0, "1e+06"),
        (1_100_000.0, "1.1e+06"),
        (12_340_000.0, "1.234e+07"),
        (-12_340_000.0, "-12340000.0"),
        (1.7953193486548054e9, "1.7953193486548054e+09"),
        (12_345_678_901.0, "1.2345678901e+010"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (f64::INFINITY, "+Inf"),
        (f64::NAN, "NaN"),
    ] {
        let mut text = String::new();
        pages::text::number(&mut text, value);
        assert_eq!(text, printed);
    }
}

#[test]
fn vllm_pages_say_what_happened() {
    for release in
        [Release::Vllm0_6_3Post1, Release::Vllm0_8_5Post1, Release::Vllm0_10_2, Release::Vllm0_33_0]
    {
        let mut engine = engine(release);
        engine.advance(seconds(100.0));
        let (truth, now) = (engine.truth(), engine.now()[0]);
        let page = Parsed::new(&engine.page());
        let whole = |name: &str| page.sum(name, &[]) as u64;
        assert!(truth.finished_total() > 100);
        assert_eq!(whole("vllm:prompt_tokens_total"), truth.prompt_tokens);
        assert_eq!(whole("vllm:generation_tokens_total"), truth.generation_tokens);
        assert_eq!(whole("vllm:num_requests_running"), now.running);
        assert_eq!(whole("vllm:num_requests_waiting"), now.waiting);
        let usage = if release < Release::Vllm0_10_2 {
            "vllm:gpu_cache_usage_perc"
        } else {
            "vllm:kv_cache_usage_perc"
        };
        assert_eq!(page.sum(usage, &[]), now.kv_used_tokens as f64 / now.kv_capacity_tokens as f64);
        for (reason, count) in ["stop", "length", "abort"].iter().zip(truth.finished) {
            assert_eq!(
                page.sum("vllm:request_success_total", &[("finished_reason", reason)]) as u64,
                count
            );
        }
        for (name, histogram) in [
            ("vllm:time_to_first_token_seconds", &truth.time_to_first_token),
            ("vllm:e2e_request_latency_seconds", &truth.end_to_end),
            ("vllm:request_prompt_tokens", &truth.request_prompt_tokens),
        ] {
            assert_eq!(whole(&format!("{name}_count")), histogram.count());
            assert_eq!(page.sum(&format!("{name}_sum"), &[]), histogram.sum());
            for bound in ["1.0", "2.5", "10.0", "200.0"] {
                let labels = [("le", bound)];
                let of_family = page.0.iter().find(|(own, _, _)| own == name).unwrap();
                if of_family.2.iter().any(|(_, own, _)| own.get("le").is_some_and(|le| le == bound))
                {
                    let below = page.sum(&format!("{name}_bucket"), &labels) as u64;
                    assert_eq!(
                        below,
                        histogram.cumulative(bound.parse().unwrap()),
                        "{name} {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn prefix_cache_is_counted_in_blocks_by_the_release_that_does() {
    let (mut blocks, mut tokens) = (engine(Release::Vllm0_8_5Post1), engine(Release::Vllm0_10_2));
    for (engine, unit) in [(&mut blocks, 16), (&mut tokens, 1)] {
        engine.advance(seconds(60.0));
        let page = Parsed::new(&engine.page());
        let truth = engine.truth();
        assert_eq!(
            page.sum("vllm:gpu_prefix_cache_queries_total", &[]) as u64,
            truth.prefix_queries / unit
        );
        assert_eq!(
            page.sum("vllm:gpu_prefix_cache_hits_total", &[]) as u64,
            truth.prefix_hits / unit
        );
    }
}

#[test]
fn data_parallel_engines_have_their_own_series_and_shared_block_count() {
    let spec = EngineSpec { data_parallel: 2, ..EngineSpec::new("test", Release::Vllm0_33_0) };
    let mut engine = Engine::new(spec, START);
    engine.advance(seconds(60.0));
    let page = Parsed::new(&engine.page());
    let ranks = engine.truth_by_rank();
    assert_ne!(ranks[0], ranks[1]);
    for (rank, truth) in ["0", "1"].iter().zip(&ranks) {
        let labels = [("engine", *rank)];
        assert_eq!(
            page.sum("vllm:generation_tokens_total", &labels) as u64,
            truth.generation_tokens
        );
        let cache =
            [("engine", *rank), ("num_gpu_blocks", "4096"), ("kv_cache_size_tokens", "32768")];
        assert_eq!(page.sum("vllm:cache_config_info", &cache), 1.0);
    }
}

#[test]
fn sglang_pages_lag_as_sglang_does() {
    for release in [Release::Sglang0_4_10Post2, Release::Sglang0_5_23] {
        let spec = EngineSpec { tensor_parallel: 2, ..EngineSpec::new("test", release) };
        let mut engine = Engine::new(spec, START);
        engine.advance(seconds(100.0));
        let (truth, reported) = (engine.truth(), engine.reported()[0]);
        let page = Parsed::new(&engine.page());
        let whole = |name: &str| page.sum(name, &[]) as u64;
        assert!(truth.finished_generation_tokens < truth.generation_tokens);
        assert_eq!(whole("sglang:generation_tokens_total"), truth.finished_generation_tokens);
        assert_eq!(whole("sglang:prompt_tokens_total"), truth.finished_prompt_tokens);
        assert_eq!(whole("sglang:num_requests_total"), truth.finished_total());
        assert_eq!(whole("sglang:num_running_reqs"), reported.running);
        assert_eq!(whole("sglang:num_used_tokens"), reported.kv_used_tokens);
        assert_eq!(whole("sglang:e2e_request_latency_seconds_count"), truth.end_to_end.count());
        if release == Release::Sglang0_5_23 {
            let live = page.sum("sglang:realtime_tokens_total", &[("mode", "decode")]) as u64;
            assert!(
                live <= truth.generation_tokens - truth.first_tokens
                    && live > truth.finished_generation_tokens / 2
            );
            let idle = [("tp_rank", "1"), ("mode", "input")];
            assert_eq!(page.sum("sglang:prefill_effective_tokens_total", &idle), 0.0);
            let free = whole("sglang:kv_available_tokens") + whole("sglang:kv_evictable_tokens");
            assert_eq!(free + whole("sglang:kv_used_tokens"), whole("sglang:max_total_num_tokens"));
        }
    }
}

#[test]
fn every_request_and_token_is_accounted_for() {
    for release in Release::ALL {
        let spec = EngineSpec { load: Load::steady(6.0), ..EngineSpec::new("test", release) };
        let mut engine = Engine::new(spec, START);
        for _ in 0..300 {
            engine.advance(seconds(0.5));
            let (truth, now) = (engine.truth(), engine.now()[0]);
            assert_eq!(truth.arrived, truth.finished_total() + now.running + now.waiting);
            assert!(now.running <= 32 && now.kv_used_tokens <= now.kv_capacity_tokens);
        }
        let truth = engine.truth();
        assert_eq!(truth.time_to_first_token.count(), truth.first_tokens);
        assert_eq!(truth.inter_token.count(), truth.generation_tokens - truth.first_tokens);
        assert_eq!(truth.request_prompt_tokens.sum() as u64, truth.finished_prompt_tokens);
        assert_eq!(truth.request_generation_tokens.sum() as u64, truth.finished_generation_tokens);
        assert_eq!(truth.step_tokens.count(), truth.steps);
        assert!(truth.finished.iter().take(3).all(|count| *count > 0), "{:?}", truth.finished);
        let worked = truth.prefill_seconds + truth.decode_seconds + truth.idle_seconds;
        assert!((worked - 150.0).abs() < 1.0, "{worked}");
    }
}

#[test]
fn sglang_counts_verifications_and_the_token_they_add() {
    for speculation in [None, Some(Speculation { draft_tokens: 3, acceptance: 0.7 })] {
        let spec = EngineSpec { speculation, ..EngineSpec::new("test", Release::Sglang0_5_23) };
        let mut engine = Engine::new(spec, START);
        engine.advance(seconds(100.0));
        let (truth, page) = (engine.truth(), Parsed::new(&engine.page()));
        let proposed = if speculation.is_some() { 4.0 } else { 0.0 };
        assert_eq!(page.sum("sglang:spec_num_draft_tokens", &[]), proposed);
        assert_eq!(page.has("sglang:spec_verify_calls_total"), speculation.is_some());
        if speculation.is_some() {
            let calls = page.sum("sglang:spec_verify_calls_total", &[]) as u64;
            assert_eq!(calls, truth.finished_drafts);
            // What is neither a first token nor one that a verification added was accepted.
            let accepted = truth.finished_generation_tokens - truth.finished_total() - calls;
            assert_eq!(accepted, truth.finished_accepted_tokens);
            assert_eq!(3 * calls, truth.finished_draft_tokens);
            assert!(accepted > 0 && accepted <= truth.accepted_tokens);
        }
    }
}

#[test]
fn speeds_and_tokens_in_flight_are_kept_exactly() {
    let mut engine = engine(Release::Vllm0_33_0);
    let (mut sampled, mut steps) = (0.0, 0);
    for _ in 0..20_000 {
        engine.advance(seconds(0.005));
        let now = engine.now()[0];
        assert!(now.sequence_tokens <= now.kv_used_tokens);
        assert!(now.kv_used_tokens < now.sequence_tokens + 16 * now.running.max(1));
        assert_eq!(now.waiting_tokens > 0, now.waiting > 0);
        sampled += now.sequence_tokens as f64 * 0.005;
        steps += 1;
    }
    assert_eq!(steps, 20_000);
    let truth = engine.truth();
    // Samples between steps come close to what was added up step by step.
    let error = truth.in_flight_token_seconds / sampled - 1.0;
    assert!(sampled > 1e5 && error.abs() < 0.01, "{sampled} {error}");
    assert_eq!(truth.speed.count(), truth.time_per_output_token.count());
    assert_eq!(truth.token_speed.count(), truth.inter_token.count());
    assert!(truth.speed.count() > 100 && truth.speed.count() <= truth.finished_total());
    for (speeds, times) in
        [(&truth.speed, &truth.time_per_output_token), (&truth.token_speed, &truth.inter_token)]
    {
        // A speed of at most 1/b is a time of at least b.
        for bound in buckets::VLLM_PER_TOKEN {
            assert!(speeds.bounds().contains(&(1.0 / bound)));
            assert_eq!(speeds.cumulative(1.0 / bound), times.count() - times.cumulative(*bound));
        }
    }
}

#[test]
fn speculation_emits_what_was_accepted_and_one() {
    let spec = EngineSpec {
        speculation: Some(Speculation { draft_tokens: 3, acceptance: 0.7 }),
        ..EngineSpec::new("test", Release::Vllm0_33_0)
    };
    let mut engine = Engine::new(spec, START);
    engine.advance(seconds(100.0));
    let truth = engine.truth();
    assert_eq!(truth.preemptions, 0);
    assert_eq!(truth.generation_tokens, truth.first_tokens + truth.drafts + truth.accepted_tokens);
    assert_eq!(truth.accepted_per_position.iter().sum::<u64>(), truth.accepted_tokens);
    assert_eq!(truth.draft_tokens, 3 * truth.drafts);
    // 0.7 + 0.49 + 0.343 of three, a little less for the ends of answers.
    let rate = truth.accepted_tokens as f64 / truth.draft_tokens as f64;
    assert!((0.47..0.52).contains(&rate), "{rate}");
    let page = Parsed::new(&engine.page());
    assert_eq!(
        page.sum("vllm:spec_decode_num_accepted_tokens_total", &[]) as u64,
        truth.accepted_tokens
    );
    let first = [("position", "0")];
    let per_position =
        page.sum("vllm:spec_decode_num_accepted_tokens_per_pos_total", &first) as u64;
    assert_eq!(per_position, truth.accepted_per_position[0]);
}

#[test]
fn a_small_cache_preempts_and_a_full_batch_queues() {
    let small = EngineSpec {
        kv_capacity_tokens: 5000,
        load: Load::steady(10.0),
        ..EngineSpec::new("test", Release::ALL[3])
    };
    let mut engine = Engine::new(small, START);
    engine.advance(seconds(60.0));
    let truth = engine.truth();
    assert!(truth.preemptions > 0 && truth.preempted_prompt_tokens > 0);
    assert!(engine.now()[0].waiting > 0);
    let page = Parsed::new(&engine.page());
    assert_eq!(page.sum("vllm:num_preemptions_total", &[]) as u64, truth.preemptions);

    let narrow = EngineSpec {
        max_num_seqs: 2,
        load: Load::steady(10.0),
        ..EngineSpec::new("test", Release::ALL[3])
    };
    let mut engine = Engine::new(narrow, START);
    engine.advance(seconds(60.0));
    assert_eq!(engine.now()[0].running, 2);
    assert!(engine.now()[0].waiting > 50);
}

#[test]
fn a_run_depends_on_its_seed_and_not_on_how_time_is_cut() {
    let (mut one, mut other) = (engine(Release::Vllm0_33_0), engine(Release::Vllm0_33_0));
    one.advance(seconds(50.0));
    for _ in 0..200 {
        other.advance(seconds(0.25));
    }
    let (mut one_truth, mut other_truth) = (one.truth(), other.truth());
    // Idle time is added up in pieces.
    assert!((one_truth.idle_seconds - other_truth.idle_seconds).abs() < 1e-6);
    (one_truth.idle_seconds, other_truth.idle_seconds) = (0.0, 0.0);
    assert_eq!(one_truth, other_truth);
    let mut another =
        Engine::new(EngineSpec { seed: 2, ..EngineSpec::new("test", Release::Vllm0_33_0) }, START);
    another.advance(seconds(50.0));
    assert_ne!(another.truth().generation_tokens, one.truth().generation_tokens);
}

#[test]
fn load_rises_and_falls() {
    let load = Load { low: 1.0, high: 9.0, period: seconds(100.0) };
    assert_eq!((load.rate(0.0), load.rate(50.0), load.rate(100.0)), (1.0, 9.0, 1.0));
    let mut engine =
        Engine::new(EngineSpec { load, ..EngineSpec::new("test", Release::ALL[3]) }, START);
    let mut arrived = Vec::new();
    for _ in 0..10 {
        let before = engine.truth().arrived;
        engine.advance(seconds(10.0));
        arrived.push(engine.truth().arrived - before);
    }
    assert!(arrived[4] > 3 * arrived[0] && arrived[5] > 3 * arrived[9], "{arrived:?}");
}

#[test]
fn a_restart_begins_at_zero_and_the_lifetime_goes_on() {
    let mut engine = engine(Release::Vllm0_33_0);
    engine.advance(seconds(60.0));
    let (before, created) = (engine.truth(), created(&engine));
    assert!((created - START).abs() < 1.0);
    let unfinished = engine.now()[0].running + engine.now()[0].waiting;
    engine.restart();
    assert_eq!(engine.truth().generation_tokens, 0);
    assert_eq!(Parsed::new(&engine.page()).sum("vllm:prompt_tokens_total", &[]), 0.0);
    assert!((self::created(&engine) - created - 60.0).abs() < 0.01);
    assert_eq!(engine.started_unix(), START + 60.0);
    engine.advance(seconds(10.0));
    let lifetime = engine.lifetime();
    assert_eq!(lifetime.lost, unfinished);
    assert_eq!(
        lifetime.generation_tokens,
        before.generation_tokens + engine.truth().generation_tokens
    );
}

fn created(engine: &Engine) -> f64 {
    Parsed::new(&engine.page()).sum("vllm:prompt_tokens_created", &[])
}

#[test]
fn an_upgrade_changes_names_and_a_stopped_engine_says_nothing() {
    let mut engine = engine(Release::Sglang0_4_10Post2);
    engine.advance(seconds(30.0));
    assert!(Parsed::new(&engine.page()).has("sglang:total_retracted_reqs"));
    engine.stop();
    engine.advance(seconds(30.0));
    assert_eq!((engine.page(), engine.now().len(), engine.truth().arrived), (String::new(), 0, 0));
    engine.upgrade(Release::Sglang0_5_23);
    engine.advance(seconds(30.0));
    let page = Parsed::new(&engine.page());
    assert!(page.has("sglang:realtime_tokens_total") && !page.has("sglang:total_retracted_reqs"));
    assert_eq!(engine.spec().release.version(), "0.5.23");
}

#[test]
fn scripts_repeat() {
    let script = Script {
        events: vec![(seconds(10.0), Event::Stop), (seconds(15.0), Event::Start)],
        every: Some(seconds(20.0)),
    };
    let mut engine =
        Engine::new(EngineSpec { script, ..EngineSpec::new("test", Release::ALL[0]) }, START);
    let mut up = String::new();
    for _ in 0..12 {
        engine.advance(seconds(5.0));
        up.push(if engine.is_up() { '|' } else { '.' });
    }
    assert_eq!(up, "|.|||.|||.||");
    engine.advance(seconds(1000.0));
    assert_eq!(engine.started_unix(), START + 1055.0);
}

#[test]
fn the_demo_fleet_is_three_kinds_of_engine_and_one_restarts() {
    let spec = demo_fleet();
    let releases: Vec<_> = spec.engines.iter().map(|engine| engine.release).collect();
    assert_eq!(releases, [Release::Vllm0_6_3Post1, Release::Vllm0_33_0, Release::Sglang0_5_23]);
    let pods: BTreeSet<_> = spec.engines.iter().map(|engine| &engine.identity.pod_name).collect();
    assert_eq!(pods.len(), 3);
    for engine in &spec.engines {
        assert!(engine.served_model.starts_with("simulated/"));
        assert!(engine.identity.pairs().iter().all(|(_, text)| !text.is_empty()));
    }
    let mut engines: Vec<_> =
        spec.engines.into_iter().map(|engine| Engine::new(engine, START)).collect();
    let mut busiest = [0; 3];
    for _ in 0..240 {
        for (engine, busiest) in engines.iter_mut().zip(&mut busiest) {
            engine.advance(seconds(1.0));
            *busiest = engine.now().iter().map(|now| now.running).sum::<u64>().max(*busiest);
        }
    }
    assert_eq!(engines[0].started_unix(), START + 158.0);
    assert!(busiest.iter().all(|running| *running > 10), "{busiest:?}");
    // After the cycle the queue is worked off: the fleet is busy, not broken.
    assert!(engines.iter().all(|engine| engine.now().iter().all(|now| now.waiting < 20)));
    for engine in &engines[1..] {
        assert!(engine.truth().finished_total() > 500);
    }
}

/// Asks once; what comes back before the connection ends, at most `limit` bytes.
async fn get(address: SocketAddr, path: &str, limit: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(limit as u64).read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

fn small_fleet() -> FleetSpec {
    FleetSpec::new(vec![
        EngineSpec::new("a", Release::Vllm0_33_0),
        EngineSpec::new("b", Release::Sglang0_5_23),
    ])
}

#[tokio::test]
async fn engines_answer_over_http_and_refuse_while_stopped() {
    let fleet = Fleet::start(small_fleet()).await.unwrap();
    fleet.advance(seconds(30.0));
    let (vllm, sglang) = (fleet.address(0), fleet.address(1));
    let answer = get(vllm, "/metrics", 1 << 20).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"));
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let tokens = Parsed::new(body).sum("vllm:generation_tokens_total", &[]) as u64;
    assert_eq!(tokens, fleet.truth(0).generation_tokens);
    assert!(get(vllm, "/version", 9999).await.unwrap().ends_with("{\"version\":\"0.33.0\"}"));
    assert!(get(vllm, "/health", 9999).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(vllm, "/elsewhere", 9999).await.unwrap().starts_with("HTTP/1.1 404"));
    assert!(get(sglang, "/version", 9999).await.unwrap().starts_with("HTTP/1.1 404"));

    fleet.stop(0).await;
    assert!(get(vllm, "/metrics", 9999).await.is_err());
    assert!(get(sglang, "/health", 9999).await.is_ok());
    fleet.start_engine(0).await;
    assert!(get(vllm, "/health", 9999).await.unwrap().starts_with("HTTP/1.1 200"));
    fleet.upgrade(0, Release::Vllm0_10_2);
    assert!(get(vllm, "/version", 9999).await.unwrap().ends_with("{\"version\":\"0.10.2\"}"));
    fleet.shutdown().await;
    assert!(get(sglang, "/health", 9999).await.is_err());
}

#[tokio::test]
async fn faults_are_what_they_are_called() {
    let fleet = Fleet::start(small_fleet()).await.unwrap();
    let address = fleet.address(0);
    let whole = get(address, "/metrics", 1 << 24).await.unwrap().len();
    let mut answers = Vec::new();
    for fault in [
        Fault::Status(503),
        Fault::Status(99),
        Fault::Truncated,
        Fault::Garbage,
        Fault::Endless,
        Fault::Slow(Duration::from_millis(1)),
    ] {
        fleet.set_fault(0, fault);
        answers.push(get(address, "/metrics", 1 << 20).await.unwrap());
    }
    assert!(answers[0].starts_with("HTTP/1.1 503"));
    assert!(answers[1].starts_with("HTTP/1.1 500"));
    let (head, body) = answers[2].split_once("\r\n\r\n").unwrap();
    let promised: usize =
        head.split_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
    assert_eq!(body.len(), promised / 2);
    assert!(answers[3].starts_with("HTTP/1.1 200") && answers[3].contains("<!doctype html>"));
    assert_eq!(answers[4].len(), 1 << 20);
    assert_eq!(answers[5].len(), whole);
    fleet.set_fault(0, Fault::None);
    assert_eq!(get(address, "/metrics", 1 << 20).await.unwrap().len(), whole);
}

#[tokio::test(start_paused = true)]
async fn the_clock_follows_the_wall() {
    let mut spec = small_fleet();
    spec.engines[1].script.events = vec![(seconds(20.0), Event::Stop)];
    spec.unix_seconds = START;
    let mut fleet = Fleet::start(spec).await.unwrap();
    fleet.run_clock(4.0);
    tokio::time::sleep(seconds(10.1)).await;
    let clock = fleet.with_engine(0, |engine| engine.clock());
    assert_eq!(clock, seconds(40.0));
    assert!(!fleet.with_engine(1, |engine| engine.is_up()));
    fleet.settled().await;
    fleet.restart(0);
    assert_eq!(fleet.with_engine(0, |engine| engine.started_unix()), START + 10.0);
}

#[test]
fn bulk_pages_have_the_size_asked_for_and_move() {
    for release in Release::ALL {
        for series in [60, 250, 500, 1000, 5000] {
            let template = BulkTemplate::new(release, series);
            let (mut first, mut later) = (Vec::new(), Vec::new());
            template.render(1, &mut first);
            template.render(19_999, &mut later);
            let text = String::from_utf8(later.clone()).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(lines, template.series());
            assert!(lines <= series && lines + 45 > series, "{release:?} {series}: {lines}");
            assert!(text.ends_with("\nsimulator_sequence_total 19999.0\n"));
            let (first, later) =
                (Parsed::new(std::str::from_utf8(&first).unwrap()), Parsed::new(&text));
            let mut moved = 0;
            for ((name, kind, before), (_, _, after)) in first.0.iter().zip(&later.0) {
                for (before, after) in before.iter().zip(after) {
                    assert_eq!((&before.0, &before.1), (&after.0, &after.1));
                    assert!(kind == "gauge" || before.2 <= after.2, "{name} falls");
                    moved += usize::from(before.2 != after.2);
                }
                if kind == "histogram" {
                    let value = |sample: &Sample, suffix: &str| {
                        sample.0.ends_with(suffix).then_some(sample.2)
                    };
                    for pair in after.windows(2) {
                        let rising = value(&pair[0], "_bucket").zip(value(&pair[1], "_bucket"));
                        assert!(
                            rising.is_none_or(|(low, high)| low <= high),
                            "{name} {:?}",
                            pair[1]
                        );
                        let last = value(&pair[0], "_bucket").zip(value(&pair[1], "_count"));
                        assert!(
                            last.is_none_or(|(bucket, count)| bucket == count),
                            "{name} {:?}",
                            pair[1]
                        );
                    }
                }
            }
            assert!(moved * 4 > lines, "{release:?} {series}: only {moved} of {lines} move");
        }
    }
    assert!(bulk_page(Release::Vllm0_33_0, 100, 7).ends_with(b"simulator_sequence_total 7.0\n"));
}

#[tokio::test]
async fn bulk_targets_count_their_scrapes() {
    let releases = vec![Release::Vllm0_33_0, Release::Sglang0_5_23];
    let fleet =
        BulkFleet::start(&BulkSpec { targets: 3, series: 300, releases, port: 0 }).await.unwrap();
    for sequence in 1..=3 {
        let answer = get(fleet.address(), &BulkFleet::path(1), 1 << 20).await.unwrap();
        assert!(
            answer.contains("sglang:") && answer.ends_with(&format!("{SEQUENCE} {sequence}.0\n"))
        );
    }
    assert!(get(fleet.address(), &BulkFleet::path(2), 1 << 20).await.unwrap().contains("vllm:"));
    assert!(
        get(fleet.address(), &BulkFleet::path(3), 1 << 20)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
    assert_eq!(fleet.scrapes(), [0, 3, 1]);
    assert_eq!(fleet.series(1), BulkTemplate::new(Release::Sglang0_5_23, 300).series());
}
