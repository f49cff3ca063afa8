//! Signals in memory: series, shapes, batches, plans and the metric contract. No IO, no async.
