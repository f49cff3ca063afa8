//! vLLM's families: generation V0 (0.6.3.post1) and V1 (0.8.5.post1, 0.10.2, 0.33.0).

mod families;

use self::families::{V0, V1};
use crate::engine::{Engine, View};
use crate::pages::family::{Child, Family, Form, Printer, Scope};
use crate::pages::python;
use crate::spec::Release::{self, Vllm0_8_5Post1, Vllm0_10_2, Vllm0_33_0};

pub(crate) fn render(engine: &Engine) -> String {
    let spec = engine.spec();
    let old = spec.release == Release::Vllm0_6_3Post1;
    let form = if old || spec.api_servers > 1 { Form::Multiprocess } else { Form::Single };
    let draft_tokens = spec.speculation.map_or(0, |speculation| speculation.draft_tokens as usize);
    let mut printer = Printer::new(form, engine.started_unix(), draft_tokens);
    let ranks = &engine.ranks()[..if old { 1 } else { engine.ranks().len() }];
    let model = ("model_name", spec.served_model.clone());
    let by_rank: Vec<Child<'_>> = ranks
        .iter()
        .enumerate()
        .map(|(index, rank)| {
            let mut labels = vec![model.clone()];
            if !old {
                labels.push(("engine", index.to_string()));
            }
            Child { labels, view: View::rank(spec, rank) }
        })
        .collect();
    let process = [Child { labels: vec![model], view: View::requests(engine, None) }];
    let children =
        |family: &Family| if family.scope == Scope::Process { &process[..] } else { &by_rank[..] };
    let table = if old { V0 } else { V1 };
    let present = |family: &&Family| {
        family.in_release(spec.release) && (!family.speculative || draft_tokens > 0)
    };

    if old {
        for family in table.iter().filter(present) {
            printer.print(family, children(family));
        }
        cache_config(&mut printer, engine);
    } else if form == Form::Single {
        python::runtime(&mut printer, engine);
        for family in table.iter().filter(present) {
            printer.print(family, children(family));
        }
        cache_config(&mut printer, engine);
        python::http(&mut printer, engine);
    } else {
        for family in table.iter().filter(present).filter(|family| !family.is_gauge()) {
            printer.print(family, children(family));
        }
        python::http(&mut printer, engine);
        for family in table.iter().filter(present).filter(|family| family.is_gauge()) {
            printer.print(family, children(family));
        }
        cache_config(&mut printer, engine);
    }
    printer.page.finish()
}

/// The cache configuration as labels. `num_gpu_blocks` is the sum over the data-parallel engines and repeated on each
/// one's row, `kv_cache_size_tokens` is per engine; 0.8.5 prints `None` for the blocks.
fn cache_config(printer: &mut Printer, engine: &Engine) {
    let spec = engine.spec();
    let blocks = (spec.kv_blocks() * u64::from(spec.data_parallel.max(1))).to_string();
    let tokens = (spec.kv_blocks() * spec.release.block_tokens()).to_string();
    // Requests of the longest model length, 8192, that fit.
    let concurrency =
        format!("{:.6}", (spec.kv_blocks() * spec.release.block_tokens()) as f64 / 8192.0);
    let own: &[(&str, &str)] = match spec.release {
        Release::Vllm0_6_3Post1 => CACHE_0_6_3,
        Vllm0_8_5Post1 => CACHE_0_8_5,
        Vllm0_10_2 => CACHE_0_10_2,
        _ => CACHE_0_33_0,
    };
    printer.page.family("vllm:cache_config_info", "gauge", "The engine's cache configuration");
    let by_engine = spec.release >= Vllm0_10_2;
    for rank in 0..if by_engine { engine.ranks().len() } else { 1 } {
        let rank = rank.to_string();
        let mut labels = [CACHE_COMMON, own].concat();
        match spec.release {
            Vllm0_8_5Post1 => labels.push(("num_gpu_blocks", "None")),
            _ => labels.push(("num_gpu_blocks", &blocks)),
        }
        if by_engine {
            labels.push(("engine", &rank));
        }
        if spec.release == Vllm0_33_0 {
            labels.push(("kv_cache_size_tokens", &tokens));
            labels.push(("kv_cache_max_concurrency", &concurrency));
        }
        printer.page.sample("vllm:cache_config_info", "", &labels, 1.0);
    }
}

const CACHE_COMMON: &[(&str, &str)] = &[
    ("block_size", "16"),
    ("cache_dtype", "auto"),
    ("enable_prefix_caching", "True"),
    ("gpu_memory_utilization", "0.9"),
    ("is_attention_free", "False"),
    ("num_cpu_blocks", "0"),
    ("num_gpu_blocks_override", "None"),
    ("sliding_window", "None"),
];
const CACHE_0_6_3: &[(&str, &str)] = &[("cpu_offload_gb", "0"), ("swap_space_bytes", "4294967296")];
const CACHE_0_8_5: &[(&str, &str)] = &[
    ("calculate_kv_scales", "False"),
    ("cpu_offload_gb", "0"),
    ("prefix_caching_hash_algo", "builtin"),
    ("swap_space", "4"),
];
const CACHE_0_10_2: &[(&str, &str)] = &[
    ("calculate_kv_scales", "False"),
    ("cpu_kvcache_space_bytes", "None"),
    ("cpu_offload_gb", "0"),
    ("kv_cache_memory_bytes", "None"),
    ("kv_sharing_fast_prefill", "False"),
    ("mamba_cache_dtype", "auto"),
    ("mamba_page_size_padded", "None"),
    ("mamba_ssm_cache_dtype", "auto"),
    ("prefix_caching_hash_algo", "builtin"),
    ("swap_space", "4"),
];
const CACHE_0_33_0: &[(&str, &str)] = &[
    ("_block_size_resolved", "False"),
    ("cache_hit_alignment_tokens", "None"),
    ("effective_attention_block_size", "None"),
    ("enable_mamba_shared_prefix_checkpoint", "False"),
    ("hash_block_size", "None"),
    ("kv_cache_dtype_skip_layers", "{}"),
    ("kv_cache_layout", "None"),
    ("kv_cache_memory_bytes", "None"),
    ("kv_offloading_backend", "native"),
    ("kv_offloading_size", "None"),
    ("kv_sharing_fast_prefill", "False"),
    ("mamba_block_size", "None"),
    ("mamba_cache_dtype", "auto"),
    ("mamba_cache_mode", "none"),
    ("mamba_page_size_padded", "None"),
    ("mamba_ssm_cache_dtype", "auto"),
    ("prefix_cache_retention_interval", "0"),
    ("prefix_caching_hash_algo", "sha256"),
    ("prefix_match_unit", "None"),
    ("replayssm_buffer_len", "16"),
    ("simple_cpu_offload_num_blocks", "None"),
    ("skip_page_size_padded", "None"),
    ("swa_bounded_replay", "True"),
    ("use_kda_recoverssm", "False"),
    ("use_replayssm", "False"),
    ("user_specified_block_size", "False"),
];
