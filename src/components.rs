//! The one list of everything this binary contains.

use pipeline_component::Factories;

/// Every receiver, processor and exporter of this build.
pub(crate) fn factories() -> Factories {
    Factories {
        receivers: receivers::factories(),
        processors: processors::factories(),
        exporters: exporters::factories(),
    }
}
