//! `pod_id`: what names a pod is replaced by a keyed hash in `_internal_pod_id`.
//!
//! Place in a pipeline: after what derives `llm_*` series from engine series, and before `labels`. After it a series that carries the hash names its pod nowhere else, so what the metadata store knows
//! about the pod moves into the attributes of its resource, where `labels` finds it.

mod config;
mod key;
mod step;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use pipeline_component::{BuildProcessor, Component, Processor, Settings, Stability};
use pipeline_config::{Diagnostics, Section};
use pipeline_net::Secret;

pub use crate::pod::PodNames;
pub use config::{Carriers, Config, Rotation};

use key::{Key, KeyError, Keys, error_chain};

/// The label that carries the hash.
pub const POD_ID_LABEL: &str = "_internal_pod_id";

/// Name of the key's file in the data directory.
const KEY_FILE: &str = "pod_id.key";

/// The processor.
#[derive(Debug)]
pub struct PodId;

impl Component for PodId {
    type Config = Config;
    const TYPE: &'static str = "pod_id";
    const STABILITY: Stability = Stability::Beta;
    const SUMMARY: &'static str = "replaces what names a pod by a keyed hash";
    const BEFORE: &'static [(&'static str, &'static str)] = &[(
        "labels",
        "the labels that name the pod have been taken away by then, so series of the contract lack their pod id",
    )];
}

impl BuildProcessor for PodId {
    fn build(
        config: Config,
        section: &Section,
        settings: Settings,
    ) -> Result<Vec<Processor>, Diagnostics> {
        let keys = keys(&config, section, &settings.data_dir)?;
        Ok(vec![Processor::Reshape(Arc::new(step::Step::new(config, keys, &settings)))])
    }
}

/// The keys as configured. Key files are read here, so that what is wrong with one shows before anything runs.
fn keys(config: &Config, section: &Section, data_dir: &Path) -> Result<Keys, Diagnostics> {
    let mut errors = Diagnostics::new();
    let current =
        configured(section, ["key", "key_file"], config.key.as_ref(), config.key_file.as_deref());
    let current = errors.keep(current);
    let previous = configured(
        section,
        ["previous_key", "previous_key_file"],
        config.previous_key.as_ref(),
        config.previous_key_file.as_deref(),
    );
    let mut previous = errors.keep(previous).flatten();
    match (config.rotation, previous.is_some() || errors.has_errors()) {
        (Rotation::Both, false) => errors.push(section.bad_value(
            &["rotation"],
            "there is no previous key",
            "set `previous_key` or `previous_key_file`",
        )),
        (Rotation::Both, true) => {}
        (Rotation::Off, _) => previous = None,
    }
    let keys =
        match current {
            Some(Some(key)) => Some(Keys::known(key, previous)),
            Some(None) => {
                let kept = Keys::kept_in(data_dir.join(KEY_FILE), previous);
                errors.keep(kept.map_err(|error| {
                    section.bad_value(&[], error_chain(&error), OWN_KEY_HELP).into()
                }))
            }
            None => None,
        };
    match keys {
        Some(keys) if !errors.has_errors() => Ok(keys),
        _ => Err(errors),
    }
}

const OWN_KEY_HELP: &str =
    "set `key` or `key_file`, or mend the file: it holds the key that made the ids so far";

fn configured(
    section: &Section,
    [text_at, file_at]: [&'static str; 2],
    text: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<Key>, Diagnostics> {
    let (place, key) = match (text, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let message = format!("`{text_at}` and `{file_at}` are both set");
            return Err(section.bad_value(&[file_at], message, "remove one of them").into());
        }
        (Some(text), None) => (text_at, Key::from_text(text.expose())),
        (None, Some(file)) => (file_at, Key::from_file(file)),
    };
    let help = match &key {
        Err(KeyError::TooShort { .. }) => {
            "32 random bytes, for example from `openssl rand -hex 32`"
        }
        _ => "",
    };
    key.map(Some).map_err(|error| section.bad_value(&[place], error_chain(&error), help).into())
}
