//! What New Relic would get.
