//! Numbers as text: shortest digits that read back as the same double, in forms that every parser of the formats takes.

use std::fmt::Write;

use pipeline_model::Slot;

/// Doubles up to here that are whole print as integers, which is shorter and far cheaper: most values are counts. Below
/// 2^63, so that the integer is exact.
const WHOLE_MAX: f64 = 9e18;

/// Whole doubles up to here print without fraction or exponent.
const DIGITS_MAX: f64 = 1e21;

/// Appends a sample's value.
#[inline]
pub(crate) fn push_double(out: &mut Vec<u8>, value: f64) {
    if value.abs() < WHOLE_MAX {
        let whole = value as i64;
        // By bits, so that -0.0 keeps its sign.
        if (whole as f64).to_bits() == value.to_bits() {
            return push_int(out, whole);
        }
    }
    push_other(out, value);
}

fn push_other(out: &mut Vec<u8>, value: f64) {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "+Inf"
    } else if value == f64::NEG_INFINITY {
        "-Inf"
    } else if value.fract() == 0.0 && value != 0.0 && value.abs() < DIGITS_MAX {
        return out.extend_from_slice(itoa::Buffer::new().format(value as i128).as_bytes());
    } else {
        return out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends an integer.
#[inline]
pub(crate) fn push_int(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a slot of a number.
#[inline]
pub(crate) fn push_slot(out: &mut Vec<u8>, slot: Slot, int: bool) {
    if int { push_int(out, slot.as_int()) } else { push_double(out, slot.as_double()) }
}

/// Appends the value of `le` or `quantile`: OpenMetrics' canonical form (`0.5`, `1.0`, `1e-05`, `2.5e+06`), which is
/// that of Go's shortest `%g` with `.0` for whole numbers. Text 0.0.4 gets the same, so that a series keeps its
/// identity whichever format a scraper asks for.
pub(crate) fn push_bound(out: &mut Vec<u8>, bound: f64) {
    if !bound.is_finite() {
        return push_other(out, bound);
    }
    let scientific = format!("{bound:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = if (-4..6).contains(&exponent) {
        let point = if bound.fract() == 0.0 { ".0" } else { "" };
        write!(text, "{bound}{point}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(text, "{digits}e{sign}{:02}", exponent.abs())
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a moment, Unix nanoseconds, as OpenMetrics' seconds.
pub(crate) fn push_seconds(out: &mut Vec<u8>, nanos: i64) {
    let (seconds, millis) =
        (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) / 1_000_000);
    push_int(out, seconds);
    if millis != 0 {
        let digits = [b'.', digit(millis / 100), digit(millis / 10 % 10), digit(millis % 10)];
        out.extend_from_slice(&digits);
    }
}

fn digit(value: i64) -> u8 {
    b'0' + u8::try_from(value).unwrap_or(0)
}
