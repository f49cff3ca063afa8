//! The two versions of the message: `prometheus.WriteRequest` and `io.prometheus.write.v2.Request`.

use foldhash::HashMap;

use super::dictionary::{Dictionary, Family};
use super::put::{bytes, message, number, varint, varint_len};
use super::sink::Sink;

/// A version being written.
pub(super) trait Writer {
    /// The tag of a series' `histograms`.
    const HISTOGRAM: u8;
    /// The tag of a series' `exemplars`.
    const EXEMPLAR: u8;
    /// Samples say when their series began.
    const STARTS: bool;

    /// Makes room for all that the dictionary has now.
    fn know(&mut self, dictionary: &Dictionary);

    /// Writes a series: its labels by number (of `label_bytes` in the first version), the fields behind them, and which
    /// family it is of.
    fn series(
        &mut self,
        dictionary: &Dictionary,
        labels: &[u32],
        label_bytes: usize,
        body: &[u8],
        family: u32,
    );

    /// Appends the field for one label of an exemplar.
    fn exemplar_label(
        &mut self,
        dictionary: &Dictionary,
        name: &str,
        value: &str,
        refs: &mut Vec<u8>,
    );

    /// Appends an exemplar's labels, collected in `refs`.
    fn exemplar_labels(out: &mut Vec<u8>, refs: &[u8]);
}

/// Version 1.
pub(super) struct V1<'a>(pub(super) &'a mut Sink);

impl Writer for V1<'_> {
    const HISTOGRAM: u8 = 0x22;
    const EXEMPLAR: u8 = 0x1a;
    const STARTS: bool = false;

    fn know(&mut self, dictionary: &Dictionary) {
        self.0.know(dictionary.labels());
    }

    #[inline]
    fn series(
        &mut self,
        dictionary: &Dictionary,
        labels: &[u32],
        label_bytes: usize,
        body: &[u8],
        _family: u32,
    ) {
        let mut head = [0x0a; 11];
        let mut rest = label_bytes + body.len();
        let mut len = 1;
        while rest >= 0x80 {
            head[len] = rest as u8 | 0x80;
            rest >>= 7;
            len += 1;
        }
        head[len] = rest as u8;
        self.0.put(&head[..=len]);
        for id in labels {
            self.0.label(*id, dictionary.field(*id));
        }
        self.0.put(body);
    }

    fn exemplar_label(
        &mut self,
        _dictionary: &Dictionary,
        name: &str,
        value: &str,
        refs: &mut Vec<u8>,
    ) {
        message(refs, 0x0a, |out| {
            bytes(out, 0x0a, name.as_bytes());
            bytes(out, 0x12, value.as_bytes());
        });
    }

    fn exemplar_labels(out: &mut Vec<u8>, refs: &[u8]) {
        out.extend_from_slice(refs);
    }
}

/// Appends the metadata of families, each as field 3 of the first version's request.
pub(super) fn metadata(sink: &mut Sink, dictionary: &Dictionary, families: &[Family]) {
    let mut field = Vec::new();
    for family in families {
        field.clear();
        message(&mut field, 0x1a, |out| {
            if family.ty != 0 {
                number(out, 0x08, u64::from(family.ty));
            }
            for (tag, text) in [(0x12, family.name), (0x22, family.help), (0x2a, family.unit)] {
                let text = dictionary.text_of(text);
                if !text.is_empty() {
                    bytes(out, tag, text.as_bytes());
                }
            }
        });
        sink.put(&field);
    }
}

/// The references of a label in one request.
#[derive(Clone, Copy, Default)]
struct Refs {
    request: u32,
    len: u8,
    bytes: [u8; 10],
}

/// What the second version keeps from request to request: room.
#[derive(Default)]
pub(super) struct Symbols {
    request: u32,
    count: u32,
    /// Field 4, once per symbol.
    pub(super) fields: Vec<u8>,
    /// Request and reference of each text.
    of_text: Vec<(u32, u32)>,
    of_label: Vec<Refs>,
    /// Of texts that are no part of the dictionary: trace ids come once.
    others: HashMap<String, u32>,
    refs: Vec<u8>,
    message: Vec<u8>,
}

impl Symbols {
    /// Begins a request: the first symbol is empty.
    pub(super) fn begin(&mut self) {
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            self.of_text.clear();
            self.of_label.clear();
            self.request = 1;
        }
        self.fields.clear();
        self.others.clear();
        self.count = 0;
        self.add("");
    }

    fn add(&mut self, text: &str) -> u32 {
        bytes(&mut self.fields, 0x22, text.as_bytes());
        self.count += 1;
        self.count - 1
    }

    /// Forgets what it knew of another dictionary.
    fn know(&mut self, dictionary: &Dictionary) {
        if dictionary.texts() < self.of_text.len() || dictionary.labels() < self.of_label.len() {
            self.of_text.clear();
            self.of_label.clear();
        }
        self.of_text.resize(dictionary.texts(), (0, 0));
        self.of_label.resize(dictionary.labels(), Refs::default());
    }

    fn text(&mut self, dictionary: &Dictionary, id: u32) -> u32 {
        match self.of_text.get(id as usize) {
            Some((request, known)) if *request == self.request => *known,
            _ => {
                let text = dictionary.text_of(id);
                let found = self.other(text).unwrap_or_else(|| self.add(text));
                if let Some(slot) = self.of_text.get_mut(id as usize) {
                    *slot = (self.request, found);
                }
                found
            }
        }
    }

    /// The reference of a text that is here without the dictionary.
    fn other(&self, text: &str) -> Option<u32> {
        if text.is_empty() { Some(0) } else { self.others.get(text).copied() }
    }

    #[cold]
    fn learn(&mut self, dictionary: &Dictionary, id: u32) -> Refs {
        let mut found = Refs { request: self.request, ..Refs::default() };
        if let Some(pair) = dictionary.pair(id) {
            for text in [pair.name, pair.value] {
                let mut symbol = self.text(dictionary, text);
                let mut last = false;
                while !last {
                    last = symbol < 0x80;
                    let more = if last { 0 } else { 0x80 };
                    found.bytes[usize::from(found.len)] = (symbol & 0x7f) as u8 | more;
                    found.len += 1;
                    symbol >>= 7;
                }
            }
        }
        if let Some(slot) = self.of_label.get_mut(id as usize) {
            *slot = found;
        }
        found
    }
}

/// Version 2.
pub(super) struct V2<'a>(pub(super) &'a mut Sink, pub(super) &'a mut Symbols);

impl Writer for V2<'_> {
    const HISTOGRAM: u8 = 0x1a;
    const EXEMPLAR: u8 = 0x22;
    const STARTS: bool = true;

    fn know(&mut self, dictionary: &Dictionary) {
        self.1.know(dictionary);
    }

    #[inline]
    fn series(
        &mut self,
        dictionary: &Dictionary,
        labels: &[u32],
        _label_bytes: usize,
        body: &[u8],
        family: u32,
    ) {
        let symbols = &mut *self.1;
        symbols.refs.clear();
        for id in labels {
            let refs = match symbols.of_label.get(*id as usize) {
                Some(refs) if refs.request == symbols.request => *refs,
                _ => symbols.learn(dictionary, *id),
            };
            // All ten and then fewer: a copy of known length.
            let end = symbols.refs.len() + usize::from(refs.len);
            symbols.refs.extend_from_slice(&refs.bytes);
            symbols.refs.truncate(end);
        }
        let mut about = [0u8; 16];
        let mut about_len = 0;
        if let Some(family) = dictionary.families().get(family as usize) {
            let texts = [
                (0x08, u32::from(family.ty)),
                (0x18, symbols.text(dictionary, family.help)),
                (0x20, symbols.text(dictionary, family.unit)),
            ];
            for (tag, mut value) in texts {
                if value == 0 {
                    continue;
                }
                about[about_len] = tag;
                about_len += 1;
                while value >= 0x80 {
                    about[about_len] = value as u8 | 0x80;
                    about_len += 1;
                    value >>= 7;
                }
                about[about_len] = value as u8;
                about_len += 1;
            }
        }
        let refs_len = symbols.refs.len();
        let inside = 1 + varint_len(refs_len as u64) + refs_len + body.len() + 2 + about_len;
        let out = &mut symbols.message;
        out.clear();
        number(out, 0x2a, inside as u64);
        number(out, 0x0a, refs_len as u64);
        out.extend_from_slice(&symbols.refs);
        // A sample's value is behind its tag and length, and the value's own tag.
        let value = if body.first() == Some(&0x12) { out.len() + 3 } else { usize::MAX };
        out.extend_from_slice(body);
        out.extend_from_slice(&[0x2a, about_len as u8]);
        out.extend_from_slice(&about[..about_len]);
        self.0.message(out, value);
    }

    fn exemplar_label(
        &mut self,
        dictionary: &Dictionary,
        name: &str,
        value: &str,
        refs: &mut Vec<u8>,
    ) {
        for text in [name, value] {
            let symbols = &mut *self.1;
            let symbol = match dictionary.known(text) {
                Some(id) => symbols.text(dictionary, id),
                None => symbols.other(text).unwrap_or_else(|| {
                    let symbol = symbols.add(text);
                    symbols.others.insert(text.to_owned(), symbol);
                    symbol
                }),
            };
            varint(refs, u64::from(symbol));
        }
    }

    fn exemplar_labels(out: &mut Vec<u8>, refs: &[u8]) {
        if !refs.is_empty() {
            bytes(out, 0x0a, refs);
        }
    }
}
