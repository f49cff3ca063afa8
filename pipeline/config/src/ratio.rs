//! [`Ratio`]: `0.25` or `"25%"`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::scalar::ScalarError;

/// A share from 0 to 1, written as a number (`0.25`) or in percent (`"25%"`).
#[derive(Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// A share from 0 to 1.
    ///
    /// # Errors
    /// Where it is outside, or no number.
    pub fn new(share: f64) -> Result<Self, ScalarError> {
        if (0.0..=1.0).contains(&share) {
            return Ok(Self(share));
        }
        Err(ScalarError(format!("{share} is not from 0 to 1; a quarter is `0.25` or `\"25%\"`")))
    }

    /// The share, from 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let trimmed = text.trim();
        let (number, scale) = match trimmed.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (trimmed, 1.0),
        };
        let wrong =
            |_| ScalarError(format!("{text:?} is no share; a quarter is `0.25` or `\"25%\"`"));
        Self::new(number.parse::<f64>().map_err(wrong)? / scale)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Share;

impl Visitor<'_> for Share {
    type Value = Ratio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share from 0 to 1")
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Ratio, E> {
        Ratio::new(n).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Ratio, E> {
        match n {
            0 => Ok(Ratio(0.0)),
            1 => Ok(Ratio(1.0)),
            _ => {
                Err(E::custom(format!("{n} is not from 0 to 1; a quarter is `0.25` or `\"25%\"`")))
            }
        }
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Ratio, E> {
        self.visit_i64(i64::try_from(n).unwrap_or(i64::MAX))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ratio, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Share)
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-type": "share",
            "anyOf": [
                { "type": "number", "minimum": 0, "maximum": 1 },
                { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*%?$|\$\{" },
            ],
        })
    }
}
