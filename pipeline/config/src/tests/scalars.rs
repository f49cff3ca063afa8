//! Durations, sizes and shares: what is read, what is refused, and that what is shown reads back.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{Config, Fixed, Unknown};
use crate::{ByteSize, Document, Duration, Ratio, Section};

fn check<T: std::str::FromStr<Err = crate::ScalarError> + std::fmt::Display>(
    texts: &[&str],
    expected: &Expect,
) {
    let line = |text: &&str| match text.parse::<T>() {
        Ok(value) => format!("{text} = {value}\n"),
        Err(error) => format!("{text}: {error}\n"),
    };
    expected.assert_eq(&texts.iter().map(line).collect::<String>());
}

#[test]
fn durations() {
    check::<Duration>(
        &[
            "10s",
            "500ms",
            "1m30s",
            "1h",
            "90m",
            "2d",
            "25h",
            "1.5s",
            " 1m 30s ",
            "0s",
            "7µs",
            "1ns",
            "0.1ns",
            "15",
            "-1s",
            "",
            "s",
            "10 s",
            "10sec",
            "1e3s",
            "999999999999d",
            "99999999999999999999999999999999999999999s",
            "1.s",
            "10S",
        ],
        &expect![[r#"
            10s = 10s
            500ms = 500ms
            1m30s = 1m30s
            1h = 1h
            90m = 1h30m
            2d = 2d
            25h = 25h
            1.5s = 1s500ms
             1m 30s  = 1m30s
            0s = 0s
            7µs = 7us
            1ns = 1ns
            0.1ns = 0s
            15: a duration needs a unit, found 15; write `"15s"` for seconds, `"15ms"` for milliseconds
            -1s: "-1s" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            : "" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            s: "s" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            10 s: "10 s" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            10sec: "10sec" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            1e3s: "1e3s" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            999999999999d: "999999999999d" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            99999999999999999999999999999999999999999s: "99999999999999999999999999999999999999999s" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
            1.s = 1s
            10S: "10S" is no duration; write a number and a unit: "10s", "500ms", "1m30s"
        "#]],
    );
}

#[test]
fn sizes() {
    check::<ByteSize>(
        &[
            "64MiB",
            "5MB",
            "512KiB",
            "0B",
            "1.5GiB",
            "1024KiB",
            "1536",
            "64",
            "64M",
            "1GiB1MiB",
            "-1B",
            "99999999TiB",
            "",
            "1kb",
        ],
        &expect![[r#"
            64MiB = 64MiB
            5MB = 5MB
            512KiB = 512KiB
            0B = 0B
            1.5GiB = 1536MiB
            1024KiB = 1MiB
            1536: a size needs a unit, found 1536; write `"1536B"` for bytes, `"1536MiB"` for mebibytes
            64: a size needs a unit, found 64; write `"64B"` for bytes, `"64MiB"` for mebibytes
            64M: "64M" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
            1GiB1MiB: "1GiB1MiB" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
            -1B: "-1B" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
            99999999TiB: "99999999TiB" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
            : "" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
            1kb: "1kb" is no size; write a number and a unit: "64MiB", "5MB", "512KiB"
        "#]],
    );
    assert_eq!(ByteSize::from_mib(1).as_usize(), 1 << 20);
}

#[test]
fn shares() {
    check::<Ratio>(
        &["0.25", "25%", "1", "0", "100 %", "1.5", "150%", "-1", "NaN", "x", "%"],
        &expect![[r#"
            0.25 = 0.25
            25% = 0.25
            1 = 1
            0 = 0
            100 % = 1
            1.5: 1.5 is not from 0 to 1; a quarter is `0.25` or `"25%"`
            150%: 1.5 is not from 0 to 1; a quarter is `0.25` or `"25%"`
            -1: -1 is not from 0 to 1; a quarter is `0.25` or `"25%"`
            NaN: NaN is not from 0 to 1; a quarter is `0.25` or `"25%"`
            x: "x" is no share; a quarter is `0.25` or `"25%"`
            %: "%" is no share; a quarter is `0.25` or `"25%"`
        "#]],
    );
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(nanos: u64, bytes: u64) {
        let span = Duration::from(std::time::Duration::from_nanos(nanos));
        prop_assert_eq!(span.to_string().parse::<Duration>().unwrap(), span);
        let size = ByteSize::from_bytes(bytes);
        prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
    }

    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,40}|[0-9a-zµ.% ]{0,40}") {
        drop((text.parse::<Duration>(), text.parse::<ByteSize>(), text.parse::<Ratio>()));
    }

    /// Any text, any text near TOML, and any value under known keys: an answer, and messages that can be shown.
    #[test]
    fn no_configuration_is_a_panic(
        text in "\\PC{0,80}|([a-z\\[\\]{}=\"'.#\\\\,$:\n\r\t 0-9é😀-]|env|file|receivers|engines){0,60}",
        key in "scrape_interval|port|targets|labels|tls|[a-z.\"\\\\]{0,8}",
        set in "(receivers.engines.)?[a-z.\"']{0,9}=\\PC{0,20}",
    ) {
        for text in [text.clone(), format!("[receivers.engines]\n{key} = {text}\n")] {
            match Document::parse_with("any", &text, &Fixed) {
                Ok(document) => {
                    let mut errors = document.check_tables(&["receivers"], &["admin"]);
                    for (_, section) in document.table(&["receivers"]) {
                        errors.keep(section.decode::<Config>());
                    }
                    drop((errors.to_string(), errors.to_json(), errors.summary()));
                }
                Err(errors) => drop((errors.to_string(), errors.to_json())),
            }
        }
        if let Err(errors) = Document::load_with(&[], &[set], &Fixed) {
            drop((errors.to_string(), errors.to_json()));
        }
    }

    /// What serialises decodes to the same again.
    #[test]
    fn settings_read_back(secs: u32, mib in 0u64..1 << 40, keep in 0.0..1.0, port: u16, drop_it: bool, label in "\\PC{0,10}") {
        let config = Config {
            scrape_interval: Duration::from_secs(secs.into()),
            body_max: ByteSize::from_mib(mib),
            keep: Ratio::new(keep).unwrap(),
            port,
            unknown: if drop_it { Unknown::Drop } else { Unknown::Pass },
            labels: [("a".to_owned(), label.replace('$', "$$"))].into(),
            ..Config::default()
        };
        let text = toml::to_string(&config).unwrap();
        let read: Config = Section::from_toml("x", &text).unwrap().decode().unwrap();
        let labels = [("a".to_owned(), label)].into();
        prop_assert_eq!(read, Config { labels, ..config });
    }
}

/// The parser's limit is per bracket, ours for the whole; neither may end the process.
#[test]
fn deep_nesting_is_an_error() {
    let dots = |n: usize| vec!["a"; n].join(".");
    let nested = (0..79).fold("1".to_owned(), |inner, _| format!("{{ {} = {inner} }}", dots(79)));
    for text in [
        format!("x = {}", "[".repeat(100_000)),
        format!("{} = 1", dots(100_000)),
        format!("[{}]\n", dots(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("x = {nested}"),
        format!("[{}]\n{} = {nested}\n", dots(79), dots(79)),
        format!("[[{}]]\n", dots(79)).repeat(50),
    ] {
        if let Ok(document) = Document::parse("deep", &text) {
            let section = document.section(&[]).unwrap();
            assert!(
                section.decode::<std::collections::BTreeMap<String, serde_json::Value>>().is_err()
            );
        }
    }
}
