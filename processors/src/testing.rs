//! For tests of reshape steps: pages in, lines out.

use std::sync::Arc;

use pipeline_component::{BuildProcessor, Processor, Settings};
use pipeline_config::{Diagnostics, Section};
use pipeline_model::{
    Batch, Group, Kind, Labels, Metric, Plan, Reshape, Resource, Scope, Shape, ShapeBuilder, Slot,
    SourceId, SourcePlan,
};

/// Settings of a processor.
pub(crate) fn settings() -> Settings {
    Settings::standalone("processor", "test")
}

/// The steps that a configuration makes.
pub(crate) fn build<T: BuildProcessor>(
    toml: &str,
    settings: &Settings,
) -> Result<Vec<Arc<dyn Reshape>>, Diagnostics> {
    let section = Section::from_toml(&format!("processors.{}", T::TYPE), toml)?;
    let steps = T::build(section.decode()?, &section, settings.clone())?;
    let reshape = |step| match step {
        Processor::Reshape(step) => step,
        Processor::Compute(_) => panic!("a reshape step was expected"),
    };
    Ok(steps.into_iter().map(reshape).collect())
}

/// One series of a page: name, kind, own labels.
pub(crate) type Row<'a> = (&'a str, Kind, &'a [(&'a str, &'a str)]);

/// A shape with one group.
pub(crate) fn page(
    settings: &Settings,
    target: &[(&str, &str)],
    resource: &[(&str, &str)],
    rows: &[Row<'_>],
) -> Arc<Shape> {
    let interner = &settings.interner;
    let mut builder = ShapeBuilder::new(interner);
    let group = builder.group(Group {
        resource: Arc::new(Resource {
            attributes: Labels::from_pairs(resource.iter().copied()),
            ..Resource::default()
        }),
        scope: Arc::new(Scope::default()),
        labels: Labels::from_pairs(target.iter().copied()),
    });
    for (name, kind, labels) in rows {
        let metric = Arc::new(Metric::new(name, "", "", kind.clone()));
        builder.push(group, &metric, &Labels::from_pairs(labels.iter().copied())).unwrap();
    }
    builder.finish()
}

/// A pipeline of reshape steps and one source.
pub(crate) struct Pipeline {
    plan: Plan,
    bound: Option<SourcePlan>,
    source: SourceId,
}

impl Pipeline {
    pub(crate) fn new(steps: Vec<Arc<dyn Reshape>>, settings: &Settings) -> Self {
        let plan = Plan::new(steps, Arc::clone(&settings.interner), Arc::clone(&settings.metadata));
        Self { plan, bound: None, source: SourceId::next() }
    }

    /// What comes out when slot `n` has the value `values(n)`.
    pub(crate) fn apply(&mut self, shape: &Arc<Shape>, values: impl Fn(usize) -> f64) -> Batch {
        let values = (0..shape.slots()).map(|slot| Slot::double(values(slot))).collect();
        self.plan.apply(Batch::new(self.source, Arc::clone(shape), 1, values), &mut self.bound)
    }

    /// The series that come out, one per line, with their values and their resource where it says anything.
    pub(crate) fn lines(&mut self, shape: &Arc<Shape>) -> String {
        lines(&self.apply(shape, |slot| slot as f64 + 1.0))
    }
}

/// The series of a batch as text.
pub(crate) fn lines(batch: &Batch) -> String {
    batch
        .shape
        .iter()
        .map(|series| {
            let labels = Labels::new(series.labels_merged().cloned().collect());
            let resource = &series.group.resource.attributes;
            let resource =
                if resource.is_empty() { String::new() } else { format!(" of {resource}") };
            let values: Vec<String> = batch.values[series.slots()]
                .iter()
                .map(|slot| slot.as_double().to_string())
                .collect();
            format!("{}{labels} {}{resource}\n", series.metric.name, values.join(" "))
        })
        .collect()
}
