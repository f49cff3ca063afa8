//! The property that the layout rests on: whatever came before, a page read through it says what a full parse says.

use super::*;

/// Lines from small alphabets, so that series meet, split and change their meaning all the time.
fn sample() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "a_total",
        "a_created",
        "h",
        "h_bucket",
        "h_sum",
        "h_count",
        "h_created",
        "s",
        "s_sum",
        "s_count",
        "x:y",
        "x_y_sum",
        "x_y_bucket",
        "x_y_count",
        "up",
        "{\"h_count\"}",
    ]);
    let labels = prop::sample::select(vec![
        "",
        "{}",
        "{l=\"1\"}",
        "{l=\"2\"}",
        "{l=\"1\",}",
        "{m=\"\",l=\"1\"}",
        "{le=\"1\"}",
        "{le=\"1.0\"}",
        "{le=\"2\"}",
        "{le=\"+Inf\"}",
        "{l=\"1\",le=\"1\"}",
        "{le=\"1\",l=\"1\"}",
        "{l=\"1\",le=\"+Inf\"}",
        "{quantile=\"0.5\"}",
        "{quantile=\"0.50\"}",
        "{quantile=\"0.9\"}",
        "{le=\"bad\"}",
        "{instance=\"z\"}",
        "{l=\"\\\"\"}",
    ]);
    let value =
        prop::sample::select(vec!["0", "1", "2.5", "NaN", "+Inf", "1.7e+09", "12.318684866375648"]);
    let tail = prop::sample::select(vec!["", "", "", "", "", " 5000", " ", " # {t=\"1\"} 2"]);
    (name, labels, value, tail)
        .prop_map(|(name, labels, value, tail)| format!("{name}{labels} {value}{tail}\n"))
}

fn line() -> impl Strategy<Value = String> {
    let family =
        prop::sample::select(vec!["a", "a_total", "a_created", "h", "s", "x:y", "x_y", "b"]);
    let of = prop::sample::select(vec!["counter", "gauge", "histogram", "summary", "unknown"]);
    prop_oneof![
        10 => sample(),
        4 => (family.clone(), of).prop_map(|(family, of)| format!("# TYPE {family} {of}\n")),
        1 => (family, 0..2).prop_map(|(family, n)| format!("# HELP {family} text {n}\n")),
        1 => prop::sample::select(vec!["\n", "# remark\n", "# EOF\n", "bad line\n", "a 1 2 3\n"])
            .prop_map(str::to_owned),
    ]
}

/// A page as the one before would turn into it: `edits` say where and how.
fn edited(page: &[String], edits: &[(prop::sample::Index, u8, String)]) -> Vec<String> {
    let mut page = page.to_vec();
    for (at, kind, line) in edits {
        if page.is_empty() {
            page.push(line.clone());
            continue;
        }
        let idx = at.index(page.len());
        match kind % 8 {
            0 => drop(page.remove(idx)),
            1 => page.insert(idx, line.clone()),
            2 => page.push(line.clone()),
            3 => {
                let moved = page.remove(idx);
                page.insert(idx / 2, moved);
            }
            4 => page.reverse(),
            5 => page.push(page[idx].clone()),
            6 => page.truncate(idx),
            // Another value for the same line.
            _ => {
                let changed = page[idx].rsplit_once(' ').map(|(key, _)| format!("{key} 7\n"));
                if let Some(changed) = changed.filter(|_| !page[idx].starts_with('#')) {
                    page[idx] = changed;
                }
            }
        }
    }
    page
}

fn settings() -> PageSettings {
    PageSettings {
        group: Group { labels: Labels::from_pairs([("instance", "t")]), ..Group::default() },
        ..target()
    }
}

fn same_as_fresh(bench: &mut Bench, format: PageFormat, body: &str) {
    let cached = bench.reader.read(format, body.as_bytes(), &bench.interner, &bench.layouts);
    let fresh = Bench::new(settings()).read(format, body);
    match (cached, fresh) {
        (Ok(cached), Ok(fresh)) => {
            assert_eq!(content(&cached), content(&fresh), "{body}");
            let counts = |s: PageStats| (s.samples, s.duplicates, s.incomplete);
            assert_eq!(counts(cached.stats), counts(fresh.stats), "{body}");
            assert!(cached.starts.is_none_or(|starts| starts.len() == cached.shape.len()));
            assert!(cached.marks.is_none_or(|marks| marks.len() == cached.shape.len()));
        }
        (Err(cached), Err(fresh)) => assert_eq!(cached, fresh, "{body}"),
        (cached, fresh) => panic!("{body}\ncached {cached:?}\nfresh {fresh:?}"),
    }
}

/// Without lines that fail the page at random, most pages are valid.
fn body(lines: &[String], format: PageFormat) -> String {
    let mut body: String = lines.concat();
    if format == PageFormat::OpenMetrics {
        body = body.replace("# EOF\n", "").replace("# remark\n", "").replace("\n\n", "\n");
        body = body.replace(" \n", "\n").trim_start_matches('\n').to_owned();
        body.push_str("# EOF\n");
    } else {
        body = body.replace(" # {t=\"1\"} 2", "");
    }
    body
}

fn lines_of_one_page() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(line(), 0..24).prop_map(|mut lines| {
        // Now and then an invalid one is left.
        if lines.len() % 5 != 0 {
            lines.retain(|line| !line.starts_with("bad") && !line.starts_with("a 1 2"));
        }
        lines
    })
}

type Edits = Vec<(prop::sample::Index, u8, String)>;

fn edits() -> impl Strategy<Value = Vec<Edits>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), line());
    prop::collection::vec(prop::collection::vec(edit, 0..6), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_page_says_the_same_after_any_other(first in lines_of_one_page(), edits in edits(), om: bool) {
        let format = if om { PageFormat::OpenMetrics } else { PageFormat::Text };
        let mut bench = Bench::new(settings());
        let mut page = first;
        same_as_fresh(&mut bench, format, &body(&page, format));
        for edits in &edits {
            page = edited(&page, edits);
            same_as_fresh(&mut bench, format, &body(&page, format));
        }
    }

    #[test]
    fn bytes_changed_at_random_never_panic(
        lines in lines_of_one_page(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        om: bool,
    ) {
        let format = if om { PageFormat::OpenMetrics } else { PageFormat::Text };
        let original = body(&lines, format).into_bytes();
        let mut bytes = original.clone();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let idx = at.index(bytes.len());
                bytes[idx] = byte;
            }
        }
        let (interner, layouts) = (Interner::new(), Layouts::new());
        let mut reader = PageReader::new(settings());
        drop(reader.read(format, &original, &interner, &layouts));
        let cached = reader.read(format, &bytes, &interner, &layouts);
        let fresh = PageReader::new(settings()).read(format, &bytes, &interner, &layouts);
        prop_assert_eq!(cached.map(|page| content(&page)), fresh.map(|page| content(&page)));
    }
}
