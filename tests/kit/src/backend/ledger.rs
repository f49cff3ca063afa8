//! What arrived, series by series in the order of arrival, and what that proves against what was sent.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Name (as `__name__`), labels or attributes, and those of the resource.
pub type Series = BTreeMap<String, String>;

/// One point as it arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrived {
    /// Its time in milliseconds.
    pub time_ms: i64,
    /// Its value: of a number the number, of a histogram the count.
    pub value: f64,
    /// Number of the request that brought it.
    pub request: u64,
}

impl Arrived {
    /// Whether it says that the series ended: Prometheus's staleness marker, or OTLP's "no recorded value".
    pub fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE
    }
}

/// The bits of Prometheus's staleness marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Everything that a backend took.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    series: HashMap<Series, Vec<Arrived>>,
}

/// What is wrong with one sequence, summed over the series that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Points that were sent and never came.
    pub missing: usize,
    /// Points that came again.
    pub duplicates: usize,
    /// Points that came for the first time after a later one of their series.
    pub late: usize,
    /// Points that nobody sent.
    pub foreign: usize,
}

impl Verdict {
    /// Everything came once and in order.
    pub const PERFECT: Self = Self { missing: 0, duplicates: 0, late: 0, foreign: 0 };
}

impl Ledger {
    pub(super) fn add(&mut self, series: Series, arrived: Arrived) {
        self.series.entry(series).or_default().push(arrived);
    }

    /// All series.
    pub fn series(&self) -> impl Iterator<Item = (&Series, &[Arrived])> {
        self.series.iter().map(|(series, arrived)| (series, arrived.as_slice()))
    }

    /// The series named `name` that have `labels`.
    pub fn named<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a Series, &'a [Arrived])> {
        self.series().filter(move |(series, _)| {
            series.get("__name__").is_some_and(|own| own == name)
                && labels.iter().all(|(key, text)| series.get(*key).is_some_and(|v| v == text))
        })
    }

    /// Points of the series named `name`.
    pub fn points(&self, name: &str) -> usize {
        self.named(name, &[]).map(|(_, arrived)| arrived.len()).sum()
    }

    /// Holds the series that have label `key` against what was sent, by the label's value: times in milliseconds, each
    /// once. Staleness markers are passed over.
    pub fn judge(&self, key: &str, sent: &BTreeMap<String, HashSet<i64>>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut seen: BTreeMap<&str, (HashSet<i64>, i64)> = BTreeMap::new();
        for (series, arrived) in self.series() {
            let Some(label) = series.get(key) else { continue };
            let (times, newest) = seen.entry(label).or_insert_with(|| (HashSet::new(), i64::MIN));
            let expected = sent.get(label);
            for one in arrived.iter().filter(|one| !one.is_stale()) {
                if !expected.is_some_and(|expected| expected.contains(&one.time_ms)) {
                    verdict.foreign += 1;
                } else if !times.insert(one.time_ms) {
                    verdict.duplicates += 1;
                } else if one.time_ms < *newest {
                    verdict.late += 1;
                }
                *newest = one.time_ms.max(*newest);
            }
        }
        for (label, times) in sent {
            let came = seen.get(label.as_str()).map_or(0, |(came, _)| came.len());
            verdict.missing += times.len() - came;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sent: &[i64], came: &[i64], expected: Verdict) {
        let mut ledger = Ledger::default();
        let series = Series::from([("series".to_owned(), "0".to_owned())]);
        for time_ms in came {
            ledger.add(series.clone(), Arrived { time_ms: *time_ms, value: 1.0, request: 0 });
        }
        let sent = BTreeMap::from([("0".to_owned(), sent.iter().copied().collect())]);
        assert_eq!(ledger.judge("series", &sent), expected, "{came:?}");
    }

    #[test]
    fn a_verdict_tells_loss_repetition_and_order_apart() {
        check(&[1, 2, 3], &[1, 2, 3], Verdict::PERFECT);
        check(&[1, 2, 3], &[1, 3], Verdict { missing: 1, ..Verdict::PERFECT });
        check(&[1, 2, 3], &[1, 3, 2], Verdict { late: 1, ..Verdict::PERFECT });
        check(&[1, 2, 3], &[1, 2, 1, 2, 3], Verdict { duplicates: 2, ..Verdict::PERFECT });
        check(&[1], &[1, 4], Verdict { foreign: 1, ..Verdict::PERFECT });
    }
}
