//! [`Pool`]: output columns that are filled again once nobody else holds them.

use std::sync::Arc;

/// For a compute step that puts out a column with every batch of a source: the newest is with the exporters, the one
/// before it has mostly been let go, and is what the next batch fills.
#[derive(Debug)]
pub struct Pool<T>([Option<Arc<Vec<T>>>; 2]);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self([None, None])
    }
}

impl<T: Copy + Default> Pool<T> {
    /// A column of `len` values that nobody else holds; what is in it is old.
    pub fn free(&mut self, len: usize) -> Arc<Vec<T>> {
        let oldest = self.0[0].take().filter(|column| column.len() == len);
        match oldest {
            Some(column) if Arc::strong_count(&column) == 1 => column,
            _ => Arc::new(vec![T::default(); len]),
        }
    }

    /// Remembers a column that goes out.
    pub fn keep(&mut self, column: &Arc<Vec<T>>) {
        self.0.swap(0, 1);
        self.0[1] = Some(Arc::clone(column));
    }
}
