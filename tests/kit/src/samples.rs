//! A deliberately simple reader of the text format, independent of the product's own.

use std::collections::BTreeMap;

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// All samples of a text page, in order.
pub fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, rest) = series.split_once('{').unwrap_or((series, ""));
    let mut labels = BTreeMap::new();
    let mut rest = rest.trim_end_matches('}');
    while let Some((label, tail)) = rest.split_once("=\"") {
        let mut end = 0;
        let bytes = tail.as_bytes();
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let text = tail
            .get(..end)
            .unwrap()
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\");
        labels.insert(label.trim_start_matches(',').to_owned(), text);
        rest = tail.get(end + 1..).unwrap();
    }
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap() }
}

/// The value of the one series named `name` that has `labels`; `None` when there is none.
pub fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |s: &Sample| {
        s.name == name
            && labels.iter().all(|(key, text)| s.labels.get(*key).is_some_and(|v| v == text))
    };
    let found: Vec<Sample> = samples(page).into_iter().filter(fits).collect();
    assert!(found.len() < 2, "several series match {name} {labels:?}: {found:?}");
    found.first().map(|sample| sample.value)
}
