//! Processor `normalize`: one vocabulary over every release of vLLM and SGLang.
//!
//! It recognises the engine and the range of releases from the page itself, and maps the page's series onto the
//! newest release's names, kinds and units, with parallel ranks folded into one series. It is a reshape step: a pure
//! function of the identities of a page, run once per shape, never per value. Engine knowledge is data
//! ([`tables`](self), one table per engine); what the functions here know are only the kinds of rules that tables
//! can state.
//!
//! What it is *not*: it computes nothing from values (rates, hit rates and the like are other processors' work), it
//! attaches no deployment labels, and it leaves pages alone that come from anything but an engine.
//!
//! | on the page | goes on as |
//! |---|---|
//! | an older name | the newest name (`vllm:gpu_cache_usage_perc` as `vllm:kv_cache_usage_perc`) |
//! | an older name beside the newer one | dropped, it is a duplicate |
//! | `vllm_x`, `ray_vllm_x`, `sglang_x` | `vllm:x`, `sglang:x` |
//! | a gauge that only grows, a number without type | the kind that the table says |
//! | milliseconds, KV blocks | seconds, tokens |
//! | series per `engine`, `dp_rank`, `pid`, `is_streaming` | one: sum, reset-safe sum, maximum or mean |
//! | series per `tp_rank`, `pp_rank`, `moe_ep_rank` | the lowest rank's: the others repeat it |
//! | series per `priority` beside the total | the total |
//! | `model_name`, `engine_type`, Ray's worker labels | without them, unless the page has several values |
//! | `x_created` beside `x` | dropped |
//! | `python_*` | dropped unless `runtime_metrics = "pass"` |
//! | `http_*`, `process_*`, anything else | as it is |
//!
//! Labels that the receiver renamed to `exported_x`, because the target has a label `x`, stay so; where `x` is one of
//! the engine's own that the table above folds away, it is folded all the same.
//!
//! A gauge of -1 (vLLM V0's prefix cache hit rates while the cache is off, SGLang's `utilization` of a prefill role)
//! stays -1: a reshape step sees no values. Bucket bounds are those of the release; they differ between releases.

mod config;
mod detect;
mod map;
mod otel;
mod page;
pub(crate) mod recognise;
mod reshape;
mod tables;
#[cfg(test)]
mod tests;
mod version;

pub use config::{Config, PassOrDrop, Semantics};
pub use detect::{Generation, Source, Verdict};
pub use map::Why;
pub use reshape::Normalize;
pub(crate) use reshape::target;
pub use version::{Range, Version};
