//! What a reader has learnt from the segments it went through.

use std::sync::Arc;

use foldhash::HashMap;
use pipeline_model::{Batch, Interner, Shape, SourceId};

use super::batch::{BatchHead, read_batch, read_starts};
use super::shape::{ReadTable, ShapeHead};
use crate::bytes::{Malformed, Reader};

/// Rows that start times may be for.
const ROWS_MAX: usize = 16 << 20;

/// Tables, shapes and start times of the segment that is read and of the one before it, which mostly has the same: what
/// is known is not made again.
#[derive(Debug, Default)]
pub(crate) struct ReadDictionary {
    /// Whose numbers they are.
    epoch: u64,
    segment: u64,
    tables: HashMap<u64, Known<ReadTable>>,
    shapes: HashMap<u64, Known<Shape>>,
    starts: HashMap<u64, Known<Vec<i64>>>,
}

#[derive(Debug)]
struct Known<T> {
    it: Arc<T>,
    segment: u64,
}

impl ReadDictionary {
    /// Goes on to a segment.
    pub(crate) fn begin_segment(&mut self, segment: u64, epoch: u64) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
        let last = self.segment;
        self.tables.retain(|_, known| known.segment == last);
        self.shapes.retain(|_, known| known.segment == last);
        self.starts.retain(|_, known| known.segment == last);
        self.segment = segment;
    }

    pub(crate) fn knows(&self, shape: u64) -> bool {
        self.shapes.contains_key(&shape)
    }

    /// Takes a table record. One that cannot be read is not known.
    pub(crate) fn table(&mut self, payload: &[u8], interner: &Interner) -> Result<(), Malformed> {
        let mut from = Reader::new(payload);
        let number = from.varint()?;
        if let Some(known) = self.tables.get_mut(&number) {
            known.segment = self.segment;
            return Ok(());
        }
        let table = ReadTable::read(&mut from, interner)?;
        self.tables.insert(number, Known { it: Arc::new(table), segment: self.segment });
        Ok(())
    }

    /// Takes a shape record; `live` knows the shapes that are still in use.
    pub(crate) fn shape(
        &mut self,
        payload: &[u8],
        interner: &Interner,
        live: impl Fn(u64) -> Option<Arc<Shape>>,
    ) -> Result<(), Malformed> {
        let mut from = Reader::new(payload);
        let head = ShapeHead::read(&mut from)?;
        if let Some(known) = self.shapes.get_mut(&head.number) {
            known.segment = self.segment;
            return Ok(());
        }
        let shape = match live(head.number) {
            Some(shape) => shape,
            None => self.tables.get(&head.table).ok_or(Malformed)?.it.shape(&mut from, interner)?,
        };
        self.shapes.insert(head.number, Known { it: shape, segment: self.segment });
        Ok(())
    }

    /// Takes a record of start times.
    pub(crate) fn start_times(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut from = Reader::new(payload);
        let number = from.varint()?;
        let starts = Arc::new(read_starts(&mut from, ROWS_MAX)?);
        self.starts.insert(number, Known { it: starts, segment: self.segment });
        Ok(())
    }

    /// The batch of a record whose `head` was read from `from`.
    pub(crate) fn batch(
        &self,
        head: &BatchHead,
        from: &mut Reader<'_>,
        source: SourceId,
    ) -> Result<Batch, Malformed> {
        let shape = &self.shapes.get(&head.shape).ok_or(Malformed)?.it;
        let starts = |number| self.starts.get(&number).map(|known| Arc::clone(&known.it));
        read_batch(from, source, shape, starts)
    }
}
