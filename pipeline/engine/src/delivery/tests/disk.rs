//! The queue on disk, with the real journal.
