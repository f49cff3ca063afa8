//! Label sets of a page's series: interned, checked against the limits, kept apart from the target's labels.

use pipeline_model::{Interner, Label, Labels};

use super::PageSettings;
use super::error::{PageError, PageLimit, excerpt};

/// What Prometheus puts before a label of the page that the target has as well.
const EXPORTED: &str = "exported_";

/// Why a label set is none.
#[derive(Debug)]
pub(crate) enum LabelFault {
    /// Not valid at all.
    Expected(&'static str),
    /// Beyond a limit.
    Page(PageError),
}

/// Makes label sets for one target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labeler<'a> {
    pub(crate) interner: &'a Interner,
    pub(crate) settings: &'a PageSettings,
}

impl Labeler<'_> {
    /// The set of `labels`, whose names and values are interned. Empty values are absent labels. `beside` is how many
    /// labels the samples have that the series has not (`le`).
    pub(crate) fn make(&self, mut labels: Vec<Label>, beside: usize) -> Result<Labels, LabelFault> {
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        if labels.windows(2).any(|pair| pair[0].name == pair[1].name) {
            return Err(LabelFault::Expected("label names that differ"));
        }
        labels.retain(|label| label.value.as_str() != Some(""));
        self.check(&labels, beside)?;
        if !self.settings.honor_labels {
            self.rename(&mut labels);
        }
        Ok(self.interner.labels(&Labels::new(labels)))
    }

    /// Limits are on the page's own labels, and on the number of the series' labels altogether.
    fn check(&self, labels: &[Label], beside: usize) -> Result<(), LabelFault> {
        let limits = &self.settings.limits;
        let target = &self.settings.group.labels;
        let overridden = |label: &&Label| {
            self.settings.honor_labels && target.iter().any(|known| known.name == label.name)
        };
        // One more for the name of the metric.
        let count =
            labels.len() + beside + target.len() + 1 - labels.iter().filter(overridden).count();
        exceeds(PageLimit::Labels, limits.labels, count, b"")?;
        for label in labels {
            if *label.name == *"__name__" {
                return Err(LabelFault::Expected("a label other than `__name__`"));
            }
            let name = label.name.as_bytes();
            exceeds(PageLimit::LabelNameBytes, limits.label_name_bytes, name.len(), name)?;
            let value = label.value.as_str().unwrap_or_default();
            exceeds(PageLimit::LabelValueBytes, limits.label_value_bytes, value.len(), name)?;
        }
        Ok(())
    }

    fn rename(&self, labels: &mut [Label]) {
        let target = &self.settings.group.labels;
        for idx in 0..labels.len() {
            let Some(name) = labels.get(idx).map(|label| label.name.clone()) else { return };
            if target.get(&name).is_none() {
                continue;
            }
            let mut renamed = format!("{EXPORTED}{name}");
            while target.get(&renamed).is_some() || labels.iter().any(|l| *l.name == *renamed) {
                renamed.insert_str(0, EXPORTED);
            }
            if let Some(label) = labels.get_mut(idx) {
                label.name = self.interner.str(&renamed);
            }
        }
    }
}

/// Refuses `found` above `allowed`; 0 allows all.
pub(crate) fn exceeds(
    limit: PageLimit,
    allowed: usize,
    found: usize,
    at: &[u8],
) -> Result<(), LabelFault> {
    if allowed == 0 || found <= allowed {
        return Ok(());
    }
    let at = (!at.is_empty()).then(|| excerpt(at));
    Err(LabelFault::Page(PageError::Limit { limit, allowed, found, at }))
}
