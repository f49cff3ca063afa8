//! The tables' vocabulary: a metric family as data, and how it is printed for whatever series it has.

use crate::engine::View;
use crate::histogram::Histogram;
use crate::pages::text::{Page, number};
use crate::spec::Release;

/// Reads one number.
pub(crate) type Read = fn(&View<'_>) -> f64;
/// Reads one histogram.
pub(crate) type ReadHistogram = for<'v> fn(&'v View<'_>) -> &'v Histogram;

/// Which series a family has, apart from its own label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One per data-parallel engine.
    Rank,
    /// One per data-parallel engine and tensor-parallel rank; ranks above 0 stay at zero.
    TensorRank,
    /// One per data-parallel engine, with the process id as a label.
    RankPid,
    /// One for the process.
    Process,
    /// One for requests with streaming, one for those without.
    Streaming,
    /// One without any label.
    Bare,
}

#[derive(Clone, Copy)]
pub(crate) enum Values {
    Gauge(Read),
    GaugeBy(&'static str, &'static [(&'static str, Read)]),
    Counter(Read),
    CounterBy(&'static str, &'static [(&'static str, Read)]),
    /// A counter by draft position.
    CounterByPosition,
    Histogram(ReadHistogram, &'static [f64]),
    /// SGLang's gauge over ranges, labels `gt` and `le`; always zero here.
    Ranges(&'static [&'static str]),
}

/// A metric family of some releases of one engine.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    /// With the engine's prefix, counters without `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) values: Values,
    pub(crate) scope: Scope,
    /// A label with the same value on every series.
    pub(crate) fixed: &'static [(&'static str, &'static str)],
    /// First and last release that has it.
    pub(crate) since: Release,
    pub(crate) until: Release,
    /// Series appear with their first value, families with their first series.
    pub(crate) lazy: bool,
    /// Only with speculative decoding.
    pub(crate) speculative: bool,
}

const fn family(name: &'static str, help: &'static str, values: Values) -> Family {
    Family {
        name,
        help,
        values,
        scope: Scope::Rank,
        fixed: &[],
        since: Release::Vllm0_6_3Post1,
        until: Release::Sglang0_5_23,
        lazy: false,
        speculative: false,
    }
}

pub(crate) const fn gauge(name: &'static str, help: &'static str, read: Read) -> Family {
    family(name, help, Values::Gauge(read))
}

pub(crate) const fn gauge_by(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    reads: &'static [(&'static str, Read)],
) -> Family {
    family(name, help, Values::GaugeBy(label, reads))
}

pub(crate) const fn counter(name: &'static str, help: &'static str, read: Read) -> Family {
    family(name, help, Values::Counter(read))
}

pub(crate) const fn counter_by(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    reads: &'static [(&'static str, Read)],
) -> Family {
    family(name, help, Values::CounterBy(label, reads))
}

pub(crate) const fn counter_by_position(name: &'static str, help: &'static str) -> Family {
    family(name, help, Values::CounterByPosition)
}

pub(crate) const fn histogram(
    name: &'static str,
    help: &'static str,
    read: ReadHistogram,
    bounds: &'static [f64],
) -> Family {
    family(name, help, Values::Histogram(read, bounds))
}

pub(crate) const fn ranges(
    name: &'static str,
    help: &'static str,
    bounds: &'static [&'static str],
) -> Family {
    family(name, help, Values::Ranges(bounds))
}

impl Family {
    pub(crate) const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub(crate) const fn fixed(mut self, label: &'static [(&'static str, &'static str)]) -> Self {
        self.fixed = label;
        self
    }

    pub(crate) const fn since(mut self, release: Release) -> Self {
        self.since = release;
        self
    }

    pub(crate) const fn until(mut self, release: Release) -> Self {
        self.until = release;
        self
    }

    pub(crate) const fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    pub(crate) const fn speculative(mut self) -> Self {
        self.speculative = true;
        self
    }

    pub(crate) fn is_gauge(&self) -> bool {
        matches!(self.values, Values::Gauge(_) | Values::GaugeBy(..) | Values::Ranges(_))
    }

    pub(crate) fn in_release(&self, release: Release) -> bool {
        self.since <= release && release <= self.until
    }
}

/// The Python client's two page forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One process: `_created` beside every counter and histogram, whose `_sum` comes last.
    Single,
    /// Several processes over shared files: no `_created`, `_sum` first.
    Multiprocess,
}

/// One series (or one set of series that differ by the family's own label) of a scope.
pub(crate) struct Child<'a> {
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) view: View<'a>,
}

/// Prints families one after the other.
pub(crate) struct Printer {
    pub(crate) page: Page,
    form: Form,
    created: f64,
    draft_tokens: usize,
}

/// One line to print: the label of its own and the value.
struct Line<'c> {
    labels: Vec<(&'c str, &'c str)>,
    value: Value<'c>,
}

enum Value<'c> {
    Number(f64),
    Histogram(&'c Histogram, &'static [f64]),
}

const POSITIONS: [&str; crate::truth::DRAFT_POSITIONS_MAX] =
    ["0", "1", "2", "3", "4", "5", "6", "7"];

impl Printer {
    /// `started` is the Unix time of the process' start.
    pub(crate) fn new(form: Form, started: f64, draft_tokens: usize) -> Self {
        Printer { page: Page::default(), form, created: started, draft_tokens }
    }

    pub(crate) fn print(&mut self, family: &Family, children: &[Child<'_>]) {
        let mut lines = Vec::new();
        self.collect(family, children, &mut lines);
        if family.lazy {
            lines.retain(|line| match line.value {
                Value::Number(value) => value != 0.0,
                Value::Histogram(histogram, _) => histogram.count() > 0,
            });
            if lines.is_empty() {
                return;
            }
        }
        match family.values {
            Values::Gauge(_) | Values::GaugeBy(..) | Values::Ranges(_) => {
                self.plain(family.name, "gauge", family, &lines);
            }
            Values::Counter(_) | Values::CounterBy(..) | Values::CounterByPosition => {
                let name = format!("{}_total", family.name);
                self.plain(&name, "counter", family, &lines);
            }
            Values::Histogram(..) => {
                self.page.family(family.name, "histogram", family.help);
                for line in &lines {
                    if let Value::Histogram(histogram, bounds) = line.value {
                        self.histogram(family.name, &line.labels, histogram, bounds);
                    }
                }
            }
        }
        if !family.is_gauge() {
            let labels: Vec<_> = lines.iter().map(|line| line.labels.as_slice()).collect();
            self.created(family.name, family.help, &labels);
        }
    }

    /// The `_created` family of a counter, summary or histogram, where the page's form has it.
    pub(crate) fn created(&mut self, name: &str, help: &str, series: &[&[(&str, &str)]]) {
        if self.form == Form::Multiprocess {
            return;
        }
        let name = format!("{name}_created");
        self.page.family(&name, "gauge", help);
        for labels in series {
            self.created += 1e-5;
            self.page.sample(&name, "", labels, self.created);
        }
    }

    pub(crate) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        bounds: &[f64],
    ) {
        if self.form == Form::Multiprocess {
            self.page.sample(name, "_sum", labels, histogram.sum());
        }
        for upper in bounds {
            let mut bound = String::new();
            number(&mut bound, *upper);
            let with_bound = [labels, &[("le", bound.as_str())]].concat();
            self.page.sample(name, "_bucket", &with_bound, histogram.cumulative(*upper) as f64);
        }
        let with_bound = [labels, &[("le", "+Inf")]].concat();
        self.page.sample(name, "_bucket", &with_bound, histogram.count() as f64);
        self.page.sample(name, "_count", labels, histogram.count() as f64);
        if self.form == Form::Single {
            self.page.sample(name, "_sum", labels, histogram.sum());
        }
    }

    fn plain(&mut self, name: &str, kind: &str, family: &Family, lines: &[Line<'_>]) {
        self.page.family(name, kind, family.help);
        for line in lines {
            if let Value::Number(value) = line.value {
                self.page.sample(name, "", &line.labels, value);
            }
        }
    }

    fn collect<'c>(&self, family: &Family, children: &'c [Child<'_>], lines: &mut Vec<Line<'c>>) {
        let mut push = |child: &'c Child<'_>, extra: &[(&'c str, &'c str)], value: Value<'c>| {
            let own = child.labels.iter().map(|(key, text)| (*key, text.as_str()));
            lines.push(Line {
                labels: own.chain(family.fixed.iter().chain(extra).copied()).collect(),
                value,
            });
        };
        match family.values {
            Values::Gauge(read) | Values::Counter(read) => {
                for child in children {
                    push(child, &[], Value::Number(read(&child.view)));
                }
            }
            Values::GaugeBy(label, reads) | Values::CounterBy(label, reads) => {
                for (text, read) in reads {
                    for child in children {
                        push(child, &[(label, text)], Value::Number(read(&child.view)));
                    }
                }
            }
            Values::CounterByPosition => {
                for (position, text) in POSITIONS.iter().enumerate().take(self.draft_tokens) {
                    for child in children {
                        let accepted = child.view.truth.accepted_per_position[position];
                        push(child, &[("position", text)], Value::Number(accepted as f64));
                    }
                }
            }
            Values::Histogram(read, bounds) => {
                for child in children {
                    push(child, &[], Value::Histogram(read(&child.view), bounds));
                }
            }
            Values::Ranges(bounds) => {
                for child in children {
                    let mut above = "0";
                    for bound in bounds {
                        push(child, &[("gt", above), ("le", bound)], Value::Number(0.0));
                        above = bound;
                    }
                }
            }
        }
    }
}
