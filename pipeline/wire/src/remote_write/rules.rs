//! Names with `*` and `?`, and which buckets of which metrics are sent.

/// A pattern for names: `*` is any run of characters, `?` any one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob(String);

impl Glob {
    /// The pattern as written.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for a name that the whole pattern fits. Takes at most pattern times name steps.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star was, and where its run ends so far.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(c) if *c == b'?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, end)) = star else { return false };
                    star = Some((at, end + 1));
                    (p, n) = (at + 1, end + 1);
                }
            }
        }
        pattern.iter().skip(p).all(|c| *c == b'*')
    }
}

/// Which buckets of some histograms are sent; the one to +Inf always is.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketRule {
    /// The histograms, by the name that the store sees.
    pub metrics: Glob,
    /// Upper bounds that stay. Counts are cumulative, so those that stay lose nothing.
    pub keep: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_runs_and_question_marks_one() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*_bucket", "x_bucket_bucket", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxb", true),
            ("**", "x", true),
            ("vllm:*", "vllm:requests", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }
}
