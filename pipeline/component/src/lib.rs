//! What a component is: receivers, processors, exporters, their settings, metadata and self telemetry.
