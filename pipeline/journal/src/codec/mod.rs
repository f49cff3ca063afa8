//! Batches and shapes to payloads of records and back.
//!
//! A batch says its source, shape and start times by number; what these numbers mean is written to a segment before the
//! first batch in it that uses them. The numbers are those of the process that wrote them, so a segment's name tells which
//! process that was.

mod batch;
mod read;
mod shape;
mod texts;

use foldhash::HashMap;
use pipeline_model::{Batch, Shape, Table};
use std::sync::{Arc, Weak};

use crate::bytes::{put_runs, put_varint};
use crate::record::{self, Kind};

pub(crate) use batch::{BatchHead, put_batch};
pub(crate) use read::ReadDictionary;
pub(crate) use shape::{ShapeHead, table_number};

/// Bytes of start times up to which they are written with each batch.
const STARTS_INLINE: usize = 32;

/// What the segment that is being written knows.
#[derive(Debug, Default)]
pub(crate) struct Dictionary {
    segment: u64,
    shapes: HashMap<u64, KnownShape>,
    /// By address: the weak handle keeps it from being used again.
    tables: HashMap<usize, KnownTable>,
    starts: HashMap<usize, KnownStarts>,
    last_number: u64,
}

#[derive(Debug)]
struct KnownShape {
    shape: Weak<Shape>,
    /// The newest segment that has it.
    segment: u64,
}

#[derive(Debug)]
struct KnownTable {
    table: Weak<Table>,
    number: u64,
    segment: u64,
}

#[derive(Debug)]
struct KnownStarts {
    starts: Weak<Vec<i64>>,
    number: u64,
}

/// How a batch's start times are said.
#[derive(Debug)]
pub(crate) enum StartsRef {
    None,
    Known(u64),
    /// The bytes themselves.
    Inline(Vec<u8>),
}

impl Dictionary {
    /// A new segment, which knows nothing yet.
    pub(crate) fn begin_segment(&mut self, segment: u64) {
        self.segment = segment;
        self.starts.clear();
        self.shapes.retain(|_, known| known.shape.strong_count() > 0);
        self.tables.retain(|_, known| known.table.strong_count() > 0);
    }

    /// The shape of this process with this number, if anybody still has it.
    pub(crate) fn live(&self, shape: u64) -> Option<Arc<Shape>> {
        self.shapes.get(&shape)?.shape.upgrade()
    }

    /// Writes what a batch of `shape` needs, where the segment lacks it. The error is the size of what is too large.
    pub(crate) fn define(&mut self, out: &mut Vec<u8>, shape: &Arc<Shape>) -> Result<(), usize> {
        if self.shapes.get(&shape.id()).is_some_and(|known| known.segment == self.segment) {
            return Ok(());
        }
        let address = Arc::as_ptr(shape.table()) as usize;
        let table = match self.tables.get(&address) {
            Some(known) if known.segment == self.segment => known.number,
            known => {
                let number = known.map_or(shape.id(), |known| known.number);
                let start = record::begin(out, Kind::Table);
                shape::put_table(out, number, shape);
                record::finish(out, start)?;
                let table = Arc::downgrade(shape.table());
                self.tables.insert(address, KnownTable { table, number, segment: self.segment });
                number
            }
        };
        let start = record::begin(out, Kind::Shape);
        shape::put_shape(out, table, shape);
        record::finish(out, start)?;
        let known = KnownShape { shape: Arc::downgrade(shape), segment: self.segment };
        self.shapes.insert(shape.id(), known);
        Ok(())
    }

    /// How to say the start times of `batch`; writes them where they are long and new to the segment.
    pub(crate) fn starts(&mut self, out: &mut Vec<u8>, batch: &Batch) -> Result<StartsRef, usize> {
        let Some(starts) = &batch.starts else { return Ok(StartsRef::None) };
        let address = Arc::as_ptr(starts) as usize;
        if let Some(known) = self.starts.get(&address)
            && known.starts.strong_count() > 0
        {
            return Ok(StartsRef::Known(known.number));
        }
        let mut bytes = Vec::new();
        put_varint(&mut bytes, starts.len() as u64);
        put_runs(&mut bytes, starts);
        if bytes.len() <= STARTS_INLINE {
            return Ok(StartsRef::Inline(bytes));
        }
        self.last_number += 1;
        let start = record::begin(out, Kind::Starts);
        put_varint(out, self.last_number);
        out.extend_from_slice(&bytes);
        record::finish(out, start)?;
        let known = KnownStarts { starts: Arc::downgrade(starts), number: self.last_number };
        self.starts.insert(address, known);
        Ok(StartsRef::Known(self.last_number))
    }
}
