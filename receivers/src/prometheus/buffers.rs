//! [`Buffers`]: body buffers that targets take turns with. A fleet needs as many as it has scrapes in flight, not one
//! per target.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that wait for the next scrape.
const KEPT_MAX: usize = 16;

/// A larger one is let go: one huge page shall not cost its size for ever.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Body buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer, mostly one that has its size already.
    pub(super) fn take(&self) -> Vec<u8> {
        self.free().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free();
        if buffer.capacity() <= KEPT_BYTES_MAX && free.len() < KEPT_MAX {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_few_and_no_giants() {
        let buffers = Buffers::default();
        buffers.give(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert_eq!(buffers.take().capacity(), 0);
        for _ in 0..100 {
            buffers.give(vec![1; 1000]);
        }
        assert_eq!(buffers.free().len(), KEPT_MAX);
        let buffer = buffers.take();
        assert!(buffer.is_empty() && buffer.capacity() >= 1000);
    }
}
