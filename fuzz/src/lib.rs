//! What the fuzz targets check. The corpora are replayed by plain tests, which include these files.

pub mod config;
pub mod scrape;
