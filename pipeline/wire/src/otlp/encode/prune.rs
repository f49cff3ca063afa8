//! Forgetting: shapes that are gone, and the least used ones when there are too many.

use foldhash::HashSet;

use super::memo::{Memos, TableMemo};

/// Shapes below which none is looked for that is gone.
const SWEEP_FLOOR: usize = 64;

impl Memos {
    /// Bytes that all of it takes.
    fn count(&self) -> usize {
        self.shapes.values().map(|memo| memo.bytes).sum::<usize>()
            + self.tables.values().map(TableMemo::bytes).sum::<usize>()
    }

    /// Makes room for one more shape. Looks only when there are twice as many shapes as after the last look.
    pub(super) fn make_room(&mut self, memory_max: usize) {
        if self.shapes.len() < self.sweep_at.max(SWEEP_FLOOR) && self.total <= memory_max {
            return;
        }
        self.shapes.retain(|_, memo| memo.is_alive());
        self.forget_tables();
        if self.total > memory_max {
            let mut by_use: Vec<(u64, u64)> =
                self.shapes.iter().map(|(id, memo)| (memo.used, *id)).collect();
            by_use.sort_unstable();
            for (_, id) in by_use.iter().take(by_use.len().div_ceil(2)) {
                self.shapes.remove(id);
            }
            self.forget_tables();
        }
        self.sweep_at = self.shapes.len() * 2;
    }

    fn forget_tables(&mut self) {
        let used: HashSet<usize> = self.shapes.values().map(|memo| memo.table).collect();
        self.tables.retain(|key, table| table.is_alive() && used.contains(key));
        self.total = self.count();
    }
}
