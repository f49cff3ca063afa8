//! Processors: one folder each.

mod causes;
mod engine;
pub mod labels;
pub mod llm;
pub mod normalize;
mod pod;
pub mod pod_id;
pub mod temporality;
#[cfg(test)]
mod testing;

use pipeline_component::ProcessorFactory;

/// Every processor of this crate.
pub fn factories() -> Vec<ProcessorFactory> {
    vec![
        ProcessorFactory::processor::<llm::Llm>(),
        ProcessorFactory::processor::<normalize::Normalize>(),
        ProcessorFactory::processor::<labels::AttachLabels>(),
        ProcessorFactory::processor::<pod_id::PodId>(),
        ProcessorFactory::processor::<temporality::Temporality>(),
    ]
}

#[cfg(test)]
mod tests {
    use pipeline_config::Section;

    /// What `config show` prints can be read back, and shows no secret.
    #[test]
    fn defaults_are_configurations_and_secrets_stay_hidden() {
        for factory in super::factories() {
            let text = toml::to_string(&(factory.defaults)()).unwrap();
            let section = Section::from_toml("processors.x", &text).unwrap();
            assert_eq!((factory.effective)(&section).unwrap(), (factory.defaults)(), "{text}");
        }
        let pod_id =
            super::factories().into_iter().find(|factory| factory.type_name == "pod_id").unwrap();
        let section =
            Section::from_toml("processors.pod_id", "key = 'hunter2hunter2hunter2'").unwrap();
        let shown = (pod_id.effective)(&section).unwrap().to_string();
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
}
