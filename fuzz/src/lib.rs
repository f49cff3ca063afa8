//! What the fuzz targets check. The corpora are replayed by plain tests, which include these files.

#[cfg(feature = "config")]
pub mod config;
pub mod journal;
pub mod remote_write;
pub mod otlp;
pub mod scrape;
