//! What the scalars share: numbers with units, and serde from text.

use std::fmt;

/// Why a text is no value of the type; `what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalarError(pub(crate) String);

impl fmt::Display for ScalarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScalarError {}

/// Takes `12.5unit` off the front: its value in the base unit (rounded down), and the rest. `None` where there is no
/// number, the unit is unknown, or the value too large. The unit is the letters that follow.
pub(crate) fn quantity<'a>(text: &'a str, units: &[(&str, u128)]) -> Option<(u128, &'a str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let unit_end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(unit_end)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let value = whole.parse::<u128>().ok()?.checked_mul(*factor)?;
    let fraction = match fraction {
        "" => 0,
        digits if digits.len() <= 18 => {
            let power = 10u128.pow(u32::try_from(digits.len()).ok()?);
            digits.parse::<u128>().ok()?.checked_mul(*factor)? / power
        }
        _ => return None,
    };
    Some((value.checked_add(fraction)?, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// serde and `Debug` for a scalar that reads and shows itself as text, and whose `bare` function explains what is
/// wrong with a plain number.
macro_rules! text_scalar {
    ($type:ident, $name:literal, $expected:literal, $pattern:literal, $($examples:literal)*) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$type, E> {
                        Err(E::custom($type::bare(&n)))
                    }

                    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<$type, E> {
                        Err(E::custom($type::bare(&n)))
                    }

                    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<$type, E> {
                        Err(E::custom($type::bare(&n)))
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "x-type": $name,
                    "pattern": $pattern,
                    "examples": [$($examples),*],
                })
            }
        }
    };
}
pub(crate) use text_scalar;
