//! Processors: one folder each.

mod causes;
mod engine;
pub mod labels;
pub mod normalize;
mod pod;
pub mod pod_id;
#[cfg(test)]
mod testing;

use pipeline_component::ProcessorFactory;

/// Every processor of this crate.
pub fn factories() -> Vec<ProcessorFactory> {
    vec![
        ProcessorFactory::processor::<normalize::Normalize>(),
        ProcessorFactory::processor::<labels::AttachLabels>(),
        ProcessorFactory::processor::<pod_id::PodId>(),
    ]
}
