//! Tests of messages and of everything that joins several parts.
