//! Release numbers of engines, ordered as their makers order them, and ranges of them.
//!
//! Both engines use a subset of Python's scheme (PEP 440): up to four numbers and an optional `.postN`, which
//! comes after the release it amends. Pre-releases were never published with metrics of their own.

use std::fmt;

/// A release: major, minor, patch, fourth, post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u16; 5]);

impl Version {
    /// Before every release.
    pub(crate) const ZERO: Self = Self([0; 5]);

    /// Reads `0.9.0.1` or `0.4.6.post4`. Total on purpose, so that tables are constants: what means nothing is
    /// skipped, and a test looks at every version of the tables.
    pub(crate) const fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut parts = [0; 5];
        let (mut part, mut idx) = (0, 0);
        while idx < bytes.len() {
            match bytes[idx] {
                digit @ b'0'..=b'9' => parts[part] = parts[part] * 10 + (digit - b'0') as u16,
                b'.' if part < 3 => part += 1,
                b'p' => part = 4,
                _ => {}
            }
            idx += 1;
        }
        Self(parts)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch, fourth, post] = self.0;
        write!(f, "{major}.{minor}.{patch}")?;
        if fourth > 0 {
            write!(f, ".{fourth}")?;
        }
        if post > 0 {
            write!(f, ".post{post}")?;
        }
        Ok(())
    }
}

/// The upper end of a range. Exclusive `v` sorts before inclusive `v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Upper {
    pub(crate) version: Version,
    pub(crate) inclusive: bool,
}

/// Releases from `since` up to `until`; `None` is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first release in it.
    pub(crate) since: Version,
    /// Where it ends.
    pub(crate) until: Option<Upper>,
}

impl Range {
    pub(crate) const ALL: Self = Self { since: Version::ZERO, until: None };

    /// From `since` to `last`, both in it; an empty `last` is "still there", and `<v` ends before `v`.
    pub(crate) const fn new(since: &str, last: &str) -> Self {
        let until = match last.as_bytes() {
            [] => None,
            [first, ..] => Some(Upper { version: Version::new(last), inclusive: *first != b'<' }),
        };
        Self { since: Version::new(since), until }
    }

    /// What both have in common; `None` when nothing.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        let since = self.since.max(other.since);
        let until = match (self.until, other.until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let found = Self { since, until };
        until.is_none_or(|_| found.contains(since)).then_some(found)
    }

    /// What is left of this range when every release of `other` is out of the question. A hole in the middle
    /// cannot be said by a range and is ignored.
    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        if other.contains(self.since) {
            let gap = other.until?;
            let since = gap.version;
            // After an inclusive end comes a release whose number is not known here: the end itself stays in.
            return self.and(Self { since, until: None });
        }
        let ends_inside = match (self.until, other.until) {
            (_, None) => true,
            (Some(own), Some(gap)) => own <= gap,
            (None, Some(_)) => false,
        };
        if other.since > self.since && ends_inside {
            return self.and(Self {
                since: Version::ZERO,
                until: Some(Upper { version: other.since, inclusive: false }),
            });
        }
        Some(self)
    }

    pub(crate) fn contains(self, version: Version) -> bool {
        version >= self.since
            && self.until.is_none_or(|until| {
                if until.inclusive { version <= until.version } else { version < until.version }
            })
    }

    /// True when every release of it is older than `version`.
    pub(crate) fn is_before(self, version: Version) -> bool {
        self.until.is_some_and(|until| {
            if until.inclusive { until.version < version } else { until.version <= version }
        })
    }
}

/// `0.9.2..=0.10.2`, `0.9.2..0.10.0`, `0.33.0..`, as Rust writes ranges.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.since != Version::ZERO {
            write!(f, "{}", self.since)?;
        }
        f.write_str("..")?;
        match self.until {
            Some(Upper { version, inclusive: true }) => write!(f, "={version}"),
            Some(Upper { version, inclusive: false }) => write!(f, "{version}"),
            None => Ok(()),
        }
    }
}
