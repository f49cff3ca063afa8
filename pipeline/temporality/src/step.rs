//! The compute step.

use std::sync::Arc;

use pipeline_component::Settings;
use pipeline_model::{Batch, Compute};

use crate::Options;

/// What the workers share.
pub(crate) struct Common {
    _options: Options,
}

impl Common {
    pub(crate) fn new(options: Options, _settings: &Settings) -> Self {
        Self { _options: options }
    }
}

/// One worker's step.
pub(crate) struct Step {
    _common: Arc<Common>,
}

impl Step {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self { _common: common }
    }
}

impl Compute for Step {
    fn compute(&mut self, batch: Batch, out: &mut Vec<Batch>) {
        out.push(batch);
    }
}
