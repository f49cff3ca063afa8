//! The `/metrics` page of each release: tables of families, and which series they have.
//!
//! Names, types, labels and bounds are those that the releases' own metric code prints; help texts are ours.

pub(crate) mod family;
mod python;
mod sglang;
pub(crate) mod text;
mod vllm;

use crate::engine::Engine;

/// The engine's page; empty while it is stopped.
pub(crate) fn render(engine: &Engine) -> String {
    if !engine.is_up() {
        return String::new();
    }
    if engine.spec().release.is_vllm() { vllm::render(engine) } else { sglang::render(engine) }
}
