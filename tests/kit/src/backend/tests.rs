//! The backend against its own source and against bytes written by hand: a ledger that is wrong would prove nothing.

use std::time::Duration;

use super::{Backend, Fault, Verdict};
use crate::{NUMBERED, NUMBERED_SERIES, Source};

#[test]
fn what_is_taken_is_in_the_ledger_and_what_is_refused_is_not() {
    let backend = Backend::start();
    let mut source = Source::new(&backend.address(), "a", 3);
    assert_eq!(source.send().unwrap().status, 200);
    backend.next([
        Fault::Status(429, Some("7".to_owned())),
        Fault::Reset,
        Fault::TakeThenStatus(500),
        Fault::Partial(1),
        Fault::Slow(Duration::from_millis(1)),
        Fault::TakeThenClose,
    ]);
    let refused = source.send().unwrap();
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(source.send(), None, "reset");
    assert_eq!(source.send().unwrap().status, 500);
    assert_eq!(source.send().unwrap().status, 200, "the same again, but for its first point");
    assert_eq!(source.send().unwrap().status, 200);
    assert_eq!(source.send(), None, "taken, then closed");
    let ledger = backend.ledger();
    // Requests 1, 3 (twice, once without its first point), 4 and the 5th that nobody knows of.
    assert_eq!(ledger.points(NUMBERED), 3 + 3 + 2 + 3 + 3);
    let verdict = ledger.judge(NUMBERED_SERIES, source.sent());
    assert_eq!(verdict, Verdict { duplicates: 2, foreign: 3, ..Verdict::PERFECT });
    assert_eq!((source.points(), source.unsure().len()), (9, 2));
    assert_eq!(backend.violations(), Vec::<String>::new());
}

#[test]
fn a_backend_that_is_down_comes_back_on_its_port() {
    let backend = Backend::start();
    let mut source = Source::new(&backend.address(), "a", 1);
    assert_eq!(source.send().unwrap().status, 200);
    backend.down();
    assert_eq!(source.send(), None);
    assert_eq!(source.send(), None);
    backend.up();
    assert_eq!(source.send().unwrap().status, 200);
    assert_eq!(backend.ledger().points(NUMBERED), 2);
}

#[test]
fn a_body_that_breaks_the_specification_is_noted() {
    let label = |name: &[u8], value: &[u8]| {
        let mut own = vec![10, name.len() as u8];
        own.extend_from_slice(name);
        own.extend([18, value.len() as u8]);
        own.extend_from_slice(value);
        let mut out = vec![10, own.len() as u8];
        out.extend(own);
        out
    };
    let sample = |time: u8| [18, 11, 9, 0, 0, 0, 0, 0, 0, 240, 63, 16, time];
    let body = |labels: &[Vec<u8>], samples: &[u8]| {
        let mut series = labels.concat();
        samples.iter().for_each(|time| series.extend(sample(*time)));
        let mut out = vec![10, series.len() as u8];
        out.extend(series);
        super::remote_write::read_1(&out).unwrap()
    };
    let name = || label(b"__name__", b"up");
    let good = body(&[name(), label(b"job", b"a")], &[1, 2]);
    assert_eq!(good.violations, Vec::<String>::new());
    assert_eq!(good.written[0].samples, [(1.0, 1), (1.0, 2)]);
    for wrong in [
        body(&[label(b"job", b"a"), name()], &[1]),
        body(&[name(), label(b"job", b"")], &[1]),
        body(&[label(b"job", b"a")], &[1]),
        body(&[name()], &[2, 1]),
        body(&[name()], &[]),
    ] {
        assert!(!wrong.violations.is_empty(), "{wrong:?}");
    }
}
