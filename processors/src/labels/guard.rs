//! [`Guard`]: the cardinality guard. A label has a capped number of values for the life of the process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::config::Limit;

/// The value that stands for all beyond the cap.
pub(super) const OTHER: &str = "other";

/// Values seen so far, per label with a cap. Sticky: a value that was let in stays in, one that was not never is, so
/// that a series does not change its identity half-way. Memory is bounded by the caps.
#[derive(Debug, Default)]
pub(super) struct Guard(HashMap<String, Label>);

#[derive(Debug)]
struct Label {
    max: usize,
    pinned: HashSet<String>,
    seen: Mutex<HashSet<String>>,
}

impl Guard {
    pub(super) fn new(limits: BTreeMap<String, Limit>) -> Self {
        let label = |limit: Limit| Label {
            max: limit.max,
            pinned: limit.pinned.into_iter().collect(),
            seen: Mutex::default(),
        };
        Self(limits.into_iter().map(|(name, limit)| (name, label(limit))).collect())
    }

    /// True when the label `name` has a cap.
    pub(super) fn limits(&self, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(name)
    }

    /// True when `value` may stay; false when it must become [`OTHER`].
    pub(super) fn admits(&self, name: &str, value: &str) -> bool {
        let Some(label) = self.0.get(name) else { return true };
        if value == OTHER || label.pinned.contains(value) {
            return true;
        }
        let mut seen = label.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.contains(value) || (seen.len() < label.max && seen.insert(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_stay_for_good_and_pinned_ones_always() {
        let limit = Limit { max: 2, pinned: vec!["p".to_owned()] };
        let guard = Guard::new([("x".to_owned(), limit)].into());
        let said: Vec<bool> =
            ["a", "p", "b", "c", "a", "c", "p", "other", "b"].map(|v| guard.admits("x", v)).into();
        assert_eq!(said, [true, true, true, false, true, false, true, true, true]);
        assert!(guard.admits("y", "c"));
        assert!(guard.limits("x") && !guard.limits("y"));
    }
}
