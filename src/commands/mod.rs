//! What the commands do: one file each.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod components;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod metrics;
pub(crate) mod run;
pub(crate) mod version;
