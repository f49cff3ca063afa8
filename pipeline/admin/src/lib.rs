//! Health, readiness and own metrics over HTTP.
