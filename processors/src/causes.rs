//! [`Causes`]: warns once per cause, with a bounded memory of causes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Causes that are told apart. What comes after is counted by its metric and no longer logged.
const CAUSES_MAX: usize = 256;

/// The causes that have been reported.
#[derive(Debug, Default)]
pub(crate) struct Causes(Mutex<HashSet<String>>);

impl Causes {
    /// True the first time that `cause` is asked for.
    pub(crate) fn is_new(&self, cause: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < CAUSES_MAX && !known.contains(cause) && known.insert(cause.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_new_once_and_memory_ends() {
        let causes = Causes::default();
        assert!(causes.is_new("a"));
        assert!(!causes.is_new("a"));
        let new = (0..10 * CAUSES_MAX).filter(|n| causes.is_new(&n.to_string())).count();
        assert_eq!(new, CAUSES_MAX - 1);
    }
}
