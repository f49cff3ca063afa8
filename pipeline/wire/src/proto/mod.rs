//! Protobuf messages, derived by hand with only the fields that are read or written here. Unknown fields are skipped
//! by protobuf's own rules.

pub mod client_model;
