//! [`Duration`]: `"10s"`, `"500ms"`, `"1m30s"`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time;

use crate::scalar::{ScalarError, quantity, text_scalar};

/// Nanoseconds of each unit, largest first.
const UNITS: [(&str, u128); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
];

/// A time span as written in configuration, with its unit: `"10s"`, `"500ms"`, `"1m30s"`. Units are `d`, `h`, `m`,
/// `s`, `ms`, `us` and `ns`. A bare number is refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

impl Duration {
    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(time::Duration::from_secs(secs))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    /// The span.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }

    fn bare(n: &dyn fmt::Display) -> ScalarError {
        ScalarError(format!(
            "a duration needs a unit, found {n}; write `\"{n}s\"` for seconds, `\"{n}ms\"` for milliseconds"
        ))
    }
}

impl From<time::Duration> for Duration {
    fn from(span: time::Duration) -> Self {
        Self(span)
    }
}

impl From<Duration> for time::Duration {
    fn from(span: Duration) -> Self {
        span.0
    }
}

impl Deref for Duration {
    type Target = time::Duration;

    fn deref(&self) -> &time::Duration {
        &self.0
    }
}

impl FromStr for Duration {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let mut rest = text.trim();
        if rest.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(Self::bare(&rest));
        }
        let wrong = || {
            ScalarError(format!(
                "{text:?} is no duration; write a number and a unit: \"10s\", \"500ms\", \"1m30s\""
            ))
        };
        let mut nanos = 0u128;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (part, after) = quantity(rest, &UNITS).ok_or_else(wrong)?;
            nanos = nanos.checked_add(part).ok_or_else(wrong)?;
            rest = after.trim_start();
        }
        // 584 years in u64 nanoseconds; more is a typing error.
        u64::try_from(nanos).map(|n| Self(time::Duration::from_nanos(n))).map_err(|_| wrong())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        // Days only where they are all of it: "25h" reads better than "1d1h".
        let whole_days = nanos.is_multiple_of(86_400_000_000_000);
        for (unit, factor) in UNITS.into_iter().skip(usize::from(!whole_days)) {
            if nanos >= factor {
                write!(f, "{}{unit}", nanos / factor)?;
                nanos %= factor;
            }
        }
        Ok(())
    }
}

text_scalar!(
    Duration, "duration", "a duration such as \"10s\"",
    r"^(\s*[0-9]+(\.[0-9]+)?(d|h|m|s|ms|us|µs|ns))+$|\$\{", "10s" "500ms" "1m30s"
);
