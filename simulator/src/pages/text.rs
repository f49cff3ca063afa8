//! Writes text format 0.0.4 the way the Python client does: sorted labels, and numbers as its `floatToGoString`
//! prints them (`12.0`, `1.234e+07`, `+Inf`).

use std::fmt::Write;

/// A page being written.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn finish(self) -> String {
        self.text
    }

    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.text.push_str(part);
        }
    }

    /// One sample line; `labels` in any order.
    pub(crate) fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.is_empty() {
            let mut sorted = labels.to_vec();
            sorted.sort_unstable();
            for (position, (key, text)) in sorted.into_iter().enumerate() {
                self.text.push(if position == 0 { '{' } else { ',' });
                self.text.push_str(key);
                self.text.push_str("=\"");
                self.escaped(text);
                self.text.push('"');
            }
            self.text.push('}');
        }
        self.text.push(' ');
        number(&mut self.text, value);
        self.text.push('\n');
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}

/// Appends `value` as the Python client prints it: Python's shortest `repr`, but positive numbers with more than six
/// digits before the point in exponent form, whose exponent always starts with a zero.
pub(crate) fn number(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        return;
    }
    if value.is_sign_negative() {
        text.push('-');
    }
    let magnitude = value.abs();
    // Writing to a String cannot fail; the shortest digits and the exponent come from Rust's own printer.
    let scientific = format!("{magnitude:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|character| *character != '.').collect();
    match exponent {
        16.. | ..=-5 => {
            text.push_str(mantissa);
            let sign = if exponent < 0 { '-' } else { '+' };
            // A String never refuses.
            let _infallible = write!(text, "e{sign}{:02}", exponent.abs());
        }
        6.. if value > 0.0 => {
            let (first, rest) = digits.split_at(1);
            text.push_str(first);
            let rest = rest.trim_end_matches('0');
            if !rest.is_empty() {
                text.push('.');
                text.push_str(rest);
            }
            let _infallible = write!(text, "e+0{exponent}");
        }
        0.. => {
            let whole = exponent as usize + 1;
            for position in 0..whole.max(digits.len()) {
                if position == whole {
                    text.push('.');
                }
                text.push(digits.as_bytes().get(position).map_or('0', |digit| char::from(*digit)));
            }
            if digits.len() <= whole {
                text.push_str(".0");
            }
        }
        _ => {
            text.push_str("0.");
            for _ in 1..-exponent {
                text.push('0');
            }
            text.push_str(&digits);
        }
    }
}
