//! TOML text to typed settings, with every error located in the file.
//!
//! The one idea: the parsed tree keeps, for every key and value, the [`Location`] it was read from, through merging of
//! files, `--set` and substitution. So an error found late, by a component that only knows its own keys, still points
//! at the characters the user typed. [`Document`] is the tree, [`Section`] the part of it that one component gets,
//! [`Diagnostics`] what is wrong with it. What a component is, this crate does not know.

mod byte_size;
pub mod codes;
mod decode;
mod diagnostic;
mod document;
mod duration;
mod load;
mod ratio;
pub mod reference;
mod render;
mod report;
mod scalar;
pub mod schema;
mod section;
pub mod show;
mod source;
mod substitute;
#[cfg(test)]
mod tests;
mod tree;

pub use byte_size::ByteSize;
pub use diagnostic::{Diagnostic, Diagnostics, Fix, Severity};
pub use document::{Document, Origin};
pub use duration::Duration;
pub use ratio::Ratio;
pub use render::Color;
pub use report::similar;
pub use scalar::ScalarError;
pub use section::Section;
pub use source::{Location, Source};
pub use substitute::{Environment, Os};
