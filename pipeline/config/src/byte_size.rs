//! [`ByteSize`]: `"64MiB"`.

use std::fmt;
use std::str::FromStr;

use crate::scalar::{ScalarError, quantity, text_scalar};

/// Bytes of each unit, largest first.
const UNITS: [(&str, u128); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes as written in configuration, with its unit: `"64MiB"`, `"5MB"`, `"512KiB"`, `"100B"`. A bare
/// number is refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Units of 1024 bytes; saturates.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// Units of 1024 KiB; saturates.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a size in memory; saturates.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn bare(n: &dyn fmt::Display) -> ScalarError {
        ScalarError(format!(
            "a size needs a unit, found {n}; write `\"{n}B\"` for bytes, `\"{n}MiB\"` for mebibytes"
        ))
    }
}

impl FromStr for ByteSize {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let trimmed = text.trim();
        if trimmed.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(Self::bare(&trimmed));
        }
        match quantity(trimmed, &UNITS) {
            Some((bytes, "")) => u64::try_from(bytes).ok(),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| {
            ScalarError(format!(
                "{text:?} is no size; write a number and a unit: \"64MiB\", \"5MB\", \"512KiB\""
            ))
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let fits = |(_, factor): &(&str, u128)| bytes >= *factor && bytes.is_multiple_of(*factor);
        match UNITS.into_iter().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
            None => write!(f, "{bytes}B"),
        }
    }
}

text_scalar!(
    ByteSize, "size", "a size such as \"64MiB\"",
    r"^\s*[0-9]+(\.[0-9]+)?([KMGT]i?)?B$|\$\{", "64MiB" "5MB" "512KiB"
);
