//! Texts and labels by number: a fleet's series share nearly all of theirs.

use foldhash::HashMap;
use pipeline_model::{Metric, Str};

use super::put::{bytes, varint_len};
use crate::prometheus::family::Type;
use crate::prometheus::translate::unit_name;

/// A label of the dictionary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Its texts, by number.
    pub(super) name: u32,
    pub(super) value: u32,
    /// Where its field of the first version is.
    at: u32,
    len: u32,
}

/// A metric family: what is said about a name beside its samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Texts, by number.
    pub(super) name: u32,
    pub(super) help: u32,
    pub(super) unit: u32,
    /// The number of its type; both versions have the same.
    pub(super) ty: u8,
}

/// See the module. Grows only; whoever owns it begins a new one in time.
#[derive(Default)]
pub(super) struct Dictionary {
    texts: Vec<Str>,
    of_text: HashMap<Str, u32>,
    pairs: Vec<Pair>,
    of_pair: HashMap<(u32, u32), u32>,
    /// Fields of the first version, one behind the other.
    blob: Vec<u8>,
    families: Vec<Family>,
    of_family: HashMap<u32, u32>,
    bytes: usize,
}

impl Dictionary {
    /// The number of a text.
    pub(super) fn text(&mut self, text: &str) -> u32 {
        if let Some(id) = self.of_text.get(text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        let text = Str::new(text);
        self.bytes += text.len() + 64;
        self.texts.push(text.clone());
        self.of_text.insert(text, id);
        id
    }

    /// The number of a text that is there already.
    pub(super) fn known(&self, text: &str) -> Option<u32> {
        self.of_text.get(text).copied()
    }

    /// The text of a number.
    #[inline]
    pub(super) fn text_of(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", Str::as_str)
    }

    /// The number of a label.
    pub(super) fn label(&mut self, name: &str, value: &str) -> u32 {
        let key = (self.text(name), self.text(value));
        if let Some(id) = self.of_pair.get(&key) {
            return *id;
        }
        let id = self.pairs.len() as u32;
        let at = self.blob.len();
        let inside = 2
            + varint_len(name.len() as u64)
            + name.len()
            + varint_len(value.len() as u64)
            + value.len();
        self.blob.push(0x0a);
        super::put::varint(&mut self.blob, inside as u64);
        bytes(&mut self.blob, 0x0a, name.as_bytes());
        bytes(&mut self.blob, 0x12, value.as_bytes());
        let len = self.blob.len() - at;
        self.bytes += len + 64;
        self.pairs.push(Pair { name: key.0, value: key.1, at: at as u32, len: len as u32 });
        self.of_pair.insert(key, id);
        id
    }

    /// How many labels.
    pub(super) fn labels(&self) -> usize {
        self.pairs.len()
    }

    /// How many texts.
    pub(super) fn texts(&self) -> usize {
        self.texts.len()
    }

    /// The label of a number.
    #[inline]
    pub(super) fn pair(&self, id: u32) -> Option<Pair> {
        self.pairs.get(id as usize).copied()
    }

    /// The label as a field of the first version.
    #[inline]
    pub(super) fn field(&self, id: u32) -> &[u8] {
        match self.pairs.get(id as usize) {
            Some(pair) => {
                let at = pair.at as usize;
                self.blob.get(at..at + pair.len as usize).unwrap_or_default()
            }
            None => &[],
        }
    }

    /// Bytes of the fields of `labels`.
    pub(super) fn fields_len(&self, labels: &[u32]) -> usize {
        labels.iter().map(|id| self.field(*id).len()).sum()
    }

    /// The number of a family. What was first said about a name stands.
    pub(super) fn family(&mut self, name: &str, ty: Type, metric: &Metric) -> u32 {
        let name = self.text(name);
        if let Some(id) = self.of_family.get(&name) {
            return *id;
        }
        let id = self.families.len() as u32;
        let (help, unit) = (self.text(&metric.description), self.text(&unit_name(&metric.unit)));
        self.families.push(Family { name, help, unit, ty: type_number(ty) });
        self.of_family.insert(name, id);
        id
    }

    /// All families.
    pub(super) fn families(&self) -> &[Family] {
        &self.families
    }

    /// Bytes it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// `MetricMetadata.MetricType` and `Metadata.MetricType`.
fn type_number(ty: Type) -> u8 {
    match ty {
        Type::Unknown => 0,
        Type::Counter => 1,
        Type::Gauge => 2,
        Type::Histogram => 3,
        Type::GaugeHistogram => 4,
        Type::Summary => 5,
        Type::Info => 6,
        Type::StateSet => 7,
    }
}
