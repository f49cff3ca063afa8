//! What is written is what is done.

use std::sync::Arc;
use std::time::Duration;

use pipeline_component::{BuildProcessor, Component, Processor};
use pipeline_config::Section;
use pipeline_model::{Batch, Kind, Slot, SourceId};
use pipeline_temporality::{Initial, Options};

use super::{Config, Temporality};
use crate::testing::{page, settings};

fn section(toml: &str) -> Section {
    Section::from_toml("processors.temporality", toml).unwrap()
}

#[test]
fn settings_become_options() {
    let options = |toml: &str| section(toml).decode::<Config>().unwrap().options();
    assert_eq!(options(""), Options::delta());
    assert_eq!(options("to = 'cumulative'"), Options::cumulative());
    assert_eq!(
        options("initial = 'keep'\nmax_gap = '2m'\nnon_monotonic = true\nmax_series = 7"),
        Options {
            initial: Initial::Keep,
            max_gap: Duration::from_secs(120),
            non_monotonic: true,
            series_max: 7,
            ..Options::delta()
        }
    );
}

#[test]
fn what_cannot_be_and_what_says_nothing() {
    let section_of = section("max_gap = '0s'");
    let config = section_of.decode().unwrap();
    let error = Temporality::build(config, &section_of, settings()).unwrap_err();
    assert!(error.to_string().contains("every point the first"), "{error}");
    let section_of = section("to = 'cumulative'\ninitial = 'keep'");
    let config = section_of.decode().unwrap();
    let warnings = Temporality::warnings(&config, &section_of);
    assert!(warnings.to_string().contains("`initial` says nothing"), "{warnings}");
    assert!(Temporality::warnings(&Config::default(), &section("")).is_empty());
}

#[test]
fn a_counter_comes_out_as_deltas() {
    let settings = settings();
    let (section, shape) = (
        section("initial = 'drop'"),
        page(&settings, &[], &[], &[("a_total", Kind::COUNTER, &[])]),
    );
    let config = section.decode().unwrap();
    let mut steps = Temporality::build(config, &section, settings).unwrap();
    let Some(Processor::Compute(make)) = steps.pop() else { panic!("one step on values") };
    let (mut step, source, mut out) = (make(), SourceId::next(), Vec::new());
    for (time, value) in [(1, 5.0), (2, 7.0)] {
        let values = vec![Slot::double(value)];
        step.compute(Batch::new(source, Arc::clone(&shape), time, values), &mut out);
    }
    let values: Vec<_> =
        out.iter().map(|batch| (batch.points(), batch.values[0].as_double())).collect();
    assert_eq!((values[0].0, values[1]), (0, (1, 2.0)));
}
